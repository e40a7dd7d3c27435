/** Wires for packs between nodes in touch, with transfers that only move bytes; LAN lanes over real sockets of this machine. */
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { connect, createServer, type Socket } from "node:net"
import type { Duplex } from "node:stream"
import t, { type Test } from "tap"
import { toHex, utf8 } from "../src/codec/bytes.ts"
import { hashParts } from "../src/codec/hash.ts"
import { encodeCbor } from "../src/codec/cbor.ts"
import { dialLane, makeLanLane, readExactly } from "../src/boot/lan-lane.ts"
import { isLanAddress, lanHostOf, ownLanAddresses } from "../src/boot/lan-address.ts"
import { makePackWires, type PackWires, type PackWiresOptions } from "../src/boot/pack-wires.ts"
import type { Services } from "../src/swarm/services.ts"
import { makeSwarm, type Swarm, type SwarmOptions } from "../src/swarm/swarm.ts"
import type { PackWire } from "../src/updates/ports.ts"
import { holds, mebibyte, packOf, type Side, sideOf } from "./transfer-lab.ts"
import { admit, keysOf, logKeyOf, makeHost, makeHub, revoke, testMesh, type TestHost, until } from "./swarm-host.ts"

const mesh = testMesh("hill")
const deviceOf = (name: string): string => toHex(keysOf(name).publicKey)
const members = ["a", "b", "c"].map((name) => admit(deviceOf(name), logKeyOf(keysOf(name))))
const options: SwarmOptions = { now: () => performance.now(), replication: { lingerMs: 50, tickMs: 50 }, session: { farewellMs: 10 } }
const hashOf = (name: string): string => toHex(hashParts("test/pack", utf8(name))).slice(0, 40)
const pack = hashOf("pack")

/** A transfer whose wires do nothing by themselves. */
const makeTransfer = () => {
  const served = new Set<string>()
  const banned = new Set<string>()
  const wanted = new Set<(infoHash: string) => void>()
  const onBan = new Set<(device: string, why: string) => void>()
  const got: Array<PackWire & { readonly infoHash: string }> = []
  const transfer: PackWiresOptions["transfer"] = {
    serves: (infoHash) => served.has(infoHash),
    addWire: async (infoHash, wire) => {
      got.push({ ...wire, infoHash })
      await once(wire.stream, "close").catch(() => undefined)
    },
    onWanted: (listener) => {
      const mine = (infoHash: string): void => listener(infoHash, { sha256: "", length: 0, pieceLength: 0, pieces: new Uint8Array(0) })
      wanted.add(mine)
      return () => wanted.delete(mine)
    },
    banned: () => [...banned],
    onBan: (listener) => {
      onBan.add(listener)
      return () => onBan.delete(listener)
    }
  }
  return {
    transfer, served, got,
    want: (infoHash: string) => {
      for (const listener of wanted) listener(infoHash)
    },
    ban: (device: string) => {
      banned.add(device)
      for (const listener of onBan) listener(device, "poison")
    }
  }
}

interface Node {
  readonly host: TestHost
  readonly swarm: Swarm
  readonly packs: PackWires
  readonly transfer: ReturnType<typeof makeTransfer>
  readonly settings: { lan: boolean; metered: boolean }
  /** What the others' addresses look like to this node. */
  readonly seen: { remote: string }
}

const node = async (t: Test, directory: string, name: string, hub: ReturnType<typeof makeHub>, over: Partial<PackWiresOptions> = {}): Promise<Node> => {
  const host = await makeHost(`${directory}/${name}`, name, mesh, members)
  const transfer = makeTransfer()
  const settings = { lan: true, metered: false }
  const seen = { remote: "203.0.113.9:1234" }
  let swarm: Swarm | undefined
  const packs = makePackWires({
    transfer: transfer.transfer, settings: () => settings, tick: () => performance.now(), addresses: () => ["127.0.0.1"],
    meshes: () => swarm === undefined ? [] : [{
      device: host.device, isMember: (device) => host.membership.standing(device) === "member", connect: swarm.connect,
      sessions: () => (swarm?.sessions() ?? []).map((session) => ({ ...session, remote: seen.remote }))
    }],
    ...over
  })
  const services: Services = {
    admit: (service, device) => packs.admit(service, device, host.device) ?? { _tag: "Refused", reason: "unknown", sentence: "no such service" },
    dial: () => Promise.reject(new Error("nothing is dialled")), onChange: () => undefined, opened: () => undefined, refused: () => undefined, closed: () => undefined
  }
  swarm = makeSwarm(host, () => [hub.carrier()], { ...options, services })
  host.membership.onChange(packs.review)
  await swarm.start()
  t.teardown(async () => {
    packs.close()
    await swarm?.stop()
    await host.close()
  })
  return { host, swarm, packs, transfer, settings, seen }
}

const meet = async (all: ReadonlyArray<Node>, hub: ReturnType<typeof makeHub>): Promise<void> => {
  await hub.meet()
  await until("all are in touch", () => all.every(({ swarm }) => swarm.sessions().filter(({ phase }) => phase === "ready").length === all.length - 1))
}

const nodes = async (t: Test, under: string, names: ReadonlyArray<string>, over: Partial<PackWiresOptions> = {}): Promise<{ readonly all: ReadonlyArray<Node>; readonly hub: ReturnType<typeof makeHub> }> => {
  const directory = `${t.testdir({ [under]: {} })}/${under}`
  const hub = makeHub()
  const all: Array<Node> = []
  for (const name of names) all.push(await node(t, directory, name, hub, over))
  await meet(all, hub)
  return { all, hub }
}

const two = async (t: Test, under: string, over: Partial<PackWiresOptions> = {}) => {
  const { all: [a, b], hub } = await nodes(t, under, ["a", "b"], over)
  if (a === undefined || b === undefined) throw new Error("two nodes")
  return { a, b, hub }
}

/** So many bytes go from one to the other and are the same there. */
const carries = async (from: Duplex, to: Duplex, bytes: number): Promise<boolean> => {
  const sent = Buffer.alloc(bytes, 7)
  const got: Array<Buffer> = []
  let have = 0
  const done = new Promise<void>((resolve) => to.on("data", (part: Buffer) => {
    got.push(part)
    have += part.byteLength
    if (have >= bytes) resolve()
  }))
  to.resume()
  from.write(sent)
  await done
  return Buffer.concat(got).equals(sent)
}

t.test("a pack that is wanted gets a wire over the mesh to whoever serves it, one for each device, and bytes go both ways", async (t) => {
  const { all: [a, b, c] } = await nodes(t, "mesh", ["a", "b", "c"])
  if (a === undefined || b === undefined || c === undefined) throw new Error("three nodes")
  a.transfer.served.add(pack)
  b.transfer.served.add(pack)
  t.same(await a.packs.holders(pack), [b.host.device])
  t.same(await c.packs.holders(pack), [a.host.device, b.host.device].sort())
  a.transfer.want(pack)
  a.transfer.want(pack)
  await until("the wire is there at both ends", () => a.transfer.got.length === 1 && b.transfer.got.length === 1)
  a.transfer.want(pack)
  const [mine] = a.transfer.got
  const [theirs] = b.transfer.got
  t.match(mine, { device: b.host.device, carrier: "mesh", infoHash: pack })
  t.match(theirs, { device: a.host.device, carrier: "mesh", infoHash: pack })
  if (mine === undefined || theirs === undefined) return
  t.ok(await carries(mine.stream, theirs.stream, 3_000_000))
  t.ok(await carries(theirs.stream, mine.stream, 3_000_000))
  t.same([a, b, c].map(({ packs }) => packs.wires().length), [1, 1, 0], "c does not serve it")
  mine.stream.destroy()
  await until("the other end hears of it", () => b.packs.wires().length === 0)
  t.same(a.packs.listening(), [], "nothing listens")
})

t.test("both want it of each other at once: one wire stays", async (t) => {
  const { a, b } = await two(t, "both")
  for (const { transfer } of [a, b]) transfer.served.add(pack)
  for (let round = 0; round < 5; round += 1) {
    a.transfer.want(pack)
    b.transfer.want(pack)
    await until("there is one", () => a.packs.wires().length === 1 && b.packs.wires().length === 1)
    const [x, y] = [a.transfer.got.findLast(({ stream }) => !stream.destroyed), b.transfer.got.findLast(({ stream }) => !stream.destroyed)]
    t.ok(x !== undefined && y !== undefined && await carries(x.stream, y.stream, 1_000))
    for (const { stream } of a.transfer.got) stream.destroy()
    await until("it is gone", () => a.packs.wires().length === 0 && b.packs.wires().length === 0)
  }
})

t.test("only members, only what is served, nobody who was banned, within limits; a revocation cuts in its turn", async (t) => {
  const { a, b } = await two(t, "rules", { limits: { perDeviceMax: 2, againMs: 0, busyMs: 0 } })
  const others = ["one", "two", "three"].map(hashOf)
  for (const { transfer } of [a, b]) for (const hash of others) transfer.served.add(hash)
  const refused = await a.swarm.connect(b.host.device, `kos-pack/${pack}`)
  t.match(refused, { _tag: "Refused", reason: "unknown" })
  for (const service of ["kos-pack/", "kos-pack/../..", `kos-pack/${pack.toUpperCase()}`, "kos-lane/x"]) {
    t.match(await a.swarm.connect(b.host.device, service), { _tag: "Refused", reason: "unknown" })
  }
  for (const hash of others) a.transfer.want(hash)
  await until("two of three", () => a.packs.wires().length === 2 && b.packs.wires().length === 2)
  // A device that keeps to no limit: it asks by hand.
  const more = await a.swarm.connect(b.host.device, `kos-pack/${others.find((hash) => !a.packs.wires().some(({ infoHash }) => infoHash === hash)) ?? ""}`)
  t.equal(more._tag, "Opened")
  if (more._tag === "Opened") await once(more.stream, "close").catch(() => undefined)
  t.equal(b.packs.wires().length, 2)
  const wires = b.transfer.got.map(({ stream }) => stream)
  await b.host.membership.offer([revoke(a.host.device)])
  t.same(wires.map((stream) => stream.destroyed), [true, true], "in the turn of the revocation")
  t.same(await b.packs.holders(pack), [])
  await until("a hears of it", () => a.packs.wires().length === 0)
  t.match(b.packs.admit(`kos-pack/${others[0] ?? ""}`, a.host.device, b.host.device), { _tag: "Refused", reason: "denied" })
})

t.test("a banned device loses its wires and gets no other", async (t) => {
  const { a, b } = await two(t, "banned", { limits: { againMs: 0, busyMs: 0 } })
  for (const { transfer } of [a, b]) transfer.served.add(pack)
  a.transfer.want(pack)
  await until("there is a wire", () => a.packs.wires().length === 1 && b.packs.wires().length === 1)
  a.transfer.ban(b.host.device)
  await until("it is gone", () => a.packs.wires().length === 0 && b.packs.wires().length === 0)
  a.transfer.want(pack)
  b.transfer.want(pack)
  t.match(await b.swarm.connect(a.host.device, `kos-pack/${pack}`), { _tag: "Refused", reason: "denied" })
  t.equal(a.packs.wires().length, 0)
})

t.test("devices of one network take a LAN lane; it is cut when the device is put out; the listener is open only meanwhile", async (t) => {
  const { a, b } = await two(t, "lane")
  for (const { transfer, seen } of [a, b]) {
    transfer.served.add(pack)
    seen.remote = "127.0.0.1:5"
  }
  a.transfer.want(pack)
  await until("the wire is there at both ends", () => a.transfer.got.length === 1 && b.transfer.got.length === 1)
  const [mine] = a.transfer.got
  const [theirs] = b.transfer.got
  t.match(mine, { device: b.host.device, carrier: "lan" })
  t.match(theirs, { device: a.host.device, carrier: "lan" })
  t.same([a.packs.listening(), b.packs.listening()], [[], []], "nothing listens any more")
  if (mine === undefined || theirs === undefined) return
  t.ok(await carries(mine.stream, theirs.stream, 3_000_000))
  t.ok(await carries(theirs.stream, mine.stream, 3_000_000))
  await b.host.membership.offer([revoke(a.host.device)])
  t.ok(theirs.stream.destroyed, "in the turn of the revocation")
  await until("a hears of it", () => a.packs.wires().length === 0)
})

t.test("where no lane can be had the mesh serves: not wanted, not offered, or leading nowhere", async (t) => {
  const { a, b } = await two(t, "nowhere", { limits: { laneMs: 300, againMs: 0, busyMs: 0 } })
  for (const { transfer, seen } of [a, b]) {
    transfer.served.add(pack)
    seen.remote = "127.0.0.1:5"
  }
  const wire = async (): Promise<string | undefined> => {
    a.transfer.want(pack)
    await until("the wire is there", () => a.packs.wires().length === 1)
    const carrier = a.packs.wires()[0]?.carrier
    for (const { stream } of a.transfer.got) stream.destroy()
    await until("it is gone", () => a.packs.wires().length === 0 && b.packs.wires().length === 0)
    return carrier
  }
  b.settings.lan = false
  t.equal(await wire(), "mesh", "b offers none")
  b.settings.lan = true
  t.equal(await wire(), "mesh", "b is not asked for one again so soon")
  a.settings.lan = false
  t.equal(await wire(), "mesh", "a wants none")
  a.settings.lan = true
  const far = await two(t, "far", { limits: { laneMs: 300 }, addresses: () => ["127.0.0.2"] })
  for (const { transfer, seen } of [far.a, far.b]) {
    transfer.served.add(pack)
    seen.remote = "127.0.0.1:5"
  }
  far.a.transfer.want(pack)
  await until("an offer of another address is not taken", () => far.a.packs.wires().length === 1)
  t.equal(far.a.packs.wires()[0]?.carrier, "mesh")
  far.b.settings.lan = false
  far.b.packs.review()
  t.same(far.b.packs.listening(), [], "no lanes, no listener")
})

t.test("a metered node has wires to its own network only", async (t) => {
  const { a, b } = await two(t, "metered", { limits: { againMs: 0, busyMs: 0 } })
  for (const { transfer } of [a, b]) transfer.served.add(pack)
  a.transfer.want(pack)
  await until("there is a wire", () => a.packs.wires().length === 1 && b.packs.wires().length === 1)
  b.settings.metered = true
  b.packs.review()
  await until("it is cut", () => a.packs.wires().length === 0)
  t.match(await a.swarm.connect(b.host.device, `kos-pack/${pack}`), { _tag: "Refused", reason: "denied", sentence: "this node is on a metered link and gives packs to its own network only" })
  b.transfer.want(pack)
  t.equal(b.packs.wires().length, 0)
  for (const { seen } of [a, b]) seen.remote = "192.168.7.7:1"
  b.seen.remote = "127.0.0.1:1"
  b.transfer.want(pack)
  await until("a near one is no matter of the link", () => b.packs.wires().length === 1)
  t.equal(b.packs.wires()[0]?.carrier, "lan")
})

t.test("who comes to the listener without its token, with another's, too late, or with too much, gets nothing", async (t) => {
  const came: Array<string> = []
  const lane = makeLanLane({ addresses: () => ["127.0.0.1"], mayCome: () => true, onWire: (device, infoHash) => came.push(`${device} ${infoHash}`), offerMs: 3_000, proofMs: 150 })
  t.teardown(lane.close)
  const offer = await lane.offer("d1", pack)
  if (offer === undefined) throw new Error("no offer")
  const [at] = lane.listening()
  t.equal(at?.address, "127.0.0.1")
  const knock = async (bytes: Uint8Array): Promise<void> => {
    const socket: Socket = connect(at?.port ?? 0, "127.0.0.1")
    socket.on("error", () => undefined)
    socket.write(bytes)
    socket.resume()
    await new Promise((resolve) => socket.on("close", resolve))
    t.equal(socket.bytesRead, 0)
  }
  await Promise.all([knock(new Uint8Array(52)), knock(new Uint8Array(3)), knock(new Uint8Array(100_000)), knock(utf8("GET / HTTP/1.1\r\n\r\n"))])
  t.same(came, [])
  t.equal(await dialLane(offer, "127.0.0.2", pack, 300), undefined, "another address than the one that we see")
  t.equal(await dialLane(offer, "127.0.0.1", hashOf("other"), 300), undefined, "another pack")
  const socket = await dialLane(offer, "127.0.0.1", pack, 300)
  t.ok(socket !== undefined)
  t.same(came, [`d1 ${pack}`])
  t.equal(await dialLane(offer, "127.0.0.1", pack, 300), undefined, "a token opens once")
  t.same(lane.listening(), [])
  socket?.destroy()
  for (let i = 0; i < 8; i += 1) t.ok(await lane.offer("d1", pack))
  t.equal(await lane.offer("d1", pack), undefined, "so many for one device")
  lane.close()
  t.same(lane.listening(), [])
})

t.test("offers that are no offers lead nowhere", async (t) => {
  const silent = createServer((socket) => socket.on("error", () => undefined)).listen(0, "127.0.0.1")
  await once(silent, "listening")
  t.teardown(() => silent.close())
  const address = silent.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  const [token, answer] = [new Uint8Array(32), new Uint8Array(32)]
  const good = { v: 1, at: [{ address: "127.0.0.1", port }], token, answer }
  for (const bad of [new Uint8Array(0), new Uint8Array(3_000), utf8("no"), encodeCbor({ ...good, v: 2 }), encodeCbor({ ...good, token: new Uint8Array(31) }),
    encodeCbor({ ...good, at: [{ address: "127.0.0.1", port: 99_999 }] }), encodeCbor({ ...good, at: Array.from({ length: 17 }, () => ({ address: "127.0.0.1", port })) }), encodeCbor(good)]) {
    t.equal(await dialLane(bad, "127.0.0.1", pack, 100), undefined)
  }
})

t.test("what is a LAN address", async (t) => {
  for (const host of ["10.1.2.3", "172.31.0.1", "192.168.0.1", "169.254.1.1", "127.0.0.1", "::1", "fe80::1%eth0", "fd00::1", "::ffff:192.168.1.1"]) t.ok(isLanAddress(host), host)
  for (const host of ["8.8.8.8", "172.32.0.1", "192.169.0.1", "100.64.0.1", "2001:db8::1", "localhost", "", "test", "::ffff:8.8.8.8"]) t.notOk(isLanAddress(host), host)
  t.equal(lanHostOf("192.168.1.2:49737"), "192.168.1.2")
  t.equal(lanHostOf("[fe80::1]:5"), "fe80::1")
  t.equal(lanHostOf("203.0.113.1:5"), undefined)
  t.equal(lanHostOf("test:1"), undefined)
  t.ok(ownLanAddresses().every((address) => isLanAddress(address)))
})

t.test("bytes of a socket that are asked for exactly leave the rest where it is", async (t) => {
  const server = createServer((socket) => socket.end(Buffer.from("headrest"))).listen(0, "127.0.0.1")
  await once(server, "listening")
  t.teardown(() => server.close())
  const address = server.address()
  const socket = connect(typeof address === "object" && address !== null ? address.port : 0, "127.0.0.1")
  t.equal((await readExactly(socket, 4, 1_000))?.toString(), "head")
  const rest: Array<Buffer> = []
  socket.on("data", (part: Buffer) => rest.push(part))
  socket.resume()
  await once(socket, "end")
  t.equal(Buffer.concat(rest).toString(), "rest")
})

t.test("a real pack goes through real transfer processes, over the mesh and over a LAN lane", async (t) => {
  const hub = makeHub()
  const pack = await packOf(t, 9 * mebibyte + 77)
  const [one, two, three] = [sideOf(t, "one"), sideOf(t, "two"), sideOf(t, "three")]
  await holds(one, pack)
  hub.separate(deviceOf("b"), deviceOf("c"))
  const a = await node(t, `${t.testdirName}/mesh`, "a", hub, { transfer: one })
  const b = await node(t, `${t.testdirName}/mesh`, "b", hub, { transfer: two })
  const c = await node(t, `${t.testdirName}/mesh`, "c", hub, { transfer: three })
  for (const { seen } of [a, c]) seen.remote = "127.0.0.1:5"
  await hub.meet()
  await until("all are in touch", () => [b, c].every(({ swarm }) => swarm.sessions().some(({ phase }) => phase === "ready")))
  t.same(await b.packs.holders(pack.hash), [a.host.device])
  const carriers = new Set<string>()
  const fetch = async (side: Side, { packs }: Node): Promise<void> => {
    const watch = setInterval(() => {
      for (const wire of packs.wires()) carriers.add(`${wire.carrier} ${wire.device === a.host.device}`)
    }, 5)
    const path = await side.ensure(pack.ref, [{ offset: 0, length: pack.ref.length }], { signal: AbortSignal.timeout(20_000) })
    clearInterval(watch)
    t.ok(readFileSync(path).equals(pack.bytes))
  }
  await fetch(two, b)
  t.same([...carriers], ["mesh true"])
  carriers.clear()
  await fetch(three, c)
  t.same([...carriers], ["lan true"])
  await a.host.membership.offer([revoke(c.host.device)])
  await until("a wire that was handed to the process is cut, too", () => !a.packs.wires().some(({ device }) => device === c.host.device) && c.packs.wires().length === 0)
})
