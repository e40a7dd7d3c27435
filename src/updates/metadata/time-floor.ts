/**
 * Time without trust: at which time the expiry of a channel's metadata is judged.
 *
 * The floor is a time that has passed for certain. It rests on three grounds. *Signed by enough keys*: when this version was made, and
 * the signing times of the root and targets in force. *Signed by the one key that is online*: the timestamp last accepted. *Done by this
 * device*: its own steps. The second and third are worth less, as one stolen key or one clock that ran ahead can make them lie:
 *
 * - A timestamp counts until its own expiry, and up to `floorAheadMaxMs` after what enough keys signed. It counts for nothing once the
 *   root does not list a key that signed it any more: a rotation of the root undoes what a thief said about the time.
 * - The timestamp *last accepted* counts, not the latest time ever said: a publisher whose clock was wrong is right with its next one.
 * - A step counts up to `floorAheadMaxMs` after the other two; one beyond was done under a clock that cannot be right. A timestamp
 *   that is accepted anew sets the steps before it aside: a clock that ran ahead is forgotten when somebody signs again.
 *
 * So no clock and no single key moves the floor further than `floorAheadMaxMs` beyond what enough keys signed, and none for ever.
 */
import { Result, Schema } from "effect"
import { Malformed } from "../../codec/malformed.ts"

const dayMs = 86_400_000
/** How far ahead of firmer ground a weaker one may be, ms: 400 days. */
export const floorAheadMaxMs = 400 * dayMs
/** Last time that JavaScript can hold, ms. */
const timeMaxMs = 8.64e15

/** What is remembered on disk of one channel. */
export interface TimeFloor {
  /** Of the timestamp last accepted: its version, its signing time (ms; 0 when it has none), and the ids of the keys that signed it. */
  readonly version: number
  readonly signedMs: number
  readonly signers: ReadonlyArray<string>
  /** Newest step of this device since then, ms; 0 for none. */
  readonly stepMs: number
}

/** What the floor stands on at the moment. */
export interface FloorGround {
  /** When this version of kOS was made, ms. */
  readonly builtMs: number
  /** Latest signing time that the root and targets in force carry, ms; 0 for none. */
  readonly thresholdMs: number
  /** Ids of the keys that the root in force lets sign timestamps; undefined before there is one. */
  readonly timestampKeys: ReadonlyArray<string> | undefined
}

export const noFloor: TimeFloor = { version: 0, signedMs: 0, signers: [], stepMs: 0 }

/** R2.1: the latest of what is certain, ms. */
export const floorMs = (floor: TimeFloor, ground: FloorGround): number => {
  const base = baseMs(floor, ground)
  return floor.stepMs <= base + floorAheadMaxMs ? Math.max(base, floor.stepMs) : base
}

/** R2.3: expiry is judged at the floor while the clock is behind it, and at the lesser of clock and floor plus 400 days else. */
export const referenceMs = (clockMs: number, floor: number): number =>
  Number.isFinite(clockMs) ? Math.max(floor, Math.min(clockMs, floor + floorAheadMaxMs)) : floor

/** R2.2: a timestamp that passed verification moves the floor. The same one again changes nothing. */
export const acceptTimestamp = (floor: TimeFloor, timestamp: {
  readonly version: number
  /** As signed; anything. */
  readonly signedMs: unknown
  readonly expiresMs: number
  readonly signers: ReadonlyArray<string>
}): TimeFloor => {
  const signedMs = boundedMs(timestamp.signedMs, timestamp.expiresMs)
  const same = floor.version === timestamp.version && floor.signedMs === signedMs && floor.signers.join() === timestamp.signers.join()
  return same ? floor : { version: timestamp.version, signedMs, signers: timestamp.signers.slice(0, signersMax), stepMs: 0 }
}

/** R2.2: this device did something by itself at this time of its clock. */
export const noteStep = (floor: TimeFloor, ground: FloorGround, stepMs: number): TimeFloor => {
  const bounded = boundedMs(stepMs, baseMs(floor, ground) + floorAheadMaxMs)
  return bounded > floorMs(floor, ground) ? { ...floor, stepMs: bounded } : floor
}

/** A signing time as metadata carries it: 0 when it is no time, or is after the expiry of what carries it. */
export const boundedMs = (value: unknown, latestMs: number): number =>
  typeof value === "number" && Number.isSafeInteger(value) && value > 0 && value <= Math.min(latestMs, timeMaxMs) ? value : 0

const baseMs = ({ signedMs, signers }: TimeFloor, { builtMs, thresholdMs, timestampKeys }: FloorGround): number => {
  const firm = Math.max(0, builtMs, thresholdMs)
  const counts = timestampKeys === undefined || signers.some((id) => timestampKeys.includes(id))
  return counts ? Math.max(firm, Math.min(signedMs, firm + floorAheadMaxMs)) : firm
}

const signersMax = 64
/** Characters of the file. */
const textMax = 16_384

const Time = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: timeMaxMs }))
const FloorFile = Schema.Struct({
  v: Schema.Literal(1), version: Schema.Finite, signedMs: Time, stepMs: Time,
  signers: Schema.Array(Schema.String.check(Schema.isMaxLength(256))).check(Schema.isMaxLength(signersMax))
})

export const encodeFloor = (floor: TimeFloor): string => `${JSON.stringify({ v: 1, ...floor })}\n`

/** A file that is torn or strange is no floor: what is signed stands elsewhere. */
export const decodeFloor = (text: string): Result.Result<TimeFloor, Malformed> => {
  const bad = (why: string) => Result.fail(new Malformed({ what: "time floor", why }))
  if (text.length > textMax) return bad(`more than ${textMax} characters`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return bad("not JSON")
  }
  const decoded = Schema.decodeUnknownResult(FloorFile)(value)
  if (Result.isFailure(decoded)) return bad(String(decoded.failure).slice(0, 200))
  const { version, signedMs, stepMs, signers } = decoded.success
  return Result.succeed({ version, signedMs, stepMs, signers })
}
