/**
 * What the daemon and its transfer process say to each other, over Node's own channel between parent and child.
 *
 * Both sides decode what they get: the child holds code of others and talks to strangers, so the daemon takes nothing from it that does not fit,
 * and the child is started by path, so it takes nothing that is not a message of this version. No schema library: the child is to stay small.
 */

/** A pack as the child needs it. */
export interface PackTold {
  readonly sha256: string
  readonly length: number
  readonly pieceLength: number
  readonly pieces: Uint8Array
  /** 40 hex digits. */
  readonly infoHash: string
  /** The torrent file. */
  readonly torrent: Uint8Array
}

export interface Limits {
  readonly uploadMax: number
  readonly downloadMax: number
}

/** Times after which a fetch looks elsewhere, milliseconds. */
export interface Patience {
  /** Wires that give this little for so long let mirrors have a turn. */
  readonly mirrorAfterMs: number
  /** Wires are asked for again after so long. */
  readonly wantedEveryMs: number
  /** A fetch that gets no whole piece for so long fails. */
  readonly stallMsMax: number
}

export interface TrackerAt {
  readonly host: string
  readonly port: number
}

export interface Opening {
  readonly directory: string
  /** This device, 64 hex digits. */
  readonly device: string
  readonly socket: string
  readonly memoryBytesMax: number
  readonly limits: Limits
  readonly mirrors: ReadonlyArray<string>
  readonly banned: ReadonlyArray<string>
  readonly patience: Patience
  readonly tracker: TrackerAt | null
}

export type ToChild =
  | { readonly type: "open"; readonly opening: Opening }
  | { readonly type: "pack"; readonly pack: PackTold }
  | { readonly type: "unpack"; readonly id: number; readonly infoHash: string }
  | { readonly type: "fetch"; readonly id: number; readonly infoHash: string; readonly ranges: ReadonlyArray<{ readonly offset: number; readonly length: number }> }
  | { readonly type: "cancel"; readonly id: number }
  /** Without a token its socket comes with the message, and `head` is what was read of it already. */
  | { readonly type: "wire"; readonly id: number; readonly token: string | null; readonly infoHash: string; readonly device: string; readonly carrier: "mesh" | "lan"; readonly head: Uint8Array | null }
  | { readonly type: "cut"; readonly id: number }
  | { readonly type: "limits"; readonly limits: Limits }
  | { readonly type: "mirrors"; readonly mirrors: ReadonlyArray<string> }
  | { readonly type: "bad"; readonly infoHash: string; readonly offset: number; readonly length: number }
  | { readonly type: "ask"; readonly id: number }
  | { readonly type: "quit" }

export interface PackStats {
  readonly infoHash: string
  readonly held: number
  readonly uploaded: number
  readonly downloaded: number
  readonly wires: number
}

export type FromChild =
  | { readonly type: "ready"; readonly tracker: string | null; readonly fault: string | null }
  | { readonly type: "done"; readonly id: number; readonly fault: string | null }
  | { readonly type: "progress"; readonly id: number; readonly bytes: number }
  | { readonly type: "wire-ready"; readonly id: number; readonly fault: string | null }
  | { readonly type: "wire-ended"; readonly id: number }
  | { readonly type: "wanted"; readonly infoHash: string }
  | { readonly type: "banned"; readonly device: string; readonly why: string }
  | { readonly type: "damaged"; readonly infoHash: string; readonly why: string }
  | { readonly type: "stats"; readonly id: number; readonly packs: ReadonlyArray<PackStats>; readonly wires: number; readonly fetches: number; readonly memoryBytes: number }
  | { readonly type: "notice"; readonly text: string }

/** Ranges of one fetch; the caller merges what lies side by side. */
export const rangesMax = 16_384
export const mirrorsMax = 16
export const bannedMax = 4_096
/** Packs that one process holds. */
export const packsMax = 1_024
/** Pieces of one pack: 4 MiB each make 256 GiB. */
export const piecesMax = 65_536
const torrentBytesMax = piecesMax * 20 + 4_096
const textMax = 2_048

type Fields = Readonly<Record<string, unknown>>
const isFields = (value: unknown): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value)
const isText = (value: unknown, max = textMax): value is string => typeof value === "string" && value.length <= max
const isHex = (value: unknown, digits: number): value is string => typeof value === "string" && value.length === digits && /^[0-9a-f]+$/.test(value)
const isCount = (value: unknown): value is number => typeof value === "number" && Number.isSafeInteger(value) && value >= 0
const isRate = (value: unknown): value is number => value === -1 || isCount(value)
const isList = <A>(value: unknown, max: number, is: (item: unknown) => item is A): value is ReadonlyArray<A> => Array.isArray(value) && value.length <= max && value.every(is)
const isMaybeText = (value: unknown): value is string | null => value === null || isText(value)

/** A pack that a signed index may name, or the sentence that says why not. */
export const faultOfPack = (pack: { readonly sha256: unknown; readonly length: unknown; readonly pieceLength: unknown; readonly pieces: unknown }): string | undefined => {
  const { sha256, length, pieceLength, pieces } = pack
  if (!isHex(sha256, 64)) return "its SHA-256 is not 64 hex digits"
  if (!isCount(length) || length === 0) return `its length is ${String(length)}`
  if (pieceLength !== 1 << 20 && pieceLength !== 2 << 20 && pieceLength !== 4 << 20) return `its pieces are ${String(pieceLength)} bytes, not 1, 2 or 4 MiB`
  const count = Math.ceil(length / pieceLength)
  if (count > piecesMax) return `it has ${count} pieces, at most ${piecesMax} are held`
  return pieces instanceof Uint8Array && pieces.byteLength === count * 20 ? undefined : `it has no hash for each of its ${count} pieces`
}

const isPack = (value: unknown): value is PackTold =>
  isFields(value) && faultOfPack({ sha256: value["sha256"], length: value["length"], pieceLength: value["pieceLength"], pieces: value["pieces"] }) === undefined &&
  isHex(value["infoHash"], 40) && value["torrent"] instanceof Uint8Array && value["torrent"].byteLength <= torrentBytesMax

const isRange = (value: unknown): value is { readonly offset: number; readonly length: number } =>
  isFields(value) && isCount(value["offset"]) && isCount(value["length"]) && value["length"] > 0

const isLimits = (value: unknown): value is Limits => isFields(value) && isRate(value["uploadMax"]) && isRate(value["downloadMax"])
const isMirrors = (value: unknown): value is ReadonlyArray<string> => isList(value, mirrorsMax, (item): item is string => isText(item))
const isPatience = (value: unknown): value is Patience =>
  isFields(value) && isCount(value["mirrorAfterMs"]) && isCount(value["wantedEveryMs"]) && isCount(value["stallMsMax"])
const isTrackerAt = (value: unknown): value is TrackerAt => isFields(value) && isText(value["host"], 255) && isCount(value["port"]) && value["port"] <= 65_535

const isOpening = (value: unknown): value is Opening =>
  isFields(value) && isText(value["directory"], 4_096) && isText(value["socket"], 4_096) && isHex(value["device"], 64) && isCount(value["memoryBytesMax"]) && isLimits(value["limits"]) &&
  isMirrors(value["mirrors"]) && isList(value["banned"], bannedMax, (item): item is string => isHex(item, 64)) && isPatience(value["patience"]) &&
  (value["tracker"] === null || isTrackerAt(value["tracker"]))

const isStats = (value: unknown): value is PackStats =>
  isFields(value) && isHex(value["infoHash"], 40) && isCount(value["held"]) && isCount(value["uploaded"]) && isCount(value["downloaded"]) && isCount(value["wires"])

const toChild: { readonly [Type in ToChild["type"]]: (fields: Fields) => boolean } = {
  open: (fields) => isOpening(fields["opening"]),
  pack: (fields) => isPack(fields["pack"]),
  unpack: (fields) => isCount(fields["id"]) && isHex(fields["infoHash"], 40),
  fetch: (fields) => isCount(fields["id"]) && isHex(fields["infoHash"], 40) && isList(fields["ranges"], rangesMax, isRange),
  cancel: (fields) => isCount(fields["id"]),
  wire: (fields) => isCount(fields["id"]) && (fields["token"] === null || isHex(fields["token"], 64)) && isHex(fields["infoHash"], 40) && isHex(fields["device"], 64) &&
    (fields["carrier"] === "mesh" || fields["carrier"] === "lan") && (fields["head"] === null || fields["head"] instanceof Uint8Array),
  cut: (fields) => isCount(fields["id"]),
  limits: (fields) => isLimits(fields["limits"]),
  mirrors: (fields) => isMirrors(fields["mirrors"]),
  bad: (fields) => isHex(fields["infoHash"], 40) && isCount(fields["offset"]) && isCount(fields["length"]),
  ask: (fields) => isCount(fields["id"]),
  quit: () => true
}

const fromChild: { readonly [Type in FromChild["type"]]: (fields: Fields) => boolean } = {
  ready: (fields) => isMaybeText(fields["tracker"]) && isMaybeText(fields["fault"]),
  done: (fields) => isCount(fields["id"]) && isMaybeText(fields["fault"]),
  progress: (fields) => isCount(fields["id"]) && isCount(fields["bytes"]),
  "wire-ready": (fields) => isCount(fields["id"]) && isMaybeText(fields["fault"]),
  "wire-ended": (fields) => isCount(fields["id"]),
  wanted: (fields) => isHex(fields["infoHash"], 40),
  banned: (fields) => isHex(fields["device"], 64) && isText(fields["why"]),
  damaged: (fields) => isHex(fields["infoHash"], 40) && isText(fields["why"]),
  stats: (fields) => isCount(fields["id"]) && isList(fields["packs"], packsMax, isStats) && isCount(fields["wires"]) && isCount(fields["fetches"]) && isCount(fields["memoryBytes"]),
  notice: (fields) => isText(fields["text"])
}

const fits = (value: unknown, table: Readonly<Record<string, (fields: Fields) => boolean>>): boolean =>
  isFields(value) && typeof value["type"] === "string" && Object.hasOwn(table, value["type"]) && table[value["type"]]?.(value) === true

const isToChild = (value: unknown): value is ToChild => fits(value, toChild)
const isFromChild = (value: unknown): value is FromChild => fits(value, fromChild)

/** Undefined for what is no message of this version. */
export const decodeToChild = (value: unknown): ToChild | undefined => isToChild(value) ? value : undefined
export const decodeFromChild = (value: unknown): FromChild | undefined => isFromChild(value) ? value : undefined
