/**
 * The envelope: what every event says about itself, whatever its type. Design section 3, point 3.
 *
 * Bytes: one CBOR array of eight, `[type, ms, count, actor, subject, command, cause, body]`. `command` is the 16 bytes of a
 * UUIDv7 or null, `cause` an array of `[log, block, offset]` with log null for the log that the event itself stands in. More
 * elements after the eighth are a newer writer's and are ignored.
 */
import { Result } from "effect"
import { type Address } from "./address.ts"
import { fromHex, toHex } from "./bytes.ts"
import { isStamp, type Stamp } from "./clock.ts"
import { Malformed } from "./malformed.ts"
import { isUuidv7, uuidBytes, uuidText } from "./uuid.ts"

export interface Envelope {
  /** `noun.past-verb/version`, for example `config.changed/1`. */
  readonly type: string
  readonly at: Stamp
  /** `device`, `agent:NAME` or `person:NAME`: who acted, on the device whose log this is. */
  readonly actor: string
  /** What it is about: a document id or another path-like name; at most 256 characters. */
  readonly subject: string
  /** UUIDv7 of the command that led to it; empty when no command did. */
  readonly command: string
  /** Addresses of the events that led here; at most 16. */
  readonly cause: ReadonlyArray<Address>
  readonly body: unknown
}

export const causeCountMax = 16
export const subjectLengthMax = 256

const typePattern = /^[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)+\/[1-9][0-9]{0,3}$/
const actorPattern = /^(device|(agent|person):[^\u0000-\u001f\u007f]{1,64})$/
const subjectPattern = /^[^\u0000-\u001f\u007f]{0,256}$/

export const isEventType = (text: string): boolean => text.length <= 96 && typePattern.test(text)
export const isActor = (text: string): boolean => actorPattern.test(text)

export const envelopeToWire = (envelope: Envelope, log: string): ReadonlyArray<unknown> => [
  envelope.type,
  envelope.at.ms,
  envelope.at.count,
  envelope.actor,
  envelope.subject,
  envelope.command === "" ? null : uuidBytes(envelope.command),
  envelope.cause.map((a) => [a.log === log ? null : fromHex(a.log), a.block, a.offset]),
  envelope.body
]

/** Checks one decoded CBOR value. Written by hand: it runs for every event of every log. */
export const envelopeFromWire = (wire: unknown, log: string): Result.Result<Envelope, Malformed> => {
  if (!Array.isArray(wire) || wire.length < 8) return bad("not an array of eight")
  const [type, ms, count, actor, subject, command, cause, body] = wire as ReadonlyArray<unknown>
  if (typeof type !== "string" || !isEventType(type)) return bad("type")
  if (!isStamp(ms, count)) return bad("time stamp")
  if (typeof actor !== "string" || !isActor(actor)) return bad("actor")
  if (typeof subject !== "string" || !subjectPattern.test(subject)) return bad("subject")
  let commandText = ""
  if (command !== null) {
    if (!(command instanceof Uint8Array) || command.byteLength !== 16) return bad("command id")
    commandText = uuidText(command)
    if (!isUuidv7(commandText)) return bad("command id")
  }
  if (!Array.isArray(cause) || cause.length > causeCountMax) return bad("cause")
  const causes: Array<Address> = []
  for (const entry of cause as ReadonlyArray<unknown>) {
    if (!Array.isArray(entry) || entry.length !== 3) return bad("cause")
    const [key, block, offset] = entry as ReadonlyArray<unknown>
    if (key !== null && !(key instanceof Uint8Array && key.byteLength === 32)) return bad("cause")
    if (!Number.isSafeInteger(block) || (block as number) < 0 || !Number.isSafeInteger(offset) || (offset as number) < 0) return bad("cause")
    causes.push({ log: key === null ? log : toHex(key as Uint8Array), block: block as number, offset: offset as number })
  }
  return Result.succeed({
    type, at: { ms: ms as number, count: count as number }, actor, subject, command: commandText, cause: causes, body
  })
}

const bad = (why: string) => Result.fail(new Malformed({ what: "envelope", why }))
