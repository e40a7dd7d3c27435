/**
 * What this node must keep to use secrets, and must be able to destroy: the private half of its present reader key, and the item keys that it
 * was given. It is the only thing of a secret that is no part of any log. `src/projections/secrets.ts` tells what it is for.
 *
 * One file, `$home/mesh/ID/secrets`: `version u8 | nonce 24 | XChaCha20-Poly1305 of CBOR` under a key derived from the device key, which
 * the vault seals at rest. It is written whole each time: `secrets.new` is written and synced, `secrets` becomes `secrets.old`, and the new one
 * takes its name. The old one is not left to the file system: it is overwritten with zeros and synced before it is unlinked, also when the
 * power went in between (then at the next opening). When `secrets` is missing the power went between the two names, and the new one counts.
 *
 * What this cannot do: a flash card, a file system that copies on write, a snapshot or a backup may hold the old bytes all the same. There
 * they are sealed by the device key. A receipt says what this node destroyed of what it could reach, no more.
 *
 * A file that does not open (another device key, damage) is as good as lost: it is overwritten, and the node is given what it may have anew.
 */
import sodium from "sodium-native"
import { Result } from "effect"
import { open, rename, unlink } from "node:fs/promises"
import { dirname } from "node:path"
import { fromHex, toHex } from "../codec/bytes.ts"
import { decodeCbor, encodeCbor } from "../codec/cbor.ts"
import { asBuffer, deriveKey } from "../codec/hash.ts"
import { type KeyPair, keyPairFromSeed, randomBytes } from "../codec/signature.ts"
import { readMaybe } from "./files.ts"

/** Item keys that one node keeps for one mesh at most. */
export const itemKeysMax = 10_000
/** Receipts that wait to be written at most. */
export const receiptsWaitingMax = 10_000

export interface ReaderKey {
  /** Counted up with each new one. */
  readonly generation: number
  readonly seed: Uint8Array
}

export interface KeptItem {
  readonly name: string
  /** 32 bytes. */
  readonly key: Uint8Array
}

export interface SecretState {
  readonly reader: ReaderKey | undefined
  /** By the version's id. */
  readonly items: ReadonlyMap<string, KeptItem>
  /** Versions of which the keys were destroyed here, with the secret's name, until a log of this node says so. */
  readonly destroyed: ReadonlyMap<string, string>
}

export class SecretStore {
  readonly #path: string
  readonly #key: Uint8Array
  #state: SecretState
  #readerKeys: KeyPair | undefined

  /** Something lay there at the opening and could not be opened. */
  readonly damaged: boolean

  private constructor(path: string, key: Uint8Array, state: SecretState, damaged = false) {
    this.damaged = damaged
    this.#path = path
    this.#key = key
    this.#state = state
    this.#readerKeys = keysOf(state)
  }

  /** `directory` is that of the mesh, `mesh` its id. */
  static async open(directory: string, mesh: string, device: KeyPair): Promise<SecretStore> {
    const path = `${directory}/secrets`
    const key = storeKey(mesh, device)
    let bytes = await readMaybe(path)
    if (bytes === undefined && (await renamedIfOpens(`${path}.new`, path, key) || await renamed(`${path}.old`, path))) bytes = await readMaybe(path)
    for (const left of [`${path}.new`, `${path}.old`]) await destroyFile(left)
    if (bytes === undefined) return new SecretStore(path, key, nothing)
    const state = opened(bytes, key)
    // A newer version wrote it, and this one came back after its trial: what it holds is not to be lost. Keys come again from others meanwhile.
    if (state === undefined && (bytes[0] ?? 0) > fileVersion) await renamed(path, `${path}.newer`)
    else if (state === undefined) await destroyFile(path)
    return new SecretStore(path, key, state ?? nothing, state === undefined)
  }

  /** What a file holds for whoever has the device key; for proving that nothing is left. */
  static contents(bytes: Uint8Array, mesh: string, device: KeyPair): ReadonlyArray<Uint8Array> {
    const content = contentOf(bytes, storeKey(mesh, device))
    return content === undefined ? [] : [content]
  }

  get state(): SecretState {
    return this.#state
  }

  /** The reader key pair that others seal to now. */
  get readerKeys(): KeyPair | undefined {
    return this.#readerKeys
  }

  /** Returns when the new state is synced and the file of the old one is overwritten. Callers take turns. */
  async write(next: SecretState): Promise<void> {
    if (next.items.size > itemKeysMax || next.destroyed.size > receiptsWaitingMax) throw new Error(`more than ${itemKeysMax} secrets on one node`)
    await writeSynced(`${this.#path}.new`, sealed(next, this.#key))
    const had = await renamed(this.#path, `${this.#path}.old`)
    await renamed(`${this.#path}.new`, this.#path)
    await syncDirectory(dirname(this.#path))
    if (had) await destroyFile(`${this.#path}.old`)
    const before = this.#state
    this.#state = next
    this.#readerKeys = keysOf(next)
    for (const [item, { key }] of before.items) if (next.items.get(item)?.key !== key) key.fill(0)
    if (before.reader !== undefined && before.reader.seed !== next.reader?.seed) before.reader.seed.fill(0)
  }

  /** Everything, when this node belongs to the mesh no more. */
  async destroy(): Promise<void> {
    for (const path of [this.#path, `${this.#path}.newer`]) await destroyFile(path)
    for (const { key } of this.#state.items.values()) key.fill(0)
    this.#state.reader?.seed.fill(0)
    this.#state = nothing
    this.#readerKeys = undefined
  }
}

const nothing: SecretState = { reader: undefined, items: new Map(), destroyed: new Map() }

const keysOf = ({ reader }: SecretState): KeyPair | undefined => (reader === undefined ? undefined : keyPairFromSeed(reader.seed))

const fileVersion = 1
const headBytes = 1 + 24
const tagBytes = 16

const sealed = ({ reader, items, destroyed }: SecretState, key: Uint8Array): Uint8Array => {
  const content = asBuffer(encodeCbor([
    reader === undefined ? null : [reader.generation, reader.seed],
    [...items].map(([item, { name, key: itemKey }]) => [fromHex(item), name, itemKey]),
    [...destroyed].map(([item, name]) => [fromHex(item), name])
  ]))
  const nonce = randomBytes(24)
  const out = Buffer.allocUnsafeSlow(headBytes + content.byteLength + tagBytes)
  out[0] = fileVersion
  out.set(nonce, 1)
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(out.subarray(headBytes), content, out.subarray(0, 1), null, asBuffer(nonce), asBuffer(key))
  content.fill(0)
  return out
}

const opened = (bytes: Uint8Array, key: Uint8Array): SecretState | undefined => {
  const content = contentOf(bytes, key)
  if (content === undefined) return undefined
  const wire = decodeCbor("secrets", content)
  if (Result.isFailure(wire) || !isList(wire.success)) return undefined
  const [reader, items, destroyed] = wire.success
  if (!isList(items) || !isList(destroyed)) return undefined
  // Copies: what was decoded may be views of the content, which is zeroed.
  const state = {
    reader: readerOf(reader),
    items: new Map(items.flatMap((entry) => {
      const [item, name, itemKey] = isList(entry) ? entry : []
      return isKey(item) && typeof name === "string" && isKey(itemKey) ? [[toHex(item), { name, key: new Uint8Array(itemKey) }] as const] : []
    })),
    destroyed: new Map(destroyed.flatMap((entry) => {
      const [item, name] = isList(entry) ? entry : []
      return isKey(item) && typeof name === "string" ? [[toHex(item), name] as const] : []
    }))
  }
  content.fill(0)
  return state
}

const contentOf = (bytes: Uint8Array, key: Uint8Array): Buffer | undefined => {
  const file = asBuffer(bytes)
  if (file.byteLength < headBytes + tagBytes || file[0] !== fileVersion) return undefined
  const content = Buffer.allocUnsafeSlow(file.byteLength - headBytes - tagBytes)
  try {
    sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(content, null, file.subarray(headBytes), file.subarray(0, 1), file.subarray(1, headBytes), asBuffer(key))
    return content
  } catch {
    return undefined
  }
}

const storeKey = (mesh: string, device: KeyPair): Uint8Array => deriveKey(device.secretKey.subarray(0, 32), "kos/secret-store/1", fromHex(mesh))

const readerOf = (wire: unknown): ReaderKey | undefined => {
  const [generation, seed] = isList(wire) ? wire : []
  return typeof generation === "number" && Number.isSafeInteger(generation) && isKey(seed) ? { generation, seed: new Uint8Array(seed) } : undefined
}

const isList = (value: unknown): value is ReadonlyArray<unknown> => Array.isArray(value)
const isKey = (value: unknown): value is Uint8Array => value instanceof Uint8Array && value.byteLength === 32

const renamed = async (from: string, to: string): Promise<boolean> => {
  try {
    await rename(from, to)
    return true
  } catch (cause) {
    if (isCode(cause, "ENOENT")) return false
    throw cause
  }
}

/** What was not written to its end does not open. */
const renamedIfOpens = async (from: string, to: string, key: Uint8Array): Promise<boolean> => {
  const bytes = await readMaybe(from)
  return bytes !== undefined && opened(bytes, key) !== undefined && renamed(from, to)
}

const writeSynced = async (path: string, bytes: Uint8Array): Promise<void> => {
  const file = await open(path, "w", 0o600)
  try {
    await file.writeFile(bytes)
    await file.sync()
  } finally {
    await file.close()
  }
}

const syncDirectory = async (path: string): Promise<void> => {
  const directory = await open(path, "r")
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

const destroyFile = async (path: string): Promise<void> => {
  try {
    const file = await open(path, "r+")
    try {
      const { size } = await file.stat()
      await file.write(Buffer.alloc(size), 0, size, 0)
      await file.datasync()
    } finally {
      await file.close()
    }
    await unlink(path)
  } catch (cause) {
    if (!isCode(cause, "ENOENT")) throw cause
  }
}

const isCode = (cause: unknown, code: string): boolean => typeof cause === "object" && cause !== null && "code" in cause && cause.code === code
