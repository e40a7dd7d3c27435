/**
 * Slots over plain directories with an atomic link: for kOS itself on hosts and in containers, and for agents, codex modules and images anywhere.
 *
 * **What it owns.** One directory, `HOME/updates/slots/NAME`: the generations below `gen/` and the small files of `slots-files.ts`. Of kOS itself
 * the launcher (`bin/kos-launch`) reads them before each start, and writes `trial` and `failed` while no daemon runs. So there are never two writers.
 *
 * **How one version travels.** `stage`: written to `gen/.tmp-N`, synced, described in `gen/N.json`, and then named `gen/N`. `activate`: the file `trial`
 * says so many tries, so long each. Before each start the try is counted: by the launcher, or by `beginTry` for what has no launcher. `good`: the
 * link `current` is replaced. `rollback`, `fail` or the launcher: the file `failed` says why, and `current` is as it was.
 *
 * **Invariants.** A directory `gen/N` is whole (R6.1). Replacing the link is the only moment of the switch; whatever is written before or after it can
 * be lost or done twice. A trial never changes `current` before it is good, so whoever loses count of it still starts a good version.
 *
 * **Tricky cases.**
 * - *The power goes within `good`:* before the link is replaced the trial goes on and is counted; after it `trial` names what is current, and counts no more.
 * - *The power goes while a trial fails:* `failed` is written before `trial` is removed; a trial that `failed` names counts no more.
 * - *A trial is asked for again after it failed:* `activate` removes `failed` first. When the power goes then, nothing is on trial: asked for too little, never too much.
 * - *A description that cannot be read:* the slot is not offered and is removed, unless it is current; then it runs on without a known version.
 */
import { Schema } from "effect"
import { constants } from "node:fs"
import { access, mkdir, readdir, rename, rm } from "node:fs/promises"
import type { Slot, SlotImage, Slots } from "../updates/ports.ts"
import { besideEnding, removeWhole, syncPath } from "../vault/files.ts"
import {
  isDirectory, type Meta, oneLine, readCurrent, readFailed, readGood, readLast, readMeta, readTrial, removeMeta, slotPlace, syncTree, type Trial, writeCurrent, writeFailed, writeGood,
  writeLast, writeMeta, writeTrial
} from "./slots-files.ts"

/** Generations that one place keeps; whoever stages more drops some first. */
export const generationsMax = 32
/** A trial's tries and each one's milliseconds; R6.4 asks for no more than one further try by itself. */
export const triesMax = 9
export const deadlineMsMax = 100_000_000

export class SlotError extends Schema.TaggedError<SlotError>()("SlotError", {
  reason: Schema.Literals(["absent", "in-use", "full", "not-on-trial", "wrong"]), detail: Schema.String
}) {
  override get message() {
    return this.detail
  }
}

export interface DirectorySlotsOptions {
  /** `HOME/updates/slots/NAME`; made when it is not there. */
  readonly root: string
  readonly name: string
  /** Generation 0: what was there before anything was staged. */
  readonly factory: { readonly version: string; readonly path: string }
  /** Puts a whole tree on the disk; `syncTree` when not given. */
  readonly sync?: (directory: string) => Promise<void>
  /** Told before each change on the disk; for tests that end the process there. */
  readonly onStep?: (step: string) => void
}

/** One try of what has no launcher. */
export interface Try {
  readonly slot: Slot
  /** 1 for the first one. */
  readonly attempt: number
  readonly tries: number
  readonly deadlineMs: number
}

export interface DirectorySlots extends Slots {
  readonly kind: "directories"
  /** What runs when no trial does. */
  readonly current: () => Promise<Slot>
  /**
   * R6.2, for what has no launcher: one more try of the one on trial is counted on the disk when it resolves. Undefined when nothing is on trial, or when no
   * try is left: then the trial has just failed. Whoever runs the try keeps to `deadlineMs`.
   */
  readonly beginTry: () => Promise<Try | undefined>
  /** The trial ended badly: no further try. The same as `rollback` without a generation while it is on trial. */
  readonly fail: (generation: number, why: string) => Promise<void>
}

/** Opens the place, and removes what a crash left behind. */
export const openDirectorySlots = async (options: DirectorySlotsOptions): Promise<DirectorySlots> => {
  const slots = new Directories(options)
  await slots.tidy()
  const { inTurn } = turns()
  return {
    kind: "directories",
    list: () => inTurn(() => slots.list()),
    stage: (image) => inTurn(() => slots.stage(image)),
    activate: (generation, trial) => inTurn(() => slots.activate(generation, trial)),
    good: (generation) => inTurn(() => slots.good(generation)),
    rollback: (generation, why) => inTurn(() => slots.rollback(generation, why)),
    drop: (generation) => inTurn(() => slots.drop(generation)),
    failed: () => inTurn(() => slots.failed()),
    settle: (generation) => inTurn(() => slots.settle(generation)),
    current: () => inTurn(() => slots.current()),
    beginTry: () => inTurn(() => slots.beginTry()),
    fail: (generation, why) => inTurn(() => slots.fail(generation, why))
  }
}

/** One after the other: each of them reads, decides and writes. */
const turns = () => {
  let last: Promise<unknown> = Promise.resolve()
  return {
    inTurn: <A>(work: () => Promise<A>): Promise<A> => {
      const mine = last.then(work, work)
      last = mine.catch(() => undefined)
      return mine
    }
  }
}

class Directories {
  readonly #root: string
  readonly #options: DirectorySlotsOptions
  readonly #step: (step: string) => void

  constructor(options: DirectorySlotsOptions) {
    this.#root = options.root
    this.#options = options
    this.#step = options.onStep ?? (() => undefined)
  }

  async tidy(): Promise<void> {
    const root = this.#root
    await mkdir(`${root}/gen`, { recursive: true, mode: 0o700 })
    await syncPath(root)
    for (const name of await readdir(root)) if (name.endsWith(besideEnding)) await rm(`${root}/${name}`, { force: true, recursive: true })
    const [current, trial, failed] = await Promise.all([readCurrent(root), readTrial(root), readFailed(root)])
    // R6.3: a trial that is current, or of which it is written that it failed, is over; only the last step of that was missing.
    if (trial === undefined || trial.generation === current || trial.generation === failed?.generation) await removeWhole(`${root}/trial`)
    const names = new Set(await readdir(`${root}/gen`))
    for (const name of names) {
      const [, digits, ending] = /^(\d{4,9})(\.json)?$/.exec(name) ?? []
      const generation = Number(digits ?? 0)
      // R6.1: a slot is a directory and its description; what has only one of them never had its name, or was being removed.
      const whole = names.has(slotPlace(generation).slice(4)) && await readMeta(root, generation) !== undefined
      if (generation > 0 && (whole || (generation === current && ending === undefined))) continue
      await rm(`${root}/gen/${name}`, { force: true, recursive: true })
    }
    await syncPath(`${root}/gen`)
    if (failed !== undefined && await readMeta(root, failed.generation) === undefined) await removeWhole(`${root}/failed`)
  }

  async list(): Promise<ReadonlyArray<Slot>> {
    const look = await this.#look()
    return [this.#factory(look), ...look.metas.map((meta) => this.#slot(meta, look))]
  }

  async current(): Promise<Slot> {
    return this.#get((await this.#look()).current)
  }

  async stage({ name, version, release, write }: SlotImage): Promise<Slot> {
    const root = this.#root
    if (name !== this.#options.name) throw new SlotError({ reason: "wrong", detail: `${name} ${version} does not belong into the slots of ${this.#options.name}` })
    const look = await this.#look()
    const held = look.metas.find((meta) => meta.release === release)
    if (held !== undefined) return this.#slot(held, look)
    if (look.metas.length >= generationsMax) throw new SlotError({ reason: "full", detail: `${this.#options.name} has ${look.metas.length} generations, and no more than ${generationsMax} are kept; drop one first` })
    const generation = Math.max(await readLast(root), 0, ...look.metas.map((meta) => meta.generation)) + 1
    const beside = `${root}/gen/.tmp-${generation}`
    // A number is given once: events name it.
    await writeLast(root, generation)
    await rm(beside, { force: true, recursive: true })
    await mkdir(beside, { mode: 0o700 })
    try {
      this.#step("stage: write")
      await write(beside)
      // R6.1: written aside, synced, then named.
      this.#step("stage: sync")
      await (this.#options.sync ?? syncTree)(beside)
      this.#step("stage: describe")
      const meta: Meta = { v: 1, generation, name, version, release, failed: null }
      await writeMeta(root, meta)
      this.#step("stage: name")
      await rename(beside, `${root}/${slotPlace(generation)}`)
      await syncPath(`${root}/gen`)
      this.#step("stage: done")
    } catch (cause) {
      await rm(beside, { force: true, recursive: true })
      await removeMeta(root, generation)
      throw cause
    }
    return this.#get(generation)
  }

  async activate(generation: number, { tries, deadlineMs }: { readonly tries: number; readonly deadlineMs: number }): Promise<void> {
    const look = await this.#look()
    const meta = this.#meta(look, generation)
    if (generation === look.current) throw new SlotError({ reason: "in-use", detail: `generation ${generation} is the one that runs` })
    if (!(tries >= 1 && tries <= triesMax && deadlineMs >= 1 && deadlineMs <= deadlineMsMax)) {
      throw new SlotError({ reason: "wrong", detail: `a trial has 1 to ${triesMax} tries of at most ${deadlineMsMax} ms, not ${tries} of ${deadlineMs} ms` })
    }
    if (look.failed !== undefined) await this.settle(look.failed.generation)
    this.#step("activate: forget")
    if (meta.failed !== null || look.failed?.generation === generation) await writeMeta(this.#root, { ...meta, failed: null })
    this.#step("activate: trial")
    // R6.2: a number of tries and a time.
    await writeTrial(this.#root, { generation, tries: Math.floor(tries), deadline: Math.ceil(deadlineMs / 1_000), used: 0 })
    this.#step("activate: done")
  }

  async beginTry(): Promise<Try | undefined> {
    const look = await this.#look()
    const { trial } = look
    if (trial === undefined) return undefined
    if (trial.used >= trial.tries) {
      await this.#failTrial(trial, `it was begun ${trial.used} times and was not good after any of them`)
      return undefined
    }
    // R6.2: counted before the start.
    this.#step("try: count")
    await writeTrial(this.#root, { ...trial, used: trial.used + 1 })
    this.#step("try: counted")
    return { slot: this.#slot(this.#meta(look, trial.generation), look), attempt: trial.used + 1, tries: trial.tries, deadlineMs: trial.deadline * 1_000 }
  }

  async good(generation: number): Promise<void> {
    const look = await this.#look()
    if (generation === look.current) return removeWhole(`${this.#root}/trial`)
    if (look.trial?.generation !== generation) throw new SlotError({ reason: "not-on-trial", detail: `generation ${generation} is not on trial` })
    // R6.5: the one before is kept as good, unless it was left for a reason.
    this.#step("good: keep")
    if (look.current !== 0 && this.#metaOf(look, look.current)?.failed === null) await writeGood(this.#root, unique([...look.good, look.current]))
    // R6.3: from here on it runs.
    this.#step("good: switch")
    await writeCurrent(this.#root, generation)
    this.#step("good: forget")
    await removeWhole(`${this.#root}/trial`)
    this.#step("good: done")
  }

  async rollback(generation: number | undefined, why: string): Promise<Slot> {
    const look = await this.#look()
    if (look.trial !== undefined) await this.#failTrial(look.trial, why)
    else if (generation === undefined && look.current === 0) throw new SlotError({ reason: "absent", detail: `there is no version of ${this.#options.name} before the one that runs` })
    if (look.trial !== undefined && generation === undefined || generation === look.current) return this.#get(look.current)
    const target = generation ?? this.#before(look)
    if (target !== 0 && !look.good.includes(target)) {
      throw new SlotError({ reason: "wrong", detail: `generation ${target} was never good here; it can be put on trial` })
    }
    if (target !== 0) this.#meta(look, target)
    this.#step("rollback: why")
    const left = this.#metaOf(look, look.current)
    if (left !== undefined && left.release !== "") await writeMeta(this.#root, { ...left, failed: oneLine(why) })
    this.#step("rollback: switch")
    await writeCurrent(this.#root, target)
    this.#step("rollback: done")
    return this.#get(target)
  }

  async fail(generation: number, why: string): Promise<void> {
    const { trial } = await this.#look()
    if (trial?.generation !== generation) throw new SlotError({ reason: "not-on-trial", detail: `generation ${generation} is not on trial` })
    await this.#failTrial(trial, why)
  }

  async drop(generation: number): Promise<void> {
    const look = await this.#look()
    if (generation === 0) throw new SlotError({ reason: "in-use", detail: `what the package brought stays` })
    if (generation === look.current || generation === look.trial?.generation) throw new SlotError({ reason: "in-use", detail: `generation ${generation} runs, or is to run` })
    if (!look.metas.some((meta) => meta.generation === generation)) return
    if (look.failed?.generation === generation) await removeWhole(`${this.#root}/failed`)
    this.#step("drop: forget")
    if (look.good.includes(generation)) await writeGood(this.#root, look.good.filter((kept) => kept !== generation))
    // It loses its name first: what is half removed is no slot.
    const aside = `${this.#root}/gen/.tmp-drop-${generation}`
    await rm(aside, { force: true, recursive: true })
    this.#step("drop: name")
    await rename(`${this.#root}/${slotPlace(generation)}`, aside)
    await syncPath(`${this.#root}/gen`)
    this.#step("drop: describe")
    await removeMeta(this.#root, generation)
    this.#step("drop: remove")
    await rm(aside, { force: true, recursive: true })
  }

  async failed(): Promise<{ readonly slot: Slot; readonly why: string } | undefined> {
    const look = await this.#look()
    if (look.failed === undefined || this.#metaOf(look, look.failed.generation) === undefined) return undefined
    return { slot: await this.#get(look.failed.generation), why: look.failed.why }
  }

  async settle(generation: number): Promise<void> {
    const look = await this.#look()
    if (look.failed?.generation !== generation) return
    const meta = this.#metaOf(look, generation)
    this.#step("settle: why")
    if (meta !== undefined) await writeMeta(this.#root, { ...meta, failed: look.failed.why })
    this.#step("settle: forget")
    await removeWhole(`${this.#root}/failed`)
    this.#step("settle: done")
  }

  async #failTrial(trial: Trial, why: string): Promise<void> {
    this.#step("fail: why")
    await writeFailed(this.#root, { generation: trial.generation, used: trial.used, why })
    this.#step("fail: trial")
    await removeWhole(`${this.#root}/trial`)
    this.#step("fail: done")
  }

  /** The newest good one below the current one. */
  #before({ good, current, metas }: Look): number {
    return Math.max(0, ...good.filter((generation) => generation < current && metas.some((meta) => meta.generation === generation && meta.failed === null)))
  }

  async #look(): Promise<Look> {
    const root = this.#root
    const [current, trial, failed, good, names] = await Promise.all([readCurrent(root), readTrial(root), readFailed(root), readGood(root), readdir(`${root}/gen`)])
    const metas: Array<Meta> = []
    for (const name of names) {
      const generation = /^\d{4,9}$/.test(name) ? Number(name) : 0
      const meta = generation > 0 ? await readMeta(root, generation) : undefined
      if (meta !== undefined && await isDirectory(`${root}/gen/${name}`)) metas.push(meta)
    }
    const over = trial === undefined || trial.generation === current || trial.generation === failed?.generation
    const stands = current !== 0 && await canRead(`${root}/${slotPlace(current)}`)
    // It runs, whatever became of its description.
    if (stands && !metas.some((meta) => meta.generation === current)) metas.push({ v: 1, generation: current, name: this.#options.name, version: "0.0.0", release: "", failed: null })
    return { current: stands ? current : 0, trial: over ? undefined : trial, failed, good, metas: metas.sort((a, b) => a.generation - b.generation) }
  }

  async #get(generation: number): Promise<Slot> {
    const look = await this.#look()
    if (generation === 0) return this.#factory(look)
    return this.#slot(this.#meta(look, generation), look)
  }

  #metaOf(look: Look, generation: number): Meta | undefined {
    return look.metas.find((meta) => meta.generation === generation)
  }

  #meta(look: Look, generation: number): Meta {
    const meta = this.#metaOf(look, generation)
    if (meta === undefined) throw new SlotError({ reason: "absent", detail: `${this.#options.name} has no generation ${generation}` })
    return meta
  }

  #factory({ current }: Look): Slot {
    const { name, factory } = this.#options
    return { generation: 0, name, version: factory.version, release: undefined, state: current === 0 ? "current" : "good", path: factory.path, why: undefined }
  }

  #slot({ generation, name, version, release, failed: left }: Meta, { current, trial, failed, good }: Look): Slot {
    const why = failed?.generation === generation ? failed.why : left ?? undefined
    const state = generation === current ? "current"
      : generation === trial?.generation ? "trial"
      : why !== undefined ? "failed"
      : good.includes(generation) ? "good"
      : "staged"
    return { generation, name, version, release: release === "" ? undefined : release, state, path: `${this.#root}/${slotPlace(generation)}`, why }
  }
}

interface Look {
  readonly current: number
  readonly trial: Trial | undefined
  readonly failed: { readonly generation: number; readonly used: number; readonly why: string } | undefined
  readonly good: ReadonlyArray<number>
  readonly metas: ReadonlyArray<Meta>
}

const unique = (numbers: ReadonlyArray<number>): ReadonlyArray<number> => [...new Set(numbers)]

const canRead = (path: string): Promise<boolean> => access(path, constants.R_OK).then(() => true, () => false)
