/** Updates and seeding at the doors. */
import { Effect } from "effect"
import { federatedChannels } from "../../projections/federation.ts"
import { parseChannelCode } from "../../updates/metadata/channel-code.ts"
import type { DaemonView } from "../node.ts"
import type { Json } from "../../projections/documents/types.ts"
import type { Handlers } from "../operations/table.ts"
import { isVersion } from "../../updates/version.ts"
import { changeSettings } from "./config.ts"
import { refuse } from "./reading.ts"

type Names = Extract<keyof Handlers, `update.${string}` | `seed.${string}`>

export const updateHandlers = (daemon: DaemonView): Pick<Handlers, Names> => ({
  "update.check": ({ channel }) => daemon.updates().check(channel),
  "update.list": ({ all }) => daemon.updates().list(all),
  "update.show": ({ release }) => daemon.updates().show(release),
  "update.plan": ({ release }) => daemon.updates().plan(release),
  "update.fetch": ({ release }, call) => daemon.updates().fetch(release, call),
  "update.try": (wish, call) => [wish.what, wish.show, wish.promote, wish.drop].filter((one) => one !== undefined).length > 1
    ? Effect.fail(refuse("usage", "what is to be done: give a module, --show, --promote or --drop, and one of them only", "kos help update try")) : daemon.updates().try(wish, call),
  "update.apply": ({ release, ...wish }, call) => daemon.updates().apply(release, wish, call),
  "update.boot": ({ generation }, call) => daemon.updates().boot(generation, call),
  "update.rollback": ({ generation }, call) => daemon.updates().rollback(generation, call),
  "update.history": ({ all, limit }) => daemon.updates().history(all, limit),
  "update.slots": () => daemon.updates().slots(),
  "update.advise": ({ release, text = "", veto, withdraw }, call) => veto && withdraw
    ? Effect.fail(refuse("usage", "--veto and --withdraw say the opposite; give one")) : daemon.updates().advise(release, withdraw ? "withdrawn" : veto ? "veto" : "advice", text, call),
  "update.stop": ({ release }, call) => daemon.updates().stop(release, call),
  "update.pin": ({ version, off }, call) => version !== undefined && off
    ? Effect.fail(refuse("usage", "a version and --off say the opposite; give one"))
    : version !== undefined && !isVersion(version) ? Effect.fail(refuse("usage", `${version} is no version; one has three numbers, such as 0.3.0`, "kos help update pin")) : daemon.updates().pin(off ? undefined : version ?? daemon.version, call),
  "update.pause": (_input, call) => daemon.updates().pause(call),
  "update.resume": (_input, call) => daemon.updates().resume(call),
  "update.export": ({ file, release }, call) => daemon.updates().export(file, release, call),
  "update.import": ({ file }, call) => daemon.updates().import(file, call),

  "update.channel": (input, call) => Effect.gen(function*() {
    const { name, follow, unfollow, layer = "mesh" } = input
    if (input.settle) {
      if (name === undefined || follow !== undefined || unfollow) return yield* refuse("usage", "--settle goes with the name of a channel and nothing else", "kos help update channel")
      const done = yield* daemon.updates().settle(name, call)
      return { ...done, channels: yield* daemon.updates().channels(), others: othersOf(daemon) }
    }
    if (follow === undefined && !unfollow) {
      const channels = yield* daemon.updates().channels()
      const shown = channels.filter((channel) => name === undefined || channel.name === name)
      if (name !== undefined && shown.length === 0) return yield* refuse("not-found", `no channel called ${name} is followed here`, "kos update channel")
      return { summary: "", events: [], channels: shown, others: name === undefined ? othersOf(daemon) : [] }
    }
    if (follow !== undefined && unfollow) return yield* refuse("usage", "--follow and --unfollow say the opposite; give one")
    if (name === undefined || !/^[a-z0-9][a-z0-9-]{0,31}$/.test(name)) return yield* refuse("usage", "a channel has a name of small letters, digits and dashes, such as stable", "kos help update channel")
    if (follow !== undefined && parseChannelCode(follow) === undefined) return yield* refuse("usage", "this is no code of a channel: it begins with kos-channel: and has 103 characters after that", "kos release list")
    const changed = yield* changeSettings(daemon.mesh(), "update.channel", call, layer, [[`update.channels.${name}`, follow]])
    if (follow === undefined && changed.events.length === 0) {
      return yield* (yield* daemon.updates().channels()).some((channel) => channel.name === name)
        ? refuse("conflict", `${name} is followed by a setting of another layer than ${layer}`, `kos config explain update.channels.${name}`)
        : refuse("not-found", `no channel called ${name} is followed here`, "kos update channel")
    }
    const who = layer === "mesh" ? "the mesh follows" : layer === "role" ? "nodes of this role follow" : "this node follows"
    const done = { ...changed, summary: changed.events.length === 0 ? "nothing had to change" : `${who} ${name}${follow === undefined ? " no more" : ""}` }
    return { ...done, channels: yield* daemon.updates().channels(), others: othersOf(daemon) }
  }),

  "seed.list": () => daemon.updates().seeds(),
  "seed.add": ({ release }, call) => daemon.updates().seed(release, call),
  "seed.remove": ({ what }, call) => daemon.updates().unseed(what, call),
  "seed.limit": ({ up, down, window, metered }, call) => Effect.gen(function*() {
    const wanted: ReadonlyArray<readonly [string, Json | undefined]> = [
      ["seed.upload.max", up === "0" ? "0B" : up], ["seed.download.max", down === "0" ? "0B" : down], ["seed.window", window],
      ["seed.metered", metered === undefined ? undefined : metered === "yes"]
    ]
    const given = wanted.filter(([, value]) => value !== undefined)
    const { events } = given.length === 0 ? { events: [] } : yield* changeSettings(daemon.mesh(), "seed.limit", call, "node", given)
    return { summary: events.length === 0 ? "nothing had to change" : "this node keeps to these limits now", events, limits: (yield* daemon.updates().seeds()).limits }
  })
})

/** What federated meshes follow and this one does not. */
const othersOf = (daemon: DaemonView) => {
  const { values } = daemon.config()
  const followed = new Set([...values].flatMap(([path, { value }]) => path.startsWith("update.channels.") && typeof value === "string" ? [value] : []))
  return federatedChannels(daemon.mesh()).filter(({ code }) => !followed.has(code)).slice(0, 64).map(({ name, meshName, code }) => ({ name, mesh: meshName, code }))
}
