/**
 * Entering a mesh by an invite, letting others in, and leaving. Design section 5.
 *
 * **How a candidate comes in.** It makes a log key for the new mesh and meets somebody of it on the invite's topic, through carriers that know
 * the invite's hints when it has them. It is told which mesh this is, under the certificate of the invite's own key, and sends its log key
 * and name, signed with the invite's key. Any admin or owner who may give the invite's role decides under the membership lock, by its own
 * clock, writes `member.admitted` together with the keys for the newcomer, and answers inside the same Noise stream with the mesh key
 * and all operations. The candidate resolves these: it believes an admission that counts there and no other. Only when all of it is on
 * the candidate's disk does `current` name the new mesh; before, nothing has changed.
 *
 * **As admin or owner.** Such an invite is redeemed by the node that made it, where the person is. Both sides show the same six words, and the
 * admission waits, ten minutes at most, for `kos invite confirm` there. There is no way around it.
 *
 * **Tricky cases.**
 * - *Two admins redeem one invite in two partitions:* both answers stand until the partitions meet; then the resolver says the same
 *   everywhere who stays, and the other node reads why in its status (`projections/dismissal.ts`).
 * - *Somebody on the topic who is no member* cannot make the first proof. *A member that is no admin* can; the operations that it sends do not hold
 *   an admission that counts, and the candidate goes on to the next.
 * - *A device that left or was revoked* may come again with a new invite: it gets a new log.
 */
import { Effect, Exit, Result } from "effect"
import { existsSync } from "node:fs"
import { rename } from "node:fs/promises"
import type { OwnCheck } from "../api/node.ts"
import { equalBytes, fromHex, toHex } from "../codec/bytes.ts"
import { deriveKey } from "../codec/hash.ts"
import { type HeldInvite, inviteKey, inviteKeyPair, isCertified, parseHeldInvite, proveInvite } from "../codec/invite.ts"
import { type Operation, openOperation, proveLogHeld, rankOf } from "../codec/operation.ts"
import {
  decodePairingAnswer, decodePairingAsk, decodePairingOffer, decodePairingWaiting, encodePairingAnswer, encodePairingAsk, encodePairingOffer, encodePairingWaiting,
  nonceCommit, type PairingAnswer, type PairingAsk, pairingBootstrapMax, type PairingOffer, pairingProof, pairingWords
} from "../codec/pairing.ts"
import { type KeyPair, keyPairFromSeed, randomBytes } from "../codec/signature.ts"
import { uuidv7 } from "../codec/uuid.ts"
import { decideMemory } from "../commands/decide-memory.ts"
import { decideRedeem, type InviteRefusal } from "../commands/decide-membership.ts"
import { membershipLock, operationEvents } from "../commands/membership-events.ts"
import { Refusal } from "../commands/refusal.ts"
import { logKey } from "../events/hypercore-store.ts"
import type { DocumentState } from "../projections/documents/types.ts"
import { readPage } from "../projections/families/memory.ts"
import { resolveMembership } from "../projections/membership.ts"
import type { Carrier } from "../swarm/carrier.ts"
import type { Candidate, PairingRefused, PairingReply, Redeem, Redeemed } from "../swarm/pairing.ts"
import type { SwarmHost } from "../swarm/host.ts"
import { makeSwarm } from "../swarm/swarm.ts"
import { makeDirectory } from "../vault/files.ts"
import { keyBytes, type Vault } from "../vault/vault.ts"
import type { CandidateRoom } from "./candidates.ts"
import { writeIntroduction } from "./first-run.ts"
import { writeHints } from "./introduction.ts"
import type { MeshNode } from "./mesh-node.ts"

/** Pages that are carried into another mesh. */
export const carriedPagesMax = 10_000
/** Invites that a candidate's first proof is tried against, the newest. */
export const triedInvitesMax = 1_024

export interface RedeemOptions {
  readonly now: () => number
  readonly candidates: CandidateRoom
  /** Where newcomers find the mesh. */
  readonly bootstrap: () => ReadonlyArray<string>
}

/** The redeemer's side. One invite is redeemed at a time, so single use holds on this node whatever comes in together. */
export const redeem = (node: MeshNode, options: RedeemOptions): Redeem => async (bytes, device, handshakeHash) => {
  const ask = decodePairingAsk(bytes)
  if (Result.isFailure(ask)) return { refused: "malformed", detail: ask.failure.why }
  const nonce = deriveKey(options.candidates.secret, "kos/pairing-nonce/1", handshakeHash, fromHex(device))
  return ask.success._tag === "Open" ? offer(node, ask.success.proof, device, handshakeHash, nonce) : answer(node, options, ask.success, device, handshakeHash, nonce)
}

const offer = (node: MeshNode, proof: Uint8Array, device: string, handshakeHash: Uint8Array, nonce: Uint8Array): PairingReply => {
  const view = node.members.view()
  const me = node.vault.deviceId
  const record = [...view.invites.values()].toSorted((a, b) => b.issuedMs - a.issuedMs).slice(0, triedInvitesMax)
    .find(({ invite }) => equalBytes(pairingProof(invite, handshakeHash, "candidate", device), proof))
  const role = view.members.get(me)
  if (record === undefined || role?.standing !== "member" || rankOf(role.role) < rankOf("admin")) return { refused: "unknown", detail: "This node knows no such invite; ask who gave it to you." }
  const issued = node.members.operations().find(({ author, says }) => says.kind === "invite.issued" && says.invite === record.invite && author === record.by)?.says
  const made: PairingOffer = {
    mesh: node.mesh, meshName: view.name, role: record.role, issuer: record.by,
    certificate: issued?.kind === "invite.issued" ? issued.certificate ?? new Uint8Array(0) : new Uint8Array(0),
    proof: pairingProof(record.invite, handshakeHash, "redeemer", me), commit: nonceCommit(nonce)
  }
  return { offered: encodePairingOffer(made) }
}

type Request = Extract<PairingAsk, { readonly _tag: "Request" }>

const answer = async (
  node: MeshNode, options: RedeemOptions, request: Request, device: string, handshakeHash: Uint8Array, nonce: Uint8Array
): Promise<PairingReply> => {
  const early = decideRedeem(node.situation(), request, device)
  if (Result.isFailure(early)) return { refused: early.failure.reason, detail: early.failure.detail }
  const record = node.members.view().invites.get(request.invite)
  // An answer that was lost is given again: nothing is left to decide.
  if (record === undefined || early.success.length === 0 || rankOf(record.role) < rankOf("admin")) return admit(node, options, request, device)
  if (record.by !== node.vault.deviceId) {
    return { refused: "elsewhere", detail: `A node that is to be ${record.role} is confirmed by a person at ${node.members.nameOf(record.by)}, which made the invite; see that it can be reached.` }
  }
  const words = pairingWords({ handshakeHash, candidate: device, redeemer: node.vault.deviceId, candidateNonce: request.nonce, redeemerNonce: nonce })
  const waiting = options.candidates.wait({ device, invite: request.invite, name: request.name, role: record.role, words })
  if (waiting === undefined) return { refused: "busy", detail: "Too many candidates wait to be confirmed; try again in a few minutes." }
  return {
    waiting: encodePairingWaiting(nonce),
    abandon: waiting.forget,
    decided: waiting.decided.then((decided): Promise<Redeemed> | Redeemed =>
      decided === "confirmed" ? admit(node, options, request, device)
        : { refused: "declined", detail: decided === "denied" ? "A person there declined it." : "Nobody there confirmed it within ten minutes; try again together." })
  }
}

const admit = async (node: MeshNode, { now, bootstrap }: RedeemOptions, request: Request, device: string): Promise<Redeemed> => {
  let refusal: InviteRefusal | undefined
  const exit = await Effect.runPromiseExit(node.dispatch.run("invite.redeem", { command: uuidv7(now(), randomBytes(10)), actor: "device" }, [membershipLock], Effect.suspend(() => {
    const decided = decideRedeem(node.situation(), request, device, { keys: node.keyring.shared(), newKey: randomBytes(keyBytes) })
    if (Result.isSuccess(decided)) {
      return Effect.succeed({ summary: `admitted ${request.name}`, events: operationEvents(node.vault, decided.success) })
    }
    refusal = decided.failure
    return Effect.fail(new Refusal({ kind: "denied", detail: decided.failure.detail }))
  })))
  if (refusal !== undefined) return { refused: refusal.reason, detail: refusal.detail }
  if (Exit.isFailure(exit)) return { refused: "busy", detail: "the invite could not be redeemed; try again" }
  const admitted: PairingAnswer = {
    _tag: "Admitted", mesh: node.mesh, meshName: node.members.view().name, meshKey: node.meshKey,
    operations: node.members.operations().map((operation) => operation.bytes), bootstrap: bootstrap().slice(0, pairingBootstrapMax)
  }
  return { accepted: encodePairingAnswer(admitted) }
}

export interface Entered {
  readonly mesh: string
  /** Device key of who admitted. */
  readonly admittedBy: string
  readonly role: string
}

/** As whom a home comes into a mesh. */
export interface Entering {
  /** The name that it would like. */
  readonly name: string
  /** Device key there; `deviceSeed` when that is not the home's. `mesh` is known when the invite tells it. */
  readonly as: (mesh: string | undefined) => Promise<{ readonly keyPair: KeyPair; readonly deviceSeed: Uint8Array | undefined }>
  /** The node that has the same device key now: it meets nobody meanwhile. */
  readonly inPlaceOf: MeshNode | undefined
  /** Makes room for what this device will keep of the mesh. */
  readonly put: (mesh: string) => Promise<void>
}

export interface EnterOptions {
  /** In the place of `node`, as the device that it is, when left out. */
  readonly entering?: Entering
  /** Name of a mesh that this home is a member of already; only the mesh of `node` is looked at when left out. */
  readonly isIn?: (mesh: string, meshName: string) => string | undefined
  readonly timeoutMs: number
  readonly makeCarriers: (bootstrap: ReadonlyArray<string>) => ReadonlyArray<Carrier>
  readonly now: () => number
  /** A person over there has to confirm; these words must be the same on both screens. */
  readonly onWaiting: (check: OwnCheck) => void
}

/** The candidate's side, up to the point where the new mesh's keys are on disk. The caller switches to it. */
export const enter = (node: MeshNode, text: string, options: EnterOptions): Effect.Effect<Entered, Refusal> => Effect.gen(function*() {
  const parsed = parseHeldInvite(text.trim())
  if (Result.isFailure(parsed)) return yield* denied(`the invite cannot be read: ${parsed.failure.why}`, "ask for a new invite")
  const { told } = parsed.success
  const entering = options.entering ?? inPlaceOf(node)
  const isIn = options.isIn ?? ((mesh) => mesh === node.mesh && node.members.standing(node.vault.deviceId) === "member" ? node.members.view().name : undefined)
  const called = told === undefined ? "the invite" : `the invite to ${told.meshName}`
  if (told !== undefined && isIn(told.mesh, told.meshName) !== undefined) return yield* inAlready(told.meshName)
  const logSeed = randomBytes(keyBytes)
  const { keyPair, deviceSeed } = yield* Effect.promise(() => entering.as(told?.mesh))
  const side = candidateOf({ device: toHex(keyPair.publicKey), name: entering.name, isIn }, parsed.success, keyPairFromSeed(logSeed), options.onWaiting)
  const found = yield* Effect.promise(() => meet(entering.inPlaceOf, entering.inPlaceOf?.swarmHost ?? strangerHost(keyPair, node.swarmHost.notice), parsed.success, side, options))
  if (found === undefined) {
    // Not decided by the clock: nobody was there to decide, and this is the likely reason.
    if (told !== undefined && options.now() >= told.expiresMs) return yield* denied(`${called} has expired by this node's clock, and nobody who could redeem it was met`, "ask for a new invite")
    return yield* new Refusal({ kind: "timeout", detail: `nobody who could redeem ${called} was met within ${Math.round(options.timeoutMs / 1_000)} seconds`, hint: "see that the node that made the invite runs and can be reached" })
  }
  if ("refused" in found) return yield* denied(found.detail === "" ? `the invite was refused: ${found.refused}` : found.detail)
  const { met, admitted } = side.outcome()
  if (met === undefined || admitted === undefined) return yield* denied("the answer to the invite was lost")
  yield* Effect.tryPromise({
    try: async () => {
      await entering.put(admitted.mesh)
      await node.vault.addMesh(admitted.mesh, admitted.meshKey, logSeed, deviceSeed)
      await writeIntroduction(node.vault, admitted.mesh, admitted.operations)
      await writeHints(node.vault.meshDirectory(admitted.mesh), {
        bootstrap: told === undefined || told.bootstrap.length === 0 ? admitted.bootstrap : told.bootstrap, issuer: met.device, lan: told?.issuer === met.device ? told.lan : []
      })
      if (entering.inPlaceOf !== undefined && await node.vault.currentMesh() === node.mesh) await node.vault.setCurrentMesh(admitted.mesh)
    },
    catch: (cause) => new Refusal({ kind: "degraded", detail: `the mesh's keys could not be written: ${cause instanceof Error ? cause.message : String(cause)}` })
  })
  return { mesh: admitted.mesh, admittedBy: met.device, role: met.role }
})

/** Comes in as the device that `node` is, and takes its place; `node` meets nobody meanwhile. */
export const inPlaceOf = (node: MeshNode, name?: string): Entering => {
  const { vault, members } = node
  return {
    name: name ?? members.nameOf(vault.deviceId), inPlaceOf: node,
    as: async () => ({ keyPair: vault.device, deviceSeed: vault.isHomeDevice ? undefined : vault.deviceSeed() }),
    put: (mesh) => putAside(vault, mesh, vault.deviceId)
  }
}

/** What this home held of the mesh as another device than this one is moved out of the way. */
export const putAside = async (vault: Vault, mesh: string, device: string): Promise<void> => {
  const directory = vault.meshDirectory(mesh)
  if (!existsSync(`${directory}/keys/mesh`) || (await vault.forMesh(mesh)).deviceId === device) return
  await makeDirectory(`${vault.home}/set-aside`)
  let number = 1
  while (existsSync(`${vault.home}/set-aside/${mesh.slice(0, 16)}-${number}`)) number++
  await rename(directory, `${vault.home}/set-aside/${mesh.slice(0, 16)}-${number}`)
}

const inAlready = (meshName: string) => new Refusal({ kind: "conflict", detail: `this node is in ${meshName} already`, hint: "kos mesh show" })

type Admitted = Extract<PairingAnswer, { readonly _tag: "Admitted" }>

interface Side extends Candidate {
  readonly outcome: () => { readonly met: { readonly device: string; readonly role: string } | undefined; readonly admitted: Admitted | undefined }
}

/** What the candidate says, and what it believes. One connection at a time. */
const candidateOf = (
  { device, name, isIn }: { readonly device: string; readonly name: string; readonly isIn: NonNullable<EnterOptions["isIn"]> }, held: HeldInvite, logKeys: KeyPair, onWaiting: EnterOptions["onWaiting"]
): Side => {
  const invite = inviteKey(held)
  const log = logKey(logKeys.publicKey)
  let met: { readonly device: string; readonly offer: PairingOffer; readonly nonce: Uint8Array; readonly role: string } | undefined
  let admitted: Admitted | undefined
  return {
    outcome: () => ({ met, admitted }),
    open: (connection) => encodePairingAsk({ _tag: "Open", proof: pairingProof(invite, connection.handshakeHash, "candidate", device) }),
    request: (offered, connection) => {
      const decoded = decodePairingOffer(offered)
      if (Result.isFailure(decoded)) return malformed(decoded.failure.why)
      const offer = decoded.success
      const why = disbelieved(held, offer, connection.handshakeHash, connection.device)
      if (why !== undefined) return malformed(why)
      // Words do not say which mesh it is: asking here keeps one home from being two members.
      const known = isIn(offer.mesh, offer.meshName)
      if (known !== undefined) return { refused: "declined", detail: `this node is in ${known} already` }
      const nonce = randomBytes(keyBytes)
      met = { device: connection.device, offer, nonce, role: offer.role }
      return {
        request: encodePairingAsk({
          _tag: "Request", invite, log, name, nonce,
          proof: proveInvite({ mesh: offer.mesh, seed: held.seed }, device, log), ...proveLogHeld(offer.mesh, device, logKeys)
        })
      }
    },
    waiting: (bytes, connection) => {
      const nonce = decodePairingWaiting(bytes)
      if (Result.isFailure(nonce)) return malformed(nonce.failure.why)
      if (met === undefined || met.device !== connection.device) return malformed("it waits for nothing")
      if (met.offer.issuer !== connection.device) return malformed("only the node that made the invite lets wait")
      if (!equalBytes(nonceCommit(nonce.success), met.offer.commit)) return malformed("it shows another number than it had fixed")
      const words = pairingWords({
        handshakeHash: connection.handshakeHash, candidate: device, redeemer: connection.device, candidateNonce: met.nonce, redeemerNonce: nonce.success
      })
      onWaiting({ words, role: met.offer.role, meshName: met.offer.meshName })
      return undefined
    },
    check: async (accepted, connection) => {
      const decoded = decodePairingAnswer(accepted)
      if (Result.isFailure(decoded)) return malformed(decoded.failure.why)
      if (decoded.success._tag === "Refused") return { refused: decoded.success.reason, detail: decoded.success.detail }
      if (met === undefined || decoded.success.mesh !== met.offer.mesh) return malformed("it names another mesh than before")
      const role = await provenRole(decoded.success, device, log, connection.device)
      if (role === undefined) return malformed("its operations do not admit this node")
      met = { ...met, role }
      admitted = decoded.success
      return undefined
    }
  }
}

const malformed = (why: string): PairingRefused => ({ refused: "malformed", detail: `the answer to the invite is not to be trusted: ${why}` })

/** Why the offer is not believed; undefined when it is. */
export const disbelieved = (held: HeldInvite, offer: PairingOffer, handshakeHash: Uint8Array, redeemer: string): string | undefined => {
  const invite = inviteKey(held)
  if (!equalBytes(offer.proof, pairingProof(invite, handshakeHash, "redeemer", redeemer))) return "it does not know the invite"
  if (held.told !== undefined && (offer.mesh !== held.told.mesh || offer.issuer !== held.told.issuer)) return "it names another mesh or issuer than the invite"
  if (held.told !== undefined && offer.certificate.byteLength === 0) return undefined
  return isCertified(invite, offer.mesh, offer.issuer, offer.certificate) ? undefined
    : offer.certificate.byteLength === 0 ? "this invite was made without what words need; use its text" : "the invite's key does not say that it is of this mesh"
}

/** Operations checked before others get their turn. */
const checkedAtOnce = 256

/** The role in which the operations admit this device with this log, let in by the device that was met; undefined when they do not. */
export const provenRole = async (answer: Admitted, device: string, log: string, redeemer: string): Promise<string | undefined> => {
  const operations: Array<Operation> = []
  for (const [index, bytes] of answer.operations.entries()) {
    const opened = openOperation(bytes)
    if (Result.isSuccess(opened)) operations.push(opened.success)
    if (index % checkedAtOnce === checkedAtOnce - 1) await new Promise((resolve) => setImmediate(resolve))
  }
  const membership = resolveMembership(answer.mesh, operations)
  const me = membership.members.get(device)
  if (me?.standing !== "member" || membership.devices.get(log) !== device) return undefined
  return membership.members.get(redeemer)?.standing === "member" ? me.role : undefined
}

const meet = async (
  inPlaceOf: MeshNode | undefined, host: SwarmHost, held: HeldInvite, side: Candidate, { timeoutMs, makeCarriers, now }: EnterOptions
): Promise<Redeemed | undefined> => {
  const wasMode = inPlaceOf?.swarm.mode() ?? "joined"
  const { told } = held
  await inPlaceOf?.swarm.setMode("isolated")
  let carriers: ReadonlyArray<Carrier> = []
  const swarm = makeSwarm(host, () => carriers = makeCarriers(told?.bootstrap ?? []), { now, mode: "joined" })
  try {
    await swarm.start()
    for (const carrier of carriers) for (const hint of told?.lan ?? []) if (carrier.name === "lan" && told !== undefined) carrier.dial(told.issuer, hint)
    return await swarm.pair(inviteKeyPair(held).publicKey, side, timeoutMs)
  } finally {
    await swarm.stop()
    await inPlaceOf?.swarm.setMode(wasMode)
  }
}

/** A device that is in no mesh and holds nothing: what a home that is in others already shows of itself while it pairs. */
const strangerHost = (keyPair: KeyPair, notice: SwarmHost["notice"]): SwarmHost => ({
  keyPair, device: toHex(keyPair.publicKey), mesh: { id: toHex(randomBytes(keyBytes)), key: randomBytes(keyBytes) },
  membership: { standing: () => "unknown", logs: () => [], dismissal: () => undefined, operations: () => [], offer: async () => 0, onChange: () => () => undefined },
  logs: {
    own: () => "", heads: () => [], sequence: () => 0, sequenceId: toHex(randomBytes(16)), open: () => Promise.reject(new Error("a stranger holds no log")),
    grew: () => undefined, onGrow: () => () => undefined, diverged: () => undefined, ownLogAhead: () => undefined
  },
  receipts: { holds: () => undefined, cursor: () => undefined, setCursor: () => undefined, holdings: () => [], touched: () => undefined },
  notice
})

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

