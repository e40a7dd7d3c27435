import sodium from "sodium-native"
import { encodeEvent, frameHeader, fittingFrameKey, nonceBytes, openFrame, sealFrame } from "../../src/codec/frame.ts"
import { asBuffer } from "../../src/codec/hash.ts"
import { keyPairFromSeed, randomBytes } from "../../src/codec/signature.ts"
import { Result } from "effect"
import type { BenchCase, Side } from "../case.ts"
import { perSecond } from "../case.ts"
import { draftOf } from "../kos.ts"
import { makePayloads } from "../payload.ts"

/** Events of one frame. */
const frameEvents = 64

const log = Buffer.from(keyPairFromSeed(new Uint8Array(32).fill(3)).publicKey).toString("hex")
const epochKey = new Uint8Array(32).fill(9)
const frames = (short: boolean) => (short ? 1_000 : 20_000)

/** Frames' worth of encoded events, of which a few are made and used in turns. */
const encoded = (): ReadonlyArray<ReadonlyArray<Uint8Array>> => {
  const payloads = makePayloads(16 * frameEvents)
  return Array.from({ length: 16 }, (_, i) => payloads.slice(i * frameEvents, (i + 1) * frameEvents).map((payload, n) =>
    encodeEvent({ ...draftOf(payload), at: { ms: 1_800_000_000_000 + n, count: 0 } }, log)))
}

const bytesOf = (events: ReadonlyArray<Uint8Array>): number => events.reduce((sum, event) => sum + event.byteLength, 0)

const sealing: Side = async ({ short, begin }) => {
  const lists = encoded()
  const count = frames(short)
  let sealed = 0
  const end = await begin()
  for (let block = 0; block < count; block++) sealed += sealFrame(lists[block % lists.length] ?? [], { log, block }, 1, epochKey).byteLength
  const window = await end()
  return detailed(count, window, lists, { "bytes of a frame": sealed / count })
}

const opening: Side = async ({ short, begin }) => {
  const lists = encoded()
  const count = frames(short)
  const blocks = lists.map((events, block) => sealFrame(events, { log, block }, 1, epochKey))
  let events = 0
  const end = await begin()
  for (let i = 0; i < count; i++) {
    const place = { log, block: i % blocks.length }
    const block = blocks[place.block] ?? new Uint8Array(0)
    const header = Result.getOrThrow(frameHeader(block))
    const key = fittingFrameKey(block, header, place, [epochKey])
    if (key === undefined) throw new Error("the frame is not committed to its key")
    events += Result.getOrThrow(openFrame(block, place, key)).length
  }
  const window = await end()
  if (events !== count * frameEvents) throw new Error(`${events} events came out`)
  return detailed(count, window, lists, {})
}

/** The bare cipher over the same bytes: no compression, no key of the frame's own, nothing decoded. */
const bare = (open: boolean): Side => async ({ short, begin }) => {
  const lists = encoded()
  const contents = lists.map((events) => Buffer.concat(events))
  const nonce = asBuffer(randomBytes(nonceBytes))
  const key = asBuffer(epochKey)
  const sealed = contents.map((content) => {
    const out = Buffer.allocUnsafeSlow(content.byteLength + 16)
    sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(out, content, null, null, nonce, key)
    return out
  })
  const count = frames(short)
  const end = await begin()
  for (let i = 0; i < count; i++) {
    const at = i % contents.length
    const [content, box] = [contents[at], sealed[at]]
    if (content === undefined || box === undefined) throw new Error("no content")
    if (open) sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(Buffer.allocUnsafeSlow(content.byteLength), null, box, null, nonce, key)
    else sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(Buffer.allocUnsafeSlow(content.byteLength + 16), content, null, null, nonce, key)
  }
  return detailed(count, await end(), lists, {})
}

const detailed = (count: number, window: { readonly wallMs: number; readonly cpuMs: number }, lists: ReadonlyArray<ReadonlyArray<Uint8Array>>, more: Readonly<Record<string, number>>) => {
  const measure = perSecond(count * frameEvents, window)
  const bytes = lists.reduce((sum, events) => sum + bytesOf(events), 0) / lists.length
  return { ...measure, detail: { ...measure.detail, "MB/s": count * bytes / window.wallMs / 1_000, "bytes of events": bytes, ...more } }
}

export const benchCase: BenchCase = {
  name: "seal",
  about: `Frames of ${frameEvents} encoded events sealed (compressed, under a key of their own, committed) and opened (decrypted, unpacked, every envelope checked), against bare XChaCha20-Poly1305 of the same bytes.`,
  secondsMax: 120,
  sides: { seal: sealing, open: opening, "sodium-seal": bare(false), "sodium-open": bare(true) },
  rows: [
    { title: "frames sealed, against bare XChaCha20-Poly1305", unit: "events/s", ours: { side: "seal" }, peer: { side: "sodium-seal" }, ratio: "ours/peer", target: { kind: "report" } },
    { title: "frames opened and checked, against bare XChaCha20-Poly1305", unit: "events/s", ours: { side: "open" }, peer: { side: "sodium-open" }, ratio: "ours/peer", target: { kind: "report" } }
  ]
}
