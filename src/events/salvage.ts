/**
 * Takes what can still be read of a log from a damaged store into a new one, in this process, as if the old store were a peer: every
 * block comes with its proof to the head that was signed, so nothing false can come along, and a gap stays a gap.
 *
 * Not Hypercore's `clear`, which seems made for this: in 11.37 it also deletes the tree nodes of a held neighbour to the left of what is
 * cleared, and the log can then prove neither that block nor its own earlier lengths.
 */
import type { HypercoreStore } from "./hypercore-store.ts"

/** One salvage takes this long at most, milliseconds. */
export const salvageMsMax = 30_000

/** Resolves with the number of blocks asked for that the new store holds then. */
export const salvage = async (from: HypercoreStore, to: HypercoreStore, log: string, blocks: ReadonlyArray<number>): Promise<number> => {
  const [old, fresh] = [await from.session(log), await to.session(log)]
  const [left, right] = [wire(old.replicate(true, {})), wire(fresh.replicate(false, {}))]
  const ended = Promise.all([left, right].map((end) => new Promise<void>((resolve) => {
    end.on("close", resolve)
    end.on("error", () => undefined)
  })))
  left.pipe(right)
  right.pipe(left)
  const range = fresh.download({ blocks })
  let timer: NodeJS.Timeout | undefined
  await Promise.race([
    range.done().catch(() => undefined), ended, new Promise<void>((resolve) => timer = setTimeout(resolve, salvageMsMax))
  ])
  clearTimeout(timer)
  range.destroy()
  left.destroy()
  right.destroy()
  await ended
  let taken = 0
  for (const block of blocks) if (await fresh.has(block)) taken++
  await old.close().catch(() => undefined)
  await fresh.close()
  return taken
}

/** The slice of a streamx duplex that is used here. */
interface Wire {
  pipe(to: Wire): void
  on(event: "close" | "error", listener: () => void): void
  destroy(): void
}

const isWire = (value: unknown): value is Wire =>
  typeof value === "object" && value !== null && ["pipe", "on", "destroy"].every((name) => typeof Reflect.get(value, name) === "function")

const wire = (value: unknown): Wire => {
  if (!isWire(value)) throw new Error("replicate gave no stream")
  return value
}
