/** What a metadata file may weigh and hold, checked before its signatures are: reading it must cost little, whoever wrote it. */

/** Bytes of one metadata file. */
export const metadataBytesMax = 524_288

export interface MetadataLimits {
  readonly rootBytesMax: number
  readonly timestampBytesMax: number
  readonly snapshotBytesMax: number
  readonly targetsBytesMax: number
  /** Roots that are followed at a time. */
  readonly rootsMax: number
  /** Roles that are visited for one path. */
  readonly delegationsMax: number
  /** Entries of one map or list: keys, signatures, roles. */
  readonly entriesMax: number
  /** Targets of one role, and files of one snapshot. */
  readonly targetsMax: number
  /** Keys are ed25519 in lower-case hex, and one key stands in a role once, whatever it is called there. */
  readonly plainKeys: boolean
}

export const channelLimits: MetadataLimits = {
  rootBytesMax: 131_072, timestampBytesMax: 16_384, snapshotBytesMax: 65_536, targetsBytesMax: metadataBytesMax,
  rootsMax: 256, delegationsMax: 32, entriesMax: 128, targetsMax: 1_024, plainKeys: true
}

/** Something is larger than its limit, or not of the form that every channel has. */
export class MetadataRefused extends Error {
  override readonly name = "MetadataRefused"
}

/** Throws what is wrong. Building the objects of a file costs the square of its entries, so these are counted first. */
export const checkBounds = (role: string, bytes: Uint8Array, bytesMax: number, limits: MetadataLimits): void => {
  // R1.7: no file is read that is larger than it may be.
  if (bytes.byteLength > bytesMax) throw new MetadataRefused(`${role} has ${bytes.byteLength} bytes; ${bytesMax} are the limit`)
  const value: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"))
  const signed = field(value, "signed")
  const counted = (what: string, part: unknown, max: number): void => {
    const count = typeof part === "object" && part !== null ? Object.keys(part).length : 0
    if (count > max) throw new MetadataRefused(`${role} has ${count} ${what}; ${max} are the limit`)
  }
  const delegations = field(signed, "delegations")
  counted("signatures", field(value, "signatures"), limits.entriesMax)
  counted("targets", field(signed, "targets"), limits.targetsMax)
  counted("files", field(signed, "meta"), limits.targetsMax)
  for (const holder of [signed, delegations]) {
    const [keys, roles] = [field(holder, "keys"), field(holder, "roles")]
    counted("keys", keys, limits.entriesMax)
    counted("roles", roles, limits.entriesMax)
    if (limits.plainKeys) plainKeys(role, keys, roles)
  }
}

/** R1.3: one key under two names is one key. */
const plainKeys = (role: string, keys: unknown, roles: unknown): void => {
  if (typeof keys !== "object" || keys === null) return
  for (const key of Object.values(keys)) {
    const publicKey = field(field(key, "keyval"), "public")
    if (field(key, "keytype") !== "ed25519" || field(key, "scheme") !== "ed25519" || typeof publicKey !== "string" || !/^[0-9a-f]{64}$/.test(publicKey)) {
      throw new MetadataRefused(`${role} has a key that is not ed25519 in lower-case hex`)
    }
  }
  for (const each of typeof roles === "object" && roles !== null ? Object.values(roles) : []) {
    const ids: unknown = field(each, "keyids")
    if (!Array.isArray(ids)) continue
    const publics = ids.map((id: unknown) => typeof id === "string" ? field(field(field(keys, id), "keyval"), "public") : undefined).filter((key) => key !== undefined)
    if (new Set(publics).size !== publics.length) throw new MetadataRefused(`${role} lists one key twice`)
  }
}

const field = (holder: unknown, name: string): unknown =>
  typeof holder === "object" && holder !== null && Object.hasOwn(holder, name) ? Reflect.get(holder, name) : undefined
