/**
 * The thread in which Automerge runs. It answers one request at a time, keeps loaded documents in a bounded cache, and may be killed
 * at any moment: nothing here is the only copy of anything. Before each step that could be its last it writes into shared memory
 * which part and which change it is at, so that the other side can name the guilty one.
 */
import { makeRoom } from "./wasm-room.ts"
import { type MessagePort, workerData } from "node:worker_threads"
import { LoadedDocument, messageOf, Unreadable, type Validate } from "./document.ts"
import { decodeGateMemory, encodeGateMemory } from "./gate-memory.ts"
import { loadedBytesMax, loadedDocumentsMax } from "./limits.ts"
import { type PartAnswer, type PartContent, progressBeat, progressChange, progressPart, type Reply, type Request, unpack } from "./messages.ts"
import type { DocId, Verdict } from "./types.ts"

interface WorkerData {
  readonly port: MessagePort
  readonly progress: SharedArrayBuffer
  readonly validator: string
}

/** Loaded documents, the least recently used first. */
const documents = new Map<DocId, LoadedDocument>()
const { port, progress: shared, validator }: WorkerData = workerData
const progress = new Int32Array(shared)
const { validate }: { readonly validate: Validate } = await import(validator)
makeRoom()

class Stall {
  readonly why: string
  readonly heals: boolean
  constructor(why: string, heals: boolean) {
    this.why = why
    this.heals = heals
  }
}

const drop = (doc: DocId): void => {
  const loaded = documents.get(doc)
  documents.delete(doc)
  try {
    loaded?.free()
  } catch {
    // A handle that Automerge left broken cannot be freed; the thread ends soon.
  }
}

const evict = (): Array<DocId> => {
  const evicted: Array<DocId> = []
  let bytes = 0
  for (const loaded of documents.values()) bytes += loaded.bytes
  for (const [doc, loaded] of documents) {
    if (documents.size <= loadedDocumentsMax && (bytes <= loadedBytesMax || documents.size === 1)) break
    bytes -= loaded.bytes
    evicted.push(doc)
    drop(doc)
  }
  return evicted
}

const load = ({ part, snapshot, gate, stored, own }: PartContent): LoadedDocument => {
  const present = documents.get(part.doc)
  if (part.load === undefined) {
    if (present === undefined) throw new Stall("the worker does not hold this document", true)
    documents.delete(part.doc)
    documents.set(part.doc, present)
    return present
  }
  drop(part.doc)
  const loaded = open(part.doc, snapshot, gate)
  documents.set(part.doc, loaded)
  loaded.gate.reload(stored)
  loaded.gate.begin()
  loaded.settle()
  for (const { log, ms, change } of own) {
    // An edit that is in a log by now is known; one that no longer fits was never appended.
    if (loaded.gate.own(log, ms, change) === undefined) loaded.adopt(change)
  }
  return loaded
}

const open = (doc: DocId, snapshot: Uint8Array | undefined, gate: Uint8Array | undefined): LoadedDocument => {
  if (snapshot === undefined || gate === undefined) return new LoadedDocument(doc)
  const memory = decodeGateMemory(gate)
  if (memory === undefined) throw new Stall("the gate's saved memory cannot be read; the document must be built from its changes", false)
  try {
    return new LoadedDocument(doc, { snapshot, memory })
  } catch (cause) {
    if (cause instanceof Unreadable) throw new Stall(`${cause.why}; the document must be built from its changes`, false)
    throw cause
  }
}

const apply = (content: PartContent, step: boolean): PartAnswer => {
  const { doc, final } = content.part
  let index = -1
  const note = (): void => {
    Atomics.store(progress, progressChange, index)
    Atomics.add(progress, progressBeat, 1)
  }
  try {
    note()
    const loaded = load(content)
    const { gate } = loaded
    gate.begin()
    const released: Array<{ readonly log: string; readonly block: number; readonly offset: number; readonly why: string | undefined }> = []
    const settle = (each?: () => void): void => {
      for (const { log, block, offset, verdict } of loaded.settle(each).released) released.push({ log, block, offset, why: verdict._tag === "Refused" ? verdict.why : undefined })
    }
    for (const change of content.changes) {
      index++
      gate.offer(change)
      if (step) settle(note)
    }
    if (step) index = -1
    note()
    settle()
    const stalled = gate.stalled ?? (final ? gate.overflow() : undefined)
    if (stalled !== undefined) throw new Stall(stalled, true)
    const refusals: Array<string> = []
    const verdicts = gate.verdicts().map((verdict) => letter(verdict, refusals)).join("")
    return { _tag: "Done", doc, verdicts, refusals, released, state: final ? loaded.state(validate) : undefined }
  } catch (cause) {
    drop(doc)
    if (cause instanceof Stall) return { _tag: "Stalled", doc, why: cause.why, guilty: -1, heals: cause.heals }
    return { _tag: "Thrown", doc, why: messageOf(cause), guilty: index }
  }
}

const letter = (verdict: Verdict, refusals: Array<string>): string => {
  if (verdict._tag !== "Refused") return verdict._tag.slice(0, 1)
  refusals.push(verdict.why)
  return "R"
}

const answer = (request: Request): Reply => {
  const { id } = request
  switch (request._tag) {
    case "Apply": {
      const answers: Array<PartAnswer> = []
      unpack(request.parts, request.packed).forEach((content, i) => {
        Atomics.store(progress, progressPart, i)
        answers.push(apply(content, request.step))
      })
      return { id, _tag: "Applied", answers, evicted: evict() }
    }
    case "Discard": {
      for (const doc of request.docs) drop(doc)
      return { id, _tag: "Discarded", evicted: [] }
    }
    case "Stats": {
      let bytes = 0
      for (const loaded of documents.values()) bytes += loaded.bytes
      return { id, _tag: "Stats", stats: { documents: documents.size, bytes }, evicted: [] }
    }
    default:
      return one(request)
  }
}

const one = (request: Exclude<Request, { _tag: "Apply" | "Discard" | "Stats" }>): Reply => {
  const { id, part } = request
  const content = unpack([part], request.packed)[0]
  try {
    if (content === undefined) throw new Stall("an empty request", true)
    if (request._tag === "Materialize") {
      const loaded = new LoadedDocument(part.doc)
      try {
        for (const change of content.changes) loaded.gate.offer(change)
        loaded.settle()
        return { id, _tag: "State", state: loaded.state(validate), evicted: [] }
      } finally {
        loaded.free()
      }
    }
    const loaded = load(content)
    if (request._tag === "History") return { id, _tag: "History", history: loaded.history(), evicted: evict() }
    if (request._tag === "Save") {
      const saved = loaded.hasOwn ? undefined : { snapshot: loaded.save(), gate: encodeGateMemory(loaded.gate.memory) }
      return { id, _tag: "Saved", saved, evicted: evict() }
    }
    const edited = loaded.edit(request.log, request.edits, request.nowMs)
    if ("why" in edited) {
      if (edited.spoiled) drop(part.doc)
      return { id, _tag: "EditRefused", why: edited.why, evicted: edited.spoiled ? [part.doc, ...evict()] : evict() }
    }
    return { id, _tag: "Edited", change: edited.change, state: loaded.state(validate), evicted: evict() }
  } catch (cause) {
    if (request._tag !== "Materialize") drop(part.doc)
    const evicted = request._tag === "Materialize" ? [] : [part.doc]
    return cause instanceof Stall ? { id, _tag: "Failed", why: cause.why, thrown: false, evicted } : { id, _tag: "Failed", why: messageOf(cause), thrown: true, evicted }
  }
}

port.on("message", (request: Request) => {
  const reply = answer(request)
  const transfer = reply._tag === "Saved" && reply.saved !== undefined ? [reply.saved.snapshot.buffer, reply.saved.gate.buffer] : []
  port.postMessage(reply, transfer.filter((buffer) => buffer instanceof ArrayBuffer))
})
port.postMessage({ id: 0, _tag: "Discarded", evicted: [] } satisfies Reply)
