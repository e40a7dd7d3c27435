/**
 * Key epochs kept as they should be, by the nodes of admins and owners. Design section 5.
 *
 * **What it owns.** When to act. What is to be done is `epochNeed`, a pure function of the operations; doing it is a command like any other.
 *
 * **How one need is met.** Whenever membership changes, and once a minute, each admin's node asks what is wrong: the epoch in force is sealed to
 * somebody who may not read now (rotate), or somebody who may read lacks a key (share). Of the admins in touch with each other the one
 * with the lowest device key acts at once, the next waits 5 s, the one after 10 s. Under the membership lock the need is asked for again.
 *
 * **Tricky cases.**
 * - *Two admins act at the same time*, in two partitions or because they see different peers: two rotations stand, both are held by all, one is in
 *   force by order (`commands/epoch-order.ts`). Sharing twice does no harm.
 * - *An admin that lacks the key in force itself* waits 30 s for another to share it, and rotates then.
 * - *What was done does not help* (an operation that does not count, a reader whose key nothing can be sealed to): tried again after 5 s,
 *   10 s and so on, 8 times; then not until the need is another one or the node starts again.
 * - *An old home*, where everything is sealed under the mesh key: no epoch counts, so an owner's node rotates when it starts.
 */
import { Effect, Exit, Cause, type Scope } from "effect"
import { uuidv7 } from "../codec/uuid.ts"
import { randomBytes } from "../codec/signature.ts"
import { rankOf } from "../codec/operation.ts"
import { meetEpochNeed } from "../api/handlers/epoch.ts"
import { epochNeed, type EpochNeed } from "../commands/decide-epoch.ts"
import { isHistoryShared } from "./mesh-keyring.ts"
import type { MeshNode } from "./mesh-node.ts"

/** Between the turns of two admins, milliseconds. */
export const turnMs = 5_000
/** How long a node that lacks the key in force waits for others to share it, milliseconds. */
export const lateMs = 30_000
/** Times that one need is acted on. */
export const attemptsMax = 8
/** Pause between two attempts at most, milliseconds. */
const pauseMsMax = 600_000
const everyMs = 60_000
/** What grants knew, kept for private history; forgotten as a whole beyond. */
const pastsMax = 10_000

export interface EpochReactorOptions {
  readonly node: MeshNode
  readonly now: () => number
  readonly notice: (level: "debug" | "info" | "warn", text: string, detail?: Readonly<Record<string, unknown>>) => void
}

export const startEpochReactor = ({ node, now, notice }: EpochReactorOptions): Effect.Effect<void, never, Scope.Scope> => Effect.gen(function*() {
  const { members, keyring, tables } = node
  const pasts = new Map<string, ReadonlySet<string>>()
  let known = ""
  let sinceMs = 0
  let attempts = 0
  let timer: NodeJS.Timeout | undefined
  let acting: Promise<void> | undefined
  let stopped = false

  const needNow = (): EpochNeed | undefined => {
    if (pasts.size > pastsMax) pasts.clear()
    return epochNeed(node.situation(), { operations: members.operations(), keyOf: keyring.keyOf, historyShared: isHistoryShared(tables), pasts })
  }
  const look = () => {
    clearTimeout(timer)
    if (stopped || acting !== undefined) return
    const need = needNow()
    const text = need === undefined ? "" : textOf(need)
    if (text !== known) {
      known = text
      sinceMs = now()
      attempts = 0
    }
    const wait = need === undefined || attempts >= attemptsMax ? everyMs : sinceMs + waitMs(need, attempts, placeOf(node)) - now()
    if (wait <= 0) return act()
    timer = setTimeout(look, Math.min(wait, everyMs))
  }
  const act = () => {
    attempts++
    sinceMs = now()
    const call = { command: uuidv7(now(), randomBytes(10)), actor: "device" }
    acting = Effect.runPromiseExit(meetEpochNeed(node, call, needNow)).then((exit) => {
      acting = undefined
      if (Exit.isFailure(exit)) notice("warn", "the key in force could not be set right", { cause: Cause.pretty(exit.cause).slice(0, 300) })
      else if (exit.value.events.length > 0) notice("info", exit.value.summary)
      look()
    })
  }
  const stop = members.onChange(look)
  yield* Effect.addFinalizer(() => Effect.promise(async () => {
    stopped = true
    stop()
    clearTimeout(timer)
    await acting
  }))
  look()
})

/** After how long it is this node's turn. */
const waitMs = (need: EpochNeed, attempts: number, place: number): number =>
  (attempts === 0 ? 0 : Math.min(pauseMsMax, turnMs * 2 ** (attempts - 1))) + place * turnMs + (need._tag === "Rotate" && need.late ? lateMs : 0)

/** Admins in touch whose device key is lower. */
const placeOf = ({ swarm, members, vault }: MeshNode): number => {
  const view = members.view()
  return new Set(swarm.sessions().filter(({ phase, device }) => {
    const member = view.members.get(device)
    return phase === "ready" && device < vault.deviceId && member?.standing === "member" && rankOf(member.role) >= rankOf("admin")
  }).map(({ device }) => device)).size
}

const textOf = (need: EpochNeed): string =>
  need._tag === "Rotate" ? need.why : need.shares.map(({ epoch, readers }) => `${epoch} for ${readers.join(" ")}`).join("; ")
