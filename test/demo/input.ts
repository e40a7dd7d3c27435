/**
 * The demo's input: what is really there in the installed packages. READMEs and change logs become memory pages, one package's own
 * package.json becomes settings. Sorted, so that each run is given the same.
 */
import { readdirSync, readFileSync } from "node:fs"
import { join, relative, resolve } from "node:path"
import { isSecretPath, secretShape } from "../../src/projections/families/secret-scan.ts"
import { leaves } from "../../src/projections/families/settings.ts"
import type { Json } from "../../src/projections/documents/types.ts"

const modules = resolve(import.meta.dirname, "../../node_modules")
/** Shorter texts have hardly a paragraph, longer ones would be most of the demo. Characters. */
const charsMin = 1_500
const charsMax = 16_000
const settingsOf = "corestore"

export interface Page {
  /** `docs/NAME` for the API. */
  readonly page: string
  readonly paragraphs: ReadonlyArray<string>
}

export const readPages = (): ReadonlyArray<Page> => {
  const seen = new Set<string>()
  return files(modules).flatMap((file) => {
    const text = readFileSync(file, "utf8").replaceAll("\r\n", "\n").replace(/^\ufeff/, "").trim()
    const name = relative(modules, file).replaceAll(/\.md$/gi, "").replaceAll(/[^A-Za-z0-9._-]+/g, "-").replaceAll(/^[^A-Za-z0-9]+|\.(?=\.)/g, "")
    if (text.length < charsMin || text.length > charsMax || name.length > 90 || seen.has(text) || text.includes("\0") || secretShape(text) !== undefined) return []
    seen.add(text)
    return [{ page: `docs/${name}`, paragraphs: text.split(/\n{2,}/) }]
  })
}

export interface SettingValue {
  readonly path: string
  readonly value: Json
}

/** Key by key, as `user.corestore.…`. */
export const readSettings = (): ReadonlyArray<SettingValue> => {
  const parsed: Json = JSON.parse(readFileSync(join(modules, settingsOf, "package.json"), "utf8"))
  return leaves(`user.${settingsOf}`, parsed).map(([path, value]) => ({ path, value })).filter(({ path, value }) => !isSecretPath(path) && value !== null)
}

const files = (directory: string): ReadonlyArray<string> => readdirSync(directory, { withFileTypes: true })
  .toSorted((a, b) => a.name < b.name ? -1 : 1)
  .flatMap((entry) => entry.isDirectory() ? files(join(directory, entry.name))
    : entry.isFile() && /\.md$/i.test(entry.name) && !/licen[cs]e/i.test(entry.name) ? [join(directory, entry.name)] : [])
