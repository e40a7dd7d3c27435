import { toHex } from "../../codec/bytes.ts"
import { randomBytes } from "../../codec/signature.ts"
import { type Database, int, type Statement } from "./database.ts"
import type { Facts } from "./facts.ts"
import type { Names } from "./names.ts"

/** How far each log is folded into the tables, in blocks. Advance in the transaction that writes the rows. In memory too, an entry for each log. */
export class Cursors {
  readonly #database: Database
  readonly #names: Names
  readonly #set: Statement
  readonly #folded = new Map<string, number>()
  #loaded = false

  constructor(database: Database, names: Names) {
    this.#database = database
    this.#names = names
    this.#set = database.prepare("INSERT INTO cursors VALUES (?, ?) ON CONFLICT DO UPDATE SET folded = excluded.folded")
    database.onRollback(() => {
      this.#loaded = false
    })
  }

  /** Blocks of this log that are folded; 0 when none is. */
  folded(log: string): number {
    return this.#load().get(log) ?? 0
  }

  /** Never moves back. */
  advance(log: string, folded: number): void {
    if (folded <= this.folded(log)) return
    this.#set.run(this.#names.idOf(log), folded)
    this.#folded.set(log, folded)
  }

  /** As if it had never been folded. */
  remove(log: string): void {
    this.#database.prepare("DELETE FROM cursors WHERE log = ?").run(this.#names.find(log) ?? 0)
    this.#load().delete(log)
  }

  all(): ReadonlyArray<{ readonly log: string; readonly folded: number }> {
    return [...this.#load()].map(([log, folded]) => ({ log, folded }))
  }

  #load(): Map<string, number> {
    if (this.#loaded) return this.#folded
    this.#folded.clear()
    for (const row of this.#database.prepare("SELECT log, folded FROM cursors").all()) this.#folded.set(this.#names.textAt(row, "log"), int(row["folded"]))
    this.#loaded = true
    return this.#folded
  }
}

export interface Head {
  readonly log: string
  /** Contiguous blocks held here. */
  readonly length: number
  /** The sequence at its last growth. */
  readonly changed: number
}

const sequenceFact = "sequence-id"

/**
 * The length of every log held here, numbered by when it last grew: a peer that knows all up to one sequence asks only for what grew since.
 * In memory too, an entry for each log.
 *
 * After a power cut the last growths may be missing here, and their numbers would be given out again for other growths. So after an
 * unclean stop call `renewSequence`: cursors of peers into the old sequence are void, and they ask for all heads once.
 */
export class Heads {
  readonly #database: Database
  readonly #names: Names
  readonly #facts: Facts
  readonly #set: Statement
  readonly #heads = new Map<string, Head>()
  #sequence = 0
  #loaded = false

  constructor(database: Database, names: Names, facts: Facts) {
    this.#database = database
    this.#names = names
    this.#facts = facts
    this.#set = database.prepare(
      "INSERT INTO heads VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET length = excluded.length, changed = excluded.changed"
    )
    database.onRollback(() => {
      this.#loaded = false
    })
  }

  /** Records that a log has grown to this length; false when it was that long already. */
  grew(log: string, length: number): boolean {
    if (length <= (this.get(log)?.length ?? 0)) return false
    this.#put(log, length)
    return true
  }

  /** Records that fewer blocks are held than was thought: they were lost here and will be fetched again. */
  correct(log: string, length: number): void {
    if (length < (this.get(log)?.length ?? 0)) this.#put(log, length)
  }

  get(log: string): Head | undefined {
    return this.#load().get(log)
  }

  all(): ReadonlyArray<Head> {
    return [...this.#load().values()]
  }

  /** Heads that changed after this sequence. */
  since(sequence: number): ReadonlyArray<Head> {
    return this.all().filter((head) => head.changed > sequence)
  }

  /** Grows by one with each growth of any log. */
  sequence(): number {
    this.#load()
    return this.#sequence
  }

  /** 32 hex digits of chance, made when the sequence was born. */
  sequenceId(): string {
    return this.#facts.get(sequenceFact) ?? this.renewSequence()
  }

  renewSequence(): string {
    const id = toHex(randomBytes(16))
    this.#facts.set(sequenceFact, id)
    return id
  }

  #put(log: string, length: number): void {
    const changed = this.sequence() + 1
    this.#set.run(this.#names.idOf(log), length, changed)
    this.#heads.set(log, { log, length, changed })
    this.#sequence = changed
  }

  #load(): Map<string, Head> {
    if (this.#loaded) return this.#heads
    this.#heads.clear()
    this.#sequence = 0
    for (const row of this.#database.prepare("SELECT log, length, changed FROM heads").all()) {
      const head = { log: this.#names.textAt(row, "log"), length: int(row["length"]), changed: int(row["changed"]) }
      this.#heads.set(head.log, head)
      this.#sequence = Math.max(this.#sequence, head.changed)
    }
    this.#loaded = true
    return this.#heads
  }
}
