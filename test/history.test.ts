import t from "tap"
import Corestore from "corestore"
import { toHex } from "../src/codec/bytes.ts"
import { checkHistory, contradiction, decodeHistory, encodeHistory, type SignedHistory } from "../src/codec/history.ts"
import { keyPairFromSeed, randomBytes } from "../src/codec/signature.ts"
import { hypercoreProofSource } from "../src/events/proof.ts"
import { logManifest } from "../src/events/hypercore-store.ts"
import { chance } from "./membership-world.ts"

const sourceOf = (core: object) => {
  const source = hypercoreProofSource(core)
  if (source === undefined) throw new Error("it proves nothing")
  return source
}

const must = <A>(value: A | undefined): A => {
  if (value === undefined) throw new Error("undefined")
  return value
}

t.test("a history of any length within a log is signed, and any changed byte of it is not", async (t) => {
  const store = new Corestore(t.testdir())
  const seed = randomBytes(32)
  const keyPair = keyPairFromSeed(seed)
  const pair = { publicKey: Buffer.from(keyPair.publicKey), secretKey: Buffer.from(keyPair.secretKey) }
  const core = store.get({ manifest: logManifest(keyPair.publicKey), allowFork: false })
  await core.ready()
  const log = toHex(core.key)
  const { below } = chance(7)
  for (let length = 1; length <= 37; length++) {
    await core.append(Buffer.from(`block ${length}`), { keyPair: pair })
    for (let at = 1; at <= length; at++) {
      const history = await sourceOf(core).history(at)
      const bytes = encodeHistory(history)
      const read = must(decodeHistory(bytes))
      t.equal(checkHistory(log, read), toHex(await core.treeHash(at)), `length ${at} of ${length}`)
      if (length % 9 !== 1) continue
      const place = below(bytes.byteLength)
      const changed = Uint8Array.from(bytes)
      changed[place] = (changed[place] ?? 0) ^ (1 << below(8))
      const wrong = decodeHistory(changed)
      t.ok(wrong === undefined || checkHistory(log, wrong) === undefined, `a changed byte ${place} is found`)
    }
  }
  t.equal(checkHistory("00".repeat(32), await sourceOf(core).history(3)), undefined, "it is of this log only")
  await store.close()
})

t.test("a log that was written twice contradicts itself from the first block that differs on, in every later length", async (t) => {
  const keyPair = keyPairFromSeed(randomBytes(32))
  const pair = { publicKey: Buffer.from(keyPair.publicKey), secretKey: Buffer.from(keyPair.secretKey) }
  const make = async (name: string, blocks: ReadonlyArray<string>) => {
    const store = new Corestore(t.testdir({ [name]: {} }) + `/${name}`)
    const core = store.get({ manifest: logManifest(keyPair.publicKey), allowFork: false })
    await core.ready()
    for (const block of blocks) await core.append(Buffer.from(block), { keyPair: pair })
    return { store, core, log: toHex(core.key) }
  }
  const one = await make("one", ["a", "b", "c", "d", "e"])
  const histories = async (core: object, length: number): Promise<SignedHistory> => sourceOf(core).history(length)
  const first = await Promise.all([1, 2, 3, 4, 5].map((length) => histories(one.core, length)))
  await one.store.close()
  const other = await make("other", ["a", "b", "c", "x", "y", "z", "u"])
  for (let length = 1; length <= 5; length++) {
    const found = contradiction(one.log, must(first[length - 1]), await histories(other.core, length))
    t.equal(found, length <= 3 ? undefined : length)
  }
  t.equal(contradiction(one.log, must(first[3]), await histories(other.core, 5)), undefined, "of two lengths nothing is said")
  const forged = { ...must(first[4]), fork: 1 }
  t.equal(contradiction(one.log, forged, await histories(other.core, 5)), undefined, "what is not signed proves nothing")
  await other.store.close()
})

t.test("hostile bytes are no history", async (t) => {
  const { next } = chance(11)
  for (let round = 0; round < 2_000; round++) t.equal(decodeHistory(Uint8Array.from({ length: round % 300 }, () => Math.floor(next() * 256))), undefined)
  t.equal(decodeHistory(new Uint8Array(9_000)), undefined)
})
