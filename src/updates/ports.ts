/**
 * What the parts of an update ask of each other. Boot puts them together (`src/boot/updates.ts`); tests put other things in their place.
 */
import type { Duplex } from "node:stream"
import type { Release } from "./release.ts"

/** A channel's log as it is held here: what is not on this disk is not there. */
export interface ChannelLog {
  /** Key of the log, 64 hex digits. */
  readonly key: string
  /** Blocks held without a gap from the first one on. */
  readonly length: () => number
  readonly block: (index: number) => Promise<Uint8Array>
  readonly onGrow: (listener: () => void) => () => void
  /** Set when somebody showed a different signed history. */
  readonly fork: () => string | undefined
}

/** The log of a channel that this home publishes. */
export interface OwnChannelLog extends ChannelLog {
  /** Synced before it resolves. */
  readonly append: (blocks: ReadonlyArray<Uint8Array>) => Promise<void>
}

/** A file of chunks that travels by torrent. Known from signed indexes only. */
export interface PackRef {
  readonly sha256: string
  readonly length: number
  /** Bytes; a power of two from 1 MiB to 4 MiB. */
  readonly pieceLength: number
  /** SHA-1 of each piece, 20 bytes each. */
  readonly pieces: Uint8Array
}

export interface Range {
  readonly offset: number
  readonly length: number
}

/** Where packs come from. `ensure` resolves with the file in which these ranges are whole by the torrent's hashes. */
export interface PackSource {
  readonly ensure: (pack: PackRef, ranges: ReadonlyArray<Range>, options: { readonly signal: AbortSignal; readonly onBytes?: (bytes: number) => void }) => Promise<string>
  /** A range passed the torrent's hashes and is not what the index says: who sent it is to be left. */
  readonly bad: (pack: PackRef, range: Range) => void
}

/** A wire to a device of the mesh over which BitTorrent is spoken. */
export interface PackWire {
  /** 64 hex digits. */
  readonly device: string
  readonly carrier: "mesh" | "lan"
  readonly stream: Duplex
}

export interface TransferLimits {
  /** Bytes a second; 0 for none, -1 for nothing at all. */
  readonly uploadMax: number
  readonly downloadMax: number
}

export interface SeedStatus {
  readonly pack: string
  readonly length: number
  /** Bytes held. */
  readonly held: number
  readonly uploaded: number
  readonly downloaded: number
  readonly wires: number
  readonly seeding: boolean
}

/** The process that fetches and seeds packs. */
export interface Transfer extends PackSource {
  /** Packs that are held, whole or in part, are served from now on; a pack in part serves what it has. */
  readonly seed: (pack: PackRef) => Promise<void>
  /** Stops serving it and removes its file. */
  readonly remove: (sha256: string) => Promise<void>
  /** Is this pack held here, or being fetched? By its info hash, 40 hex digits. */
  readonly serves: (infoHash: string) => boolean
  /** Takes over the stream; resolves when it ended. */
  readonly addWire: (infoHash: string, wire: PackWire) => Promise<void>
  /** Called when a fetch needs wires: again after a while as long as it does. */
  readonly onWanted: (listener: (infoHash: string, pack: PackRef) => void) => () => void
  readonly setLimits: (limits: TransferLimits) => void
  readonly setMirrors: (urls: ReadonlyArray<string>) => void
  readonly banned: () => ReadonlyArray<string>
  readonly onBan: (listener: (device: string, why: string) => void) => () => void
  readonly status: () => Promise<{ readonly seeds: ReadonlyArray<SeedStatus>; readonly memoryBytes: number; readonly pid: number | undefined }>
  /** The file of a pack that is whole here; undefined when it is not. */
  readonly file: (sha256: string) => Promise<string | undefined>
  /** Takes a pack's file from elsewhere, such as a stick, after checking it. */
  readonly take: (pack: PackRef, path: string) => Promise<void>
  readonly close: () => Promise<void>
}

/** What a channel says, as of the last time that it was read. */
export interface ChannelState {
  /** SHA-256 of its first root. */
  readonly channel: string
  readonly name: string
  readonly logKey: string
  /** `stale`: verified, but expired at the reference time (R2.4). `untrusted`: `fault` says which check failed; the releases are those of the last good state. `empty`: nothing has come yet. */
  readonly trust: "fresh" | "stale" | "untrusted" | "empty"
  readonly fault: string | undefined
  readonly versions: { readonly root: number; readonly timestamp: number; readonly snapshot: number; readonly targets: number }
  /** When the timestamp in force was signed, and when it expires; ms, by its publisher. */
  readonly signedMs: number
  readonly expiresMs: number
  readonly releases: ReadonlyArray<Release>
  readonly yanked: ReadonlyArray<{ readonly target: string; readonly id: string; readonly reason: string }>
  /** Targets that are no releases by our schema, and why. */
  readonly faulty: ReadonlyArray<{ readonly target: string; readonly why: string }>
}

/** One channel that is followed. */
export interface Channel {
  readonly state: () => ChannelState
  /** Reads the log's blocks and verifies anew; never throws for what a publisher or peer can cause. */
  readonly refresh: () => Promise<ChannelState>
  /** The index of a release, checked. */
  readonly index: (release: Release) => Promise<Uint8Array>
}

/** One place for a version of something. */
export interface Slot {
  /** Grows by one with each staging; 0 is what was there before anything was staged. */
  readonly generation: number
  readonly name: string
  readonly version: string
  /** Id of its release; undefined for what was there before. */
  readonly release: string | undefined
  /** `good`: ran before and may again. `trial`: is to run, or runs, until it is good. `failed`: its trial ended badly. */
  readonly state: "current" | "trial" | "good" | "staged" | "failed"
  readonly path: string
  readonly why: string | undefined
}

export interface SlotImage {
  readonly name: string
  readonly version: string
  readonly release: string
  /** Writes the tree into this empty directory, or the image into the file `image` in it. */
  readonly write: (directory: string) => Promise<void>
}

/** The places between which a device switches. Real layers: plain directories, systemd-boot, U-Boot. */
export interface Slots {
  readonly kind: "directories" | "systemd-boot" | "u-boot"
  readonly list: () => Promise<ReadonlyArray<Slot>>
  /** R6.1. The same release staged twice is staged once. */
  readonly stage: (image: SlotImage) => Promise<Slot>
  /** It is to be tried at the next start, so many times, each for so long. */
  readonly activate: (generation: number, trial: { readonly tries: number; readonly deadlineMs: number }) => Promise<void>
  /** The one on trial is good and current from now on. */
  readonly good: (generation: number) => Promise<void>
  /** Makes an earlier good one current, at the next start; without a generation the one before. */
  readonly rollback: (generation: number | undefined, why: string) => Promise<Slot>
  /** Removes a staged or failed one, or a good one that is not current. */
  readonly drop: (generation: number) => Promise<void>
  /** A trial that ended badly since this was asked the last time; `settle` forgets it. */
  readonly failed: () => Promise<{ readonly slot: Slot; readonly why: string } | undefined>
  readonly settle: (generation: number) => Promise<void>
}

export interface HealthCheck {
  readonly name: string
  readonly ok: boolean
  readonly detail: string
}

export interface RehearsalReport {
  readonly ok: boolean
  /** How it was shut in; `network` and `writes` are true when it was kept from them. */
  readonly isolation: { readonly by: "bubblewrap" | "namespaces" | "node-permissions"; readonly network: boolean; readonly writes: boolean; readonly says: string }
  readonly events: number
  readonly ms: number
  /** In words; empty when both make the same of the same events. */
  readonly differences: ReadonlyArray<string>
  /** Last lines that it printed. */
  readonly log: ReadonlyArray<string>
  readonly fault: string | undefined
}
