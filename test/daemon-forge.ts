/** Blocks written by hand into the own log of a stopped home: what a hostile, broken or newer member would publish. */
import { encodeCbor } from "../src/codec/cbor.ts"
import { encodeEvent, sealFrame } from "../src/codec/frame.ts"
import type { Envelope } from "../src/codec/envelope.ts"
import { HypercoreStore } from "../src/events/hypercore-store.ts"
import { Vault } from "../src/vault/vault.ts"

export interface Forge {
  readonly log: string
  /** Number of the block that is made. */
  readonly block: number
  readonly epochKey: Uint8Array
  /** A sound frame of these events. */
  readonly frame: (...events: ReadonlyArray<Partial<Envelope>>) => Uint8Array
  /** A frame that opens and holds these bytes in place of events. */
  readonly wire: (...values: ReadonlyArray<unknown>) => Uint8Array
}

/** Appends one block for each maker and resolves with their addresses `log/block`. The daemon of this home must not run. */
export const forgeBlocks = async (home: string, makers: ReadonlyArray<(forge: Forge) => Uint8Array>): Promise<ReadonlyArray<string>> => {
  const vault = await Vault.open(home)
  const mesh = await vault?.currentMesh()
  if (vault === undefined || mesh === undefined) throw new Error(`${home} is no node`)
  const { keyPair } = await vault.logKeyPair(mesh)
  const epochKey = await vault.meshKey(mesh)
  const store = await HypercoreStore.open(`${vault.meshDirectory(mesh)}/store`)
  try {
    const own = await store.openOwn(keyPair)
    const addresses: Array<string> = []
    for (const make of makers) {
      const place = { log: own.key, block: own.length() }
      await own.append(make({
        ...place, epochKey,
        frame: (...events) => sealFrame(events.map((event) => encodeEvent({ ...soundEvent, ...event }, own.key)), place, 0, epochKey),
        wire: (...values) => sealFrame(values.map(encodeCbor), place, 0, epochKey)
      }), async () => undefined)
      addresses.push(`${place.log}/${place.block}`)
    }
    await own.close()
    return addresses
  } finally {
    await store.close()
  }
}

export const soundEvent: Envelope = {
  type: "sync.paused/1", at: { ms: Math.floor(performance.timeOrigin), count: 0 }, actor: "device", subject: "sync", command: "", cause: [], body: {}
}
