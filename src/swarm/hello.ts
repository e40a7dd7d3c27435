import { utf8 } from "../codec/bytes.ts"
import { deriveKey, hashParts } from "../codec/hash.ts"
import type { Connection } from "./carrier.ts"
import type { SwarmHost } from "./host.ts"
import { Reader, Writer } from "./wire.ts"

/** The versions of the session protocol that this node speaks; two nodes meet in the highest that both speak. */
export const versions = { min: 1, max: 1 } as const

export const refusals = {
  notMember: 1, revoked: 2, version: 3, otherMesh: 4, malformed: 5, tooSlow: 6, busy: 7, stopping: 8, isolated: 9
} as const
export type Refusal = keyof typeof refusals

/** One sentence for each refusal, as the refused side reads it. */
export const refusalText: Readonly<Record<Refusal, string>> = {
  notMember: "you are not a member",
  revoked: "you were revoked",
  version: "speak a newer version",
  otherMesh: "another mesh",
  malformed: "you sent a malformed message",
  tooSlow: "you took too long",
  busy: "too many connections wait here",
  stopping: "this node stops",
  isolated: "this node is isolated"
}

export interface Hello {
  readonly versionMin: number
  readonly versionMax: number
  readonly mesh: Uint8Array
  readonly proof: Uint8Array
}

/**
 * Names the mesh to those who know it and to nobody else, and proves the mesh key for this one connection: both values are bound to
 * the Noise handshake, so they are worth nothing elsewhere; the role keeps a side from being sent its own proof back.
 */
export const helloOf = (host: SwarmHost, connection: Connection, mine: boolean): Hello => {
  const initiator = mine === connection.initiator
  const device = mine ? host.device : connection.device
  return {
    versionMin: versions.min,
    versionMax: versions.max,
    mesh: hashParts("kos/hello-mesh/1", utf8(host.mesh.id), connection.handshakeHash),
    proof: deriveKey(host.mesh.key, "kos/hello-proof/1", connection.handshakeHash, utf8(initiator ? "initiator" : "responder"), utf8(device))
  }
}

export const encodeHello = (hello: Hello): Uint8Array =>
  new Writer().uint(hello.versionMin).uint(hello.versionMax).fixed(hello.mesh).fixed(hello.proof).take()

/** What follows the known fields is left to later versions. */
export const decodeHello = (bytes: Uint8Array): Hello => {
  const reader = new Reader("kos/session hello", bytes)
  const versionMin = reader.uint(65_535)
  const versionMax = reader.uint(65_535)
  const mesh = reader.fixed(32)
  const proof = reader.fixed(32)
  if (versionMin > versionMax) throw reader.fault("its lowest version is above its highest")
  return { versionMin, versionMax, mesh, proof }
}

export const encodeRefusal = (refusal: Refusal, detail: string): Uint8Array =>
  new Writer().uint(refusals[refusal]).text(detail.slice(0, 80)).take()

export const decodeRefusal = (bytes: Uint8Array): { readonly refusal: Refusal | undefined; readonly detail: string } => {
  const reader = new Reader("kos/session refusal", bytes)
  const code = reader.uint(255)
  const detail = reader.text(400).replace(/[^\x20-\x7e]/g, "?")
  const found = Object.entries(refusals).find(([, value]) => value === code)?.[0]
  return { refusal: isRefusal(found) ? found : undefined, detail }
}

const isRefusal = (name: string | undefined): name is Refusal => name !== undefined && Object.hasOwn(refusals, name)
