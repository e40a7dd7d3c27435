/**
 * The memory log store, as unkind as a real disk: it loses what was not synced when the power is cut, forgets a tail without a word,
 * runs out of space, and refuses writes after that until it was tried again. Its tree hash is a chain over the blocks.
 */
import { Effect, Layer } from "effect"
import { toHex } from "../codec/bytes.ts"
import { hashParts } from "../codec/hash.ts"
import type { KeyPair } from "../codec/signature.ts"
import { type Head, type HeldLog, LogStore, type OwnLog } from "./log-store.ts"
import { logKey } from "./hypercore-store.ts"
import { Disk, DiskError, type SlotFile, slotBytes } from "./ports.ts"

interface MemoryLog {
  readonly blocks: Array<Uint8Array>
  synced: number
}

export class MemoryMachine {
  readonly #logs = new Map<string, MemoryLog>()
  readonly #slots = new Map<string, Array<Uint8Array>>()
  #capacity: number
  #failed: "full" | "readonly" | undefined
  #readonly = false
  #bootId = 1
  #place = 1
  /** Called with the head right after a block became visible to peers; tests see here what a neighbour may know. */
  onPublish: (log: string, head: Head) => void = () => undefined
  /** Set to make the sync of the next append fail after the block was written. */
  failSyncs = 0

  constructor(options: { readonly capacityBytes?: number } = {}) {
    this.#capacity = options.capacityBytes ?? 64 * 1024 * 1024
  }

  /** All that was not synced is gone, and the machine starts anew. */
  powerCut(): void {
    for (const log of this.#logs.values()) log.blocks.length = log.synced
    this.#bootId++
  }

  /** What a flipped byte in a write-ahead file does: a log ends earlier, and nothing says so. */
  loseTail(log: string, length: number): void {
    const held = this.#logs.get(log)
    if (held !== undefined) {
      held.blocks.length = Math.min(length, held.blocks.length)
      held.synced = Math.min(length, held.synced)
    }
  }

  /** Puts other bytes where a block stood. */
  rewrite(log: string, block: number, bytes: Uint8Array): void {
    const held = this.#logs.get(log)
    if (held !== undefined && block < held.blocks.length) held.blocks[block] = bytes
  }

  setCapacity(bytes: number): void {
    this.#capacity = bytes
  }

  setReadonly(readonly: boolean): void {
    this.#readonly = readonly
  }

  /** The directory was copied elsewhere. */
  copied(): void {
    this.#place++
  }

  tearSlot(name: string, slot: number): void {
    const slots = this.#slots.get(name)
    if (slots?.[slot] !== undefined) slots[slot] = slots[slot].subarray(0, 7)
  }

  forgetSlots(name: string): void {
    this.#slots.delete(name)
  }

  used(): number {
    let sum = 0
    for (const log of this.#logs.values()) for (const block of log.blocks) sum += block.byteLength
    return sum
  }

  readonly logStore: Layer.Layer<LogStore> = Layer.sync(LogStore, () => LogStore.of({
    openOwn: (keyPair) => Effect.sync(() => this.#own(keyPair)),
    openHeld: (key) => Effect.sync(() => this.#held(key))
  }))

  readonly disk: Layer.Layer<Disk> = Layer.sync(Disk, () => Disk.of({
    slots: (name) => this.#readonly && !this.#slots.has(name)
      ? Effect.fail(new DiskError({ operation: "write", reason: "readonly", detail: "read-only" }))
      : Effect.sync(() => this.#slotFile(name)),
    free: Effect.sync(() => Math.max(0, this.#capacity - this.used())),
    place: () => Effect.sync(() => `place-${this.#place}`),
    bootId: Effect.sync(() => `boot-${this.#bootId}`)
  }))

  #log(key: string): MemoryLog {
    let log = this.#logs.get(key)
    if (log === undefined) this.#logs.set(key, log = { blocks: [], synced: 0 })
    return log
  }

  #held(key: string): HeldLog {
    const log = this.#log(key)
    return {
      key,
      length: () => log.blocks.length,
      fork: () => 0,
      treeHash: async (length) => chain(log.blocks, length),
      get: async (block) => {
        const bytes = log.blocks[block]
        if (bytes === undefined) throw new Error(`block ${block} is not held`)
        return bytes
      }
    }
  }

  #own(keyPair: KeyPair): OwnLog {
    const key = logKey(keyPair.publicKey)
    const log = this.#log(key)
    return {
      ...this.#held(key),
      signed: () => log.blocks.length,
      count: async () => log.blocks.length,
      prepare: async () => undefined,
      append: async (block, beforePublish) => {
        await Promise.resolve()
        if (this.#readonly) throw systemError("EROFS", "read-only file system")
        if (this.#failed !== undefined && this.used() + block.byteLength > this.#capacity) throw systemError("ENOSPC", "no space left on device")
        if (this.used() + block.byteLength > this.#capacity) {
          this.#failed = "full"
          throw systemError("ENOSPC", "no space left on device")
        }
        this.#failed = undefined
        log.blocks.push(block)
        if (this.failSyncs > 0) {
          this.failSyncs--
          throw systemError("EIO", "input/output error")
        }
        log.synced = log.blocks.length
        const head: Head = { length: log.blocks.length, fork: 0, treeHash: chain(log.blocks, log.blocks.length) }
        await beforePublish(head)
        this.onPublish(key, head)
        return head
      }
    }
  }

  #slotFile(name: string): SlotFile {
    let slots = this.#slots.get(name)
    if (slots === undefined) this.#slots.set(name, slots = [new Uint8Array(0), new Uint8Array(0)])
    const held = slots
    return {
      read: async () => [...held],
      write: async (turn, bytes) => {
        if (this.#readonly) throw systemError("EROFS", "read-only file system")
        const slot = new Uint8Array(slotBytes)
        slot.set(bytes)
        held[turn % 2] = slot
      },
      close: async () => undefined
    }
  }
}

const chain = (blocks: ReadonlyArray<Uint8Array>, length: number): string => {
  let hash: Uint8Array = new Uint8Array(32)
  for (let i = 0; i < length; i++) hash = hashParts("memory-tree", hash, blocks[i] ?? new Uint8Array(0))
  return toHex(hash)
}

const systemError = (code: string, text: string): Error => Object.assign(new Error(`${code}: ${text}`), { code })
