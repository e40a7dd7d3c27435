/** What can be told of a home from its files alone, without any secret of it. */
import { isHex, toHex, utf8 } from "../codec/bytes.ts"
import { keyPairFromSeed } from "../codec/signature.ts"
import { readMaybe, readSmall, writeWhole } from "./files.ts"
import { type HomeKeyHeader, homeKeyFileBytesMax, isSealed, readHomeKeyHeader, secretBytesMax } from "./sealing.ts"
import { VaultError } from "./vault-error.ts"

export const devicePlace = "keys/device"
export const homeKeyPlace = "keys/home"
export const keyBytes = 32

export interface HomeLook {
  /** Public device key, 64 hex digits; of a sealed home what its home-key file claims. */
  readonly device: string
  /** How the secrets are kept: undefined when raw. */
  readonly sealed: HomeKeyHeader | undefined
}

/** Undefined when there is no device key. */
export const lookAtHome = async (home: string): Promise<HomeLook | undefined> => {
  const device = await readKeyFile(home, devicePlace)
  if (device === undefined) return undefined
  const header = await readHomeKeyFile(home)
  if (header !== undefined) return { device: header.header.device, sealed: header.header }
  if (isSealed(device)) throw homeKeyMissing(home)
  return { device: toHex(keyPairFromSeed(checkKey(`${home}/${devicePlace}`, device)).publicKey), sealed: undefined }
}

/** Id of the mesh that this home is in; undefined when it is in none. */
export const currentMeshOf = async (home: string): Promise<string | undefined> => {
  const bytes = await readMaybe(`${home}/current`)
  if (bytes === undefined) return undefined
  const id = Buffer.from(bytes).toString("utf8").trim()
  if (!isHex(id, 32)) throw new VaultError({ reason: "damaged", detail: `${home}/current does not name a mesh` })
  return id
}

export const writeCurrentMesh = (home: string, id: string): Promise<void> => writeWhole(`${home}/current`, utf8(`${id}\n`))

/** Meshes that one home may be in at a time. */
export const openMeshesMax = 8

/** Ids of the meshes that this home is in, the default one first, `openMeshesMax` at most; empty when it is in none. A list that cannot be read costs the others, not the default. */
export const meshesOf = async (home: string): Promise<ReadonlyArray<string>> => {
  const current = await currentMeshOf(home)
  const bytes = await readSmall(`${home}/meshes`, 4_096)
  const listed = typeof bytes === "string" ? [] : Buffer.from(bytes).toString("utf8").split("\n").map((line) => line.trim()).filter((line) => isHex(line, 32))
  return [...new Set([...current === undefined ? [] : [current], ...listed])].slice(0, openMeshesMax)
}

export const writeMeshes = (home: string, ids: ReadonlyArray<string>): Promise<void> => writeWhole(`${home}/meshes`, utf8(ids.map((id) => `${id}\n`).join("")))

/** Path below the home of the device key that it has in one mesh; there when that is not the home's own. */
export const meshDevicePlace = (id: string): string => `${meshPlace(id)}/keys/device`

/** Path below the home of one mesh's store, tables and keys. The id is shortened: the full one stands in `current`. */
export const meshPlace = (id: string): string => `mesh/${id.slice(0, 16)}`

export const meshDirectoryOf = (home: string, id: string): string => `${home}/${meshPlace(id)}`

/** The home-key file with its header read; undefined when the home is not sealed. */
export const readHomeKeyFile = async (home: string): Promise<{ readonly bytes: Uint8Array; readonly header: HomeKeyHeader } | undefined> => {
  const path = `${home}/${homeKeyPlace}`
  const bytes = await readSmall(path, homeKeyFileBytesMax)
  if (bytes === "absent") return undefined
  if (typeof bytes === "string") throw new VaultError({ reason: "damaged", detail: `${path} is damaged: it is ${bytes === "too large" ? "too large" : "no file"}` })
  return { bytes, header: readHomeKeyHeader(bytes, path) }
}

/** The bytes of a key file, raw or sealed; undefined when it is not there. */
export const readKeyFile = async (home: string, place: string): Promise<Uint8Array | undefined> => {
  const bytes = await readSmall(`${home}/${place}`, secretBytesMax + 1_024)
  if (bytes === "absent") return undefined
  if (typeof bytes === "string") throw new VaultError({ reason: "damaged", detail: `${home}/${place} is damaged: it is ${bytes === "too large" ? "too large" : "no file"}` })
  return bytes
}

export const checkKey = (what: string, bytes: Uint8Array): Uint8Array => {
  if (bytes.byteLength !== keyBytes) throw new VaultError({ reason: "damaged", detail: `${what} has ${bytes.byteLength} bytes instead of ${keyBytes}` })
  return bytes
}

export const homeKeyMissing = (home: string): VaultError => new VaultError({
  reason: "missing", detail: `${home}/${homeKeyPlace} is missing, and the keys of this home are sealed by it; put it back, or restore a backup into a new home`
})
