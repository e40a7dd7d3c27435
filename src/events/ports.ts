/**
 * The world outside, as the journal sees it: wall clock, chance and a small synced file. Each has a real layer and a memory layer,
 * and the memory layer is no kinder than the real one.
 */
import { Clock, Context, Effect, Layer, Schema } from "effect"
import { writeSync } from "node:fs"
import { constants, type FileHandle, open, readFile, statfs } from "node:fs/promises"
import { randomBytes } from "../codec/signature.ts"

export class DiskError extends Schema.TaggedError<DiskError>()("DiskError", {
  operation: Schema.Literals(["read", "write", "space"]),
  /** `full`, `readonly` or what the system said. */
  reason: Schema.Literals(["full", "readonly", "failed"]),
  detail: Schema.String
}) {
  override get message() {
    return this.reason === "full" ? "the disk is full"
      : this.reason === "readonly" ? "the disk is read-only"
      : `disk ${this.operation} failed: ${this.detail}`
  }
}

/** `ENOSPC`, `EROFS` and their kin, from whatever layer they came. */
export const diskReason = (cause: unknown): DiskError["reason"] => {
  const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : ""
  const text = cause instanceof Error ? cause.message : ""
  if (code === "ENOSPC" || code === "EDQUOT" || /no space left|disk quota/i.test(text)) return "full"
  if (code === "EROFS" || code === "EACCES" || /read-?only file ?system/i.test(text)) return "readonly"
  return "failed"
}

/** One small record that survives a power cut as a whole: two slots, written in turn, each synced before the next is touched. */
export interface SlotFile {
  read(): Promise<ReadonlyArray<Uint8Array>>
  write(turn: number, bytes: Uint8Array): Promise<void>
  close(): Promise<void>
}

export const slotBytes = 512

export class Disk extends Context.Service<Disk, {
  /** Opens or makes the slot file of this name; both slots are read raw, and the caller tells good from torn. */
  slots(name: string): Effect.Effect<SlotFile, DiskError>
  /** Bytes free for us. */
  readonly free: Effect.Effect<number, DiskError>
  /** Names this place: changes when the directory is copied to another file system or directory. */
  place(name: string): Effect.Effect<string, DiskError>
  /** Changes at each boot of the machine. */
  readonly bootId: Effect.Effect<string>
}>()("kos/events/Disk") {
  static readonly layer = (directory: string): Layer.Layer<Disk> => Layer.succeed(Disk, Disk.of({
    slots: (name) => attempt("read", () => openSlots(`${directory}/${name}`)),
    free: attempt("space", async () => {
      const { bavail, bsize } = await statfs(directory)
      return bavail * bsize
    }),
    place: (name) => attempt("read", async () => {
      const file = await open(`${directory}/${name}`, "r")
      try {
        // Not the device number: it changes when disks are found in another order. A copy has another inode or birth.
        const { ino, birthtimeNs } = await file.stat({ bigint: true })
        return `${ino}:${birthtimeNs}`
      } finally {
        await file.close()
      }
    }),
    bootId: Effect.promise(async () => {
      try {
        return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim()
      } catch {
        return "unknown"
      }
    })
  }))
}

const attempt = <A>(operation: DiskError["operation"], run: () => Promise<A>) => Effect.tryPromise({
  try: run,
  catch: (cause) => new DiskError({ operation, reason: diskReason(cause), detail: cause instanceof Error ? cause.message : String(cause) })
})

const openSlots = async (path: string): Promise<SlotFile> => {
  const file: FileHandle = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600)
  return {
    read: async () => {
      const bytes = Buffer.alloc(slotBytes * 2)
      const { bytesRead } = await file.read(bytes, 0, bytes.byteLength, 0)
      return [0, 1].map((i) => bytes.subarray(i * slotBytes, Math.min((i + 1) * slotBytes, bytesRead)))
    },
    write: async (turn, record) => {
      const slot = Buffer.alloc(slotBytes)
      slot.set(record)
      // The write ends in memory and takes microseconds; only the sync waits for the disk.
      writeSync(file.fd, slot, 0, slotBytes, (turn % 2) * slotBytes)
      await file.datasync()
    },
    close: () => file.close()
  }
}

/** Chance. Tests give a seeded one. */
export const Random = Context.Reference<(bytes: number) => Uint8Array>("kos/events/Random", { defaultValue: () => randomBytes })

/** Wall milliseconds, read without an effect in hot loops. */
export const wallClock: Effect.Effect<() => number> = Effect.map(Clock.Clock, (clock) => () => clock.currentTimeMillisUnsafe())
