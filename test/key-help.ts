/** What tests of keys share: secrets in files, and the search for them everywhere else. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, relative } from "node:path"
import type { Test } from "tap"
import { eventually, filesBelow, type TestNode } from "./daemon-process.ts"

/** A file with a secret in it. */
export const fileWith = (t: Test, text: string): string => {
  const directory = mkdtempSync(join(tmpdir(), "kos-test-secret-"))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const path = join(directory, "secret.txt")
  writeFileSync(path, `${text}\n`, { mode: 0o600 })
  return path
}

export const keyFilesBelow = (home: string): ReadonlyArray<string> => filesBelow(home).filter((path) => /^(keys|mesh\/[^/]+\/keys)\//.test(relative(home, path)))

/** Every form in which bytes could have got into a text or a table. */
const forms = (bytes: Uint8Array): ReadonlyArray<Buffer> => {
  const whole = Buffer.from(bytes)
  return [whole, ...[whole.toString("hex"), whole.toString("hex").toUpperCase(), whole.toString("base64").replace(/=+$/, ""), whole.toString("base64url")].map((text) => Buffer.from(text))]
}

/** Files below the home, key files but those, and answers, that hold one of these secrets. */
export const leaks = (homes: ReadonlyArray<string>, secrets: ReadonlyArray<Uint8Array>, answers: ReadonlyArray<string> = []): ReadonlyArray<string> => {
  const wanted = secrets.flatMap(forms)
  const places = [
    ...homes.flatMap((home) => {
      const keys = new Set(keyFilesBelow(home))
      return filesBelow(home).filter((path) => !keys.has(path)).map((path) => [path, readFileSync(path)] as const)
    }),
    ...answers.map((text, i) => [`answer ${i}`, Buffer.from(text)] as const)
  ]
  return places.filter(([, bytes]) => wanted.some((secret) => bytes.includes(secret))).map(([path]) => path)
}

/** The raw secrets of a home that is not sealed. */
export const secretsOf = (home: string): ReadonlyArray<Uint8Array> => keyFilesBelow(home).filter((path) => !path.endsWith("keys/home")).map((path) => readFileSync(path))

export const sets = (node: TestNode, path: string, value: string) => node.ask("config.set", [path, value, "--layer", "mesh"])

/** Does this node come to know the value? */
export const sees = (node: TestNode, path: string, value: number): Promise<boolean> => eventually(async () => {
  const { code, out } = await node.run(["config", "get", path, "--json"])
  return code === 0 && JSON.parse(out).value === value
})
