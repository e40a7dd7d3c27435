/**
 * The LAN lane: plain TCP between two devices of a mesh that stand in the same network, for the bytes of packs, which carry their own hashes. It is faster
 * than the encrypted connection, which both have anyway and over which the one tells the other where to come and with which secret.
 *
 * How one wire comes to be. The asker gets an offer over the mesh: the addresses and ports where it may come, a token and an answer, 32 random bytes
 * each. It connects to the address at which it sees that device anyway, and to no other, says token and info hash, and hears the answer: then each knows
 * that the other end was told by the device that it means (R4.1). From there on the bytes are the wire's.
 *
 * Invariants
 * - Listened at are LAN and loopback addresses only, and only while an offer is open: `offerMs` after the last one nothing listens.
 * - A token opens one connection, for one device and one pack, within `offerMs`; it is compared in constant time. Who does not say one within
 *   `proofMs`, or a wrong one, is gone; at most `unprovenMax` are heard at a time.
 *
 * What it does not do: hide the bytes. Whoever listens on the network learns which release is fetched.
 */
import { timingSafeEqual } from "node:crypto"
import { createConnection, createServer, type Server, type Socket } from "node:net"
import { Result, Schema } from "effect"
import { decodeCbor, encodeCbor } from "../codec/cbor.ts"
import { randomBytes } from "../codec/signature.ts"
import { plainAddress } from "./lan-address.ts"

export interface LanLane {
  /** Encoded, for this device and pack; undefined when nothing can be listened at, or too many offers are open. */
  readonly offer: (device: string, infoHash: string) => Promise<Uint8Array | undefined>
  readonly listening: () => ReadonlyArray<{ readonly address: string; readonly port: number }>
  /** Forgets the offers and listens no more; wires go on. */
  readonly close: () => void
}

export interface LanLaneOptions {
  readonly addresses: () => ReadonlyArray<string>
  /** Is a wire to this device wanted still? Asked before the answer is given. */
  readonly mayCome: (device: string, infoHash: string) => boolean
  /** Somebody came with the token that this device was given. */
  readonly onWire: (device: string, infoHash: string, socket: Socket) => void
  readonly offerMs?: number
  readonly proofMs?: number
}

const secretBytes = 32
const hashBytes = 20
const offersMax = 64
const offersPerDeviceMax = 8
const unprovenMax = 16
const addressesMax = 16
/** An encoded offer. */
export const offerBytesMax = 2_048

const Offer = Schema.Struct({
  v: Schema.Literal(1),
  at: Schema.Array(Schema.Struct({ address: Schema.String, port: Schema.Int })),
  token: Schema.Uint8Array,
  answer: Schema.Uint8Array
})
type Offer = typeof Offer.Type
const decode = Schema.decodeUnknownResult(Offer)

interface Ticket {
  readonly device: string
  readonly infoHash: string
  readonly token: Uint8Array
  readonly answer: Uint8Array
  readonly timer: NodeJS.Timeout
}

export const makeLanLane = (options: LanLaneOptions): LanLane => {
  const { offerMs = 10_000, proofMs = 2_000 } = options
  const tickets = new Set<Ticket>()
  const unproven = new Set<Socket>()
  let servers: ReadonlyArray<Server> = []
  let opening: Promise<void> | undefined

  const listen = async (): Promise<void> => {
    const opened = await Promise.all(options.addresses().slice(0, addressesMax).map((address) => listenAt(address, onSocket)))
    servers = opened.flatMap((server) => server ?? [])
  }

  const forget = (ticket: Ticket): void => {
    clearTimeout(ticket.timer)
    tickets.delete(ticket)
    if (tickets.size === 0) close()
  }

  const close = (): void => {
    for (const ticket of tickets) clearTimeout(ticket.timer)
    tickets.clear()
    for (const server of servers) server.close()
    servers = []
    opening = undefined
    for (const socket of unproven) socket.destroy()
  }

  const onSocket = (socket: Socket): void => {
    socket.on("error", () => undefined)
    if (unproven.size >= unprovenMax) return void socket.destroy()
    unproven.add(socket)
    void readExactly(socket, secretBytes + hashBytes, proofMs).then((bytes) => {
      unproven.delete(socket)
      const ticket = bytes === undefined ? undefined : find(bytes.subarray(0, secretBytes))
      if (ticket === undefined || bytes === undefined || bytes.subarray(secretBytes).toString("hex") !== ticket.infoHash) return socket.destroy()
      if (!options.mayCome(ticket.device, ticket.infoHash)) {
        forget(ticket)
        return socket.destroy()
      }
      socket.write(ticket.answer)
      options.onWire(ticket.device, ticket.infoHash, socket)
      // Last: with the last ticket the listener goes.
      forget(ticket)
    })
  }

  /** All are compared, each in constant time. */
  const find = (token: Uint8Array): Ticket | undefined => {
    let found: Ticket | undefined
    for (const ticket of tickets) if (timingSafeEqual(ticket.token, token)) found = ticket
    return found
  }

  return {
    offer: async (device, infoHash) => {
      if (tickets.size >= offersMax || [...tickets].filter((ticket) => ticket.device === device).length >= offersPerDeviceMax) return undefined
      const ticket: Ticket = {
        device, infoHash, token: randomBytes(secretBytes), answer: randomBytes(secretBytes), timer: setTimeout(() => forget(ticket), offerMs)
      }
      tickets.add(ticket)
      opening ??= listen()
      await opening
      const at = servers.flatMap((server) => {
        const address = server.address()
        return address === null || typeof address === "string" ? [] : [{ address: plainAddress(address.address), port: address.port }]
      })
      if (at.length > 0 && tickets.has(ticket)) return encodeCbor({ v: 1, at, token: ticket.token, answer: ticket.answer })
      forget(ticket)
      return undefined
    },
    listening: () => servers.flatMap((server) => {
      const address = server.address()
      return address === null || typeof address === "string" ? [] : [{ address: address.address, port: address.port }]
    }),
    close
  }
}

/** Takes up an offer of the device that is seen at this LAN address; undefined when nothing comes of it in time. */
export const dialLane = async (encoded: Uint8Array, host: string, infoHash: string, msMax: number): Promise<Socket | undefined> => {
  const offer = readOffer(encoded)
  // The address is the one that we speak with already: an offer cannot send us anywhere else.
  const at = offer?.at.find(({ address }) => address === plainAddress(host))
  if (offer === undefined || at === undefined) return undefined
  const socket = createConnection({ host, port: at.port, noDelay: true })
  socket.on("error", () => undefined)
  socket.write(Buffer.concat([offer.token, Buffer.from(infoHash, "hex")]))
  const answer = await readExactly(socket, secretBytes, msMax)
  if (answer !== undefined && timingSafeEqual(answer, offer.answer)) return socket
  socket.destroy()
  return undefined
}

const readOffer = (bytes: Uint8Array): Offer | undefined => {
  if (bytes.byteLength > offerBytesMax) return undefined
  const offer = Result.flatMap(decodeCbor("a LAN offer", bytes), decode)
  if (Result.isFailure(offer)) return undefined
  const { at, token, answer } = offer.success
  const fits = token.byteLength === secretBytes && answer.byteLength === secretBytes && at.length <= addressesMax && at.every(({ port }) => port > 0 && port < 65_536)
  return fits ? offer.success : undefined
}

/** An address that is not there any more, or is taken, is left out. */
const listenAt = (address: string, onSocket: (socket: Socket) => void): Promise<Server | undefined> => new Promise((resolve) => {
  const server = createServer({ noDelay: true }, onSocket)
  server.maxConnections = 4 * unprovenMax
  server.on("error", () => resolve(undefined))
  server.listen({ host: address, port: 0, ipv6Only: true }, () => resolve(server))
})

/** The next bytes of a socket, which is paused then; undefined, and the socket is gone, when they do not come in time. */
export const readExactly = (socket: Socket, bytes: number, msMax: number): Promise<Buffer | undefined> => new Promise((resolve) => {
  const finish = (found: Buffer | undefined): void => {
    clearTimeout(timer)
    socket.off("readable", read)
    socket.off("close", ended)
    socket.off("end", ended)
    if (found === undefined) socket.destroy()
    resolve(found)
  }
  const read = (): void => {
    const found: unknown = socket.read(bytes)
    if (found instanceof Buffer) finish(found.byteLength === bytes ? found : undefined)
  }
  const ended = (): void => finish(undefined)
  const timer = setTimeout(() => finish(undefined), msMax)
  socket.on("readable", read)
  socket.on("close", ended)
  socket.on("end", ended)
  read()
})
