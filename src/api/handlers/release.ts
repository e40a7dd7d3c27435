/** The making of releases at the doors. */
import { Effect } from "effect"
import { Refusal } from "../../commands/refusal.ts"
import type { DaemonView } from "../node.ts"
import type { Call } from "../operation.ts"
import type { Handlers } from "../operations/table.ts"

type Names = Extract<keyof Handlers, `release.${string}`>

export const releaseHandlers = (daemon: DaemonView): Pick<Handlers, Names> => ({
  "release.key": (input, call) => byPerson(call, () => daemon.releases().key(input, call)),
  "release.init": (input, call) => byPerson(call, () => daemon.releases().init(input, call)),
  "release.pack": (input, call) => byPerson(call, () => daemon.releases().pack(input, call)),
  "release.sign": (input, call) => byPerson(call, () => daemon.releases().sign(input, call)),
  "release.publish": (input, call) => byPerson(call, () => daemon.releases().publish(input, call)),
  "release.yank": (input, call) => byPerson(call, () => daemon.releases().yank(input, call)),
  "release.rotate": (input, call) => byPerson(call, () => daemon.releases().rotate(input, call)),
  "release.delegate": (input, call) => byPerson(call, () => daemon.releases().delegate(input, call)),
  "release.withdraw": (input, call) => byPerson(call, () => daemon.releases().withdraw(input, call)),
  "release.list": (input, call) => daemon.releases().list(input, call),
  "release.show": (input, call) => daemon.releases().show(input, call)
})

/** What a channel publishes runs on every device that follows it: its keys are used by people. */
const byPerson = <A>(call: Call, work: () => Effect.Effect<A, Refusal>): Effect.Effect<A, Refusal> =>
  Effect.suspend(() => call.actor.startsWith("agent:") ? Effect.fail(new Refusal({ kind: "denied", detail: "agents may not make, sign or publish releases" })) : work())
