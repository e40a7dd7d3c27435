/**
 * The bridges of federations: this home in a mesh of its own people and in the small mesh that is a federation, and what goes from one to the other.
 * What a federation is, and what counts, stands in `projections/federation.ts`.
 *
 * **What it owns.** Which pairs of open meshes this home bridges, and the steps that it takes for each. All of it follows from events: a pair is a
 * federation that is open here and that *this* node began in its home mesh. That another admin there names a mesh in which this home happens to be
 * does not make it a bridge. So a step can be cut short at any place and is simply taken again.
 *
 * **A step** writes into the federation what its mesh shares and has changed, and into its own mesh what the others share and has changed. When either
 * side has said that it ended, the end is written on the other side too, and when everybody in the federation holds it, or after 30 days, the federation is left.
 *
 * **Limits.** What comes from the others is bounded in number, in size, and in pace: a bucket of 4 MiB that fills at 16 KiB a second, so that a bridge over there
 * that changes its mind all day does not fill the logs here.
 */
import { Effect, type Scope } from "effect"
import type { Joined } from "../api/node.ts"
import type { Call } from "../api/operation.ts"
import { acceptable, decideBegin, decideItems, endedEvent } from "../commands/decide-federation.ts"
import type { Done, Wanted } from "../commands/dispatch.ts"
import { isNodeName } from "../codec/operation.ts"
import { randomBytes } from "../codec/signature.ts"
import { uuidv7 } from "../codec/uuid.ts"
import { Refusal } from "../commands/refusal.ts"
import { asFederation, type Federation, federationsOf, type Kind, kinds, newest, receivedRows, type SharedKind, sharedKinds, sharedRows } from "../projections/federation.ts"
import type { MeshNode } from "./mesh-node.ts"
import type { Runtime } from "./mesh-runtime.ts"

/** Bytes of received things that may come at once, and how many more each second. */
export const receivedBytesMax = 4 * 1024 * 1024
export const receivedBytesPerSecondMax = 16 * 1024
/** An ended federation that somebody has not heard of is left all the same after this time, milliseconds. */
export const endedKeptMs = 30 * 24 * 3_600_000
/** News of this long are one step, milliseconds. */
const gatherMs = 200
const everyMs = 30_000
/** While an end is on its way to the others. */
const endingMs = 1_000

const allKinds: ReadonlyArray<Kind> = ["mesh", ...sharedKinds]

export interface FederationParts {
  readonly now: () => number
  readonly notice: (level: "info" | "warn", text: string, detail?: Readonly<Record<string, unknown>>) => void
  readonly runtimes: () => ReadonlyArray<Runtime>
  /** A further mesh of one. */
  readonly create: (runtime: Runtime, name: string, nodeName: string) => Effect.Effect<Runtime, Refusal>
  /** Beside the others, whatever is in them. */
  readonly join: (
    runtime: Runtime, invite: string, timeoutMs: number, nodeName: string, turnsAway?: (mesh: string, meshName: string) => string | undefined
  ) => Effect.Effect<Joined, Refusal>
  /** Leaves a mesh; nothing when it is not open. */
  readonly drop: (mesh: string) => Effect.Effect<void, Refusal>
}

export interface FederateWish {
  readonly invite: string | undefined
  readonly shares: ReadonlyArray<SharedKind>
  readonly timeoutMs: number
}

export interface Federated {
  readonly federation: string
  /** For the other side, when this side began. */
  readonly invite: string | undefined
  readonly done: Done
}

export interface Bridges {
  readonly begin: (runtime: Runtime, wish: FederateWish, call: Call) => Effect.Effect<Federated, Refusal>
  /** Something happened in one of the meshes. */
  readonly wake: () => void
}

/** A federation that this node bridges for its mesh. */
interface Pair {
  readonly home: MeshNode
  readonly federation: Federation
  readonly inside: MeshNode
}

export const startBridges = (parts: FederationParts): Effect.Effect<Bridges, never, Scope.Scope> => Effect.gen(function*() {
  const { now, notice } = parts
  const buckets = new Map<string, { bytes: number; ms: number }>()
  let wake: (() => void) | undefined
  let wanted = true

  const pairs = (): ReadonlyArray<Pair> => parts.runtimes().flatMap((runtime) => {
    const home = runtime.node()
    if (home.tables.federations.said().length === 0) return []
    return federationsOf(home).filter(({ id, bridges }) => id !== home.mesh && bridges.has(home.vault.deviceId)).flatMap((federation) => {
      const inside = parts.runtimes().find((other) => other.node().mesh === federation.id)?.node()
      return inside === undefined ? [] : [{ home, federation, inside }]
    })
  })

  const write = (node: MeshNode, events: ReadonlyArray<Wanted>) => Effect.forEach(events, (event) => node.dispatch.record([event]), { discard: true })

  const share = ({ home, federation, inside }: Pair) => {
    const from = { mesh: home.mesh, name: home.members.view().name }
    const rows = sharedRows(inside)
    return Effect.forEach(allKinds, (kind) => {
      const named = kind === "mesh" || federation.shares.includes(kind)
      const things = named ? kinds[kind].source?.({ ...home, shares: federation.shares }) : undefined
      return write(inside, decideItems(newest(rows, kind), things ?? new Map(), from, kind))
    }, { discard: true })
  }

  const receive = ({ home, federation, inside }: Pair) => Effect.gen(function*() {
    const rows = sharedRows(inside)
    const held = receivedRows(home, federation.id)
    for (const kind of allKinds) {
      for (const [mesh, { name, items }] of acceptable(rows, kind, home.mesh)) {
        for (const event of decideItems(newest(held, kind), items, { mesh, name }, kind, { federation: federation.id })) {
          if (!pay(federation.id, JSON.stringify(event.body).length)) return
          yield* write(home, [event])
        }
      }
    }
  })

  const pay = (federation: string, bytes: number): boolean => {
    const known = buckets.get(federation) ?? { bytes: receivedBytesMax, ms: now() }
    const filled = Math.min(receivedBytesMax, known.bytes + Math.max(0, now() - known.ms) / 1_000 * receivedBytesPerSecondMax)
    const paid = filled >= bytes
    buckets.set(federation, { bytes: paid ? filled - bytes : filled, ms: now() })
    return paid
  }

  /** Milliseconds until this pair wants another step. */
  const step = (pair: Pair): Effect.Effect<number, Refusal> => Effect.gen(function*() {
    const { home, federation, inside } = pair
    const state = asFederation(inside)
    // Until the mark of its founder is here it may be any mesh.
    if (state === undefined) return everyMs
    const others = [...inside.members.view().members.values()].filter(({ device }) => device !== inside.vault.deviceId)
    const present = others.filter(({ standing }) => standing === "member")
    const deserted = others.length > 0 && present.length === 0
    if (federation.ended === undefined && !state.ended && !deserted) {
      yield* share(pair)
      yield* receive(pair)
      return everyMs
    }
    const me = inside.members.view().members.get(inside.vault.deviceId)
    if (federation.ended === undefined) {
      yield* write(home, [endedEvent(federation.id, state.ended ? "the other side ended it" : "nobody else is in it any more")])
      notice("info", `the federation ${federation.id.slice(0, 8)} of ${home.members.view().name} was ended by the other side`)
    }
    if (!state.ended && me?.standing === "member") yield* write(inside, [endedEvent(federation.id, "")])
    const log = inside.journal.log()
    const isHeard = present.every(({ device }) => inside.tables.receipts.held(device, log) >= inside.journal.length())
    if (!isHeard && now() - (federation.ended?.ms ?? now()) < endedKeptMs) return endingMs
    yield* parts.drop(federation.id)
    notice("info", `the federation ${federation.id.slice(0, 8)} of ${home.members.view().name} is over and was left`)
    return everyMs
  })

  const rest = (ms: number) => Effect.callback<void>((resume) => {
    const timer = setTimeout(() => resume(Effect.void), ms)
    wake = () => {
      clearTimeout(timer)
      resume(Effect.void)
    }
    if (wanted) wake()
    return Effect.sync(() => clearTimeout(timer))
  }).pipe(Effect.ensuring(Effect.sync(() => { wake = undefined })))
  yield* Effect.forever(Effect.gen(function*() {
    wanted = false
    const waits = yield* Effect.forEach(pairs(), (pair) => step(pair).pipe(Effect.catchCause((cause) => Effect.sync(() => {
      notice("warn", "a federation could not be looked after", { cause: String(cause).slice(0, 300) })
      return everyMs
    }))))
    yield* rest(Math.min(everyMs, ...waits))
    yield* Effect.sleep(gatherMs)
  })).pipe(Effect.forkScoped)

  const begin = (runtime: Runtime, { invite, shares, timeoutMs }: FederateWish, call: Call): Effect.Effect<Federated, Refusal> => Effect.gen(function*() {
    const home = runtime.node()
    const decided = (federation: string) => decideBegin(home.members.view(), home.vault.deviceId, federationsOf(home), { federation, shares })
    const early = decided("0".repeat(64))
    if (early instanceof Refusal) return yield* early
    if (asFederation(home) !== undefined) return yield* new Refusal({ kind: "usage", detail: `${home.members.view().name} is a federation itself`, hint: "kos mesh list" })
    const name = home.members.view().name
    const inside = invite === undefined ? yield* found(runtime, name) : yield* entered(runtime, invite, timeoutMs, name)
    const done = yield* home.dispatch.run("mesh.federate", call, ["federation"], Effect.suspend(() => {
      const events = decided(inside.mesh)
      const sharing = shares.length === 0 ? "nothing yet" : shares.join(", ")
      return events instanceof Refusal ? Effect.fail(events) : Effect.succeed({ summary: `${name} federates, sharing ${sharing}`, events })
    }))
    const text = invite === undefined ? yield* inviteTo(inside.mesh, call) : undefined
    bridges.wake()
    return { federation: inside.mesh, invite: text, done }
  })

  const found = (runtime: Runtime, name: string) => Effect.gen(function*() {
    const made = yield* parts.create(runtime, `${name.slice(0, 50)} federation`, nodeNameOf(name))
    const inside = made.node()
    yield* inside.dispatch.record([{ type: "federation.begun/1", subject: `federation/${inside.mesh}`, body: { federation: inside.mesh, shares: [] } }])
    return inside
  })

  const entered = (runtime: Runtime, invite: string, timeoutMs: number, name: string) => Effect.gen(function*() {
    const { mesh, synced } = yield* parts.join(runtime, invite, timeoutMs, nodeNameOf(name))
    const state = asFederation(mesh)
    const why = state === undefined ? synced ? "this is an invite to a mesh, not to a federation" : undefined : state.ended ? "this federation has ended" : undefined
    if (why === undefined) return mesh
    yield* parts.drop(mesh.mesh)
    return yield* new Refusal({ kind: "conflict", detail: why, hint: state === undefined ? "kos join" : "ask for a new invite" })
  })

  const inviteTo = (mesh: string, { progress, actor }: Call) => Effect.gen(function*() {
    const runtime = parts.runtimes().find((other) => other.node().mesh === mesh)
    if (runtime === undefined) return undefined
    const made = yield* runtime.handlers["invite.create"]({ role: "member", uses: 1, words: false, qr: false }, { command: uuidv7(now(), randomBytes(10)), actor, progress })
    return made.invite
  })

  const bridges: Bridges = {
    begin,
    wake: () => {
      wanted = true
      wake?.()
    }
  }
  return bridges
})

/** A mesh is called in a federation as it is at home, as far as that can be a node's name. */
export const nodeNameOf = (name: string): string => {
  const made = name.normalize("NFC").replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[^\p{L}\p{N}]+/u, "").slice(0, 63)
  return isNodeName(made) ? made : "bridge"
}
