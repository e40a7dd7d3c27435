import * as fs from "node:fs"
import * as path from "node:path"
import type { Duplex } from "node:stream"
import { createHash } from "node:crypto"
import type { BenchCase, OtherMain, Side } from "../case.ts"
import { perSecond } from "../case.ts"
import type { Connection } from "../../src/swarm/carrier.ts"
import { benchKeyPair, draftOf, openJournal } from "../kos.ts"
import { copyHome, deviceOf, hyperswarmCarrier, openLogsNode, privateDht, watched } from "../kos-logs.ts"
import { makePayloads } from "../payload.ts"

const inFlight = 64
const chunkBytes = 64 * 1024
const topic = createHash("sha256").update("kos bench raw stream").digest()

interface Manifest { readonly log: string; readonly blocks: number; readonly bytes: number; readonly events: number }

export const readManifest = (fixture: string) => JSON.parse(fs.readFileSync(path.join(fixture, "manifest.json"), "utf8")) as Manifest

/** The node that has everything: a private DHT on loopback, and either kOS or bare connections that answer with so many bytes. */
export const startServer: OtherMain = async (argument, { dir }) => {
  const { fixture, form } = argument as { readonly fixture: string; readonly form: "kos" | "raw" }
  const manifest = readManifest(fixture)
  const dht = await privateDht()
  if (form === "raw") {
    const carrier = hyperswarmCarrier(dht.port)
    await carrier.start({ keyPair: benchKeyPair("server"), firewall: () => true, onNotice: () => {}, onConnection: (connection) => serveRaw(connection, manifest.bytes) })
    await carrier.join(topic)
    return { port: async () => dht.port, stop: async () => Promise.all([carrier.stop(), dht.stop()]) }
  }
  copyHome(path.join(fixture, "server"), dir)
  const node = await openLogsNode(dir, "server", meshOf(manifest), () => [hyperswarmCarrier(dht.port)])
  node.tables.heads.grew(manifest.log, manifest.blocks)
  await node.swarm.start()
  return { port: async () => dht.port, stop: async () => Promise.all([node.close(), dht.stop()]) }
}

const meshOf = (manifest: Manifest) => ({ devices: [deviceOf("server"), deviceOf("away")], logs: [manifest.log] })

/** Says hello first: with hole punching, one side may believe in a connection that the other does not have. */
const serveRaw = ({ stream }: Connection, bytes: number) => {
  const chunk = Buffer.alloc(chunkBytes, 7)
  stream.write(Buffer.from("hello"))
  stream.once("data", () => void send(stream, chunk, bytes))
}

const send = async (stream: Duplex, chunk: Buffer, bytes: number) => {
  for (let sent = 0; sent < bytes; sent += chunk.length) {
    const part = chunk.subarray(0, Math.min(chunk.length, bytes - sent))
    if (!stream.write(part)) await new Promise((resolve) => stream.once("drain", resolve))
  }
}

/** The same bytes through the same kind of connection, with nothing done to them. */
const raw: Side = async ({ fixture, other, begin }) => {
  const manifest = readManifest(fixture)
  const server = await other(import.meta.filename, "startServer", { fixture, form: "raw" })
  const carrier = hyperswarmCarrier(Number(await server.ask("port")))
  const stream = await new Promise<Duplex>((resolve) => {
    const onConnection = (connection: Connection) => connection.stream.once("data", () => resolve(connection.stream))
    void carrier.start({ keyPair: benchKeyPair("away"), firewall: () => true, onNotice: () => {}, onConnection }).then(() => carrier.join(topic))
  })
  const end = await begin()
  let got = 0
  await new Promise<void>((resolve) => {
    stream.on("data", (bytes: Buffer) => {
      got += bytes.byteLength
      if (got >= manifest.bytes) resolve()
    })
    stream.write(Buffer.from("go"))
  })
  const window = await end()
  await carrier.stop()
  const measure = perSecond(manifest.events, window)
  return { ...measure, detail: { ...measure.detail, "MB/s": manifest.bytes / 1e3 / window.wallMs, "bytes per event": manifest.bytes / manifest.events } }
}

/** From the connection to the last block, downloaded, verified and in the store; introduction and heads exchange included. */
const kos: Side = async ({ dir, fixture, other, begin }) => {
  const manifest = readManifest(fixture)
  const server = await other(import.meta.filename, "startServer", { fixture, form: "kos" })
  const port = Number(await server.ask("port"))
  let connectedAt = 0
  const node = await openLogsNode(dir, "away", meshOf(manifest), () => [watched(hyperswarmCarrier(port), () => (connectedAt = performance.now()))])
  let startedAt = 0
  const done = new Promise<void>((resolve) => node.onGrew((log, length) => {
    if (startedAt === 0) startedAt = performance.now()
    if (log === manifest.log && length >= manifest.blocks) resolve()
  }))
  const end = await begin()
  await node.swarm.start()
  await done
  const wallMs = performance.now() - connectedAt
  const window = { ...(await end()), wallMs }
  await node.close()
  const measure = perSecond(manifest.events, window)
  return { ...measure, detail: { ...measure.detail, "first growth ms": startedAt - connectedAt, "events per block": manifest.events / manifest.blocks } }
}

export const benchCase: BenchCase = {
  name: "catch-up",
  about: "A node that has nothing gets a log of 100,000 events over Hyperswarm from another process, verified and on disk; against the same bytes through such a connection with nothing done to them. The clock starts at the open connection.",
  secondsMax: 180,
  prepare: async ({ dir, short }) => {
    const events = short ? 5_000 : 100_000
    const journal = await openJournal(path.join(dir, "server"))
    let next = 0
    const payloads = makePayloads(events)
    await Promise.all(Array.from({ length: inFlight }, async () => {
      while (next < events) await journal.append([draftOf(payloads[next++] ?? Buffer.alloc(0))])
    }))
    const manifest: Manifest = { log: journal.log, blocks: journal.blocks(), bytes: await journal.bytes(), events }
    await journal.close()
    fs.writeFileSync(path.join(dir, "manifest.json"), JSON.stringify(manifest))
  },
  sides: { kos, raw },
  rows: [
    { title: "catch-up over Hyperswarm, against a raw stream of the same bytes", unit: "events/s", ours: { side: "kos" }, peer: { side: "raw" }, ratio: "ours/peer", target: { kind: "ratio-min", value: 0.5 } }
  ]
}
