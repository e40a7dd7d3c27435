/**
 * The first words of a session, and the last ones when it is refused.
 *
 * A hello is `min, max, mesh, proof`: which versions this side speaks, which mesh it is of, and that it knows the mesh key. Both sides
 * send theirs at once and each finds the highest version that both speak. A refusal is `code, sentence`: the sentence is written for the
 * refused side, which shows it as it is. What follows the known fields, in both, is left to later versions.
 */
import { utf8 } from "../codec/bytes.ts"
import { deriveKey, hashParts } from "../codec/hash.ts"
import type { Connection } from "./carrier.ts"
import type { SwarmHost } from "./host.ts"
import { Reader, Writer } from "./wire.ts"

export interface Versions {
  readonly min: number
  readonly max: number
}

/** The versions of the session protocol that this node speaks. Version 1 never left the workshop. */
export const versions: Versions = { min: 2, max: 2 }

/** Characters of a refusal's sentence at most. */
export const refusalLengthMax = 400

export const refusals = {
  notMember: 1, revoked: 2, version: 3, otherMesh: 4, malformed: 5, tooSlow: 6, busy: 7, stopping: 8, isolated: 9
} as const
export type Refusal = keyof typeof refusals

/** What the refused side reads when nothing more is said. */
export const refusalText: Readonly<Record<Refusal, string>> = {
  notMember: "you are not a member",
  revoked: "you were revoked",
  version: "speak a newer version",
  otherMesh: "this is another mesh",
  malformed: "you sent a malformed message",
  tooSlow: "you took too long",
  busy: "too many connections wait here",
  stopping: "this node stops",
  isolated: "this node is isolated"
}

/** A refusal as the refused side has it; `refusal` is undefined when its code is of a later version. */
export interface Told {
  readonly refusal: Refusal | undefined
  readonly sentence: string
}

export interface Hello extends Versions {
  readonly mesh: Uint8Array
  readonly proof: Uint8Array
}

/**
 * Names the mesh to those who know it and to nobody else, and proves the mesh key for this one connection: both values are bound to
 * the Noise handshake, so they are worth nothing elsewhere; the role keeps a side from being sent its own proof back.
 */
export const helloOf = (host: SwarmHost, connection: Connection, mine: boolean, range: Versions = versions): Hello => {
  const initiator = mine === connection.initiator
  const device = mine ? host.device : connection.device
  return {
    min: range.min,
    max: range.max,
    mesh: hashParts("kos/hello-mesh/1", utf8(host.mesh.id), connection.handshakeHash),
    proof: deriveKey(host.mesh.key, "kos/hello-proof/1", connection.handshakeHash, utf8(initiator ? "initiator" : "responder"), utf8(device))
  }
}

/** The highest version that both speak, or the sentence for the other side when there is none. */
export const commonVersion = (ours: Versions, theirs: Versions): number | string => {
  if (theirs.min <= ours.max && ours.min <= theirs.max) return Math.min(ours.max, theirs.max)
  const age = theirs.max < ours.min ? "a newer" : "an older"
  return `speak ${age} version: it speaks ${rangeText(ours)}, this node ${rangeText(theirs)}`
}

const rangeText = ({ min, max }: Versions): string => min === max ? String(min) : `${min} to ${max}`

export const encodeHello = (hello: Hello): Uint8Array =>
  new Writer().uint(hello.min).uint(hello.max).fixed(hello.mesh).fixed(hello.proof).take()

export const decodeHello = (bytes: Uint8Array): Hello => {
  const reader = new Reader("kos/session hello", bytes)
  const min = reader.uint(65_535)
  const max = reader.uint(65_535)
  const mesh = reader.fixed(32)
  const proof = reader.fixed(32)
  if (min > max) throw reader.fault("its lowest version is above its highest")
  return { min, max, mesh, proof }
}

export const encodeRefusal = (refusal: Refusal, sentence: string): Uint8Array =>
  new Writer().uint(refusals[refusal]).text(sentence.slice(0, refusalLengthMax)).take()

export const decodeRefusal = (bytes: Uint8Array): Told => {
  const reader = new Reader("kos/session refusal", bytes)
  const code = reader.uint(255)
  const said = printable(reader.text(4 * refusalLengthMax)).slice(0, refusalLengthMax)
  const name = Object.entries(refusals).find(([, value]) => value === code)?.[0]
  const refusal = isRefusal(name) ? name : undefined
  return { refusal, sentence: said !== "" ? said : refusal === undefined ? `it refused for a reason of a later version (${code})` : refusalText[refusal] }
}

/** What a peer says, fit to be shown: one line without control characters or marks that turn text around. */
export const printable = (text: string): string => text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?")

const isRefusal = (name: string | undefined): name is Refusal => name !== undefined && Object.hasOwn(refusals, name)
