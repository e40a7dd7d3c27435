/** The tracker for clients of the same people, and the one door that it opens. */
import { fork } from "node:child_process"
import { once } from "node:events"
import { mkdirSync } from "node:fs"
import { get } from "node:http"
import { join } from "node:path"
import t from "tap"
import { torrentFile } from "../src/updates/payload/torrent.ts"
import { holds, mebibyte, type Pack, packOf, sideOf } from "./transfer-lab.ts"

const escaped = (hex: string): string => hex.replace(/../g, (byte) => `%${byte}`)
const announced = (tracker: string, infoHash: string): Promise<string> => new Promise((resolve, reject) => {
  get(`${tracker}?info_hash=${escaped(infoHash)}&peer_id=-XX0000-000000000000&port=6881&uploaded=0&downloaded=0&left=1&compact=1&event=started`, (response) => {
    let text = ""
    response.setEncoding("latin1").on("data", (part: string) => { text += part }).on("end", () => resolve(text))
  }).on("error", reject)
})

t.test("a stock client gets a served pack through the tracker, and hears nothing of others", async (t) => {
  const pack = await packOf(t, 3 * mebibyte, 1)
  const other = await packOf(t, mebibyte, 2)
  const side = sideOf(t, "a", { tracker: { host: "127.0.0.1", port: 0 } })
  await holds(side, pack)
  const tracker = await side.tracker()
  if (tracker === undefined) return t.fail("no tracker")
  t.match(tracker, /^http:\/\/127\.0\.0\.1:\d+\/announce$/)
  t.match(await announced(tracker, other.hash), /failure reason.*unknown pack/)
  const fetched = async (wanted: Pack, name: string): Promise<unknown> => {
    const path = join(t.testdirName, name)
    mkdirSync(path)
    const client = fork(join(import.meta.dirname, "transfer-stock-client.ts"), [JSON.stringify({ torrent: Buffer.from(torrentFile(wanted.ref)).toString("hex"), announce: tracker, path })], {
      stdio: ["ignore", "ignore", "inherit", "ipc"], execArgv: [], env: {}
    })
    t.teardown(() => { client.kill("SIGKILL") })
    const [said]: Array<unknown> = await once(client, "message", { signal: AbortSignal.timeout(20_000) })
    client.kill("SIGKILL")
    return said
  }
  t.same(await fetched(pack, "known"), { sha256: pack.ref.sha256 })
  t.match(await fetched(other, "unknown"), { refused: /unknown pack/ })
  const seeds = (await side.status()).seeds
  t.ok((seeds[0]?.uploaded ?? 0) >= pack.ref.length)
})
