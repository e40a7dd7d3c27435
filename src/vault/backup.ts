/**
 * A backup of keys: what a new device needs to be this device again, or to bring a mesh back whose owners are all lost.
 *
 * The file is an age file (age-encryption.org/v1), so any age tool opens it too, encrypted to a passphrase (scrypt) or to an age recipient;
 * in it is one CBOR map. It holds the seed of the device key (a *recovery file* holds none), and for each mesh its key, its names, where to look for
 * it, the signed membership operations, the epoch keys held, and the recovery secret when it is to be in there.
 *
 * **The seeds of logs are never in it.** Two writers of one log fork it, and no backup knows how far its log has grown since. Who restores
 * always begins a new log, which the device key attaches; the old one stays as the mesh holds it.
 */
import { Result, Schema } from "effect"
import type { Identity, Recipient, Stanza } from "age-encryption"
import { createCipheriv, createDecipheriv, scrypt } from "node:crypto"
import { isHex, utf8 } from "../codec/bytes.ts"
import { decodeCbor, encodeCbor } from "../codec/cbor.ts"
import { randomBytes } from "../codec/signature.ts"
import { VaultError } from "./vault-error.ts"

/** A backup file at most, bytes. */
export const backupBytesMax = 128 * 1024 * 1024
/** Work of scrypt for a new file, as a power of two: 128 MiB and half a second on a laptop; a Pi Zero 2 has 512 MiB. */
export const scryptLogN = 17
/** Work that a file may ask for when it is opened; age itself writes 18. */
export const scryptLogNMax = 18
const epochKeysMax = 100_000

const Bytes32 = Schema.Uint8Array.check(Schema.makeFilter((bytes) => bytes.byteLength === 32))
const Hex32 = Schema.String.check(Schema.makeFilter((text) => isHex(text, 32)))
const Hint = Schema.String.check(Schema.isMaxLength(256))

const MeshBackup = Schema.Struct({
  id: Hex32,
  name: Schema.String.check(Schema.isMaxLength(256)),
  /** What the mesh calls this node. */
  node: Schema.String.check(Schema.isMaxLength(256)),
  key: Bytes32,
  bootstrap: Schema.Array(Hint).check(Schema.isMaxLength(16)),
  /** A member and where it was reached on the local network, when one is known. */
  peer: Schema.optionalKey(Schema.Struct({ device: Hex32, remote: Hint })),
  /** Signed bytes, parents before children. */
  operations: Schema.Array(Schema.Uint8Array).check(Schema.isMaxLength(1_000_000)),
  epochs: Schema.Array(Schema.Struct({ epoch: Schema.Natural, key: Bytes32 })).check(Schema.isMaxLength(epochKeysMax)),
  /** Entropy of the recovery words. */
  recovery: Schema.optionalKey(Bytes32)
})
export type MeshBackup = typeof MeshBackup.Type

const Backup = Schema.Struct({
  version: Schema.Literal(1),
  /** Wall milliseconds of when it was made, for people. */
  made: Schema.Natural,
  /** Seed of the device key. */
  device: Schema.optionalKey(Bytes32),
  /** The first is the mesh that the home is in. */
  meshes: Schema.NonEmptyArray(MeshBackup).check(Schema.isMaxLength(1_000))
})
export type Backup = typeof Backup.Type

const decodeBackup = Schema.decodeUnknownResult(Backup)

/** To whom a backup is encrypted. */
export type BackupLock = { readonly passphrase: Uint8Array } | { readonly recipient: string }
/** What opens it: the passphrase, or an age identity (`AGE-SECRET-KEY-1…`). */
export type BackupKey = { readonly passphrase: Uint8Array } | { readonly identity: string }

export const sealBackup = async (backup: Backup, lock: BackupLock): Promise<Uint8Array> => {
  // Loaded when it is wanted: it costs 80 ms.
  const { Encrypter, Stanza } = await import("age-encryption")
  const encrypter = new Encrypter()
  if ("passphrase" in lock) {
    if (lock.passphrase.byteLength === 0) throw new VaultError({ reason: "refused", detail: "the passphrase of the backup is empty" })
    encrypter.addRecipient(passphraseRecipient(lock.passphrase, Stanza))
  } else {
    try {
      encrypter.addRecipient(lock.recipient)
    } catch {
      throw new VaultError({ reason: "refused", detail: "the recipient is no age recipient (age1…)" })
    }
  }
  const clear = encodeCbor(backup)
  try {
    return await encrypter.encrypt(clear)
  } finally {
    clear.fill(0)
  }
}

/** Throws `wrong` when this key does not open it, `damaged` when it is no backup of kOS or asks for too much work. */
export const openBackup = async (bytes: Uint8Array, key: BackupKey, path: string): Promise<Backup> => {
  const damaged = (why: string) => new VaultError({ reason: "damaged", detail: `${path} is no backup that can be read: ${why}` })
  const { armor, Decrypter } = await import("age-encryption")
  const file = isArmored(bytes) ? unarmored(bytes, armor.decode) : bytes
  if (file === undefined) throw damaged("its armour is broken")
  const head = Buffer.from(file.subarray(0, 4_096)).toString("latin1")
  if (!head.startsWith("age-encryption.org/v1\n")) throw damaged("it is no age file")
  const work = /^-> scrypt \S+ (\d+)$/m.exec(head)?.[1]
  if (work !== undefined && Number(work) > scryptLogNMax) throw damaged(`it asks for 2^${work.slice(0, 6)} of work, more than 2^${scryptLogNMax}`)
  if ((work === undefined) === ("passphrase" in key)) {
    throw new VaultError({ reason: "refused", detail: work === undefined ? `${path} is encrypted to an age recipient; give its identity` : `${path} is encrypted to a passphrase; give that` })
  }
  const decrypter = new Decrypter()
  let clear: Uint8Array
  try {
    if ("passphrase" in key) decrypter.addIdentity(passphraseIdentity(key.passphrase))
    else decrypter.addIdentity(key.identity)
    clear = await decrypter.decrypt(file)
  } catch {
    throw new VaultError({ reason: "wrong", detail: `the ${"passphrase" in key ? "passphrase" : "identity"} does not open ${path}, or the file was changed` })
  }
  const decoded = Result.flatMap(decodeCbor("backup", clear), decodeBackup)
  clear.fill(0)
  if (Result.isFailure(decoded)) throw damaged("its content is not what this version of kOS writes")
  return decoded.success
}

/** Overwrites every secret of it. */
export const forgetBackup = (backup: Backup): void => {
  backup.device?.fill(0)
  for (const mesh of backup.meshes) {
    mesh.key.fill(0)
    mesh.recovery?.fill(0)
    for (const { key } of mesh.epochs) key.fill(0)
  }
}

/**
 * The scrypt stanza of age (C2SP age.md): the library's own runs scrypt in JavaScript on the main thread, where it would hold up a daemon for
 * seconds on a small device.
 */
const passphraseRecipient = (passphrase: Uint8Array, Stanza: new(args: Array<string>, body: Uint8Array) => Stanza): Recipient => ({
  wrapFileKey: async (fileKey) => {
    const salt = randomBytes(16)
    const key = await scryptKey(passphrase, salt, scryptLogN)
    const cipher = createCipheriv("chacha20-poly1305", key, zeroNonce, { authTagLength: 16 })
    const body = Buffer.concat([cipher.update(fileKey), cipher.final(), cipher.getAuthTag()])
    key.fill(0)
    return [new Stanza(["scrypt", base64(salt), String(scryptLogN)], body)]
  }
})

const passphraseIdentity = (passphrase: Uint8Array): Identity => ({
  unwrapFileKey: async (stanzas) => {
    const [stanza] = stanzas
    const [kind, salt, work] = stanza?.args ?? []
    if (stanza === undefined || stanzas.length !== 1 || kind !== "scrypt" || salt === undefined || work === undefined) return null
    const saltBytes = Buffer.from(salt, "base64")
    // Leading zeros and the like would let one file say its work in two ways.
    if (saltBytes.byteLength !== 16 || base64(saltBytes) !== salt || stanza.body.byteLength !== 32 || !/^[1-9]\d?$/.test(work) || Number(work) > scryptLogNMax) return null
    const key = await scryptKey(passphrase, saltBytes, Number(work))
    try {
      const decipher = createDecipheriv("chacha20-poly1305", key, zeroNonce, { authTagLength: 16 })
      decipher.setAuthTag(stanza.body.subarray(16))
      return new Uint8Array(Buffer.concat([decipher.update(stanza.body.subarray(0, 16)), decipher.final()]))
    } catch {
      return null
    } finally {
      key.fill(0)
    }
  }
})

const zeroNonce = Buffer.alloc(12)

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64").replace(/=+$/, "")

const scryptKey = (passphrase: Uint8Array, salt: Uint8Array, logN: number): Promise<Buffer> => new Promise((done, fail) => {
  const N = 2 ** logN
  scrypt(passphrase, Buffer.concat([utf8("age-encryption.org/v1/scrypt"), salt]), 32, { N, r: 8, p: 1, maxmem: 128 * N * 8 + 1_048_576 }, (error, key) => error === null ? done(key) : fail(error))
})

const isArmored = (bytes: Uint8Array): boolean => Buffer.from(bytes.subarray(0, 64)).toString("latin1").trimStart().startsWith("-----BEGIN AGE")

const unarmored = (bytes: Uint8Array, decode: (text: string) => Uint8Array): Uint8Array | undefined => {
  try {
    return decode(Buffer.from(bytes).toString("latin1"))
  } catch {
    return undefined
  }
}
