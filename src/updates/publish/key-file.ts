/**
 * A signer's key in a file, for a stick or a drawer: JSON with the public key in clear and the seed either raw or under a passphrase (Argon2id, as the home key
 * is sealed). Mode 0600. Opening it checks that the public key is the seed's own.
 */
import { stat } from "node:fs/promises"
import { Result, Schema } from "effect"
import { fromHex, isHex, toHex } from "../../codec/bytes.ts"
import { type KeyPair, keyPairFromSeed, randomBytes } from "../../codec/signature.ts"
import { Refusal } from "../../commands/refusal.ts"
import { readSmall, writeWhole } from "../../vault/files.ts"
import { keyBytes } from "../../vault/home.ts"
import { unwrapHomeKey, wrapHomeKey } from "../../vault/sealing.ts"

/** A key file at most, bytes. */
export const keyFileBytesMax = 16_384

const KeyFile = Schema.Struct({
  kos: Schema.Literal("release-key/1"),
  public: Schema.String.check(Schema.makeFilter((text) => isHex(text, keyBytes))),
  name: Schema.String.check(Schema.isMaxLength(64)),
  /** Hex of the seed. */
  seed: Schema.optionalKey(Schema.String.check(Schema.makeFilter((text) => isHex(text, keyBytes)))),
  /** Base64 of the seed as `wrapHomeKey` seals it. */
  sealed: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(12_288)))
})

export interface MadeKeyFile {
  readonly publicKey: string
  readonly sealed: boolean
}

/** Makes a key and writes it; an empty passphrase leaves it raw. */
export const makeKeyFile = async (path: string, { name, passphrase, force }: { readonly name: string; readonly passphrase: string; readonly force: boolean }): Promise<MadeKeyFile> => {
  const found = await stat(path).catch(() => undefined)
  if (found !== undefined && !found.isFile()) throw new Refusal({ kind: "usage", detail: `${path} is no file` })
  if (found !== undefined && !force) throw new Refusal({ kind: "conflict", detail: `${path} is there already`, hint: "--force replaces it" })
  const seed = randomBytes(keyBytes)
  const { publicKey } = keyPairFromSeed(seed)
  const secret = Buffer.from(passphrase, "utf8")
  try {
    const kept = passphrase === "" ? { seed: toHex(seed) } : { sealed: Buffer.from(await wrapHomeKey(seed, publicKey, { way: "passphrase", name: "", secret })).toString("base64") }
    await writeWhole(path, `${JSON.stringify({ kos: "release-key/1", public: toHex(publicKey), name, ...kept }, null, 2)}\n`)
  } catch (cause) {
    if (typeof cause === "object" && cause !== null && "code" in cause && cause.code === "ENOENT") throw new Refusal({ kind: "not-found", detail: `there is no directory for ${path}` })
    throw cause
  } finally {
    seed.fill(0)
    secret.fill(0)
  }
  return { publicKey: toHex(publicKey), sealed: passphrase !== "" }
}

/** What a key file says without its secret: the key is what it claims, which is enough to be asked for signatures. */
export const readKeyFilePublic = async (path: string): Promise<{ readonly publicKey: string; readonly name: string }> => {
  const file = await read(path)
  return { publicKey: file.public, name: file.name }
}

/** Throws `Refusal`, or `VaultError` with `wrong` when the passphrase does not open it. */
export const openKeyFile = async (path: string, passphrase: string): Promise<KeyPair> => {
  const file = await read(path)
  const secret = Buffer.from(passphrase, "utf8")
  let seed: Uint8Array | undefined
  try {
    if (file.sealed !== undefined) {
      if (passphrase === "") throw new Refusal({ kind: "denied", detail: `${path} is sealed by a passphrase`, hint: "--passphrase-file FILE" })
      seed = await unwrapHomeKey(Buffer.from(file.sealed, "base64"), path, secret)
    } else if (file.seed !== undefined) seed = fromHex(file.seed)
    else throw new Refusal({ kind: "usage", detail: `${path} holds the public key only` })
    if (seed.byteLength !== keyBytes) throw new Refusal({ kind: "usage", detail: `${path} is damaged: its seed has ${seed.byteLength} bytes` })
    const pair = keyPairFromSeed(seed)
    if (toHex(pair.publicKey) !== file.public) throw new Refusal({ kind: "usage", detail: `${path} is damaged: its public key is not that of its seed` })
    return pair
  } finally {
    seed?.fill(0)
    secret.fill(0)
  }
}

const decode = Schema.decodeUnknownResult(KeyFile)

const read = async (path: string): Promise<typeof KeyFile.Type> => {
  const bytes = await readSmall(path, keyFileBytesMax)
  if (bytes === "absent") throw new Refusal({ kind: "not-found", detail: `there is no file ${path}` })
  if (typeof bytes === "string") throw new Refusal({ kind: "usage", detail: `${path} is ${bytes === "no file" ? "no file" : "too large for a key"}` })
  try {
    const json: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"))
    const decoded = decode(json)
    if (Result.isSuccess(decoded)) return decoded.success
  } catch {
    // Said below.
  } finally {
    bytes.fill(0)
  }
  throw new Refusal({ kind: "usage", detail: `${path} is no signer's key of kOS`, hint: "kos release key --out FILE" })
}
