/** The conformance client against a small server: what the public suite asks of it, in short. The suite itself is run by hand (docs/updates.md). */
import { execFile } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import t from "tap"
import { channelFiles, indexPath } from "../src/updates/metadata/channel-block.ts"
import { customOf, dayMs, madeKeys, madeRepo, sha256 } from "./update-repo.ts"

t.test("init, refresh and download", async (t) => {
  const nowMs = Date.now()
  const repo = madeRepo("conformance", nowMs)
  const id = await repo.release("1.0.0")
  const asked: Array<string> = []
  let spoil: string | undefined
  const server = createServer((request, response) => {
    const url = decodeURIComponent(request.url ?? "")
    asked.push(url)
    const answer = async () => {
      const hash = /^\/targets\/.*?([0-9a-f]{64})\.[^/]+$/.exec(url)?.[1]
      const bytes = await channelFiles(repo.state.log).read(hash === undefined ? url.replace("/metadata/", "") : indexPath(hash))
      response.writeHead(bytes === undefined ? 404 : 200)
      if (spoil === undefined || !url.includes(spoil)) return void response.end(bytes)
      // An answer that never ends.
      const more = () => { while (response.write(Buffer.alloc(65_536, 32))); }
      response.on("drain", more).on("error", () => undefined)
      more()
    }
    answer().catch(() => response.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const directory = t.testdir({ metadata: {}, targets: {} })
  const [metadata, targets] = [join(directory, "metadata"), join(directory, "targets")]
  const run = (...args: ReadonlyArray<string>): Promise<number> => new Promise((resolve) => {
    execFile(process.execPath, [join(import.meta.dirname, "tuf-conformance/client.ts"), "--metadata-dir", metadata, ...args], { timeout: 20_000 }, (error) => resolve(error === null ? 0 : typeof error.code === "number" ? error.code : -1))
  })
  const refresh = () => run("--metadata-url", `${base}/metadata`, "refresh")
  const download = (name: string) => run("--metadata-url", `${base}/metadata`, "--target-name", name, "--target-dir", targets, "--target-base-url", `${base}/targets`, "download")
  const version = (role: string): unknown => JSON.parse(readFileSync(join(metadata, `${role}.json`), "utf8")).signed.version

  t.equal(await refresh(), 1, "not before init")
  const first = await channelFiles(repo.state.log).read("1.root.json")
  writeFileSync(join(directory, "first.json"), first ?? "")
  t.equal(await run("init", join(directory, "first.json")), 0)
  t.same(asked, [], "init asks nobody")
  t.equal(await refresh(), 0)
  t.same(asked.splice(0), ["/metadata/2.root.json", "/metadata/timestamp.json", "/metadata/1.snapshot.json", "/metadata/1.targets.json"])
  t.equal(version("targets"), 1)

  t.equal(await download("kos/kos@1.0.0@any"), 0)
  t.same(asked.splice(0), ["/metadata/2.root.json", "/metadata/timestamp.json", `/targets/kos/${id}.kos@1.0.0@any`], "what is trusted is not asked for again")
  t.equal(sha256(readFileSync(join(targets, encodeURIComponent("kos/kos@1.0.0@any")))), id)
  t.equal(await download("kos/kos@1.0.0@any"), 0)
  t.notMatch(asked.splice(0).join(), /targets\/kos/, "nor what was downloaded")
  t.equal(await download("kos/kos@9.9.9@any"), 1)

  repo.delegate({ name: "agents-acme", paths: ["agents/acme/*"], keys: madeKeys("acme", 1), threshold: 1 })
  const bee = await repo.add("agents/acme/bee@1.0.0@any", customOf("bee", "1.0.0", { kind: "agent" }), "agents-acme")
  await repo.writeRoot()
  await repo.publish()
  t.equal(await download("agents/acme/bee@1.0.0@any"), 0)
  t.equal(version("root"), 2)
  t.equal(version("agents-acme"), 1)

  spoil = bee
  writeFileSync(join(targets, encodeURIComponent("agents/acme/bee@1.0.0@any")), "spoilt")
  t.equal(await download("agents/acme/bee@1.0.0@any"), 1, "a target without end")
  spoil = "timestamp.json"
  t.equal(await refresh(), 1, "a timestamp without end")
  spoil = undefined
  await repo.writeTimestamp(madeKeys("stranger", 1))
  t.equal(await refresh(), 1, "a foreign key")
  await repo.writeTimestamp(undefined, { expiresMs: nowMs - dayMs })
  t.equal(await refresh(), 1, "an expired timestamp: the standard has no stale")
  await repo.writeTimestamp()
  t.equal(await refresh(), 0)
})
