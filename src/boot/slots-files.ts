/**
 * The small files of a place with slots, as both the class in `slots-directories.ts` and the shell script `bin/kos-launch` read and write them.
 *
 * They are lines of words because a shell reads them; the first word is the format, 1. The launcher that reads them is the one that the
 * package brought and may be older than the version that writes them: the format does not change.
 *
 * | file | line |
 * | --- | --- |
 * | `trial` | `1 GENERATION TRIES DEADLINE_SECONDS USED` |
 * | `failed` | `1 GENERATION USED WHY…` |
 * | `good` | `1 GENERATION…`, those that were current before and may be again |
 * | `last` | `1 GENERATION`, the last number that was given |
 * | `current` | a symbolic link to `gen/0001`; not there: what the package brought |
 * | `gen/0001.json` | what the slot is, as JSON; it stands before the slot has its name |
 */
import { Result, Schema } from "effect"
import { lstat, opendir, readlink, rename, rm, symlink } from "node:fs/promises"
import { isVersion } from "../updates/version.ts"
import { besideEnding, readSmallText, removeWhole, syncPath, writeWhole } from "../vault/files.ts"

/** Bytes of one of these files. */
export const slotFileBytesMax = 4_096
/** Characters of a reason. */
export const whyCharsMax = 512
/** Files that are synced at one time: a file system puts those that wait together into one write. */
const syncsMax = 16

export interface Trial {
  readonly generation: number
  readonly tries: number
  /** Seconds that each try has. */
  readonly deadline: number
  /** Tries that were begun. */
  readonly used: number
}

export interface Failure {
  readonly generation: number
  readonly used: number
  readonly why: string
}

const Meta = Schema.Struct({
  v: Schema.Literal(1),
  generation: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 999_999_999 })),
  name: Schema.String.check(Schema.isPattern(/^[a-z0-9][a-z0-9._-]{0,63}$/)),
  version: Schema.String.check(Schema.makeFilter((text: string) => isVersion(text) || "no version such as 1.2.3")),
  release: Schema.String.check(Schema.isPattern(/^[0-9a-f]{64}$/)),
  /** Why it is not to be taken again by itself. */
  failed: Schema.NullOr(Schema.String.check(Schema.isMaxLength(whyCharsMax)))
})
export type Meta = typeof Meta.Type
const decodeMeta = Schema.decodeUnknownResult(Schema.fromJsonString(Meta))

export const slotPlace = (generation: number): string => `gen/${String(generation).padStart(4, "0")}`
const metaPlace = (generation: number): string => `${slotPlace(generation)}.json`

/** Undefined when it is not there or is not what this version writes. */
export const readTrial = async (root: string): Promise<Trial | undefined> => {
  const [generation, tries, deadline, used, ...more] = await readNumbers(`${root}/trial`)
  return more.length > 0 || generation === undefined || tries === undefined || deadline === undefined || used === undefined || generation === 0 ? undefined : { generation, tries, deadline, used }
}

export const writeTrial = (root: string, { generation, tries, deadline, used }: Trial): Promise<void> =>
  writeWhole(`${root}/trial`, `1 ${generation} ${tries} ${deadline} ${used}\n`)

export const readFailed = async (root: string): Promise<Failure | undefined> => {
  const [, generation, used, why] = /^1 ([1-9]\d{0,8}) (\d{1,9}) ?(.*)/u.exec(await readSmallText(`${root}/failed`, slotFileBytesMax) ?? "") ?? []
  return generation === undefined || used === undefined || Number(generation) === 0 ? undefined : { generation: Number(generation), used: Number(used), why: oneLine(why ?? "") }
}

export const writeFailed = (root: string, { generation, used, why }: Failure): Promise<void> => writeWhole(`${root}/failed`, `1 ${generation} ${used} ${oneLine(why)}\n`)

export const readGood = (root: string): Promise<ReadonlyArray<number>> => readNumbers(`${root}/good`)
export const writeGood = (root: string, generations: ReadonlyArray<number>): Promise<void> => writeWhole(`${root}/good`, `${[1, ...generations].join(" ")}\n`)

export const readLast = async (root: string): Promise<number> => (await readNumbers(`${root}/last`))[0] ?? 0
export const writeLast = (root: string, generation: number): Promise<void> => writeWhole(`${root}/last`, `1 ${generation}\n`)

/** 0 when there is no link, or one that leads elsewhere: then what the package brought runs. */
export const readCurrent = async (root: string): Promise<number> => {
  const target = await readlink(`${root}/current`).catch(() => "")
  return Number(/^gen\/(\d{4,9})$/.exec(target)?.[1] ?? 0)
}

/** The moment of the switch: before it the old one is current, after it the new one. */
export const writeCurrent = async (root: string, generation: number): Promise<void> => {
  if (generation === 0) return removeWhole(`${root}/current`)
  const beside = `${root}/current${besideEnding}`
  await rm(beside, { force: true })
  await symlink(slotPlace(generation), beside)
  await rename(beside, `${root}/current`)
  await syncPath(root)
}

export const readMeta = async (root: string, generation: number): Promise<Meta | undefined> => {
  const text = await readSmallText(`${root}/${metaPlace(generation)}`, slotFileBytesMax)
  const decoded = text === undefined ? undefined : decodeMeta(text)
  return decoded !== undefined && Result.isSuccess(decoded) && decoded.success.generation === generation ? decoded.success : undefined
}

export const writeMeta = (root: string, meta: Meta): Promise<void> => writeWhole(`${root}/${metaPlace(meta.generation)}`, `${JSON.stringify(meta)}\n`)
export const removeMeta = (root: string, generation: number): Promise<void> => removeWhole(`${root}/${metaPlace(generation)}`)

export const isDirectory = (path: string): Promise<boolean> => lstat(path).then((stat) => stat.isDirectory(), () => false)

/** A sentence that fits on a line of these files. */
export const oneLine = (text: string): string => text.replaceAll(/[\u0000-\u001f\u007f]+/gu, " ").trim().slice(0, whyCharsMax)

/** Everything below the directory and itself is on the disk when it resolves. Links have no content of their own: their directory holds them. */
export const syncTree = async (directory: string): Promise<void> => {
  const files: Array<string> = []
  const directories = [directory]
  // Grows while it is walked.
  for (const at of directories) {
    for await (const entry of await opendir(at)) {
      if (entry.isDirectory()) directories.push(`${at}/${entry.name}`)
      else if (entry.isFile()) files.push(`${at}/${entry.name}`)
      if (files.length >= 1_024) await syncAll(files.splice(0))
    }
  }
  await syncAll(files)
  // A directory's names are synced after what they name.
  await syncAll(directories.reverse())
}

const syncAll = async (paths: ReadonlyArray<string>): Promise<void> => {
  let next = 0
  await Promise.all(Array.from({ length: Math.min(syncsMax, paths.length) }, async () => {
    for (let path = paths[next++]; path !== undefined; path = paths[next++]) await syncPath(path)
  }))
}

/** The numbers after the format; none when the line is not ours. */
const readNumbers = async (path: string): Promise<ReadonlyArray<number>> => {
  const line = /^1((?: (?:0|[1-9]\d{0,8}))*)\s*$/.exec(await readSmallText(path, slotFileBytesMax) ?? "")?.[1] ?? ""
  return line.split(" ").filter((word) => word !== "").map(Number)
}
