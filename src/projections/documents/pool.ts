/**
 * The Automerge side as the rest of kOS sees it: one worker thread behind one queue, and documents that are loaded when wanted.
 *
 * **What it owns.** Which documents the worker holds; which are stalled; what the caller has been given but may not have stored yet.
 *
 * **How one batch travels.** `apply` groups changes by document and cuts them into pieces of bounded size; each piece is one request with one
 * transferred buffer. Documents the worker does not hold travel with it, out of `load`. Other callers get their turn between pieces.
 *
 * **When the worker dies** (deadline, crash, Automerge threw) it is started anew and holds nothing. The part it was at is the suspect: the
 * others go again without it; the suspect goes alone, then change by change with shared memory saying which one is in Automerge's hands.
 * If it dies again its document is stalled, with that change's address; nothing is skipped, nothing is dropped, every other document goes on.
 *
 * **Tricky cases.**
 * - *A document is lost* (eviction, restart) *after `apply` answered and before the caller stored the changes*: `load` would give an old
 *   document, and an edit on it would repeat a sequence number. So the changes of the last `apply` are kept until the next one
 *   begins, and own edits until their event comes back or `discard`; both are offered again on top of what `load` gives.
 * - *A stall that may heal* (too much waits): the next `apply` loads the document again; other stalls last until `discard`.
 * - *A document is built anew* (`rebuild`): what is stored of it is void from the first of its changes to the moment the new state is stored, so
 *   all of that is one turn.
 * - *Callers of `edit`* append and apply, or `discard`, before the next edit of the same document: a second edit builds on the first.
 */
import { Context, Effect, Layer, Schema, Semaphore } from "effect"
import { deadlineBaseMs, deadlinePerChangeMs, deadlinePerKibMs, pieceBytesMax, pieceChangesMax, pieceDocumentsMax } from "./limits.ts"
import { type DocumentPart, pack, type PartAnswer, type PartContent, type Reply, type Request } from "./messages.ts"
import type { ChangeInfo, DocId, DocumentState, Edit, LoggedChange, StoredDocument, Verdict } from "./types.ts"
import { validatorUrl } from "./validator.ts"
import { type Dead, WorkerLink } from "./worker-link.ts"

/** This document does not go on: its changes end or confuse Automerge, or too much waits. Its events are kept. */
export class DocumentStalled extends Schema.TaggedError<DocumentStalled>()("DocumentStalled", { doc: Schema.String, why: Schema.String }) {
  override get message() {
    return `${this.doc} is stalled: ${this.why}`
  }
}

/** The edits cannot be made into one change that the gate lets in. */
export class EditRefused extends Schema.TaggedError<EditRefused>()("EditRefused", { doc: Schema.String, why: Schema.String }) {
  override get message() {
    return `${this.doc}: ${this.why}`
  }
}

export type Load = (doc: DocId) => StoredDocument

export interface DocumentChanges {
  readonly doc: DocId
  readonly changes: ReadonlyArray<LoggedChange>
}

/** A change of an earlier batch that waited and is decided now. */
export interface ReleasedVerdict {
  readonly log: string
  readonly block: number
  readonly offset: number
  readonly verdict: Verdict
}

export type Applied =
  | { readonly doc: DocId; readonly verdicts: ReadonlyArray<Verdict>; readonly released: ReadonlyArray<ReleasedVerdict>; readonly state: DocumentState }
  | { readonly doc: DocId; readonly stalled: string }

export interface DocumentWorkerStats {
  /** Loaded documents, and the bytes of their changes. */
  readonly documents: number
  readonly bytes: number
  /** Threads started so far; more than 1 means that some died. */
  readonly starts: number
  readonly stalled: ReadonlyArray<{ readonly doc: DocId; readonly why: string }>
}

export interface DocumentWorkerShape {
  /** Offers changes, in log order within each log; one answer per document, in the order of the batch. */
  apply(batch: ReadonlyArray<DocumentChanges>, load: Load): Effect.Effect<ReadonlyArray<Applied>>
  /**
   * Like `apply`, but what the worker holds of these documents is forgotten first, and what is made of it is stored by `keep` before anybody
   * else has a turn. When `keep` throws, so does this, and the documents are forgotten again.
   */
  rebuild(batch: ReadonlyArray<DocumentChanges>, load: Load, keep: (answers: ReadonlyArray<Applied>) => void): Effect.Effect<void>
  /** Makes one change; undefined when nothing changes. Then append and `apply` it, or `discard` the document. */
  edit(doc: DocId, log: string, edits: ReadonlyArray<Edit>, nowMs: number, load: Load): Effect.Effect<{ readonly change: Uint8Array | undefined; readonly state: DocumentState }, DocumentStalled | EditRefused>
  /** The state from just these changes, in log order within each log. */
  materialize(doc: DocId, changes: ReadonlyArray<LoggedChange>): Effect.Effect<DocumentState, DocumentStalled>
  /** Applied changes in causal order. */
  history(doc: DocId, load: Load): Effect.Effect<ReadonlyArray<ChangeInfo>, DocumentStalled>
  /** Undefined while an own edit is not in a log yet. */
  save(doc: DocId, load: Load): Effect.Effect<{ readonly snapshot: Uint8Array; readonly gate: Uint8Array } | undefined, DocumentStalled>
  /** Forgets the loaded document, edits that were not appended, and a stall. */
  discard(doc: DocId): Effect.Effect<void>
  stats(): Effect.Effect<DocumentWorkerStats>
}

export class DocumentWorker extends Context.Service<DocumentWorker, DocumentWorkerShape>()("kos/projections/DocumentWorker") {
  static readonly layerWith = (options: { readonly validator: URL; readonly deadlineMs?: number }): Layer.Layer<DocumentWorker> =>
    Layer.effect(DocumentWorker, Effect.gen(function*() {
      const gate = yield* Semaphore.make(1)
      const pool = new Pool(new WorkerLink(options.validator), options.deadlineMs ?? deadlineBaseMs)
      yield* Effect.addFinalizer(() => Effect.promise(() => pool.close()))
      const turn = <A>(run: () => Promise<A>): Effect.Effect<A> => gate.withPermits(1)(Effect.promise(run).pipe(Effect.uninterruptible))
      const single = Effect.fnUntraced(function*(doc: DocId, run: () => Promise<Reply | Refusal>) {
        const reply = yield* turn(run)
        return reply._tag === "Refusal" || reply._tag === "Failed" ? yield* new DocumentStalled({ doc, why: reply.why }) : reply
      })
      return DocumentWorker.of({
        apply: Effect.fnUntraced(function*(batch, load) {
          const round = yield* turn(async () => pool.begin(batch))
          for (const piece of round.pieces) yield* turn(() => pool.piece(round, piece, load))
          return pool.finish(round)
        }),
        rebuild: (batch, load, keep) => turn(() => pool.rebuild(batch, load, keep)),
        edit: Effect.fnUntraced(function*(doc, log, edits, nowMs, load) {
          const reply = yield* single(doc, () => pool.edit(doc, log, edits, nowMs, load))
          if (reply._tag === "Edited") return { change: reply.change, state: reply.state }
          return yield* new EditRefused({ doc, why: reply._tag === "EditRefused" ? reply.why : unexpected })
        }),
        materialize: Effect.fnUntraced(function*(doc, changes) {
          const reply = yield* single(doc, () => pool.materialize(doc, changes))
          return reply._tag === "State" ? reply.state : yield* new DocumentStalled({ doc, why: unexpected })
        }),
        history: Effect.fnUntraced(function*(doc, load) {
          const reply = yield* single(doc, () => pool.ask("History", doc, load))
          return reply._tag === "History" ? reply.history : yield* new DocumentStalled({ doc, why: unexpected })
        }),
        save: Effect.fnUntraced(function*(doc, load) {
          const reply = yield* single(doc, () => pool.ask("Save", doc, load))
          return reply._tag === "Saved" ? reply.saved : yield* new DocumentStalled({ doc, why: unexpected })
        }),
        discard: (doc) => turn(() => pool.discard(doc)),
        stats: () => turn(() => pool.stats())
      })
    }))

  static readonly layer = this.layerWith({ validator: validatorUrl })
}

const unexpected = "the worker gave an answer to another question"

interface Refusal {
  readonly _tag: "Refusal"
  readonly why: string
}

interface Slice {
  readonly doc: DocId
  readonly changes: ReadonlyArray<LoggedChange>
  /** Place of the first change among the document's changes of this round. */
  readonly from: number
  readonly final: boolean
}

interface Progress {
  readonly verdicts: Array<Verdict>
  readonly released: Array<ReleasedVerdict>
  state: DocumentState | undefined
  stalled: string | undefined
}

interface Round {
  readonly docs: ReadonlyMap<DocId, Progress>
  readonly pieces: ReadonlyArray<ReadonlyArray<Slice>>
}

interface StallNote {
  readonly why: string
  readonly heals: boolean
}

class Pool {
  readonly #link: WorkerLink
  readonly #loaded = new Set<DocId>()
  readonly #stalled = new Map<DocId, StallNote>()
  /** Answered by the last `apply`, perhaps not stored yet. */
  #recent = new Map<DocId, Array<LoggedChange>>()
  readonly #own = new Map<DocId, Array<LoggedChange>>()

  /** Milliseconds that any request may take; large ones get more. */
  readonly #deadlineMs: number

  constructor(link: WorkerLink, deadlineMs: number) {
    this.#link = link
    this.#deadlineMs = deadlineMs
  }

  close(): Promise<void> {
    return this.#link.kill()
  }

  begin(batch: ReadonlyArray<DocumentChanges>): Round {
    const byDoc = new Map<DocId, Array<LoggedChange>>()
    for (const { doc, changes } of batch) {
      const list = byDoc.get(doc)
      if (list === undefined) byDoc.set(doc, [...changes])
      else for (const change of changes) list.push(change)
    }
    this.#recent = new Map()
    const docs = new Map<DocId, Progress>()
    const pieces: Array<Array<Slice>> = []
    let piece: Array<Slice> = []
    let count = 0
    let bytes = 0
    const close = (): void => {
      if (piece.length > 0) pieces.push(piece)
      piece = []
      count = bytes = 0
    }
    for (const [doc, changes] of byDoc) {
      const stall = this.#stalled.get(doc)
      if (stall?.heals === true) this.#stalled.delete(doc)
      docs.set(doc, { verdicts: [], released: [], state: undefined, stalled: stall?.heals === true ? undefined : stall?.why })
      if (stall?.heals === false) continue
      if (count > 0 && count + changes.length > pieceChangesMax) close()
      let from = 0
      do {
        let to = from
        while (to < changes.length && count < pieceChangesMax && bytes < pieceBytesMax) {
          bytes += changes[to]?.change.byteLength ?? 0
          count++
          to++
        }
        piece.push({ doc, changes: changes.slice(from, to), from, final: to === changes.length })
        from = to
        if (count >= pieceChangesMax || bytes >= pieceBytesMax || piece.length >= pieceDocumentsMax) close()
      } while (from < changes.length)
    }
    close()
    return { docs, pieces }
  }

  async rebuild(batch: ReadonlyArray<DocumentChanges>, load: Load, keep: (answers: ReadonlyArray<Applied>) => void): Promise<void> {
    for (const { doc } of batch) await this.discard(doc)
    const round = this.begin(batch)
    for (const piece of round.pieces) await this.piece(round, piece, load)
    try {
      keep(this.finish(round))
    } catch (cause) {
      for (const { doc } of batch) await this.discard(doc)
      throw cause
    }
  }

  async piece(round: Round, piece: ReadonlyArray<Slice>, load: Load): Promise<void> {
    const slices = piece.filter(({ doc }) => round.docs.get(doc)?.stalled === undefined)
    if (slices.length === 0) return
    const outcome = await this.#applySlices(slices, load, false)
    if (outcome._tag !== "Dead") return this.#take(round, slices, outcome.answers, load)
    const suspect = slices[outcome.part]
    if (slices.length === 1 || suspect === undefined) {
      for (const slice of slices) await this.#alone(round, slice, load)
      return
    }
    await this.piece(round, slices.filter((slice) => slice !== suspect), load)
    await this.#alone(round, suspect, load)
  }

  finish(round: Round): ReadonlyArray<Applied> {
    return [...round.docs].map(([doc, { verdicts, released, state, stalled }]): Applied =>
      stalled !== undefined || state === undefined ? { doc, stalled: stalled ?? unexpected } : { doc, verdicts, released, state })
  }

  async edit(doc: DocId, log: string, edits: ReadonlyArray<Edit>, nowMs: number, load: Load): Promise<Reply | Refusal> {
    let size = 0
    for (const edit of edits) size += edit._tag === "Text" ? edit.text.length : edit._tag === "Splice" ? edit.insert.length : "json" in edit ? edit.json.length : 0
    const reply = await this.#ask(doc, load, size, (id, part, packed) => ({ id, _tag: "Edit", part, packed, log, edits, nowMs }))
    if (reply._tag !== "Edited" || reply.change === undefined) return reply
    const made: LoggedChange = { log, block: -1, offset: -1, ms: nowMs, change: reply.change }
    const own = this.#own.get(doc)
    if (own === undefined) this.#own.set(doc, [made])
    else own.push(made)
    return reply
  }

  ask(kind: "History" | "Save", doc: DocId, load: Load): Promise<Reply | Refusal> {
    return this.#ask(doc, load, 0, (id, part, packed) => ({ id, _tag: kind, part, packed }))
  }

  async materialize(doc: DocId, changes: ReadonlyArray<LoggedChange>): Promise<Reply | Refusal> {
    const content: PartContent = { part: { doc, load: undefined, changes: changes.length, final: true }, snapshot: undefined, gate: undefined, stored: [], own: [], changes }
    return this.#settle(await this.#link.call((id) => ({ id, _tag: "Materialize", part: content.part, packed: pack([content]) }), this.#deadlineOf([content])))
  }

  async discard(doc: DocId): Promise<void> {
    this.#stalled.delete(doc)
    this.#recent.delete(doc)
    this.#own.delete(doc)
    if (!this.#loaded.delete(doc)) return
    const outcome = await this.#link.call((id) => ({ id, _tag: "Discard", docs: [doc] }), this.#deadlineMs)
    if (outcome._tag === "Dead") this.#loaded.clear()
  }

  async stats(): Promise<DocumentWorkerStats> {
    const stalled = [...this.#stalled].map(([doc, { why }]) => ({ doc, why }))
    const reply = this.#link.running ? await this.#link.call((id) => ({ id, _tag: "Stats" }), this.#deadlineMs) : undefined
    if (reply?._tag === "Dead") this.#loaded.clear()
    const { documents, bytes } = reply?._tag === "Stats" ? reply.stats : { documents: 0, bytes: 0 }
    return { documents, bytes, starts: this.#link.starts, stalled }
  }

  async #ask(doc: DocId, load: Load, moreBytes: number, make: (id: number, part: DocumentPart, packed: ReturnType<typeof pack>) => Request): Promise<Reply | Refusal> {
    const stall = this.#stalled.get(doc)
    if (stall !== undefined) return { _tag: "Refusal", why: stall.why }
    const content = this.#content({ doc, changes: [], from: 0, final: true }, load)
    const packed = pack([content])
    const outcome = await this.#link.call((id) => make(id, content.part, packed), this.#deadlineOf([content]) + moreBytes / 1024 * deadlinePerKibMs)
    if (outcome._tag !== "Dead") this.#loaded.add(doc)
    return this.#settle(outcome)
  }

  /** Keeps the account of what the worker holds. */
  async #settle(outcome: Reply | Dead): Promise<Reply | Refusal> {
    if (outcome._tag === "Dead") {
      this.#loaded.clear()
      return { _tag: "Refusal", why: outcome.why }
    }
    for (const doc of outcome.evicted) this.#loaded.delete(doc)
    if (outcome._tag === "Failed" && outcome.thrown) await this.#restart()
    return outcome
  }

  async #restart(): Promise<void> {
    this.#loaded.clear()
    await this.#link.kill()
  }

  #content({ doc, changes, final }: Slice, load: Load): PartContent {
    if (this.#loaded.has(doc)) return { part: { doc, load: undefined, changes: changes.length, final }, snapshot: undefined, gate: undefined, stored: [], own: [], changes }
    const saved = load(doc)
    const recent = this.#recent.get(doc)
    const stored = recent === undefined ? saved.changes : [...saved.changes, ...recent]
    const own = this.#own.get(doc) ?? []
    const { snapshot, gate } = saved
    const part: DocumentPart = {
      doc, load: { snapshotBytes: snapshot?.byteLength ?? 0, gateBytes: gate?.byteLength ?? 0, changes: stored.length, own: own.length }, changes: changes.length, final
    }
    return { part, snapshot, gate, stored, own, changes }
  }

  async #applySlices(slices: ReadonlyArray<Slice>, load: Load, step: boolean): Promise<Extract<Reply, { _tag: "Applied" }> | Dead> {
    const contents = slices.map((slice) => this.#content(slice, load))
    const packed = pack(contents)
    const outcome = await this.#link.call((id) => ({ id, _tag: "Apply", parts: contents.map(({ part }) => part), packed, step }), this.#deadlineOf(contents))
    if (outcome._tag === "Applied") {
      for (const { doc } of slices) this.#loaded.add(doc)
      for (const doc of outcome.evicted) this.#loaded.delete(doc)
      return outcome
    }
    this.#loaded.clear()
    return outcome._tag === "Dead" ? outcome : { _tag: "Dead", why: unexpected, part: 0, change: -1 }
  }

  /** Takes the answers; a document on which Automerge threw is tried again alone, in a new thread. */
  async #take(round: Round, slices: ReadonlyArray<Slice>, answers: ReadonlyArray<PartAnswer>, load: Load): Promise<void> {
    const thrown: Array<Slice> = []
    answers.forEach((answer, i) => {
      const slice = slices[i]
      if (slice === undefined) return
      if (answer._tag === "Done") this.#done(round, slice, answer)
      else if (answer._tag === "Thrown") thrown.push(slice)
      else this.#stall(round, slice.doc, answer.why, answer.heals)
    })
    if (thrown.length > 0) await this.#restart()
    for (const slice of thrown) await this.#alone(round, slice, load)
  }

  /** The suspect by itself: once as it was, then change by change. */
  async #alone(round: Round, slice: Slice, load: Load): Promise<void> {
    for (const step of [false, true]) {
      const outcome = await this.#applySlices([slice], load, step)
      const answer = outcome._tag === "Dead" ? undefined : outcome.answers[0]
      if (answer?._tag === "Done") return this.#done(round, slice, answer)
      if (answer?._tag === "Stalled") return this.#stall(round, slice.doc, answer.why, answer.heals)
      if (answer?._tag === "Thrown") await this.#restart()
      if (!step) continue
      const guilty = slice.changes[outcome._tag === "Dead" ? outcome.change : answer?.guilty ?? -1]
      const where = guilty === undefined ? "" : `change ${guilty.log.slice(0, 8)}/${guilty.block}.${guilty.offset}: `
      this.#stall(round, slice.doc, `${where}${outcome._tag === "Dead" ? outcome.why : answer?.why ?? unexpected}`, false)
    }
  }

  #deadlineOf(contents: ReadonlyArray<PartContent>): number {
    let changes = 0
    let bytes = 0
    for (const content of contents) {
      changes += content.stored.length + content.own.length + content.changes.length
      bytes += content.snapshot?.byteLength ?? 0
      for (const list of [content.stored, content.changes]) for (const { change } of list) bytes += change.byteLength
    }
    return this.#deadlineMs + changes * deadlinePerChangeMs + bytes / 1024 * deadlinePerKibMs
  }

  #stall(round: Round, doc: DocId, why: string, heals: boolean): void {
    this.#stalled.set(doc, { why, heals })
    this.#loaded.delete(doc)
    const progress = round.docs.get(doc)
    if (progress !== undefined) progress.stalled = why
  }

  #done(round: Round, { doc, changes, from }: Slice, answer: Extract<PartAnswer, { _tag: "Done" }>): void {
    const progress = round.docs.get(doc)
    if (progress === undefined) return
    let refusal = 0
    for (let i = 0; i < answer.verdicts.length; i++) {
      const code = answer.verdicts[i]
      progress.verdicts[from + i] = code === "A" ? applied : code === "K" ? known : code === "W" ? waiting : code === "H" ? held : { _tag: "Refused", why: answer.refusals[refusal++] ?? "" }
    }
    for (const { log, block, offset, why } of answer.released) {
      const verdict: Verdict = why === undefined ? applied : { _tag: "Refused", why }
      // A change of an earlier piece of this round is still to be answered; others were, and waited.
      const recent = this.#recent.get(doc)?.findIndex((change) => change.log === log && change.block === block && change.offset === offset) ?? -1
      if (recent >= 0) progress.verdicts[recent] = verdict
      else progress.released.push({ log, block, offset, verdict })
    }
    if (answer.state !== undefined) progress.state = answer.state
    const recent = this.#recent.get(doc)
    if (recent === undefined) this.#recent.set(doc, [...changes])
    else for (const change of changes) recent.push(change)
    this.#forgetOwn(doc, changes)
  }

  #forgetOwn(doc: DocId, changes: ReadonlyArray<LoggedChange>): void {
    const own = this.#own.get(doc)
    if (own === undefined) return
    const left = own.filter(({ log, change }) => !changes.some((other) => other.log === log && Buffer.compare(other.change, change) === 0))
    if (left.length === 0) this.#own.delete(doc)
    else this.#own.set(doc, left)
  }
}

const applied: Verdict = { _tag: "Applied" }
const known: Verdict = { _tag: "Known" }
const waiting: Verdict = { _tag: "Waiting" }
const held: Verdict = { _tag: "Held" }
