/**
 * The slots of this home by what lies in them: kOS itself, which the launcher starts, and each agent, codex module and image, which has no launcher:
 * there the tries are counted here.
 */
import { mkdir, readdir, readFile } from "node:fs/promises"
import type { ReleaseCustom } from "../updates/release.ts"
import type { Slot } from "../updates/ports.ts"
import { isVersion } from "../updates/version.ts"
import { type DirectorySlots, openDirectorySlots, type Try } from "./slots-directories.ts"
import { launchOf } from "./slots-launcher.ts"

/** Things beside kOS that can lie here. */
export const componentsMax = 128

/** One thing that has versions. */
export interface Component {
  readonly key: string
  readonly slots: DirectorySlots
  /** Generation that runs now. */
  readonly running: () => number
  /** Begins a try of what has no launcher. */
  readonly begin: () => Promise<Try | undefined>
  readonly launched: boolean
}

export interface SlotHouse {
  /** The place of a release's versions; made when it is not there. */
  readonly of: (custom: Pick<ReleaseCustom, "kind" | "name">) => Promise<Component>
  readonly all: () => Promise<ReadonlyArray<Component>>
  readonly kos: Component
}

/** `agent/NAME`; kOS itself is `kos`. */
export const componentKey = ({ kind, name }: Pick<ReleaseCustom, "kind" | "name">): string => kind === "bundle" ? "kos" : `${kind}/${name}`

export const openSlotHouse = async (
  root: string, env: Readonly<Record<string, string | undefined>>, own: { readonly version: string; readonly path: string }
): Promise<SlotHouse> => {
  await mkdir(root, { recursive: true, mode: 0o700 })
  const open = new Map<string, Component>()
  const launch = launchOf(env)
  const factory = launch?.factory === undefined ? own : { version: (await versionIn(launch.factory)) ?? own.version, path: launch.factory }
  const kosSlots = await openDirectorySlots({ root: `${root}/kos`, name: "kos", factory })
  const kos: Component = { key: "kos", slots: kosSlots, running: () => launch?.slot ?? 0, begin: () => Promise.resolve(undefined), launched: launch !== undefined }
  open.set("kos", kos)

  const component = async (key: string): Promise<Component> => {
    const known = open.get(key)
    if (known !== undefined) return known
    if (open.size > componentsMax) throw new Error(`there are ${componentsMax} agents, modules and images here, and that is the most`)
    const name = key.slice(key.indexOf("/") + 1)
    await mkdir(`${root}/${key}`, { recursive: true, mode: 0o700 })
    const slots = await openDirectorySlots({ root: `${root}/${key}`, name, factory: { version: "0.0.0-none", path: "" } })
    let running = (await slots.current()).generation
    const made: Component = {
      key, slots, running: () => running, launched: true,
      begin: async () => {
        const attempt = await slots.beginTry()
        running = attempt?.slot.generation ?? (await slots.current()).generation
        return attempt
      }
    }
    open.set(key, made)
    return made
  }

  for (const kind of ["agent", "codex", "os"]) {
    for (const name of (await readdir(`${root}/${kind}`).catch(() => [])).sort().slice(0, componentsMax)) if (/^[a-z0-9][a-z0-9._-]{0,63}$/.test(name)) await component(`${kind}/${name}`)
  }
  return { of: (custom) => component(componentKey(custom)), all: () => Promise.resolve([...open.values()]), kos }
}

/** The newest slot of a release. */
export const slotOf = (slots: ReadonlyArray<Slot>, release: string): Slot | undefined => slots.filter((slot) => slot.release === release).at(-1)

/** What the package in a directory says of itself. */
const versionIn = async (directory: string): Promise<string | undefined> => {
  const text = await readFile(`${directory}/package.json`, "utf8").catch(() => "")
  const found = /"version": "([^"]{1,64})"/.exec(text)?.[1]
  return found !== undefined && isVersion(found) ? found : undefined
}
