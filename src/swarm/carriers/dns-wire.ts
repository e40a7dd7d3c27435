/**
 * The small part of DNS that `_kos._tcp` discovery speaks (RFC 1035, 6762, 6763), written for hostile input: a packet is read once, left to
 * right, with limits on its size, its records and its names, and nothing is allocated because a header says so. Everything that is not
 * ours is skipped, everything malformed gives undefined.
 */
import { isHex } from "../../codec/bytes.ts"

export const serviceName = "_kos._tcp.local"

/** A node as announced: random name of its run, port, topic tags (16 hex digits each), and how long that holds; 0 seconds is goodbye. */
export interface Announced {
  readonly instance: string
  readonly port: number
  readonly tags: ReadonlyArray<string>
  readonly ttlSeconds: number
}

export interface Packet {
  /** Somebody asks who offers our service. */
  readonly asks: boolean
  readonly announced: ReadonlyArray<Announced>
}

export const packetBytesMax = 1500
/** As many as fit into one TXT string of 255 bytes. */
export const tagsMax = 15
const recordsMax = 32
const nameBytesMax = 255
const jumpsMax = 8

const PTR = 12
const TXT = 16
const SRV = 33
const A = 1
const ANY = 255
const IN = 1
const cacheFlush = 0x8000
/** RFC 6762 section 18: a response is authoritative. */
const responseFlags = 0x8400

export const encodeQuery = (): Buffer => {
  const header = Buffer.alloc(12)
  header.writeUInt16BE(1, 4)
  return Buffer.concat([header, name(serviceName), u16(PTR), u16(IN)])
}

/** `address` is ours on the interface that it is sent on, for other people's browsers; kOS itself uses the packet's source. */
export const encodeAnnouncement = (announced: Announced, address: string | undefined): Buffer => {
  const { instance, port, tags, ttlSeconds } = announced
  const full = `${instance}.${serviceName}`
  const host = `${instance}.local`
  const text = Buffer.from(`t=${tags.slice(0, tagsMax).join("")}`, "latin1")
  const records = [
    record(serviceName, PTR, IN, ttlSeconds, name(full)),
    record(full, SRV, IN | cacheFlush, ttlSeconds, Buffer.concat([u16(0), u16(0), u16(port), name(host)])),
    record(full, TXT, IN | cacheFlush, ttlSeconds, Buffer.concat([Buffer.from([text.byteLength]), text]))
  ]
  if (address !== undefined) records.push(record(host, A, IN | cacheFlush, ttlSeconds, Buffer.from(address.split(".").map(Number))))
  const header = Buffer.alloc(12)
  header.writeUInt16BE(responseFlags, 2)
  header.writeUInt16BE(records.length, 6)
  return Buffer.concat([header, ...records])
}

/** Undefined for packets that are malformed, too large or have too many records. */
export const decodePacket = (packet: Buffer): Packet | undefined => {
  if (packet.byteLength < 12 || packet.byteLength > packetBytesMax) return undefined
  const isResponse = (packet.readUInt16BE(2) & 0x8000) !== 0
  const questions = packet.readUInt16BE(4)
  const records = packet.readUInt16BE(6) + packet.readUInt16BE(8) + packet.readUInt16BE(10)
  if (questions + records > recordsMax) return undefined
  let offset = 12
  let asks = false
  const found = new Map<string, { port?: number; tags?: ReadonlyArray<string>; ttlSeconds: number }>()
  for (let i = 0; i < questions; i += 1) {
    const read = readName(packet, offset)
    if (read === undefined || read.end + 4 > packet.byteLength) return undefined
    const type = packet.readUInt16BE(read.end)
    if (!isResponse && read.name === serviceName && (type === PTR || type === ANY)) asks = true
    offset = read.end + 4
  }
  for (let i = 0; i < records; i += 1) {
    const read = readName(packet, offset)
    if (read === undefined || read.end + 10 > packet.byteLength) return undefined
    const type = packet.readUInt16BE(read.end)
    const ttlSeconds = packet.readUInt32BE(read.end + 4)
    const start = read.end + 10
    const end = start + packet.readUInt16BE(read.end + 8)
    if (end > packet.byteLength) return undefined
    offset = end
    if (!isResponse || !read.name.endsWith(`.${serviceName}`)) continue
    const instance = read.name.slice(0, -serviceName.length - 1)
    if (!isHex(instance, 8)) continue
    const entry = found.get(instance) ?? { ttlSeconds }
    if (type === SRV && end - start >= 7) entry.port = packet.readUInt16BE(start + 4)
    if (type === TXT) entry.tags = readTags(packet.subarray(start, end))
    entry.ttlSeconds = Math.min(entry.ttlSeconds, ttlSeconds)
    found.set(instance, entry)
  }
  const announced: Array<Announced> = []
  for (const [instance, { port, tags, ttlSeconds }] of found) {
    if (port !== undefined && port > 0 && tags !== undefined) announced.push({ instance, port, tags, ttlSeconds })
  }
  return { asks, announced }
}

const readTags = (text: Buffer): ReadonlyArray<string> => {
  let offset = 0
  while (offset < text.byteLength) {
    const end = offset + 1 + (text[offset] ?? 0)
    if (end > text.byteLength) return []
    const entry = text.toString("latin1", offset + 1, end)
    if (entry.startsWith("t=")) {
      const tags = (entry.slice(2).match(/.{16}/g) ?? []).filter((tag) => isHex(tag, 8))
      return tags.slice(0, tagsMax)
    }
    offset = end
  }
  return []
}

/** Lower-case, dots between labels; pointers may only go back. */
const readName = (packet: Buffer, start: number): { readonly name: string; readonly end: number } | undefined => {
  const labels: Array<string> = []
  let offset = start
  let end: number | undefined
  let jumps = 0
  let size = 0
  for (;;) {
    const length = packet[offset]
    if (length === undefined) return undefined
    if (length === 0) return { name: labels.join(".").toLowerCase(), end: end ?? offset + 1 }
    if (length >= 0xc0) {
      const low = packet[offset + 1]
      if (low === undefined) return undefined
      const target = (length & 0x3f) * 256 + low
      jumps += 1
      if (target >= offset || jumps > jumpsMax) return undefined
      end ??= offset + 2
      offset = target
      continue
    }
    size += length + 1
    if (length > 63 || size > nameBytesMax || offset + 1 + length > packet.byteLength) return undefined
    labels.push(packet.toString("latin1", offset + 1, offset + 1 + length))
    offset += 1 + length
  }
}

const name = (text: string): Buffer => {
  const parts = text.split(".").map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label, "latin1")]))
  return Buffer.concat([...parts, Buffer.from([0])])
}

const u16 = (value: number): Buffer => {
  const out = Buffer.alloc(2)
  out.writeUInt16BE(value)
  return out
}

const record = (owner: string, type: number, cls: number, ttlSeconds: number, data: Buffer): Buffer => {
  const ttl = Buffer.alloc(4)
  ttl.writeUInt32BE(ttlSeconds)
  return Buffer.concat([name(owner), u16(type), u16(cls), ttl, u16(data.byteLength), data])
}
