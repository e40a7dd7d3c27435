/** Blocks whose key is not held here: a seeder's whole world, a newcomer's past. A row is a stretch of blocks of one log and epoch. */
import { type Database, int } from "./database.ts"
import type { BlockRange } from "./cutoffs.ts"
import type { Names } from "./names.ts"

export const sealedSql = `
-- Blocks from block to below next.
CREATE TABLE sealed (log INTEGER NOT NULL, block INTEGER NOT NULL, next INTEGER NOT NULL, epoch INTEGER NOT NULL, PRIMARY KEY (log, block)) STRICT, WITHOUT ROWID;
`

export class Sealed {
  readonly #database: Database
  readonly #names: Names
  #byEpoch: ReadonlyMap<number, number> | undefined

  constructor(database: Database, names: Names) {
    this.#database = database
    this.#names = names
    database.onRollback(() => {
      this.#byEpoch = undefined
    })
  }

  /** Notes a block that is not noted yet. */
  add(log: string, block: number, epoch: number): void {
    this.#byEpoch = undefined
    const id = this.#names.idOf(log)
    const longer = this.#database.prepare("UPDATE sealed SET next = next + 1 WHERE log = ? AND block = (SELECT max(block) FROM sealed WHERE log = ? AND block < ?) AND next = ? AND epoch = ?").run(id, id, block, block, epoch)
    if (longer === 0) this.#database.prepare("INSERT INTO sealed VALUES (?, ?, ?, ?)").run(id, block, block + 1, epoch)
  }

  /** Forgets blocks of a log from `from` to below `to`. */
  remove({ log, from, to }: BlockRange): void {
    const id = this.#names.find(log)
    if (id === undefined) return
    this.#byEpoch = undefined
    const rows = this.#database.prepare("SELECT block, next, epoch FROM sealed WHERE log = ? AND block < ? AND next > ?").all(id, to, from)
    for (const row of rows) {
      const [block, next, epoch] = [int(row["block"]), int(row["next"]), int(row["epoch"])]
      this.#database.prepare("DELETE FROM sealed WHERE log = ? AND block = ?").run(id, block)
      const insert = this.#database.prepare("INSERT INTO sealed VALUES (?, ?, ?, ?)")
      if (block < from) insert.run(id, block, from, epoch)
      if (next > to) insert.run(id, to, next, epoch)
    }
  }

  /** Blocks. */
  count(): number {
    let blocks = 0
    for (const count of this.byEpoch().values()) blocks += count
    return blocks
  }

  /** Blocks of each epoch that has any. */
  byEpoch(): ReadonlyMap<number, number> {
    return this.#byEpoch ??= new Map(this.#database.prepare("SELECT epoch, sum(next - block) AS n FROM sealed GROUP BY epoch ORDER BY epoch").all().map((row) => [int(row["epoch"]), int(row["n"])]))
  }

  /** Blocks of a log. */
  of(log: string): number {
    return int(this.#database.prepare("SELECT coalesce(sum(next - block), 0) AS n FROM sealed WHERE log = ?").get(this.#names.find(log) ?? 0)?.["n"])
  }

  /** Stretches of one epoch. */
  ranges(epoch: number): ReadonlyArray<BlockRange> {
    return this.#database.prepare("SELECT log, block, next FROM sealed WHERE epoch = ?").all(epoch)
      .map((row) => ({ log: this.#names.textAt(row, "log"), from: int(row["block"]), to: int(row["next"]) }))
  }
}
