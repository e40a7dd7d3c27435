/**
 * Who I am. The vault keeps the device key of this home and, for each mesh, the mesh key and the keys of this node's logs. Design
 * section 5. Every secret is a file with mode 0600 in a directory with mode 0700, written whole, either raw or sealed (`sealing.ts`);
 * secret keys leave this floor only as key pairs in memory and in a backup that is itself encrypted.
 *
 * ```text
 * $home/keys/device            seed of the device key, 32 bytes
 * $home/keys/home              the home key under its lock; there when the home is sealed
 * $home/keys/release.NAME      seed of a key for releases: `signer`; the log of a channel that is published here by the log's key; its publishing key by its public key
 * $home/current                id of the mesh that commands go to when they name none
 * $home/meshes                 ids of all meshes that this home is in, one per line; the one of `current` is one of them in any case
 * $home/mesh/ID/keys/mesh      mesh key, 32 bytes
 * $home/mesh/ID/keys/device    seed of the device key in that mesh, 32 bytes; when there is none it is the home's
 * $home/mesh/ID/keys/log.N     seed of this node's Nth log in that mesh; the greatest N is the one that is written
 * $home/mesh/ID/keys/recovery  entropy of the mesh's recovery words, 32 bytes; only when somebody asked to keep it
 * ```
 *
 * **Sealing and unsealing** change many files, and the power may go between any two of them. While `keys/home` is there each other file may
 * be raw or sealed, and both are read. *Seal* writes `keys/home` first, then seals file by file. *Unseal* writes file by file raw, and takes
 * `keys/home` away last. So whatever was cut short, the home opens with the lock that it had or was about to get; and the next opening seals
 * what is still raw, so that an unsealing that was cut short is simply undone. A change of the lock writes `keys/home` alone.
 *
 * **One device key in each mesh.** Carriers find a device by its key, so one key in two meshes would land a connection at the wrong one, and would tell
 * both that they share a device. `forMesh` gives the vault as it is in one mesh: the same home and lock, that mesh's device key.
 *
 * **A node that runs needs no lock.** It has the home key in memory, seals new secrets with it, and may give the home another lock. Who can talk to
 * its socket is its owner already.
 */
import { readdir } from "node:fs/promises"
import { fromHex, toHex } from "../codec/bytes.ts"
import { type KeyPair, keyPairFromSeed, randomBytes } from "../codec/signature.ts"
import { besideEnding, makeDirectory, removeWhole, writeWhole } from "./files.ts"
import {
  checkKey, currentMeshOf, devicePlace, homeKeyMissing, homeKeyPlace, keyBytes, meshDirectoryOf, meshDevicePlace, meshesOf, meshPlace, readHomeKeyFile, readKeyFile,
  writeCurrentMesh, writeMeshes
} from "./home.ts"
import { type HomeKeyHeader, homeKeyBytes, isSealed, type Lock, openSecret, readHomeKeyHeader, sealSecret, unwrapHomeKey, wrapHomeKey } from "./sealing.ts"
import { VaultError } from "./vault-error.ts"

export { keyBytes } from "./home.ts"
/** Logs that one node may have begun in one mesh. */
export const logsMax = 10_000
/** Meshes that one home may have been in. */
export const meshesMax = 1_000

/** Gives the passphrase, or what the credential or key file holds; the vault overwrites it after use. */
export type Unlock = (header: HomeKeyHeader) => Promise<Uint8Array>

/** How the vault writes; tests put one that fails in its place. */
export interface VaultFiles {
  readonly write: (path: string, bytes: Uint8Array) => Promise<void>
  readonly remove: (path: string) => Promise<void>
}

const realFiles: VaultFiles = { write: writeWhole, remove: removeWhole }

export interface OpenOptions {
  readonly unlock?: Unlock
  readonly files?: VaultFiles
}

export interface CreateOptions {
  /** Seals the home from its first key on. */
  readonly lock?: Lock
  /** A device key that exists already, from a backup. */
  readonly seed?: Uint8Array
  readonly files?: VaultFiles
}

export class Vault {
  readonly home: string
  readonly device: KeyPair
  /** Public device key, 64 hex digits. */
  readonly deviceId: string
  readonly #files: VaultFiles
  /** The same object in every view of one home. */
  readonly #lock: Locked

  private constructor(home: string, device: KeyPair, files: VaultFiles, lock: Locked) {
    this.home = home
    this.device = device
    this.deviceId = toHex(device.publicKey)
    this.#files = files
    this.#lock = lock
  }

  /** Opens the vault of a home, or undefined when this home has none yet. Throws `locked` when it is sealed and nothing is given to unlock it, `wrong` when that does not open it. */
  static async open(home: string, { unlock, files = realFiles }: OpenOptions = {}): Promise<Vault | undefined> {
    const device = await readKeyFile(home, devicePlace)
    if (device === undefined) return undefined
    const kept = await readHomeKeyFile(home)
    if (kept === undefined) {
      if (isSealed(device)) throw homeKeyMissing(home)
      const vault = new Vault(home, ...unlocked(pairOf(`${home}/${devicePlace}`, device), files))
      await vault.#sweep()
      return vault
    }
    if (unlock === undefined) throw new VaultError({ reason: "locked", detail: `the keys of ${home} are sealed by ${lockText(kept.header)}` })
    const secret = await unlock(kept.header)
    const homeKey = await unwrapHomeKey(kept.bytes, `${home}/${homeKeyPlace}`, secret).finally(() => secret.fill(0))
    const pair = pairOf(`${home}/${devicePlace}`, isSealed(device) ? openSecret(homeKey, devicePlace, device) : device)
    if (toHex(pair.publicKey) !== kept.header.device) {
      throw new VaultError({ reason: "damaged", detail: `${home}/${devicePlace} is not the key that ${home}/${homeKeyPlace} was made for` })
    }
    const vault = new Vault(home, ...unlocked(pair, files, homeKey, kept.header))
    await vault.#sweep()
    // What was cut short is finished; a disk that cannot be written now is asked again at the next opening.
    await vault.#sealRaw().catch(() => undefined)
    return vault
  }

  /** Makes the device key of a new home, or takes the one of a backup. */
  static async create(home: string, { lock, seed, files = realFiles }: CreateOptions = {}): Promise<Vault> {
    await makeDirectory(`${home}/keys`)
    if (await readKeyFile(home, devicePlace) !== undefined) throw new VaultError({ reason: "refused", detail: `${home} has a device key already` })
    if ((await secretPlaces(home)).length > 0) {
      throw new VaultError({ reason: "missing", detail: `${home}/${devicePlace} is missing, but this home has keys of meshes; put it back, or restore a backup into a new home` })
    }
    const own = seed ?? randomBytes(keyBytes)
    const vault = new Vault(home, ...unlocked(pairOf("device key", new Uint8Array(own)), files))
    // A lock that was left without any key behind it holds nothing.
    if (lock === undefined) await files.remove(`${home}/${homeKeyPlace}`)
    else await vault.#lockBy(lock)
    await vault.#put(devicePlace, own)
    if (seed === undefined) own.fill(0)
    return vault
  }

  /** How the secrets lie on the disk; undefined when raw. */
  sealed(): HomeKeyHeader | undefined {
    return this.#lock.kept
  }

  /** Seals everything by this lock; a home that is sealed already gets this one in place of its own. The lock's secret stays the caller's to overwrite. */
  seal(lock: Lock): Promise<void> {
    return this.#exclusive(async () => {
      await this.#lockBy(lock)
      await this.#sweep()
      await this.#sealRaw()
    })
  }

  /** Writes everything raw again. */
  unseal(): Promise<void> {
    return this.#exclusive(async () => {
      const homeKey = this.#lock.homeKey
      if (homeKey === undefined) return
      for (const place of await secretPlaces(this.home)) {
        const bytes = await readKeyFile(this.home, place)
        if (bytes !== undefined && isSealed(bytes)) await this.#files.write(`${this.home}/${place}`, openSecret(homeKey, place, bytes))
      }
      await this.#files.remove(`${this.home}/${homeKeyPlace}`)
      this.#lock.homeKey = undefined
      this.#lock.kept = undefined
      homeKey.fill(0)
    })
  }

  /** Seed of the device key, for a backup; the caller overwrites it after use. */
  deviceSeed(): Uint8Array {
    return new Uint8Array(this.device.secretKey.subarray(0, keyBytes))
  }

  /** False in a view for a mesh in which this home has a device key of its own. */
  get isHomeDevice(): boolean {
    return this.deviceId === this.#lock.homeDevice
  }

  /** This vault as it is in one mesh: with the device key that the home has there. */
  async forMesh(id: string): Promise<Vault> {
    const place = meshDevicePlace(id)
    const seed = await this.#get(place)
    const device = seed === undefined ? this.#lock.home : pairOf(`${this.home}/${place}`, seed)
    return new Vault(this.home, device, this.#files, this.#lock)
  }

  /** Ids of the meshes that this home is in, the default one first. */
  async meshes(): Promise<ReadonlyArray<string>> {
    return meshesOf(this.home)
  }

  setMeshes(ids: ReadonlyArray<string>): Promise<void> {
    return writeMeshes(this.home, ids)
  }

  currentMesh(): Promise<string | undefined> {
    return currentMeshOf(this.home)
  }

  setCurrentMesh(id: string): Promise<void> {
    return writeCurrentMesh(this.home, id)
  }

  /** Directory of one mesh's store, tables and keys. The id is shortened: the full one stands in `current`. */
  meshDirectory(id: string): string {
    return meshDirectoryOf(this.home, id)
  }

  /**
   * Keeps the keys of a mesh that this node made or was let into. `logSeed` becomes its first log there; `deviceSeed` is its device key there when that is
   * not the home's.
   */
  addMesh(id: string, meshKey: Uint8Array, logSeed: Uint8Array, deviceSeed?: Uint8Array): Promise<void> {
    return this.#exclusive(async () => {
      await makeDirectory(`${this.meshDirectory(id)}/keys`)
      if (deviceSeed !== undefined) await this.#put(meshDevicePlace(id), checkKey("device seed", deviceSeed))
      await this.#put(`${meshPlace(id)}/keys/mesh`, checkKey("mesh key", meshKey))
      const number = ((await this.#logNumbers(id)).at(-1) ?? 0) + 1
      await this.#put(`${meshPlace(id)}/keys/log.${number}`, checkKey("log seed", logSeed))
    })
  }

  async meshKey(id: string): Promise<Uint8Array> {
    const place = `${meshPlace(id)}/keys/mesh`
    const bytes = await this.#get(place)
    if (bytes === undefined) throw new VaultError({ reason: "missing", detail: `the key of mesh ${id.slice(0, 8)} is missing: ${this.home}/${place}` })
    return checkKey(place, bytes)
  }

  /** Key pair of the log that is written now; made when there is none. */
  async logKeyPair(id: string): Promise<{ readonly number: number; readonly keyPair: KeyPair }> {
    const number = (await this.#logNumbers(id)).at(-1)
    if (number === undefined) return this.nextLogKeyPair(id)
    const place = `${meshPlace(id)}/keys/log.${number}`
    const seed = await this.#get(place)
    if (seed === undefined) throw new VaultError({ reason: "missing", detail: `${this.home}/${place} is missing` })
    return { number, keyPair: pairOf(place, seed) }
  }

  /** A fresh log key, which is the one that is written from now on. */
  nextLogKeyPair(id: string): Promise<{ readonly number: number; readonly keyPair: KeyPair }> {
    return this.#exclusive(async () => {
      const number = ((await this.#logNumbers(id)).at(-1) ?? 0) + 1
      if (number > logsMax) throw new VaultError({ reason: "refused", detail: `more than ${logsMax} logs in one mesh` })
      const seed = randomBytes(keyBytes)
      const place = `${meshPlace(id)}/keys/log.${number}`
      await this.#put(place, seed)
      return { number, keyPair: pairOf(place, seed) }
    })
  }

  /** Entropy of the mesh's recovery words, when this node was asked to keep it. */
  recovery(id: string): Promise<Uint8Array | undefined> {
    return this.#get(recoveryPlace(id))
  }

  /** Keeps it, or with undefined forgets it. */
  keepRecovery(id: string, entropy: Uint8Array | undefined): Promise<void> {
    return this.#exclusive(() => entropy === undefined
      ? this.#files.remove(`${this.home}/${recoveryPlace(id)}`) : this.#put(recoveryPlace(id), checkKey("recovery secret", entropy)))
  }

  /** A key pair for releases: `signer`, with which this home signs them, or one that it made for a channel. */
  async releaseKeyPair(name: string): Promise<KeyPair | undefined> {
    const seed = await this.#get(releasePlace(name))
    return seed === undefined ? undefined : pairOf(releasePlace(name), seed)
  }

  /** Makes one and keeps it by the name that it gets: `signer`, or 64 hex digits. When there is one of that name, that one is meant. */
  makeReleaseKeyPair(nameOf: (made: KeyPair) => string): Promise<KeyPair> {
    return this.#exclusive(async () => {
      const seed = randomBytes(keyBytes)
      const made = keyPairFromSeed(seed)
      const name = nameOf(made)
      const had = await this.releaseKeyPair(name)
      if (had === undefined) await this.#put(releasePlace(name), seed)
      seed.fill(0)
      return had ?? made
    })
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

  async #get(place: string): Promise<Uint8Array | undefined> {
    const bytes = await readKeyFile(this.home, place)
    if (bytes === undefined || !isSealed(bytes)) return bytes
    if (this.#lock.homeKey === undefined) throw homeKeyMissing(this.home)
    return openSecret(this.#lock.homeKey, place, bytes)
  }

  #put(place: string, secret: Uint8Array): Promise<void> {
    return this.#files.write(`${this.home}/${place}`, this.#lock.homeKey === undefined ? secret : sealSecret(this.#lock.homeKey, place, secret))
  }

  async #lockBy(lock: Lock): Promise<void> {
    const path = `${this.home}/${homeKeyPlace}`
    const homeKey = this.#lock.homeKey ?? randomBytes(homeKeyBytes)
    const bytes = await wrapHomeKey(homeKey, fromHex(this.#lock.homeDevice), lock)
    await this.#files.write(path, bytes)
    this.#lock.homeKey = homeKey
    this.#lock.kept = readHomeKeyHeader(bytes, path)
  }

  async #sealRaw(): Promise<void> {
    const homeKey = this.#lock.homeKey
    if (homeKey === undefined) return
    for (const place of await secretPlaces(this.home)) {
      const bytes = await readKeyFile(this.home, place)
      if (bytes === undefined || isSealed(bytes)) continue
      await this.#files.write(`${this.home}/${place}`, sealSecret(homeKey, place, bytes))
      bytes.fill(0)
    }
  }

  /** A file that was being written when the power went may hold a raw secret. */
  async #sweep(): Promise<void> {
    for (const directory of await keyDirectories(this.home)) {
      for (const name of await namesIn(`${this.home}/${directory}`, "files")) {
        if (name.endsWith(besideEnding)) await this.#files.remove(`${this.home}/${directory}/${name}`).catch(() => undefined)
      }
    }
  }

  /** One change of files at a time. */
  #exclusive<A>(work: () => Promise<A>): Promise<A> {
    const turn = this.#lock.turn.then(work)
    this.#lock.turn = turn.catch(() => undefined)
    return turn
  }
}

interface Locked {
  /** The home's own device key, whatever mesh a view is for. */
  readonly home: KeyPair
  readonly homeDevice: string
  homeKey: Uint8Array | undefined
  kept: HomeKeyHeader | undefined
  turn: Promise<unknown>
}

const unlocked = (home: KeyPair, files: VaultFiles, homeKey?: Uint8Array, kept?: HomeKeyHeader): [KeyPair, VaultFiles, Locked] =>
  [home, files, { home, homeDevice: toHex(home.publicKey), homeKey, kept, turn: Promise.resolve() }]

/** What a person is told of a lock. */
export const lockText = ({ way, name }: Pick<HomeKeyHeader, "way" | "name">): string =>
  way === "passphrase" ? "a passphrase" : way === "credential" ? `the credential ${name}` : `the key file ${name}`

const recoveryPlace = (id: string): string => `${meshPlace(id)}/keys/recovery`

const releasePlace = (name: string): string => {
  if (!/^(signer|[0-9a-f]{64})$/.test(name)) throw new VaultError({ reason: "refused", detail: `there is no release key called ${name.slice(0, 80)}` })
  return `keys/release.${name}`
}

/** The key pair of a seed, which is overwritten. */
const pairOf = (what: string, seed: Uint8Array): KeyPair => {
  const pair = keyPairFromSeed(checkKey(what, seed))
  seed.fill(0)
  return pair
}

/** Directories below the home that hold secrets and nothing else. */
const keyDirectories = async (home: string): Promise<ReadonlyArray<string>> => [
  "keys", ...(await namesIn(`${home}/mesh`, "directories")).slice(0, meshesMax).map((name) => `mesh/${name}/keys`)
]

/** Every secret of the home but the home key, by its path below the home. */
const secretPlaces = async (home: string): Promise<ReadonlyArray<string>> => {
  const out: Array<string> = []
  for (const directory of await keyDirectories(home)) {
    for (const name of await namesIn(`${home}/${directory}`, "files")) {
      const place = `${directory}/${name}`
      if (place !== homeKeyPlace && !name.endsWith(besideEnding)) out.push(place)
    }
  }
  return out
}

const namesIn = async (directory: string, what: "files" | "directories"): Promise<ReadonlyArray<string>> => {
  try {
    return (await readdir(directory, { withFileTypes: true })).filter((entry) => what === "files" ? entry.isFile() : entry.isDirectory()).map(({ name }) => name).toSorted()
  } catch (cause) {
    if (typeof cause === "object" && cause !== null && "code" in cause && (cause.code === "ENOENT" || cause.code === "ENOTDIR")) return []
    throw cause
  }
}
