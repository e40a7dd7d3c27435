/**
 * Opens the log store of one mesh, whatever happened to its files. Design section 3, point 5.
 *
 * - *RocksDB cannot open it, or the own log in it cannot be opened:* the whole directory is put aside, never removed, and a new store is
 *   begun. The own log is then found to be short by its mark, and peers bring it back, as they do the logs of others.
 * - *`CURRENT`, which names RocksDB's newest manifest, is gone or torn while a manifest is there:* it is written again. Nothing is lost then.
 * - *Single blocks of the own log are damaged:* the store is put aside too, and what can still be read of the own log is taken over
 *   first. The log is then short of exactly the damaged blocks, for peers to bring back.
 * - *Corestore says that the directory was moved:* its own mark against copies is put aside. Whether the own log may be written is decided
 *   by our mark, which knows more: a copy begins a new log, an older copy that was put back is short.
 *
 * A disk that is full, read-only or failing is not damage: the error stands, and nothing is moved.
 */
import { readdir, readFile, rename, writeFile } from "node:fs/promises"
import type { KeyPair } from "../codec/signature.ts"
import { HypercoreStore, isDamage, isMoved, logKey } from "../events/hypercore-store.ts"
import { salvage } from "../events/salvage.ts"

/** Opened again after something was put aside at most this often. */
const repairsMax = 3

export interface OpenStoreOptions {
  /** Holds `store`; what is put aside lies beside it. */
  readonly directory: string
  /** Of the log that is written now. */
  readonly own: KeyPair
  readonly now: () => number
  readonly notice: (level: "warn", text: string) => void
}

export const openStore = async ({ directory, own, now, notice }: OpenStoreOptions): Promise<HypercoreStore> => {
  const path = `${directory}/store`
  for (let repairs = 0; ; repairs++) {
    let store: HypercoreStore | undefined
    try {
      if (await nameManifest(`${path}/db`)) notice("warn", "the log store had forgotten which of its manifests is the newest; it was named again")
      store = await HypercoreStore.open(path)
      const { held, damaged } = await store.examine(own)
      if (damaged.length === 0) return store
      await store.close()
      const some = damaged.slice(0, 8).join(", ") + (damaged.length > 8 ? ", …" : "")
      const aside = `${directory}/store.damaged-${now()}-${repairs}`
      notice("warn", `${damaged.length} of ${damaged.length + held.length} blocks of this node's log cannot be read from the disk (${some}); the store is kept as ${
        aside}, and logs are fetched from peers again`)
      await rename(path, aside)
      store = await HypercoreStore.open(path)
      const old = await HypercoreStore.open(aside)
      const taken = await salvage(old, store, logKey(own.publicKey), held).finally(() => old.close())
      notice("warn", `${taken} blocks of this node's log were taken over from there`)
      return store
    } catch (cause) {
      await store?.close().catch(() => undefined)
      const text = cause instanceof Error ? cause.message : String(cause)
      if (repairs >= repairsMax || !(isDamage(cause) || isMoved(cause))) throw cause
      const what = isMoved(cause) ? `${path}/CORESTORE` : path
      const aside = `${directory}/${isMoved(cause) ? "CORESTORE.moved" : "store.damaged"}-${now()}-${repairs}`
      notice("warn", isMoved(cause)
        ? `the log store was copied or moved (${text}); its mark is kept as ${aside}`
        : `the log store is damaged (${text}); it is kept as ${aside}, and logs are fetched from peers again`)
      await rename(what, aside)
    }
  }
}

/** Writes `CURRENT` again when it does not name a manifest that is there, and one is; true when it was written. */
const nameManifest = async (db: string): Promise<boolean> => {
  const names: ReadonlyArray<string> = await readdir(db).catch(() => [])
  const newest = names.filter((name) => /^MANIFEST-[0-9]{6,}$/.test(name)).sort((a, b) => a.length - b.length || (a < b ? -1 : 1)).at(-1)
  if (newest === undefined) return false
  const named = (await readFile(`${db}/CURRENT`, "utf8").catch(() => "")).trim()
  if (names.includes(named)) return false
  await writeFile(`${db}/CURRENT`, `${newest}\n`, { flush: true })
  return true
}
