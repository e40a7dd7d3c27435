import { type Database, int, prefixEnd, type Row, type Statement, text } from "./database.ts"
import { corrupt } from "./table-error.ts"

/** Names kept in memory at most, in each direction and generation; a name is at most 256 characters. */
const cachedMax = 16_384

/** Texts that occur in many rows, by number. The same text has the same number for ever in one file, other numbers in another. */
export class Names {
  readonly #find: Statement
  readonly #read: Statement
  readonly #add: Statement
  readonly #range: Statement
  readonly #ids = new Recent<string, number>(cachedMax)
  readonly #texts = new Recent<number, string>(cachedMax)

  constructor(database: Database) {
    this.#find = database.prepare("SELECT id FROM names WHERE text = ?")
    this.#read = database.prepare("SELECT text FROM names WHERE id = ?")
    this.#add = database.prepare("INSERT INTO names (text) VALUES (?) RETURNING id")
    this.#range = database.prepare("SELECT id FROM names WHERE text >= ? AND text < ?")
    database.onRollback(() => {
      this.#ids.clear()
      this.#texts.clear()
    })
  }

  /** The number of a text, given now if it had none. */
  idOf(name: string): number {
    const known = this.#ids.get(name)
    if (known !== undefined) return known
    return this.#keep(name, int((this.#find.get(name) ?? this.#add.get(name))?.["id"]))
  }

  /** The number of a text, if it has one. */
  find(name: string): number | undefined {
    const known = this.#ids.get(name)
    if (known !== undefined) return known
    const row = this.#find.get(name)
    return row === undefined ? undefined : this.#keep(name, int(row["id"]))
  }

  textOf(id: number): string {
    const known = this.#texts.get(id)
    if (known !== undefined) return known
    const row = this.#read.get(id)
    if (row === undefined) throw corrupt("read a name", `there is no name ${id}`)
    const name = text(row["text"])
    this.#keep(name, id)
    return name
  }

  /** The text whose number stands in a column. */
  textAt(row: Row, column: string): string {
    return this.textOf(int(row[column]))
  }

  /** Numbers of all texts that begin with `prefix`. */
  beginningWith(prefix: string): ReadonlyArray<number> {
    return this.#range.all(prefix, prefixEnd(prefix)).map((row) => int(row["id"]))
  }

  #keep(name: string, id: number): number {
    this.#ids.set(name, id)
    this.#texts.set(id, name)
    return id
  }
}

/** A map that forgets what was not asked for in a while: two generations, the older one dropped when the younger is full. */
class Recent<K, V> {
  readonly #max: number
  #young = new Map<K, V>()
  #old = new Map<K, V>()

  constructor(max: number) {
    this.#max = max
  }

  get(key: K): V | undefined {
    const young = this.#young.get(key)
    if (young !== undefined) return young
    const old = this.#old.get(key)
    if (old !== undefined) this.set(key, old)
    return old
  }

  set(key: K, value: V): void {
    if (this.#young.size >= this.#max) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(key, value)
  }

  clear(): void {
    this.#young = new Map()
    this.#old = new Map()
  }
}
