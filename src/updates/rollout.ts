/** R5.5: whether a device takes a release by itself, and if not, why. Pure; the sentence stands in `kos update list`. */
import { sha256 } from "@noble/hashes/sha2.js"
import { fromHex } from "../codec/bytes.ts"
import { type Window, formatWindow, windowHolds } from "../projections/families/values.ts"
import { type Release, type Ring, rings } from "./release.ts"
import { compareVersions } from "./version.ts"

export interface RolloutFacts {
  /** Device key, 64 hex digits. */
  readonly device: string
  /** Of its channel (R2.4). */
  readonly trust: "fresh" | "stale" | "untrusted" | "empty"
  readonly auto: "off" | "security" | "all"
  readonly window: Window
  /** Minute of the day, local time, 0 to 1439. */
  readonly minute: number
  readonly ring: Ring
  readonly paused: boolean
  /** The only version of this name that is taken; undefined when a person pinned none. */
  readonly pinned: string | undefined
  /** Why it was rolled back here (R5.3). */
  readonly bad: string | undefined
  /** Why its publisher took it back (R1.6). */
  readonly yanked: string | undefined
  /** Attempts that ended badly before a trial since a person last asked for it (R6.4). */
  readonly failures: number
  /** Vetoes that count: who, and what they say. */
  readonly vetoes: ReadonlyArray<{ readonly who: string; readonly text: string }>
}

export type ByItself =
  | { readonly may: true }
  /** `opens`: the window is all that it waits for. */
  | { readonly may: false; readonly why: string; readonly opens: boolean }

/** Attempts that a device makes by itself: the first, and one further one. */
export const attemptsMax = 2

export const mayTakeByItself = ({ id, custom }: Pick<Release, "id" | "custom">, facts: RolloutFacts): ByItself => {
  const no = (why: string): ByItself => ({ may: false, why, opens: false })
  // R1.6: what was taken back is not taken.
  if (facts.yanked !== undefined) return no(`it was taken back by its publisher: ${facts.yanked}`)
  // R5.3: bad here stays bad here.
  if (facts.bad !== undefined) return no(`it was rolled back on this device: ${facts.bad}`)
  // R6.4: one further try.
  if (facts.failures >= attemptsMax) return no(`it failed here ${facts.failures} times; a person has to ask for it`)
  if (facts.paused) return no("updates are paused on this device")
  if (facts.pinned !== undefined && facts.pinned !== custom.version) return no(`${custom.name} is pinned to ${facts.pinned} on this device`)
  // R2.4, R5.5: nothing by itself on what may be out of date.
  if (facts.trust !== "fresh") return no(`its channel is ${facts.trust}`)
  if (facts.auto === "off") return no("update.auto is off")
  if (facts.auto === "security" && !custom.security) return no("update.auto is security, and it mends no security problem")
  const [veto] = facts.vetoes
  if (veto !== undefined) return no(`${veto.who} vetoes it${veto.text === "" ? "" : `: ${veto.text}`}`)
  // R5.5: its ring. A device in canary takes what is for early and all, too.
  if (rings.indexOf(facts.ring) > rings.indexOf(custom.ring)) return no(`it is for the ring ${custom.ring} so far, and this device is in ${facts.ring}`)
  // R5.5: its share.
  const bucket = bucketOf(facts.device, id)
  if (bucket >= custom.rolloutPermille) return no(`it is for ${custom.rolloutPermille / 10} % of devices so far, and the turn of this one comes at ${(bucket + 1) / 10} %`)
  // R5.5: its window.
  if (!windowHolds(facts.window, facts.minute)) return { may: false, why: facts.window === "never" ? "update.window is never" : `update.window is ${formatWindow(facts.window)}`, opens: facts.window !== "never" }
  return { may: true }
}

/** Of releases of one name: which to look at first. One that was away for several takes the newest that fits in one step. */
export const newestFirst = (releases: ReadonlyArray<Release>): ReadonlyArray<Release> =>
  releases.toSorted((a, b) => compareVersions(b.custom.version, a.custom.version) || (a.id < b.id ? -1 : 1))

/** 0 to 999: at how many permille a device's turn comes; another for each release, so that not always the same ones go first. */
export const bucketOf = (device: string, release: string): number => {
  const hash = sha256(Buffer.concat([fromHex(device), fromHex(release)]))
  return new DataView(hash.buffer, hash.byteOffset).getUint32(0) % 1_000
}
