/**
 * Dispatch: the one path by which a wish becomes events, and the only caller of `Journal.append`. Design section 2.
 *
 * **How one command travels.** Was this command id seen? Then the answer is as then. May this author do this here (policy)? Then the
 * decider, a pure function of state and wish, gives events or a refusal. The events of one command are appended as one unit to this
 * node's own log, the runner folds them, and the answer names their addresses and arrival numbers. A refusal is an event as well.
 *
 * **Documents.** A command that changes documents holds their locks from reading the state until the fold, so that a decider never
 * decides on a state that is already old. The worker makes the binary change and has it in its live document at once; when the
 * append fails the worker forgets the document.
 */
import { Deferred, Effect, Result } from "effect"
import { type Address, addressText } from "../codec/address.ts"
import { isUuidv7 } from "../codec/uuid.ts"
import { decodeBody } from "../events/catalogue.ts"
import type { Draft, Journal, JournalError } from "../events/journal.ts"
import type { DocumentWorker } from "../projections/documents/pool.ts"
import type { DocId, Family } from "../projections/documents/types.ts"
import { familyOf } from "../projections/families/doc-id.ts"
import type { Members } from "../projections/members.ts"
import type { Runner } from "../projections/runner.ts"
import type { Tables } from "../projections/tables/tables.ts"
import type { Decided, Decision, Documents } from "./decide-change.ts"
import { KeyedLock } from "./keyed-lock.ts"
import { Refusal } from "./refusal.ts"

/** Who asks, and the id that makes a repetition harmless. */
export interface Asker {
  readonly command: string
  readonly actor: string
}

/** An event that a decider wants; who and why are added here. */
export interface Wanted {
  readonly type: string
  readonly subject: string
  readonly body: unknown
  readonly cause?: ReadonlyArray<Address>
}

export interface Plan {
  readonly summary: string
  readonly events: ReadonlyArray<Wanted>
}

export interface Done {
  /** One sentence of what was done. */
  readonly summary: string
  /** Empty when nothing had to change. */
  readonly events: ReadonlyArray<{ readonly address: string; readonly arrival: number; readonly type: string }>
}

export interface DispatchOptions {
  readonly journal: Journal["Service"]
  readonly runner: Runner
  readonly tables: Tables
  readonly members: Members
  readonly worker: DocumentWorker["Service"]
  readonly device: string
  readonly now: () => number
  /** The own log has grown to this length. */
  readonly onAppended: (length: number) => void
}

/** Commands under way at once; more are refused as busy. */
export const commandsMax = 1_024

export class Dispatch {
  readonly #options: DispatchOptions
  readonly #locks = new KeyedLock()
  readonly #underway = new Map<string, Deferred.Deferred<Done, Refusal>>()

  constructor(options: DispatchOptions) {
    this.#options = options
  }

  /** Runs a command whose decider gives events. `locks` names what must not change while it decides. */
  run(name: string, asker: Asker, locks: ReadonlyArray<string>, decide: Effect.Effect<Plan, Refusal>): Effect.Effect<Done, Refusal> {
    return this.#once(name, asker, this.#locks.with(locks, decide.pipe(
      Effect.flatMap((plan) => this.#commit(asker, plan.summary, plan.events))
    )))
  }

  /**
   * Runs a command that changes documents. `locks` are what `lockOf` says of every document that the decision may change; the decider
   * sees the states as they are while they are held.
   */
  change(name: string, asker: Asker, locks: ReadonlyArray<string>, decide: (documents: Documents) => Decided, cause: ReadonlyArray<Address> = []): Effect.Effect<Done, Refusal> {
    const { tables } = this.#options
    return this.#once(name, asker, this.#locks.with(locks, Effect.gen({ self: this }, function*() {
      const decided = decide(this.documents([...new Set(locks.map(familyOf))]))
      if (decided instanceof Refusal) return yield* decided
      for (const { doc } of decided.changes) {
        if (!locks.includes(lockOf(doc))) return yield* Effect.die(new Error(`${name} changes ${doc} without its lock`))
        const stalled = tables.documents.summary(doc)?.stalled
        if (stalled !== undefined) {
          return yield* new Refusal({ kind: "conflict", detail: `${doc} stalls and cannot be changed: ${stalled}`, hint: "kos doctor" })
        }
      }
      return yield* this.#edit(asker, decided, cause)
    })))
  }

  /** The documents of these families as deciders see them; each state is read when it is asked for. */
  documents(families: ReadonlyArray<Family>): Documents {
    const { documents } = this.#options.tables
    return { get: (doc) => documents.state(doc), keys: () => families.flatMap((family) => documents.list(family).map(({ id }) => id)) }
  }

  /** Holds a document still for work that is not a command, such as saving it anew. */
  withDocument<A, E>(doc: DocId, work: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return this.#locks.with([lockOf(doc)], work)
  }

  /** Notes that a command was refused before it came here; does nothing when it did come and the log says so. */
  refuse(name: string, asker: Asker, refusal: Refusal): Effect.Effect<void> {
    return Effect.suspend(() => !isUuidv7(asker.command) || this.#underway.has(asker.command) || this.#options.tables.events.byCommand(asker.command) !== undefined
      ? Effect.void : this.#refused(name, asker, refusal))
  }

  /** Events of the node itself, which no command asked for: started, stopped, peers, checkpoints. */
  record(events: ReadonlyArray<Wanted>, actor = "device"): Effect.Effect<Done, Refusal> {
    return this.#commit({ command: "", actor }, "recorded", events)
  }

  #edit(asker: Asker, decision: Decision, cause: ReadonlyArray<Address>): Effect.Effect<Done, Refusal> {
    const { worker, tables, journal, now } = this.#options
    const touched: Array<DocId> = []
    return Effect.gen({ self: this }, function*() {
      const events: Array<Wanted> = []
      for (const { doc, edits, paths, summary } of decision.changes) {
        touched.push(doc)
        const edited = yield* worker.edit(doc, journal.log(), edits, now(), (id) => tables.documents.load(id)).pipe(
          Effect.mapError((error) => new Refusal({ kind: "usage", detail: error.message }))
        )
        if (edited.change === undefined) continue
        events.push({
          type: `${familyOf(doc)}.changed/1`, subject: doc, cause,
          body: { change: edited.change, paths: paths.slice(0, 64).map((path) => path.slice(0, 256)), summary: summary.slice(0, 512) }
        })
      }
      const summary = decision.changes.length === 0 ? "nothing to change" : decision.changes.map((change) => change.summary).join("; ")
      return yield* this.#commit(asker, summary, events)
    }).pipe(Effect.onError(() => Effect.forEach(touched, (doc) => worker.discard(doc), { discard: true })))
  }

  /** Once per command id: while it runs, callers share its answer; afterwards the log has it. */
  #once(name: string, asker: Asker, work: Effect.Effect<Done, Refusal>): Effect.Effect<Done, Refusal> {
    return Effect.suspend(() => {
      if (!isUuidv7(asker.command)) return Effect.fail(new Refusal({ kind: "usage", detail: `the command id is not a UUIDv7: ${asker.command.slice(0, 40)}` }))
      const same = this.#underway.get(asker.command)
      if (same !== undefined) return Deferred.await(same)
      const then = this.#answerOf(asker.command)
      if (then !== undefined) return then
      if (this.#underway.size >= commandsMax) return Effect.fail(new Refusal({ kind: "failed", detail: `${commandsMax} commands are under way; try again` }))
      const answer = Deferred.makeUnsafe<Done, Refusal>()
      this.#underway.set(asker.command, answer)
      return this.#allowed().pipe(
        Effect.andThen(work),
        Effect.tapError((refusal) => this.#refused(name, asker, refusal)),
        Effect.onExit((exit) => Effect.sync(() => {
          this.#underway.delete(asker.command)
          Deferred.doneUnsafe(answer, exit)
        }))
      )
    })
  }

  #allowed(): Effect.Effect<void, Refusal> {
    const me = this.#options.members.view().members.get(this.#options.device)
    if (me?.standing !== "member") return Effect.fail(new Refusal({ kind: "denied", detail: "this node is no member of its mesh any more", hint: "kos mesh show" }))
    return me.role === "reader" || me.role === "seeder"
      ? Effect.fail(new Refusal({ kind: "denied", detail: `this node is a ${me.role} of the mesh and writes nothing`, hint: "kos mesh show" }))
      : Effect.void
  }

  /** A command that was seen before is answered from the log. */
  #answerOf(command: string): Effect.Effect<Done, Refusal> | undefined {
    const first = this.#options.tables.events.byCommand(command)
    if (first === undefined) return undefined
    if (first.type === "command.refused/1") return Effect.fail(new Refusal({ kind: "conflict", detail: "this command was refused before", hint: `kos event show @${first.arrival}` }))
    return Effect.succeed({
      summary: "done before", events: [{ address: addressText(first), arrival: first.arrival, type: first.type }]
    })
  }

  #refused(name: string, asker: Asker, refusal: Refusal): Effect.Effect<void> {
    return this.#commit(asker, "", [{
      type: "command.refused/1", subject: "node", body: { name, kind: refusal.kind, detail: refusal.detail.slice(0, 1_024) }
    }]).pipe(Effect.ignore)
  }

  #commit(asker: Asker, summary: string, events: ReadonlyArray<Wanted>): Effect.Effect<Done, Refusal> {
    if (events.length === 0) return Effect.succeed({ summary, events: [] })
    const { journal, runner, tables, onAppended } = this.#options
    return Effect.gen(function*() {
      const drafts: Array<Draft> = []
      for (const { type, subject, body, cause } of events) {
        const decoded = decodeBody(type, body)
        if (Result.isFailure(decoded) || decoded.success._tag === "Unknown") {
          return yield* Effect.die(new Error(`the event ${type} does not fit its own schema: ${Result.isFailure(decoded) ? decoded.failure.message : "unknown"}`))
        }
        drafts.push({ type, actor: asker.actor, subject, command: asker.command, cause: cause ?? [], body })
      }
      const appended = yield* journal.append(drafts).pipe(Effect.mapError(journalRefusal))
      onAppended(appended.block + 1)
      yield* Effect.promise(() => runner.folded(appended.log, appended.block + 1))
      return {
        summary,
        events: appended.events.map((event, i) => {
          const address = { log: appended.log, block: appended.block, offset: appended.offset + i }
          return { address: addressText(address), arrival: tables.events.byAddress(address)?.arrival ?? 0, type: event.type }
        })
      }
    })
  }
}

/** What must be held to change a document: settings of one layer are checked against each other, so a layer is held as a whole. */
export const lockOf = (doc: DocId): string => doc.startsWith("config/") ? doc.slice(0, doc.lastIndexOf("/")) : doc

const journalRefusal = (error: JournalError): Refusal => {
  switch (error.reason) {
    case "full": return new Refusal({ kind: "degraded", detail: "nothing was written: the disk is full", hint: "kos doctor" })
    case "readonly": return new Refusal({ kind: "degraded", detail: "nothing was written: the disk is read-only", hint: "kos doctor" })
    case "too-large": return new Refusal({ kind: "usage", detail: error.detail })
    default: return new Refusal({ kind: "failed", detail: error.detail })
  }
}
