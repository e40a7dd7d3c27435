/** The long parts of an update: its index, its payload from what is here and from packs, and its slot. Each can be begun again after being cut short. */
import { Result } from "effect"
import { copyFile, mkdir, rm } from "node:fs/promises"
import { assemble } from "../updates/payload/assemble.ts"
import { extractArchive } from "../updates/payload/archive-read.ts"
import { decodeIndex } from "../updates/payload/index-file.ts"
import type { LocalSource, PayloadIndex } from "../updates/payload/payload.ts"
import type { Release } from "../updates/release.ts"
import type { EngineParts, Known } from "./update-engine.ts"
import type { FollowedChannels } from "./update-channels.ts"
import type { Component, SlotHouse } from "./update-slots.ts"

/** The index of a release, checked against what its publisher says of it. */
export const readIndex = async (channels: FollowedChannels, release: Release, known: Known): Promise<PayloadIndex> => {
  if (known.index !== undefined) return known.index
  const decoded = decodeIndex(await channels.index(release))
  if (Result.isFailure(decoded)) {
    known.fault = decoded.failure.message
    throw decoded.failure
  }
  const { payload } = decoded.success
  // R3.1: what is signed twice must be the same.
  if (payload.sha256 !== release.custom.payload.sha256 || payload.length !== release.custom.payload.length || payload.form !== release.custom.payload.form) {
    known.fault = "its index and its own words name different payloads"
    throw new Error(known.fault)
  }
  known.index = decoded.success
  return decoded.success
}

/** Trees and images on this device that may have chunks of others, the newest first (R3.2). */
export const localSources = async (
  slots: SlotHouse, releaseOf: (id: string) => Release | undefined, indexOf: (release: Release) => Promise<PayloadIndex>
): Promise<ReadonlyArray<LocalSource>> => {
  const found: Array<LocalSource> = []
  for (const { slots: place } of await slots.all()) {
    for (const slot of await place.list()) {
      // What came with the installation may be a checkout with anything in it.
      if (slot.path === "" || slot.generation === 0) continue
      const release = slot.release === undefined ? undefined : releaseOf(slot.release)
      const index = release === undefined ? undefined : await indexOf(release).catch(() => undefined)
      const form = release?.custom.payload.form ?? "tree"
      found.push({ form, path: form === "file" ? `${slot.path}/image` : slot.path, ...(index === undefined ? {} : { index }) })
    }
  }
  return found.reverse()
}

type FetchParts = Pick<EngineParts, "transfer"> & {
  readonly workOf: (release: Release) => string
  readonly indexOf: (release: Release) => Promise<PayloadIndex>
  readonly locals: () => Promise<ReadonlyArray<LocalSource>>
}

export const fetchPayload = async (parts: FetchParts, release: Release, known: Known, signal: AbortSignal, onDone: (bytes: number) => void): Promise<void> => {
  const index = await parts.indexOf(release)
  const work = parts.workOf(release)
  await mkdir(work, { recursive: true, mode: 0o700 })
  const { path, report } = await assemble({
    index, work, local: await parts.locals(), packs: parts.transfer, signal,
    onProgress: (report) => {
      onDone(report.kept + report.local + report.patched + report.packs)
      known.report = report
    }
  })
  known.report = report
  known.payload = path
  // R4.3: who has it passes it on.
  for (const { ref } of index.packs) if (await parts.transfer.file(ref.sha256) !== undefined) await parts.transfer.seed(ref)
}

export const stagePayload = async (parts: Pick<EngineParts, "releases"> & { readonly workOf: (release: Release) => string }, release: Release, known: Known, component: Component, signal: AbortSignal): Promise<void> => {
  const path = known.payload
  if (path === undefined) throw new Error("its payload is gone")
  await parts.releases.keep(release)
  const { name, version, payload } = release.custom
  await component.slots.stage({
    name, version, release: release.id,
    write: async (directory) => {
      if (payload.form === "tree") await extractArchive(path, directory, signal)
      else await copyFile(path, `${directory}/image`)
    }
  })
  await rm(parts.workOf(release), { recursive: true, force: true })
  known.payload = undefined
}
