/**
 * What a person wished of updates on this home and what must outlive the daemon: paused, pinned, asked for, stopped. One small file, written whole
 * and synced. What is damaged in it counts as not wished, and says so.
 */
import { Result, Schema } from "effect"
import { readSmall, writeWhole } from "../vault/files.ts"

const Id = Schema.String.check(Schema.isPattern(/^[0-9a-f]{64}$/))

/** Releases kept as to be stopped; of more, the newest. */
export const stoppedMax = 64

const Wishes = Schema.Struct({
  paused: Schema.Boolean,
  /** Version of kOS that is taken only. */
  pinned: Schema.NullOr(Schema.String.check(Schema.isMaxLength(64))),
  /** Release that a person asked for: how far, at how many endings of earlier attempts, whether although its rehearsal differs, and whether although it is not its turn. */
  asked: Schema.NullOr(Schema.Struct({
    release: Id, to: Schema.Literals(["fetched", "staged", "rehearsed", "committed"]), endings: Schema.Int, despite: Schema.Boolean, insist: Schema.Boolean
  })),
  /** R5.2: releases that a person wants stopped and that have not said so yet, the newest last. Files of older versions do not have it. */
  stopped: Schema.optionalKey(Schema.Array(Id).check(Schema.isMaxLength(stoppedMax))),
  /** Packs that a person wants to be kept and passed on. */
  seeds: Schema.Array(Id).check(Schema.isMaxLength(1_024))
})
export type Wishes = typeof Wishes.Type

const none: Wishes = { paused: false, pinned: null, asked: null, seeds: [] }

/** Bytes of the file. */
const bytesMax = 131_072

export interface WishBook {
  readonly get: () => Wishes
  /** Synced before it resolves. */
  readonly set: (change: Partial<Wishes>) => Promise<void>
}

export const openWishes = async (path: string, notice: (text: string) => void): Promise<WishBook> => {
  let wishes = none
  const bytes = await readSmall(path, bytesMax)
  if (bytes !== "absent") {
    const read = typeof bytes === "string" ? undefined : decode(Buffer.from(bytes).toString("utf8"))
    if (read === undefined) notice(`${path} is damaged; pauses, pins and wishes in it are forgotten`)
    else wishes = read
  }
  let turn = Promise.resolve()
  return {
    get: () => wishes,
    set: (change) => {
      wishes = { ...wishes, ...change }
      const text = JSON.stringify(wishes)
      const written = turn.then(() => writeWhole(path, text))
      turn = written.catch(() => undefined)
      return written
    }
  }
}

const decode = (text: string): Wishes | undefined => {
  try {
    const read = Schema.decodeUnknownResult(Wishes)(JSON.parse(text))
    return Result.isSuccess(read) ? read.success : undefined
  } catch {
    return undefined
  }
}
