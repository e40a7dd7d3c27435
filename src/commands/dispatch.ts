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
 *
 * **Who may.** A node that was revoked or left does nothing. A reader says what happens to itself and what it wishes about its own
 * membership, and changes nothing else. A seeder cannot seal a frame, so it appends nothing at all: its membership operations travel in the
 * session, its own news stay in its log file. Of the others, policy says who may change which thing (policy.ts); what needs approvals
 * is not changed but proposed, and the answer is "pending".
 *
 * **Secrets** stand in no event: a command that would write one is refused, and what the node says by itself is masked.
 */
import { Deferred, Effect, Result } from "effect"
import { type Address, addressText, parseAddress } from "../codec/address.ts"
import { randomBytes } from "../codec/signature.ts"
import { isUuidv7, uuidv7 } from "../codec/uuid.ts"
import { rankOf, type Role } from "../codec/operation.ts"
import { decodeBody, operationTypes } from "../events/catalogue.ts"
import type { Draft, Journal, JournalError } from "../events/journal.ts"
import type { DocumentWorker } from "../projections/documents/pool.ts"
import type { DocId, Family } from "../projections/documents/types.ts"
import { familyOf } from "../projections/families/doc-id.ts"
import { policyDoc } from "../projections/families/policy.ts"
import { maskSecrets, secretInEvent, secretSentence } from "../projections/families/secret-scan.ts"
import type { Members } from "../projections/members.ts"
import { PolicyView, type Standing } from "../projections/policy-view.ts"
import type { Runner } from "../projections/runner.ts"
import type { Tables } from "../projections/tables/tables.ts"
import { decideApply, decideAsk, decideVerdict, pendingRefusal } from "./decide-approval.ts"
import { checked, type Decided, type Decision, type DocumentChange, type Documents, type DocumentView } from "./decide-change.ts"
import { KeyedLock } from "./keyed-lock.ts"
import { mayChange, mayTouch, type Policy, roleRefusal, standingRefusal } from "./policy.ts"
import { Refusal } from "./refusal.ts"
import { overRefused, refusedAsConflicts } from "./refused-values.ts"

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
  /** Policy as it is in force here. */
  readonly policy: PolicyView
  readonly #options: DispatchOptions
  readonly #locks = new KeyedLock()
  readonly #underway = new Map<string, Deferred.Deferred<Done, Refusal>>()

  constructor(options: DispatchOptions) {
    this.#options = options
    this.policy = new PolicyView(options)
  }

  /** Runs a command whose decider gives events. `locks` names what must not change while it decides. */
  run(name: string, asker: Asker, locks: ReadonlyArray<string>, decide: Effect.Effect<Plan, Refusal>): Effect.Effect<Done, Refusal> {
    return this.#once(name, asker, this.#locks.with(locks, decide.pipe(
      Effect.tap((plan) => this.#mayRun(plan)),
      Effect.flatMap((plan) => this.#role() === "seeder" ? this.#inSession(plan.summary, plan.events) : this.#commit(asker, plan.summary, plan.events))
    )))
  }

  /**
   * Runs a command that changes documents. `locks` are what `lockOf` says of every document that the decision may change; the decider
   * sees the states as they are while they are held.
   */
  change(name: string, asker: Asker, locks: ReadonlyArray<string>, decide: (documents: Documents) => Decided, cause: ReadonlyArray<Address> = []): Effect.Effect<Done, Refusal> {
    return this.#once(name, asker, this.#locks.with(locks, Effect.gen({ self: this }, function*() {
      const role = roleRefusal(this.#role())
      if (role !== undefined) return yield* role
      const held = this.#heldBack()
      if (held !== undefined) return yield* held
      yield* this.#steady()
      const documents = this.documents([...new Set(locks.map(familyOf))])
      const decided = decide(documents)
      if (decided instanceof Refusal) return yield* decided
      const { members, device, now } = this.#options
      const verdict = mayChange(members.view(), device, decided.changes, this.policyNow())
      if (verdict instanceof Refusal) return yield* verdict
      if (verdict._tag === "NeedsApproval") {
        const asked = decideAsk(decided.changes, verdict, (doc, key) => this.policy.textInForce(doc, key), now())
        if (asked instanceof Refusal) return yield* asked
        const summary = decided.changes.map((change) => change.summary).join("; ")
        const { events: [event] } = yield* this.#commit(asker, summary, [asked])
        const at = parseAddress(event?.address ?? "")
        return yield* at === undefined ? Effect.die(new Error("a proposal has no address")) : pendingRefusal(at, summary, verdict.why)
      }
      return yield* this.#write(name, asker, locks, decided, cause)
    })))
  }

  /** Says this node's word on a proposal, and carries it out when that was the last word it needed. */
  verdict(asker: Asker, proposal: Address, wish: { readonly allow: boolean; readonly reason: string }): Effect.Effect<Done & { readonly standing: Standing }, Refusal> {
    const { members, device } = this.#options
    return this.run(wish.allow ? "approval.allow" : "approval.deny", asker, ["approvals"], Effect.suspend(() => this.#standing(proposal)).pipe(
      Effect.flatMap((standing) => {
        const plan = decideVerdict(members.view(), device, standing, wish)
        return plan instanceof Refusal ? Effect.fail(plan) : Effect.succeed(plan)
      })
    )).pipe(Effect.flatMap((done) => Effect.gen({ self: this }, function*() {
      const standing = yield* this.#standing(proposal)
      if (standing.state !== "approved") return { ...done, standing }
      // The word was said whatever comes of it now; the reactor may have been faster, too.
      const applied = yield* this.applyApproved(proposal).pipe(Effect.catch((refusal) => Effect.succeed({ summary: `it could not be made: ${refusal.detail}`, events: [] })))
      return { summary: `${done.summary}; ${applied.summary}`, events: [...done.events, ...applied.events], standing: yield* this.#standing(proposal) }
    })))
  }

  /** Carries an approved proposal out; once it was, there is nothing to do. */
  applyApproved(proposal: Address): Effect.Effect<Done, Refusal> {
    const { tables, now } = this.#options
    const asker: Asker = { command: uuidv7(now(), randomBytes(10)), actor: "device" }
    const locks = [...new Set((tables.approvals.proposal(proposal)?.edits ?? []).map(({ doc }) => lockOf(doc)))]
    return this.#once("approval.apply", asker, this.#locks.with(locks, Effect.gen({ self: this }, function*() {
      const role = roleRefusal(this.#role())
      if (role !== undefined) return yield* role
      yield* this.#steady()
      const documents = this.documents([...new Set(locks.map(familyOf))])
      const standing = yield* this.#standing(proposal)
      if (standing.state === "done") return { summary: "it takes effect", events: [] }
      const applied = decideApply(documents, standing)
      if (applied instanceof Refusal) return yield* applied
      const decided = checked(documents, applied.changes)
      if (decided instanceof Refusal) return yield* decided
      const { events } = yield* this.#write("approval.apply", asker, locks, decided, applied.cause)
      return { summary: "it takes effect", events }
    })))
  }

  /** The rules in force, and who set each. */
  policyNow(): Policy {
    const { members } = this.#options
    const rules = this.policy.rules()
    return {
      rules,
      setBy: (rule) => {
        const written = rules.find(({ name }) => name === rule.name)
        const device = written === undefined ? undefined : members.deviceOf(written.at.log)
        return device === undefined ? undefined : members.nameOf(device)
      }
    }
  }

  /** The documents of these families as deciders see them; each state is read when it is asked for. */
  documents(families: ReadonlyArray<Family>): Documents {
    const { documents } = this.#options.tables
    const seen = new Map<DocId, DocumentView | undefined>()
    const look = (doc: DocId): DocumentView | undefined => {
      const state = documents.state(doc)
      if (state === undefined || !doc.startsWith("config/")) return state
      const { left, values } = this.policy.document(doc)
      return left.length === 0 ? state : { ...state, conflicts: [...state.conflicts, ...refusedAsConflicts(left, values, state.conflicts)] }
    }
    return {
      get: (doc) => {
        if (!seen.has(doc)) seen.set(doc, look(doc))
        return seen.get(doc)
      },
      keys: () => families.flatMap((family) => documents.list(family).map(({ id }) => id))
    }
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

  /** Events of the node itself, which no command asked for: started, stopped, peers, checkpoints. A node that may not write says nothing. */
  record(events: ReadonlyArray<Wanted>, actor = "device"): Effect.Effect<Done, Refusal> {
    return Effect.suspend(() => {
      if (this.#role() === "seeder") return this.#inSession("recorded", events)
      if (this.#me()?.standing === "revoked") return Effect.succeed({ summary: "not recorded: this node was revoked", events: [] })
      // A node that was let in again goes on in a new log; until it is opened with that one, there is nowhere to write.
      if (this.#isCut()) return Effect.succeed({ summary: "not recorded: nothing counts in this log any more", events: [] })
      return this.#commit({ command: "", actor }, "recorded", events.map((event) => ({ ...event, body: masked(event.body) })))
    })
  }

  #isCut(): boolean {
    const { members, journal } = this.#options
    const own = members.view().members.get(this.#options.device)?.logs.find(({ log }) => log === journal.log())
    return own?.cutAt !== undefined && journal.length() >= own.cutAt
  }

  #me() {
    return this.#options.members.view().members.get(this.#options.device)
  }

  /** Nothing is decided on a document that still holds what a cut-off took. */
  #steady(): Effect.Effect<void> {
    return Effect.promise(() => this.#options.runner.steady())
  }

  #role(): Role | undefined {
    return this.#me()?.role
  }

  #standing(proposal: Address): Effect.Effect<Standing, Refusal> {
    const found = this.#options.tables.approvals.proposal(proposal)
    return found === undefined ? Effect.fail(new Refusal({ kind: "not-found", detail: `there is no proposal ${addressText(proposal)}`, hint: "kos approval list --all" }))
      : Effect.succeed(this.policy.standing(found, this.#options.now()))
  }

  /** A reader and a seeder say what concerns themselves only; of the others, the rules say who may change an item of the vault. */
  #mayRun(plan: Plan): Effect.Effect<void, Refusal> {
    const { members, device } = this.#options
    const role = this.#role()
    if (role === undefined || rankOf(role) >= rankOf("member")) {
      for (const { type, body } of plan.events) {
        const name = vaultEvent.test(type) && typeof body === "object" && body !== null && "name" in body && typeof body.name === "string" ? body.name : undefined
        const verdict = name === undefined ? undefined : mayTouch(members.view(), device, "vault", name, this.policyNow())
        if (verdict instanceof Refusal) return Effect.fail(verdict)
      }
      return Effect.void
    }
    const other = plan.events.find(({ type }) => !operationTypes.has(type) && !ownEvent.test(type))
    const refusal = other === undefined ? undefined : roleRefusal(role)
    return refusal === undefined ? Effect.void : Effect.fail(refusal)
  }

  /** What a node that appends nothing has to say: its membership operations travel in the session, the rest stays here. */
  #inSession(summary: string, events: ReadonlyArray<Wanted>): Effect.Effect<Done, Refusal> {
    const { members, tables } = this.#options
    return Effect.suspend(() => {
      const operations = events.flatMap(({ type, body }) => operationTypes.has(type) && isOperationBody(body) ? [body.operation] : [])
      if (operations.length === 0) return Effect.succeed({ summary, events: [] })
      const faults = tables.transaction(() => operations.flatMap((bytes) => {
        const taken = members.take(bytes, "met")
        return Result.isFailure(taken) ? [taken.failure] : []
      }))
      members.changed()
      const [fault] = faults
      return fault === undefined ? Effect.succeed({ summary, events: [] }) : Effect.fail(new Refusal({ kind: "failed", detail: `the operation was not taken: ${fault}` }))
    })
  }

  #write(name: string, asker: Asker, locks: ReadonlyArray<string>, decided: Decision, cause: ReadonlyArray<Address>): Effect.Effect<Done, Refusal> {
    const { tables } = this.#options
    for (const { doc } of decided.changes) {
      if (!locks.includes(lockOf(doc))) return Effect.die(new Error(`${name} changes ${doc} without its lock`))
      const stalled = tables.documents.summary(doc)?.stalled
      if (stalled !== undefined) return Effect.fail(new Refusal({ kind: "conflict", detail: `${doc} stalls and cannot be changed: ${stalled}`, hint: "kos doctor" }))
    }
    return this.#edit(asker, { changes: decided.changes.map((change) => change.doc.startsWith("config/") ? overRefused(change, this.policy.document(change.doc).left) : change) }, cause)
  }

  /** What a new rule leaves as it stood, said in the same frame as the rule. */
  #keptBy({ doc, edits }: DocumentChange): ReadonlyArray<Wanted> {
    if (doc !== policyDoc) return []
    return edits.flatMap((edit) => {
      const rule = edit._tag === "Set" ? PolicyView.ruleOf(edit.key, JSON.parse(edit.json)) : undefined
      const kept = rule === undefined ? [] : this.policy.keptUnder(rule)
      return rule === undefined || kept.length === 0 ? [] : [{ type: "policy.kept/1", subject: policyDoc, body: { rule: rule.name, kept: kept.map(addressText) } }]
    })
  }

  #edit(asker: Asker, decision: Decision, cause: ReadonlyArray<Address>): Effect.Effect<Done, Refusal> {
    const { worker, tables, journal, now } = this.#options
    const touched: Array<DocId> = []
    return Effect.gen({ self: this }, function*() {
      const events: Array<Wanted> = []
      for (const change of decision.changes) {
        const { doc, edits, paths, summary } = change
        touched.push(doc)
        const edited = yield* worker.edit(doc, journal.log(), edits, now(), (id) => tables.documents.load(id)).pipe(
          Effect.mapError((error) => new Refusal({ kind: "usage", detail: error.message }))
        )
        if (edited.change === undefined) continue
        events.push({
          type: `${familyOf(doc)}.changed/1`, subject: doc, cause,
          body: { change: edited.change, paths: paths.slice(0, 64).map((path) => path.slice(0, 256)), summary: summary.slice(0, 512) }
        }, ...this.#keptBy(change))
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

  /** What is written into a log that was shown with two histories would be counted by nobody. */
  #heldBack(): Refusal | undefined {
    const { members, journal } = this.#options
    const own = members.evidence().find(({ accused, decided }) => accused === journal.log() && decided === undefined)
    return own === undefined ? undefined : new Refusal({
      kind: "denied", detail: `this node's log was written twice, from block ${own.length - 1} on; what it writes counts nowhere until an admin decides which history stands`, hint: "kos node clear, on another admin's node"
    })
  }

  #allowed(): Effect.Effect<void, Refusal> {
    const out = standingRefusal(this.#options.members.view(), this.#options.device)
    return out === undefined ? Effect.void : Effect.fail(out)
  }

  /** A command that was seen before is answered from the log. */
  #answerOf(command: string): Effect.Effect<Done, Refusal> | undefined {
    const first = this.#options.tables.events.byCommand(command)
    if (first === undefined) return undefined
    if (first.type === "approval.asked/1") {
      const standing = this.#options.tables.approvals.proposal(first)
      if (standing !== undefined) return Effect.fail(pendingRefusal(first, standing.summary, `it needs approval by ${standing.rule}`))
    }
    if (first.type === "command.refused/1") return Effect.fail(new Refusal({ kind: "conflict", detail: "this command was refused before", hint: `kos event show @${first.arrival}` }))
    return Effect.succeed({
      summary: "done before", events: [{ address: addressText(first), arrival: first.arrival, type: first.type }]
    })
  }

  #refused(name: string, asker: Asker, refusal: Refusal): Effect.Effect<void> {
    // A proposal is an answer and stands in the log already; a node that may not write keeps the refusal to itself.
    const role = this.#role()
    if (role === "seeder" || this.#me()?.standing === "revoked" || this.#options.tables.events.byCommand(asker.command) !== undefined) return Effect.void
    return this.#commit(asker, "", [{
      type: "command.refused/1", subject: "node", body: { name, kind: refusal.kind, detail: maskSecrets(refusal.detail).slice(0, 1_024) }
    }]).pipe(Effect.ignore)
  }

  #commit(asker: Asker, summary: string, events: ReadonlyArray<Wanted>): Effect.Effect<Done, Refusal> {
    if (events.length === 0) return Effect.succeed({ summary, events: [] })
    const { journal, runner, tables, onAppended } = this.#options
    return Effect.gen(function*() {
      const drafts: Array<Draft> = []
      for (const { type, subject, body, cause } of events) {
        const secret = secretInEvent(type, body)
        if (secret !== undefined) return yield* new Refusal({ kind: "policy", detail: secretSentence(secret), path: secret.path, hint: "kos vault set" })
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

/** What a node says of itself: readers may, too. */
const ownEvent = /^((node|sync|log|peers|checkpoint|command)\.[a-z-]+|update\.(?!advised)[a-z-]+|channel\.stated|secret\.(reader|held|shredded|read|denied))\/\d+$/
/** A command about an item of the vault. */
const vaultEvent = /^secret\.(set|removed)\/\d+$/

/** A body with every token of known shape in its texts replaced by what it is. */
const masked = (value: unknown): unknown => {
  if (typeof value === "string") return maskSecrets(value)
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value
  if (Array.isArray(value)) return value.map(masked)
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, masked(inner)]))
}

const isOperationBody = (body: unknown): body is { readonly operation: Uint8Array } =>
  typeof body === "object" && body !== null && "operation" in body && body.operation instanceof Uint8Array

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
