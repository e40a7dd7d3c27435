/**
 * Who I am. The vault keeps the device key of this home and, for each mesh, the mesh key and the keys of this node's logs. Design
 * section 5. Everything is a file of raw bytes with mode 0600 in a directory with mode 0700, written whole; secret keys leave this
 * floor only as key pairs in memory.
 *
 * ```text
 * $home/keys/device            seed of the device key, 32 bytes
 * $home/current                id of the mesh that this node is in now
 * $home/mesh/ID/keys/mesh      mesh key, 32 bytes
 * $home/mesh/ID/keys/log.N     seed of this node's Nth log in that mesh; the greatest N is the one that is written
 * ```
 */
import { Schema } from "effect"
import { readdir } from "node:fs/promises"
import { isHex, toHex, utf8 } from "../codec/bytes.ts"
import { type KeyPair, keyPairFromSeed, randomBytes } from "../codec/signature.ts"
import { makeDirectory, readMaybe, writeWhole } from "./files.ts"

export class VaultError extends Schema.TaggedError<VaultError>()("VaultError", { detail: Schema.String }) {
  override get message() {
    return this.detail
  }
}

export const keyBytes = 32
/** Logs that one node may have begun in one mesh. */
export const logsMax = 10_000

export class Vault {
  readonly home: string
  readonly device: KeyPair
  /** Public device key, 64 hex digits. */
  readonly deviceId: string

  private constructor(home: string, device: KeyPair) {
    this.home = home
    this.device = device
    this.deviceId = toHex(device.publicKey)
  }

  /** Opens the vault of a home, or undefined when this home has none yet. */
  static async open(home: string): Promise<Vault | undefined> {
    const seed = await readMaybe(`${home}/keys/device`)
    if (seed === undefined) return undefined
    return new Vault(home, keyPairFromSeed(checkKey(`${home}/keys/device`, seed)))
  }

  /** Makes the device key of a new home. */
  static async create(home: string): Promise<Vault> {
    await makeDirectory(`${home}/keys`)
    if (await readMaybe(`${home}/keys/device`) !== undefined) throw new VaultError({ detail: `${home} has a device key already` })
    const seed = randomBytes(keyBytes)
    await writeWhole(`${home}/keys/device`, seed)
    return new Vault(home, keyPairFromSeed(seed))
  }

  async currentMesh(): Promise<string | undefined> {
    const bytes = await readMaybe(`${this.home}/current`)
    if (bytes === undefined) return undefined
    const id = Buffer.from(bytes).toString("utf8").trim()
    if (!isHex(id, 32)) throw new VaultError({ detail: `${this.home}/current does not name a mesh` })
    return id
  }

  async setCurrentMesh(id: string): Promise<void> {
    await writeWhole(`${this.home}/current`, utf8(`${id}\n`))
  }

  /** Directory of one mesh's store, tables and keys. The id is shortened: the full one stands in `current`. */
  meshDirectory(id: string): string {
    return `${this.home}/mesh/${id.slice(0, 16)}`
  }

  /** Keeps the keys of a mesh that this node made or was let into. `logSeed` becomes its first log there. */
  async addMesh(id: string, meshKey: Uint8Array, logSeed: Uint8Array): Promise<void> {
    const keys = `${this.meshDirectory(id)}/keys`
    await makeDirectory(keys)
    await writeWhole(`${keys}/mesh`, checkKey("mesh key", meshKey))
    const number = ((await this.#logNumbers(id)).at(-1) ?? 0) + 1
    await writeWhole(`${keys}/log.${number}`, checkKey("log seed", logSeed))
  }

  async meshKey(id: string): Promise<Uint8Array> {
    const path = `${this.meshDirectory(id)}/keys/mesh`
    const bytes = await readMaybe(path)
    if (bytes === undefined) throw new VaultError({ detail: `the key of mesh ${id.slice(0, 8)} is missing: ${path}` })
    return checkKey(path, bytes)
  }

  /** Key pair of the log that is written now; made when there is none. */
  async logKeyPair(id: string): Promise<{ readonly number: number; readonly keyPair: KeyPair }> {
    const numbers = await this.#logNumbers(id)
    const number = numbers.at(-1)
    if (number === undefined) return this.nextLogKeyPair(id)
    const path = `${this.meshDirectory(id)}/keys/log.${number}`
    const seed = await readMaybe(path)
    if (seed === undefined) throw new VaultError({ detail: `${path} is missing` })
    return { number, keyPair: keyPairFromSeed(checkKey(path, seed)) }
  }

  /** A fresh log key, which is the one that is written from now on. */
  async nextLogKeyPair(id: string): Promise<{ readonly number: number; readonly keyPair: KeyPair }> {
    const number = ((await this.#logNumbers(id)).at(-1) ?? 0) + 1
    if (number > logsMax) throw new VaultError({ detail: `more than ${logsMax} logs in one mesh` })
    const seed = randomBytes(keyBytes)
    await writeWhole(`${this.meshDirectory(id)}/keys/log.${number}`, seed)
    return { number, keyPair: keyPairFromSeed(seed) }
  }

  async #logNumbers(id: string): Promise<ReadonlyArray<number>> {
    const directory = `${this.meshDirectory(id)}/keys`
    await makeDirectory(directory)
    return (await readdir(directory))
      .map((name) => /^log\.([1-9][0-9]{0,4})$/.exec(name)?.[1])
      .filter((text) => text !== undefined)
      .map(Number)
      .toSorted((a, b) => a - b)
  }
}

const checkKey = (what: string, bytes: Uint8Array): Uint8Array => {
  if (bytes.byteLength !== keyBytes) throw new VaultError({ detail: `${what} has ${bytes.byteLength} bytes instead of ${keyBytes}` })
  return bytes
}
