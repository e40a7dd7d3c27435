/**
 * What this node holds of packs and passes on, within its limits: every node that has a release seeds it (R4.3). Limits, window and the metered rule follow the
 * settings; the oldest packs go when there are more bytes than `seed.bytes.max`.
 */
import { settingBytes, settingFlag, settingText, settingTexts, settingWindow } from "../projections/families/config-view.ts"
import { formatWindow, windowHolds } from "../projections/families/values.ts"
import type { PayloadIndex } from "../updates/payload/payload.ts"
import type { PackRef, SeedStatus, Transfer } from "../updates/ports.ts"
import type { Release } from "../updates/release.ts"
import type { Runtime } from "./mesh-runtime.ts"

type Settings = ReturnType<Runtime["settings"]["get"]>

export interface SeedLimits {
  readonly upload: string
  readonly download: string
  readonly window: string
  readonly metered: boolean
}

export interface SeedRow extends SeedStatus {
  readonly releases: ReadonlyArray<string>
}

export interface Seeding {
  /** Limits and mirrors as the settings and the time of day have them. */
  readonly apply: (settings: Settings) => void
  /** Seeds what is held of these releases, and lets the oldest go. Releases oldest first. */
  readonly keep: (releases: ReadonlyArray<{ readonly release: Release; readonly index: PayloadIndex }>, settings: Settings, wanted: ReadonlySet<string>) => Promise<void>
  readonly rows: (releases: ReadonlyArray<{ readonly release: Release; readonly index: PayloadIndex }>) => Promise<{ readonly rows: ReadonlyArray<SeedRow>; readonly memoryBytes: number; readonly pid: number }>
  readonly rests: () => string
}

export const limitsOf = (settings: Settings): SeedLimits => ({
  upload: settingText(settings, "seed.upload.max"), download: settingText(settings, "seed.download.max"), window: formatWindow(settingWindow(settings, "seed.window")),
  metered: settingFlag(settings, "seed.metered")
})

export const makeSeeding = ({ transfer, now }: { readonly transfer: Transfer; readonly now: () => number }): Seeding => {
  let applied = ""
  let rests = ""

  return {
    apply: (settings) => {
      const window = settingWindow(settings, "seed.window")
      const date = new Date(now())
      const open = windowHolds(window, date.getHours() * 60 + date.getMinutes())
      rests = open ? "" : `seed.window is ${formatWindow(window)}`
      const limits = open ? { uploadMax: settingBytes(settings, "seed.upload.max"), downloadMax: settingBytes(settings, "seed.download.max") } : { uploadMax: -1, downloadMax: -1 }
      // Mirrors are the internet: not on a connection that costs by volume.
      const mirrors = settingFlag(settings, "seed.metered") ? [] : settingTexts(settings, "update.mirrors")
      const next = JSON.stringify([limits, mirrors])
      if (next === applied) return
      applied = next
      transfer.setLimits(limits)
      transfer.setMirrors(mirrors)
    },

    keep: async (releases, settings, wanted) => {
      const max = settingBytes(settings, "seed.bytes.max")
      const refs = new Map<string, PackRef>()
      // Newest last, so that of a pack that several releases use the place of the newest counts.
      for (const { index } of releases) {
        for (const { ref } of index.packs) {
          refs.delete(ref.sha256)
          refs.set(ref.sha256, ref)
        }
      }
      const { seeds } = await transfer.status()
      let bytes = 0
      for (const ref of [...refs.values()].reverse()) {
        if (await transfer.file(ref.sha256) === undefined) continue
        bytes += ref.length
        if (bytes > max && !wanted.has(ref.sha256)) await transfer.remove(ref.sha256)
        else if (!seeds.some((seed) => seed.pack === ref.sha256 && seed.seeding)) await transfer.seed(ref)
      }
    },

    rows: async (releases) => {
      const { seeds, memoryBytes, pid } = await transfer.status()
      return {
        memoryBytes, pid: pid ?? 0,
        rows: seeds.map((seed) => ({
          ...seed, releases: [...new Set(releases.filter(({ index }) => index.packs.some(({ ref }) => ref.sha256 === seed.pack)).map(({ release: { custom } }) => `${custom.name} ${custom.version}`))].sort()
        }))
      }
    },

    rests: () => rests
  }
}
