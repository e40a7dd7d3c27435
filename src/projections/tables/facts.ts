import { type Database, text } from "./database.ts"
import { TableError } from "./table-error.ts"

export const factsMax = 1_000
export const factCharsMax = 65_536

/** Small things that only this node knows, by name: the last boot id, the id of the heads sequence. */
export class Facts {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  get(key: string): string | undefined {
    const row = this.#database.prepare("SELECT value FROM facts WHERE key = ?").get(key)
    return row === undefined ? undefined : text(row["value"])
  }

  set(key: string, value: string): void {
    if (key.length + value.length > factCharsMax) throw refused(`a fact has at most ${factCharsMax} characters, ${key.slice(0, 64)} has ${value.length}`)
    const changed = this.#database.prepare(
      `INSERT INTO facts SELECT ?1, ?2 WHERE (SELECT count(*) FROM facts) < ${factsMax} OR EXISTS (SELECT 1 FROM facts WHERE key = ?1) ` +
      "ON CONFLICT DO UPDATE SET value = excluded.value"
    ).run(key, value)
    if (changed === 0) throw refused(`there are ${factsMax} facts already`)
  }

  remove(key: string): void {
    this.#database.prepare("DELETE FROM facts WHERE key = ?").run(key)
  }

  all(): Readonly<Record<string, string>> {
    return Object.fromEntries(this.#database.prepare("SELECT key, value FROM facts ORDER BY key").all().map((row) => [text(row["key"]), text(row["value"])]))
  }
}

const refused = (detail: string): TableError => new TableError({ reason: "failed", operation: "set a fact", detail })
