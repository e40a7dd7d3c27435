import { Effect } from "effect"
import { randomBytes } from "node:crypto"
import type { Address } from "../src/codec/address.ts"
import { toHex } from "../src/codec/bytes.ts"
import type { Envelope } from "../src/codec/envelope.ts"
import { encodeEvent, sealFrame } from "../src/codec/frame.ts"
import { type Invite, inviteKey, proveInvite } from "../src/codec/invite.ts"
import type { Operation } from "../src/codec/operation.ts"
import { decideAttachLog, decideCreateMesh, decideIssueInvite, decideNameMesh, decideRedeem, decideSucceedLog, type Decision } from "../src/commands/decide-membership.ts"
import { HypercoreStore, logKey } from "../src/events/hypercore-store.ts"
import { buildProof, hypercoreProofSource, type ProofSource } from "../src/events/proof.ts"
import { foldMembership } from "../src/projections/membership.ts"
import { deviceOf, keyPair, must, signed } from "./membership-world.ts"

export const epochKey = new Uint8Array(32).fill(5)

export const event = (text: string, ms: number): Envelope => ({
  type: "page.edited/1", at: { ms: 1_780_000_000_000 + ms, count: 0 }, actor: "person:Ann\u202e", subject: "memory/garden/beans", command: "", cause: [],
  body: { text, bytes: new Uint8Array([1, 2, 3]) }
})

/** A mesh "hill" of ann (owner) and ben, each with a real Hypercore log of `blocks` frames with three events each. */
export const proofWorld = async (directory: string, blocks: number, long: boolean) => {
  const { mesh, operations } = must(decideCreateMesh(
    { name: "hill", nodeName: "alpha", log: logKey(keyPair("ann-log").publicKey), nonce: new Uint8Array(32), newKey: new Uint8Array(32).fill(7) }, { device: deviceOf("ann"), ms: 1 }
  ))
  const fold = foldMembership(mesh)
  const take = (list: ReadonlyArray<Operation>) => {
    for (const operation of list) fold.offer(operation)
  }
  take(signed(operations, "ann"))
  const situation = (name: string) => ({ membership: fold.view(), device: deviceOf(name), ms: 2 })
  const act = <E>(name: string, decision: Decision<E>) => take(signed(must(decision), name))
  const invite: Invite = {
    mesh, meshName: "hill", seed: new Uint8Array(32).fill(3), issuer: deviceOf("ann"), role: "member", expiresMs: 1_000_000, bootstrap: [], lan: []
  }
  const benLog = logKey(keyPair("ben-log").publicKey)
  act("ann", decideIssueInvite(situation("ann"), { invite, uses: 1 }))
  act("ann", decideRedeem(situation("ann"), {
    invite: inviteKey(invite), log: benLog, name: "attic", proof: proveInvite(invite, deviceOf("ben"), benLog)
  }, deviceOf("ben")))

  const store = await HypercoreStore.open(directory)
  const truth = new Map<string, Envelope>()
  const logs: Array<string> = []
  for (const name of ["ann-log", "ben-log", "eve-log"]) {
    const own = await store.openOwn(keyPair(name))
    logs.push(own.key)
    for (let block = 0; block < blocks; block++) {
      const events = [0, 1, 2].map((offset) => event(long ? `${name} ${block}.${offset} ${"bean ".repeat(40)}` : `${block}`, block))
      events.forEach((one, offset) => truth.set(`${own.key}/${block}.${offset}`, one))
      const shown = long ? events : events.slice(0, 1)
      await own.append(sealFrame(shown.map((one) => encodeEvent(one, own.key)), { log: own.key, block }, 0, epochKey), async () => undefined)
    }
    await own.close()
  }
  const sources = new Map<string, ProofSource>()
  const sessions: Array<{ close(): Promise<void> }> = []
  for (const log of logs) {
    const session = await store.session(log)
    sessions.push(session)
    const source = hypercoreProofSource(session)
    if (source !== undefined) sources.set(log, source)
  }
  const [annLog = "", , eveLog = ""] = logs
  const prove = (events: ReadonlyArray<Address>, over: { readonly operations?: ReadonlyArray<Operation>; readonly sources?: ReadonlyMap<string, ProofSource> } = {}) =>
    Effect.runPromise(Effect.result(buildProof({
      mesh, events, operations: over.operations ?? fold.operations(), source: (log) => (over.sources ?? sources).get(log),
      epochKeys: (epoch) => epoch === 0 ? [epochKey] : []
    })))
  return {
    mesh, fold, annLog, benLog, eveLog, truth, prove, sources, store,
    nameMesh: (name: string, wanted: string) => act(name, decideNameMesh(situation(name), { name: wanted })),
    attach: (name: string, log: string) => act(name, decideAttachLog(situation(name), { log })),
    closeLog: (name: string, log: string, length: number) => act(name, decideSucceedLog(situation(name), {
      log, length, treeHash: toHex(randomBytes(32)), successor: toHex(randomBytes(32))
    })),
    close: async () => {
      for (const session of sessions) await session.close()
      await store.close()
    }
  }
}
