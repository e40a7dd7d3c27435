/** `kos update export` and `import` as the doors ask for them, over `update-stick.ts`. */
import { Effect } from "effect"
import { existsSync } from "node:fs"
import { dirname } from "node:path"
import type { UpdateDesk } from "../api/update-desk.ts"
import type { Call } from "../api/operation.ts"
import { Refusal } from "../commands/refusal.ts"
import { BundleRefused } from "../swarm/bundle-file.ts"
import type { PackRef, Transfer } from "../updates/ports.ts"
import { StickRefused } from "../updates/stick.ts"
import { compareVersions } from "../updates/version.ts"
import type { ChannelStore } from "./channel-store.ts"
import type { MeshNode } from "./mesh-node.ts"
import type { FollowedChannels } from "./update-channels.ts"
import type { Engine } from "./update-engine.ts"
import { exportUpdate, importUpdate } from "./update-stick.ts"

export interface StickDeskParts {
  readonly store: ChannelStore
  readonly transfer: Transfer
  readonly channels: FollowedChannels
  readonly engine: Engine
  readonly node: () => MeshNode
  /** `HOME/updates`. */
  readonly directory: string
  /** As `kos update check` and `list` answer. */
  readonly offers: UpdateDesk["list"]
}

export const makeStickDesk = ({ store, transfer, channels, engine, node, directory, offers }: StickDeskParts): Pick<UpdateDesk, "export" | "import"> => {
  const stick = { store, transfer, directory: `${directory}/stick` }
  const tried = <A>(work: () => Promise<A>): Effect.Effect<A, Refusal> => Effect.tryPromise({
    try: work, catch: (cause) => cause instanceof Refusal ? cause
      : new Refusal({ kind: cause instanceof StickRefused || cause instanceof BundleRefused ? "usage" : "failed", detail: cause instanceof Error ? cause.message : String(cause) })
  })
  const noted = (call: Call, name: string, detail: string) => node().dispatch.run(name, call, [], Effect.succeed({ summary: detail, events: [{ type: "command.done/1", subject: "updates", body: { name, detail: detail.slice(0, 1_024) } }] }))

  const reseed = async (sha256: string): Promise<void> => {
    for (const release of engine.all()) {
      const ref = (await engine.index(release)).packs.find((pack) => pack.ref.sha256 === sha256)?.ref
      if (ref !== undefined) return transfer.seed(ref)
    }
  }

  return {
    export: (file, text, call) => Effect.gen(function*() {
      const done = yield* tried(async () => {
        const states = channels.states()
        if (!existsSync(dirname(file))) throw new Refusal({ kind: "not-found", detail: `there is no directory ${dirname(file)}` })
        if (states.length === 0) throw new Refusal({ kind: "conflict", detail: "no channel is followed here, so there is nothing to write", hint: "kos update channel NAME --follow CODE" })
        const all = engine.all().toSorted((a, b) => compareVersions(b.custom.version, a.custom.version))
        const newest = new Map(all.toReversed().map((release) => [`${release.custom.kind} ${release.custom.name} ${release.custom.platform}`, release]))
        const chosen = text === undefined ? [...newest.values()] : all.filter(({ id, custom }) => custom.version === text || `${custom.name}@${custom.version}` === text || (/^[0-9a-f]{4,64}$/.test(text) && id.startsWith(text)))
        if (text !== undefined && chosen.length === 0) throw new Refusal({ kind: "not-found", detail: `no channel that is followed here has a release ${text}`, hint: "kos update list --all" })
        const refs = new Map<string, PackRef>()
        for (const release of chosen) for (const { ref } of (await engine.index(release)).packs) refs.set(ref.sha256, ref)
        const packs = []
        for (const ref of refs.values()) if (await transfer.file(ref.sha256) !== undefined) packs.push(ref)
        if (packs.length < refs.size && text !== undefined) throw new Refusal({ kind: "conflict", detail: `${refs.size - packs.length} of the ${refs.size} packs of ${text} are not here`, hint: `kos seed add ${text}` })
        return exportUpdate(stick, file, { channels: states.map(({ logKey }) => logKey), packs })
      })
      yield* noted(call, "update.export", `wrote ${counted(done.channels.length, "channel")} and ${counted(done.packs.length, "pack")}`)
      return { file, bytes: done.bytes, channels: done.channels.length, packs: done.packs.length }
    }),

    import: (file, call) => Effect.gen(function*() {
      if (!existsSync(file)) return yield* new Refusal({ kind: "not-found", detail: `there is no file ${file}` })
      if (store.logs.keys().length === 0) return yield* new Refusal({ kind: "conflict", detail: "no channel is followed here, so nothing of the file would be trusted", hint: "kos update channel NAME --follow CODE" })
      const before = new Map(store.held().map(({ key, length }) => [key, length]))
      const done = yield* tried(async () => {
        const refs = new Map<string, PackRef>()
        return importUpdate(stick, file, {
          refresh: async () => {
            await channels.refresh()
            for (const release of engine.all()) for (const { ref } of (await engine.index(release)).packs) refs.set(ref.sha256, ref)
          },
          known: (sha256) => refs.get(sha256), onProgress: (bytes) => call.progress(bytes, Math.max(1, bytes), "bytes")
        })
      })
      for (const { sha256, state } of done.packs) if (state === "taken" || state === "held") yield* tried(() => reseed(sha256))
      engine.wake()
      yield* Effect.promise(() => engine.idle())
      const blocks = done.channels.reduce((sum, { log, held }) => sum + Math.max(0, held - (before.get(log) ?? 0)), 0)
      const taken = done.packs.filter(({ state }) => state === "taken")
      const left = [
        ...done.channels.filter(({ state }) => state !== "taken" && state !== "held").map(({ log, why }) => `log ${log.slice(0, 8)} (${why})`),
        ...done.packs.filter(({ state }) => state === "refused" || state === "unknown").map(({ sha256, why }) => `pack ${sha256.slice(0, 8)} (${why})`)
      ]
      const summary = `took ${counted(blocks, "block")} of channels and ${counted(taken.length, "pack")}${left.length === 0 ? "" : `; left ${left.join(", ")}`}`
      yield* noted(call, "update.import", summary)
      return { file, summary, blocks, packs: taken.length, offers: yield* offers(false) }
    })
  }
}

const counted = (n: number, one: string): string => `${n} ${n === 1 ? one : `${one}s`}`
