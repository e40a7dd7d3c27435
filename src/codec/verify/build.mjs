/**
 * Builds kos-verify into one file. `node src/codec/verify/build.mjs [OUT]`, default `dist/kos-verify.mjs`. Not minified: who trusts
 * it should be able to read it.
 */
import { chmod, mkdir } from "node:fs/promises"
import { dirname, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

const here = dirname(fileURLToPath(import.meta.url))
const out = resolve(process.argv[2] ?? resolve(here, "../../../dist/kos-verify.mjs"))
await mkdir(dirname(out), { recursive: true })
await build({
  entryPoints: [resolve(here, "entry.ts")],
  absWorkingDir: resolve(here, "../../.."),
  outfile: out,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  charset: "utf8",
  legalComments: "inline",
  banner: { js: "#!/usr/bin/env node" },
  alias: { effect: resolve(here, "effect-shim.ts"), "sodium-native": resolve(here, "sodium-shim.ts"), "node:zlib": resolve(here, "zlib-shim.ts") },
  logLevel: "warning",
  logOverride: { "import-is-undefined": "silent" }
})
await chmod(out, 0o755)
console.log(out)
