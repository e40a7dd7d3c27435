import { Effect, Schema } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"

/**
 * Why the database could not do what was asked. `full`: no space, nothing was changed, works again when space is back. `readonly`: the disk
 * or file takes no writes. `corrupt`: the file is not what we wrote; it is rebuilt from the logs. `newer`: written by a newer kOS. `busy`:
 * another process holds it. `failed`: anything else, with SQLite's sentence.
 */
export class TableError extends Schema.TaggedError<TableError>()("TableError", {
  reason: Schema.Literals(["full", "readonly", "corrupt", "newer", "busy", "failed"]),
  /** What was being done: a few words or the first words of the SQL. */
  operation: Schema.String,
  detail: Schema.String,
  /** SQLite's extended result code (https://www.sqlite.org/rescode.html); absent when another layer refused. */
  code: Schema.optionalKey(Schema.Int)
}) {
  override get message() {
    return `tables: ${this.operation} failed (${this.reason}): ${this.detail}`
  }
}

/** Runs synchronous table work as an effect; anything but a TableError is a defect. */
export const tableEffect = <A>(work: () => A): Effect.Effect<A, TableError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(work())
    } catch (cause) {
      return cause instanceof TableError ? Effect.fail(cause) : Effect.die(cause)
    }
  })

/** The TableError of something that SQLite or the file system threw; other things (our own mistakes) come back unchanged. */
export const asTableError = (cause: unknown, operation: string, file: string): unknown => {
  if (cause instanceof TableError || !(cause instanceof Error)) return cause
  const code = "errcode" in cause && typeof cause.errcode === "number" ? cause.errcode : undefined
  if (code !== undefined) return new TableError({ reason: reasonOf(code, file), operation, detail: cause.message.slice(0, 500), code })
  const name = "code" in cause ? cause.code : undefined
  if (name === "ENOSPC" || name === "EDQUOT") return new TableError({ reason: "full", operation, detail: cause.message })
  if (name === "EROFS" || name === "EACCES" || name === "EPERM") return new TableError({ reason: "readonly", operation, detail: cause.message })
  if ("syscall" in cause) return new TableError({ reason: "failed", operation, detail: cause.message })
  return cause
}

export const corrupt = (operation: string, detail: string): TableError => new TableError({ reason: "corrupt", operation, detail })

const SQLITE_BUSY = 5
const SQLITE_LOCKED = 6
const SQLITE_READONLY = 8
const SQLITE_IOERR = 10
const SQLITE_CORRUPT = 11
const SQLITE_FULL = 13
const SQLITE_CANTOPEN = 14
const SQLITE_NOTADB = 26
const SQLITE_IOERR_DATA = 10 | (32 << 8)
const SQLITE_IOERR_CORRUPTFS = 10 | (33 << 8)

const reasonOf = (code: number, file: string): TableError["reason"] => {
  if (code === SQLITE_IOERR_DATA || code === SQLITE_IOERR_CORRUPTFS) return "corrupt"
  switch (code & 0xff) {
    case SQLITE_FULL: return "full"
    case SQLITE_READONLY: return "readonly"
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return "corrupt"
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return "busy"
    // A plain input or output error does not say why; the disk does. (The shared-memory file of the write-ahead log is one such place.)
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN: return diskReason(file)
    default: return "failed"
  }
}

const diskReason = (file: string): "full" | "readonly" | "failed" => {
  const directory = path.dirname(file)
  try {
    fs.accessSync(directory, fs.constants.W_OK)
  } catch {
    return fs.existsSync(directory) ? "readonly" : "failed"
  }
  try {
    return fs.statfsSync(directory).bavail === 0 ? "full" : "failed"
  } catch {
    return "failed"
  }
}
