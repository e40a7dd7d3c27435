/**
 * Entering a mesh by an invite, letting others in, and leaving. Design section 5.
 *
 * **How a candidate comes in.** It makes a log key for the new mesh, meets the issuer on the invite's topic through carriers that know the
 * invite's hints, and sends its log key and name, signed with the invite's key. The issuer decides under the membership lock, writes
 * `member.admitted`, and answers inside the same Noise stream with the mesh key and all operations. Only when all of that is on the
 * candidate's disk does `current` name the new mesh; before, nothing has changed.
 */
import { Effect, Exit, Result } from "effect"
import { type Invite, inviteKey, inviteKeyPair, parseInvite, proveInvite } from "../codec/invite.ts"
import { decodePairingAnswer, decodePairingRequest, encodePairingAnswer, encodePairingRequest, type PairingAnswer } from "../codec/pairing.ts"
import { keyPairFromSeed, randomBytes } from "../codec/signature.ts"
import { uuidv7 } from "../codec/uuid.ts"
import { decideMemory } from "../commands/decide-memory.ts"
import { decideRedeem, type InviteRefusal } from "../commands/decide-membership.ts"
import { membershipLock, operationEvents } from "../commands/membership-events.ts"
import { Refusal } from "../commands/refusal.ts"
import { logKey } from "../events/hypercore-store.ts"
import type { DocumentState } from "../projections/documents/types.ts"
import { readPage } from "../projections/families/memory.ts"
import type { Carrier } from "../swarm/carrier.ts"
import type { Redeemed } from "../swarm/pairing.ts"
import { makeSwarm } from "../swarm/swarm.ts"
import { keyBytes } from "../vault/vault.ts"
import { writeIntroduction } from "./first-run.ts"
import { writeHints } from "./introduction.ts"
import type { MeshNode } from "./mesh-node.ts"

/** Pages that are carried into another mesh. */
export const carriedPagesMax = 10_000

/** The issuer's side. One invite is redeemed at a time, so single use holds whatever comes in together. */
export const redeem = (node: MeshNode, now: () => number) => async (bytes: Uint8Array, device: string): Promise<Redeemed> => {
  const request = decodePairingRequest(bytes)
  if (Result.isFailure(request)) return { refused: "malformed", detail: request.failure.message }
  let refusal: InviteRefusal | undefined
  const exit = await Effect.runPromiseExit(node.dispatch.run("invite.redeem", { command: uuidv7(now(), randomBytes(10)), actor: "device" }, [membershipLock], Effect.suspend(() => {
    const decided = decideRedeem(node.situation(), request.success, device)
    if (Result.isSuccess(decided)) {
      return Effect.succeed({ summary: `admitted ${request.success.name}`, events: operationEvents(node.vault, decided.success) })
    }
    refusal = decided.failure
    return Effect.fail(new Refusal({ kind: "denied", detail: decided.failure.detail }))
  })))
  if (refusal !== undefined) return { refused: refusal.reason, detail: refusal.detail }
  if (Exit.isFailure(exit)) return { refused: "unknown", detail: "the invite could not be redeemed; try again" }
  const answer: PairingAnswer = {
    _tag: "Admitted", mesh: node.mesh, meshName: node.members.view().name, meshKey: node.meshKey, epoch: 0,
    operations: node.members.operations().map((operation) => operation.bytes)
  }
  return { accepted: encodePairingAnswer(answer) }
}

export interface Entered {
  readonly mesh: string
  readonly issuer: string
  readonly role: string
}

/** The candidate's side, up to the point where the new mesh's keys are on disk. The caller switches to it. */
export const enter = (
  node: MeshNode, text: string, timeoutMs: number, makeCarriers: (bootstrap: ReadonlyArray<string>) => ReadonlyArray<Carrier>, now: () => number
): Effect.Effect<Entered, Refusal> => Effect.gen(function*() {
  const parsed = parseInvite(text.trim())
  if (Result.isFailure(parsed)) return yield* denied(`the invite cannot be read: ${parsed.failure.why}`, "ask for a new invite")
  const invite = parsed.success
  if (invite.mesh === node.mesh) return yield* new Refusal({ kind: "conflict", detail: `this node is in ${invite.meshName} already`, hint: "kos mesh show" })
  const others = [...node.members.view().members.values()].filter((member) => member.standing === "member").length - 1
  if (others > 0) return yield* new Refusal({ kind: "conflict", detail: `this node is in ${node.members.view().name}; it can be in one mesh at a time`, hint: "kos leave" })
  const logSeed = randomBytes(keyBytes)
  const log = logKey(keyPairFromSeed(logSeed).publicKey)
  const request = encodePairingRequest({ invite: inviteKey(invite), log, name: node.members.nameOf(node.vault.deviceId), proof: proveInvite(invite, node.vault.deviceId, log) })
  const found = yield* Effect.promise(() => meet(node, invite, request, timeoutMs, makeCarriers, now))
  if (found === undefined) {
    // Not decided by the clock: nobody was there to decide, and this is the likely reason.
    if (now() >= invite.expiresMs) return yield* denied(`the invite to ${invite.meshName} has expired by this node's clock, and nobody who could redeem it was met`, "ask for a new invite")
    return yield* new Refusal({ kind: "timeout", detail: `nobody who could redeem the invite to ${invite.meshName} was met within ${Math.round(timeoutMs / 1_000)} seconds`, hint: "see that the node that made the invite runs and can be reached" })
  }
  if ("refused" in found) return yield* denied(found.detail === "" ? `the invite was refused: ${found.refused}` : found.detail)
  const answer = decodePairingAnswer(found.accepted)
  if (Result.isFailure(answer)) return yield* denied(`the answer to the invite cannot be read: ${answer.failure.why}`)
  if (answer.success._tag === "Refused") return yield* denied(answer.success.detail)
  const { mesh, meshKey, operations } = answer.success
  if (mesh !== invite.mesh) return yield* denied("the answer names another mesh than the invite")
  yield* Effect.tryPromise({
    try: async () => {
      await node.vault.addMesh(mesh, meshKey, logSeed)
      await writeIntroduction(node.vault, mesh, operations)
      await writeHints(node.vault.meshDirectory(mesh), { bootstrap: invite.bootstrap, issuer: invite.issuer, lan: invite.lan })
      await node.vault.setCurrentMesh(mesh)
    },
    catch: (cause) => new Refusal({ kind: "degraded", detail: `the mesh's keys could not be written: ${cause instanceof Error ? cause.message : String(cause)}` })
  })
  return { mesh, issuer: invite.issuer, role: invite.role }
})

const meet = async (
  node: MeshNode, invite: Invite, request: Uint8Array, timeoutMs: number, makeCarriers: (bootstrap: ReadonlyArray<string>) => ReadonlyArray<Carrier>, now: () => number
): Promise<Redeemed | undefined> => {
  const wasMode = node.swarm.mode()
  await node.swarm.setMode("isolated")
  let carriers: ReadonlyArray<Carrier> = []
  const swarm = makeSwarm(node.swarmHost, () => carriers = makeCarriers(invite.bootstrap), { now, mode: "joined" })
  try {
    await swarm.start()
    for (const carrier of carriers) for (const hint of invite.lan) if (carrier.name === "lan") carrier.dial(invite.issuer, hint)
    return await swarm.pair(inviteKeyPair(invite).publicKey, () => request, timeoutMs)
  } finally {
    await swarm.stop()
    await node.swarm.setMode(wasMode)
  }
}

const denied = (detail: string, hint?: string) => new Refusal({ kind: "denied", detail, ...(hint === undefined ? {} : { hint }) })

export interface CarriedPage {
  readonly page: string
  readonly state: DocumentState
}

/** The pages of memory that a node takes along into another mesh. */
export const pagesOf = (node: MeshNode): ReadonlyArray<CarriedPage> =>
  node.tables.documents.list("memory", { limit: carriedPagesMax }).flatMap(({ id }) => {
    const state = node.tables.documents.state(id)
    return state === undefined || readPage(state.live).state === "forgotten" ? [] : [{ page: id.slice("memory/".length), state }]
  })

/** Writes them where no page of that name stands yet; what stands there already is left alone, and the old one stays in the old mesh. */
export const carry = (node: MeshNode, pages: ReadonlyArray<CarriedPage>, now: () => number): Effect.Effect<number> => Effect.gen(function*() {
  let carried = 0
  for (const { page, state } of pages) {
    const doc = `memory/${page}`
    if (node.tables.documents.state(doc) !== undefined) continue
    const { text, fields } = readPage(state.live)
    const done = yield* node.dispatch.change("memory.carry", { command: uuidv7(now(), randomBytes(10)), actor: "device" }, [doc], (documents) => decideMemory(documents, {
      _tag: "Add", page, text, fields: new Map(Object.entries(fields).map(([name, value]) => [name, { value }]))
    }, { pageBytesMax: Number.MAX_SAFE_INTEGER })).pipe(Effect.option)
    if (done._tag === "Some") carried++
  }
  return carried
})

