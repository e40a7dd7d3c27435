/** `npm run bundle -- --out DIR [--platform linux-x64|linux-arm64] [--node FILE] [--version V]`: makes the bundle, and says what is in it. */
import { resolve } from "node:path"
import { parseArgs } from "node:util"
import { isVersion } from "../src/updates/version.ts"
import { bundleBytesMax, makeBundle, platforms } from "./bundle-tree.ts"

const { values } = parseArgs({ options: { out: { type: "string" }, platform: { type: "string" }, node: { type: "string" }, version: { type: "string" } } })
const wanted = values.platform ?? `${process.platform}-${process.arch}`
const platform = platforms.find((each) => each === wanted)
if (values.out === undefined || platform === undefined) {
  process.stderr.write(values.out === undefined ? "bundle: --out DIR is missing\n" : `bundle: there is no bundle for ${wanted}, only for ${platforms.join(" and ")}\n`)
  process.exit(2)
}
if (values.version !== undefined && !isVersion(values.version)) {
  process.stderr.write(`bundle: ${values.version} is no version such as 1.2.3\n`)
  process.exit(2)
}
try {
  const { files, bytes, packages, hash } = await makeBundle({
    root: resolve(import.meta.dirname, ".."), out: resolve(values.out), platform, ...(values.node === undefined ? {} : { node: resolve(values.node) }), ...(values.version === undefined ? {} : { version: values.version })
  })
  process.stdout.write(`${values.out}: ${platform}, ${files} files, ${(bytes / 1_048_576).toFixed(1)} MiB, ${packages.length} packages, sha256 ${hash}\n`)
  if (bytes > bundleBytesMax) {
    process.stderr.write(`bundle: more than ${bundleBytesMax / 1_048_576} MiB\n`)
    process.exitCode = 1
  }
} catch (cause) {
  process.stderr.write(`bundle: ${cause instanceof Error ? cause.message : String(cause)}\n`)
  process.exitCode = 1
}
