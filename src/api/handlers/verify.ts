/**
 * `kos event verify`: recomputes everything from the blocks. Every block is read and opened; the Merkle tree is built anew from their
 * bytes and compared with the head that the writer signed, and with what every member witnessed of it.
 */
import { fromHex, toHex } from "../../codec/bytes.ts"
import { verify } from "../../codec/signature.ts"
import { TreeHasher } from "../../codec/tree.ts"
import { signerOf, treeSignable } from "../../codec/verify/merkle.ts"
import { ingestBlock } from "../../events/ingest.ts"
import { hypercoreProofSource } from "../../events/proof.ts"
import type { MeshView } from "../node.ts"
import type { OutputOf } from "../operations/table.ts"

/** Blocks read at a time. */
const windowBlocks = 64
/** Faults shown of one log; one more says how many were left out. */
const faultsMax = 50

type Found = Omit<OutputOf<"event.verify">, "ms">
type LogReport = Found["logs"][number]

/** Of `only`, or of present members, or with `all` of everybody who ever belonged. */
export const verifyLogs = async (
  mesh: MeshView, only: ReadonlyArray<string> | undefined, all: boolean, progress: (done: number, total: number, what: string) => void
): Promise<Found> => {
  const { members, tables, journal } = mesh
  const view = members.view()
  const wanted = members.logs().filter(({ log, device }) => only === undefined ? all || view.members.get(device)?.standing === "member" : only.includes(log))
  const lengths = new Map(wanted.map(({ log }) => [log, log === journal.log() ? journal.length() : tables.heads.get(log)?.length ?? 0]))
  const total = [...lengths.values()].reduce((sum, length) => sum + length, 0)
  let done = 0
  const logs: Array<LogReport> = []
  for (const { log, device, cutAt } of wanted) {
    logs.push(await verifyLog(mesh, log, device, lengths.get(log) ?? 0, cutAt, () => progress(++done, total, "verifying")))
  }
  const looked = new Set(wanted.map(({ log }) => log))
  const contradictions = tables.witnesses.contradictions().filter(({ log }) => looked.has(log))
  const proven = members.evidence().filter(({ accused }) => looked.has(accused))
  const misbehaviour = [
    ...contradictions.map(({ log, length, claims }) => ({
      log, node: nodeOf(mesh, log), length,
      detail: claims.map(({ treeHash, devices }) => `${treeHash.slice(0, 8)} by ${devices.map((device) => members.nameOf(device)).join(", ")}`).join(" against ")
    })),
    ...proven.map(({ accused, length, decided }) => ({
      log: accused, node: nodeOf(mesh, accused), length,
      detail: decided === undefined ? "two signed histories; its blocks count up to there until an admin decides" : `two signed histories; ${decided.treeHash.slice(0, 8)} stands by decision`
    })),
    ...[...mesh.diverged].filter(([log]) => looked.has(log) && !proven.some(({ accused }) => accused === log)).map(([log, detail]) => ({ log, node: nodeOf(mesh, log), length: tables.heads.get(log)?.length ?? 0, detail }))
  ]
  return { clean: misbehaviour.length === 0 && logs.every((log) => log.faults.length === 0), logs, misbehaviour }
}

const verifyLog = async (
  mesh: MeshView, log: string, device: string, length: number, cutAt: number | undefined, step: () => void
): Promise<LogReport> => {
  const faults: Array<{ readonly address: string; readonly why: string }> = []
  let left = 0
  const fault = (address: string, why: string) => {
    if (faults.length < faultsMax) faults.push({ address, why })
    else left++
  }
  const witnesses = mesh.tables.witnesses.of(log)
  const byLength = new Map(witnesses.map((witness) => [witness.length, witness]))
  let agreed = 0
  let witnessed = 0
  let contradicted = 0
  let events = 0
  let beyond = 0
  let sealed = 0
  const hasher = new TreeHasher()
  const held = await mesh.store.openHeld(log)
  try {
    for (let from = 0; from < length; from += windowBlocks) {
      const window = Array.from({ length: Math.min(windowBlocks, length - from) }, (_, i) => from + i)
      const blocks = await Promise.all(window.map((block) => held.get(block).catch((cause: unknown) => String(cause))))
      blocks.forEach((bytes, i) => {
        const block = from + i
        step()
        if (typeof bytes === "string") return fault(`${log}/${block}`, `it cannot be read: ${bytes}`)
        hasher.append(bytes)
        const witness = byLength.get(block + 1)
        if (witness !== undefined) {
          if (witness.treeHash === toHex(hasher.treeHash())) {
            agreed++
            witnessed = block + 1
          } else contradicted++
          if (witness.treeHash !== toHex(hasher.treeHash())) fault(`${log}/${block}`, `${mesh.members.nameOf(witness.device)} witnessed another history at length ${witness.length}`)
        }
        // Kept and passed on, and nothing is made of them.
        if (cutAt !== undefined && block >= cutAt) return void beyond++
        const ingested = ingestBlock(bytes, { log, block }, mesh.keyring)
        if (ingested._tag === "Quarantined") return fault(`${log}/${block}`, ingested.why)
        if (ingested._tag === "Sealed") return void sealed++
        events += ingested.events.length
        ingested.events.forEach((event, offset) => {
          if (event._tag === "Quarantined") fault(`${log}/${block}.${offset}`, event.why)
          else if (mesh.tables.events.byAddress({ log, block, offset }) === undefined) fault(`${log}/${block}.${offset}`, "it is missing from the index")
        })
      })
    }
    const computed = toHex(hasher.treeHash())
    if (length > 0 && hasher.length === length) {
      const kept = await held.treeHash(length)
      if (kept !== computed) fault(`${log}/${length - 1}`, "the blocks do not make the tree that is kept here")
      const why = await signatureFault(mesh, log, length, hasher.treeHash())
      if (why !== undefined) fault(`${log}/${length - 1}`, why)
    }
    if (left > 0) faults.push({ address: log, why: `and ${left} more faults` })
    const others = mesh.members.view().members.keys()
    const known = Math.max(length, ...[...others].map((other) => mesh.tables.receipts.held(other, log)))
    return {
      log, node: mesh.members.nameOf(device), blocks: length, events, treeHash: computed, fork: held.fork(), witnesses: agreed, witnessed,
      gaps: known - length, conflicts: contradicted, beyond, sealed, faults
    }
  } finally {
    await held.close()
  }
}

/** The author's signature over the tree, when the log has not grown meanwhile. */
const signatureFault = async (mesh: MeshView, log: string, length: number, tree: Uint8Array): Promise<string | undefined> => {
  const core = await mesh.store.session(log)
  try {
    const head = await hypercoreProofSource(core)?.head()
    if (head === undefined) return "it has no head that its author signed"
    if (head.length !== length) return undefined
    const publicKey = signerOf(head.manifest)
    return publicKey !== undefined && verify(treeSignable(fromHex(log), tree, length, head.fork), head.signature, publicKey)
      ? undefined : "the signature of its head is not its author's"
  } catch (cause) {
    return `its head cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`
  } finally {
    await core.close()
  }
}

const nodeOf = (mesh: MeshView, log: string): string => {
  const device = mesh.members.deviceOf(log)
  return device === undefined ? log.slice(0, 8) : mesh.members.nameOf(device)
}

