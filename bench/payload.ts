import { seeded } from "./workload.ts"

/** Bytes of one event's payload: the size of an Automerge change of a short setting or a few words, with nothing to compress. */
export const payloadBytes = 200

export const makePayloads = (count: number, seed = 7): ReadonlyArray<Buffer> => {
  const random = seeded(seed)
  const pool = Buffer.allocUnsafe(1 << 20)
  for (let i = 0; i < pool.length; i += 4) pool.writeUInt32LE((random() * 4_294_967_296) >>> 0, i)
  const list: Array<Buffer> = []
  for (let i = 0; i < count; i++) {
    const payload = Buffer.from(pool.subarray((i * 211) % (pool.length - payloadBytes)).subarray(0, payloadBytes))
    payload.writeUInt32LE(i, 0)
    list.push(payload)
  }
  return list
}
