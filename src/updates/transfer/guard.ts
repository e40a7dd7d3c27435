/**
 * Who sent which block, and who lied (R4.2). WebTorrent throws a failed piece away and asks the same wires again, for ever.
 *
 * A piece that fails and came from one device alone is that device's doing. When several gave blocks nobody can be named yet: the hashes of the blocks are kept, and
 * the piece is asked of one device at a time. When it then fails, that one is named; when it fits, everybody whose block was another one is. So an honest device beside a
 * poisoner is never named, and a poisoner costs at most two fetches of a piece. The signed hash of a chunk may fail although the torrent's hash of the
 * piece held (a forged SHA-1): then the piece is asked of others, and who gave it is named when theirs is a different one. If all give the same the index is wrong, and nobody is named.
 *
 * Pure bookkeeping: no clock, no wires, no disk.
 */
import { createHash } from "node:crypto"

export interface Guilt {
  readonly device: string
  readonly why: string
}

export interface Guard {
  /** May this device be asked for blocks of this piece? Makes it the only one asked where one at a time is to be. */
  readonly mayAsk: (index: number, device: string) => boolean
  /** A block was taken into the piece. `piece` is the gatherer's own object: blocks for an earlier one do not count. */
  readonly block: (index: number, piece: object, offset: number, device: string, bytes: Uint8Array) => void
  readonly failed: (index: number) => ReadonlyArray<Guilt>
  readonly fitted: (index: number) => ReadonlyArray<Guilt>
  /** The piece fits the torrent and not the index; its hash and who gave it are kept against the next one. */
  readonly disowned: (index: number, sha256: string) => void
  /** The devices of a disowned piece, when the one that came after it is another. */
  readonly replaced: (index: number, sha256: string) => ReadonlyArray<Guilt>
  readonly isDisowned: (index: number) => boolean
  /** No wire to this device is left: a piece that only it was asked for is free. */
  readonly left: (device: string) => void
  /** The one that the piece is asked of kept silent for too long. */
  readonly release: () => void
}

/** Failed pieces whose blocks are remembered. */
const suspectsMax = 64

interface Given {
  readonly device: string
  readonly bytes: Uint8Array
}

interface Suspect {
  readonly device: string
  readonly offset: number
  readonly digest: string
}

interface Disowned {
  readonly sha256: string
  readonly devices: ReadonlySet<string>
}

export const makeGuard = (pack: string): Guard => {
  const gathering = new Map<number, { readonly piece: object; readonly blocks: Map<number, Given> }>()
  const suspects = new Map<number, ReadonlyArray<Suspect>>()
  /** Pieces asked of one device at a time, and of whom just now. */
  const alone = new Map<number, string | undefined>()
  /** Devices that gave a piece that is held. */
  const givers = new Map<number, ReadonlySet<string>>()
  const disowned = new Map<number, Disowned>()
  const name = `pack ${pack.slice(0, 12)}`

  const devicesOf = (index: number): ReadonlySet<string> => new Set([...gathering.get(index)?.blocks.values() ?? []].map((given) => given.device))

  return {
    mayAsk: (index, device) => {
      if (disowned.get(index)?.devices.has(device) === true) return false
      if (!alone.has(index)) return true
      const asked = alone.get(index)
      if (asked === undefined) alone.set(index, device)
      return asked === undefined || asked === device
    },
    block: (index, piece, offset, device, bytes) => {
      let gathered = gathering.get(index)
      if (gathered?.piece !== piece) gathering.set(index, gathered = { piece, blocks: new Map() })
      if (!gathered.blocks.has(offset)) gathered.blocks.set(offset, { device, bytes })
    },
    failed: (index) => {
      const blocks = gathering.get(index)?.blocks
      const devices = [...devicesOf(index)]
      gathering.delete(index)
      const [only] = devices
      if (only !== undefined && devices.length === 1) {
        alone.set(index, undefined)
        return [{ device: only, why: `piece ${index} of ${name}, which it alone sent, is not what its hash says` }]
      }
      if (blocks !== undefined && suspects.size < suspectsMax) {
        suspects.set(index, [...blocks].map(([offset, { device, bytes }]) => ({ device, offset, digest: digestOf(bytes) })))
      }
      alone.set(index, undefined)
      return []
    },
    fitted: (index) => {
      const blocks = gathering.get(index)?.blocks
      const before = suspects.get(index)
      if (blocks !== undefined) givers.set(index, devicesOf(index))
      gathering.delete(index)
      suspects.delete(index)
      alone.delete(index)
      if (blocks === undefined || before === undefined) return []
      const liars = new Set<string>()
      for (const { device, offset, digest } of before) {
        const good = blocks.get(offset)
        if (good !== undefined && digestOf(good.bytes) !== digest) liars.add(device)
      }
      return [...liars].map((device) => ({ device, why: `a block that it sent for piece ${index} of ${name} is not the one that fits` }))
    },
    disowned: (index, sha256) => {
      const devices = givers.get(index) ?? new Set<string>()
      givers.delete(index)
      disowned.set(index, { sha256, devices })
    },
    replaced: (index, sha256) => {
      const before = disowned.get(index)
      if (before === undefined) return []
      disowned.delete(index)
      if (before.sha256 === sha256) return []
      return [...before.devices].map((device) => ({ device, why: `piece ${index} of ${name}, which it sent, is another one than others have under the same hash` }))
    },
    isDisowned: (index) => disowned.has(index),
    left: (device) => {
      for (const [index, asked] of alone) if (asked === device) alone.set(index, undefined)
    },
    release: () => {
      for (const index of alone.keys()) alone.set(index, undefined)
    }
  }
}

const digestOf = (bytes: Uint8Array): string => createHash("sha1").update(bytes).digest("hex")
