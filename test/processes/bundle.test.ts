/** The bundle: the same bits twice, small enough, nothing of development in it, and it runs on its own. */
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import t from "tap"
import { bundleBytesMax, makeBundle, measure, platforms } from "../../images/bundle-tree.ts"
import { eventually, filesBelow } from "../daemon-process.ts"

const root = resolve(import.meta.dirname, "../..")
t.setTimeout(120_000)

const platform = platforms.find((each) => each === `${process.platform}-${process.arch}`)

t.test("a bundle of this platform", { skip: platform === undefined ? "there is no bundle for this platform" : false }, async (t) => {
  if (platform === undefined) return
  t.teardown(() => undefined)
  const directory = t.testdir({ other: {} })
  const out = join(directory, "bundle")
  const made = await makeBundle({ root, out, platform })
  t.test("the same bits twice, whatever the mask of the one who makes it", async (t) => {
    const mask = process.umask(0o077)
    const again = await makeBundle({ root, out: join(directory, "other"), platform })
    process.umask(mask)
    t.equal(again.hash, made.hash)
    t.same(await measure(join(directory, "other")), await measure(out))
    writeFileSync(join(directory, "other/src/main.ts"), "")
    t.not((await measure(join(directory, "other"))).hash, made.hash, "the hash sees a change")
    await t.rejects(makeBundle({ root, out, platform }), { message: /is not empty/ })
  })
  t.test("what is in it", async (t) => {
    t.ok(made.bytes <= bundleBytesMax, `${(made.bytes / 1_048_576).toFixed(1)} MiB`)
    const names = filesBelow(out).map((path) => path.slice(out.length + 1))
    for (const name of ["tap", "typescript", "esbuild", "webrtc-polyfill", "node-datachannel"]) t.notOk(existsSync(`${out}/node_modules/${name}`), `${name} is left out`)
    t.same(names.filter((name) => name.startsWith("node_modules/") && /\.(ts|map|bare)$/.test(name)), [])
    t.same(names.filter((name) => /prebuilds\//.test(name) && !name.includes(`prebuilds/${platform}/`)), [])
    t.same(made.packages.filter((each) => each.startsWith("effect@")).length, 1)
    for (const name of readdirSync(`${out}/node_modules`).filter((each) => !/^[.@]/.test(each))) {
      const licence = (place: string) => readdirSync(place).filter((file) => /^(licen[cs]e|copying|notice)/i.test(file)).sort()
      t.same(licence(`${out}/node_modules/${name}`), licence(`${root}/node_modules/${name}`), `${name}'s licence is kept`)
    }
  })
  t.test("it runs, with nothing of this machine's Node", async (t) => {
    const env = { PATH: "/usr/bin:/bin", HOME: `${tmpdir()}/kos-bundle-home-${process.pid}`, XDG_CACHE_HOME: join(directory, "cache"), KOS_NETWORK_MODE: "isolated" }
    mkdirSync(join(directory, "cache"))
    t.match(spawnSync(`${out}/bin/kos`, ["--version"], { env, encoding: "utf8" }).stdout, /^kos \d/)
    t.match(spawnSync(`${out}/bin/kos-verify.mjs`, ["--help"], { env: { ...env, PATH: `${out}/node_modules/.bin:${env.PATH}` }, encoding: "utf8" }), { stdout: /./ })
    const home = join(directory, "home")
    const daemon = spawn(`${out}/bin/kos-launch`, ["--home", home, "--json", "daemon", "run", "--lan-only", "--name", "alpha"], { env, stdio: ["ignore", "pipe", "pipe"] })
    t.teardown(() => daemon.kill("SIGKILL"))
    let said = ""
    let err = ""
    daemon.stdout.on("data", (part: Buffer) => { said += part.toString() })
    daemon.stderr.on("data", (part: Buffer) => { err += part.toString() })
    t.ok(await eventually(() => said.includes("\n") || daemon.exitCode !== null), err)
    for (const args of [["memory", "add", "notes/a", "hello"], ["status"], ["doctor", "--rebuild"]]) {
      const ran = spawnSync(`${out}/bin/kos`, ["--home", home, ...args, "--json"], { env, encoding: "utf8" })
      t.ok(ran.status === 0 || (args[0] === "doctor" && ran.status === 10), `kos ${args.join(" ")}: ${ran.stderr}`)
    }
    // The process that fetches packs loads these with an empty module in the place of what browsers need.
    const hooks = "import{registerHooks}from'node:module';registerHooks({resolve(s,c,n){return /^(webrtc-polyfill|@thaunknown\\/simple-peer)/.test(s)?{url:'data:text/javascript,export default class{static WEBRTC_SUPPORT=false}',shortCircuit:true}:n(s,c)}});"
    const loads = `${hooks}for(const m of ['webtorrent','bittorrent-tracker','create-torrent','parse-torrent','tuf-js','@tufjs/models','hyperdht','cborg'])await import(m);console.log('loaded')`
    const loaded = spawnSync(`${out}/node_modules/.bin/node`, ["--input-type=module", "-e", loads], { cwd: out, env, encoding: "utf8" })
    t.match(loaded.stdout, /loaded/, loaded.stderr)
    const closed = once(daemon, "exit")
    daemon.kill("SIGTERM")
    t.same((await closed)[0], 0)
  })
})

t.test("a platform whose Node is not installed is refused", async (t) => {
  const other = platforms.find((each) => each !== platform) ?? "linux-arm64"
  await t.rejects(makeBundle({ root, out: join(t.testdir(), "none"), platform: other }), { message: new RegExp(`node-${other} is not installed`) })
})
