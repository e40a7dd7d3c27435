/**
 * Witnesses: what members signed about the logs that they verified (`checkpoint.made`). A set, so the order of arrival does not matter.
 * Two different tree hashes for one log, fork and length prove that its author, or a witness, lied; both are kept and shown.
 */
import { Schema } from "effect"
import { Checkpoint } from "../../events/catalogue.ts"
import { type Database, int, text } from "./database.ts"
import type { FoldedEvent } from "./folds.ts"
import type { Names } from "./names.ts"

export interface Contradiction {
  readonly log: string
  readonly fork: number
  readonly length: number
  /** Each tree hash with the devices that vouch for it. */
  readonly claims: ReadonlyArray<{ readonly treeHash: string; readonly devices: ReadonlyArray<string> }>
}

export interface Witness {
  readonly device: string
  readonly fork: number
  readonly length: number
  readonly treeHash: string
}

export class Witnesses {
  readonly #database: Database
  readonly #names: Names

  constructor(database: Database, names: Names) {
    this.#database = database
    this.#names = names
  }

  /** Takes a checkpoint that a device signed. Of two words about one length of a log in one checkpoint the first stands. */
  add({ log, block, offset, device, body }: Pick<FoldedEvent, "log" | "block" | "offset" | "device" | "body">): void {
    if (!Schema.is(Checkpoint)(body)) return
    const insert = this.#database.prepare("INSERT INTO witnesses VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
    const [logId, deviceId] = [this.#names.idOf(log), this.#names.idOf(device)]
    for (const { log: about, fork, length, treeHash } of body.logs) insert.run(logId, block, offset, this.#names.idOf(about), length, fork, treeHash, deviceId)
  }

  /** What others say of a log, shortest first. */
  of(log: string): ReadonlyArray<Witness> {
    const id = this.#names.find(log)
    if (id === undefined) return []
    return this.#database.prepare("SELECT DISTINCT device, fork, length, tree_hash FROM witnesses WHERE about = ? ORDER BY length, tree_hash").all(id).map((row) => ({
      device: this.#names.textAt(row, "device"), fork: int(row["fork"]), length: int(row["length"]), treeHash: text(row["tree_hash"])
    }))
  }

  contradictions(): ReadonlyArray<Contradiction> {
    const rows = this.#database.prepare(
      "SELECT about, fork, length FROM witnesses GROUP BY about, fork, length HAVING count(DISTINCT tree_hash) > 1"
    ).all()
    return rows.map((row) => {
      const log = this.#names.textAt(row, "about")
      const fork = int(row["fork"])
      const length = int(row["length"])
      const claims = new Map<string, Array<string>>()
      for (const witness of this.of(log)) {
        if (witness.length !== length || witness.fork !== fork) continue
        claims.set(witness.treeHash, [...claims.get(witness.treeHash) ?? [], witness.device])
      }
      return { log, fork, length, claims: [...claims].map(([treeHash, devices]) => ({ treeHash, devices })) }
    })
  }
}
