import type { Json } from "../documents/types.ts"
import { isArray, isObject, ownValue } from "./json.ts"
import { formatPath, parsePath } from "./path.ts"
import { findSetting } from "./settings.ts"

/**
 * Finds secrets on their way into an event. An event is for ever and for every reader, so a secret in one could only be revoked, never taken
 * back. Two signs: the name under which a text stands, and the shape of known tokens. Shapes that are common in ordinary prose (long hex,
 * base64) are no sign: a page about hashes must stay writable. What is found is named, never repeated.
 */
export interface SecretFound {
  /** Path of the value, or of the place within it. */
  readonly path: string
  /** What it looks like, for instance "a private key". */
  readonly kind: string
}

/** A text that stands for an item in the vault, for instance `vault:weather-key`; allowed wherever a secret is not. */
export const isVaultReference = (value: Json): boolean => typeof value === "string" && /^vault:[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/u.test(value)

/** Whether values at this path are secrets by the path's own name, whatever they are. */
export const isSecretPath = (path: string): boolean => {
  const parts = parsePath(path)
  if ("why" in parts) return false
  return findSetting(path)?.secret === true || isSecretName(parts.value[parts.value.length - 1] ?? "")
}

/** Whether a name says that its value is a secret: `password`, `api_key`, `dbPassword`, `GITHUB_TOKEN`. */
export const isSecretName = (name: string): boolean => {
  const words = name.replaceAll(/([a-z0-9])([A-Z])/gu, "$1_$2").toLowerCase().split(/[^a-z0-9]+/u).filter((word) => word !== "")
  const last = words[words.length - 1] ?? ""
  const lastTwo = `${words[words.length - 2] ?? ""}${last}`
  return secretWords.has(last) || secretWords.has(lastTwo)
}

/** The first secret in a value that is to stand at `path`, or undefined. */
export const findSecret = (path: string, value: Json): SecretFound | undefined => {
  const parts = parsePath(path)
  const at = "why" in parts ? [path] : parts.value
  if (findSetting(path)?.secret === true) return { path, kind: "a secret by its name" }
  return inValue(at, value)
}

/** The kind of secret that a text holds by its shape, or undefined. */
export const secretShape = (text: string): string | undefined => {
  if (text.length < shortestToken || !hint.test(text)) return undefined
  return shapes.find(({ pattern, unless }) => {
    const found = pattern.exec(text)
    return found !== null && !(unless?.test(found[0]) ?? false)
  })?.kind
}

/**
 * The first text of known token shape in an event's body: its keys and values at any depth, bytes left out (documents' changes, operations and
 * ciphers are judged or sealed elsewhere). `path` is within the body. A few microseconds for an event of ordinary size.
 */
export const secretInEvent = (type: string, body: unknown): SecretFound | undefined => inBody(body, type, 0)

/** The text with every token of known shape replaced by what it is, for what the node itself has to say. Examples stay as they are. */
export const maskSecrets = (text: string): string =>
  text.length < shortestToken || !hint.test(text) ? text : masks.reduce((masked, { kind, whole, unless }) =>
    masked.replace(whole, (found: string, head: string) => (unless?.test(head) === true ? found : `(${kind})`)), text)

/** The refusal's sentence; never holds the secret. */
export const secretSentence = ({ path, kind }: SecretFound): string => `${path} holds ${kind}; events keep no secrets, so nothing was written: a secret belongs into the vault, and is referred to as vault:NAME`

const inValue = (at: ReadonlyArray<string>, value: Json): SecretFound | undefined => {
  if (typeof value === "string") {
    if (isVaultReference(value)) return undefined
    const kind = secretShape(value) ?? (value !== "" && isSecretName(at[at.length - 1] ?? "") ? "a secret by its name" : undefined)
    return kind === undefined ? undefined : { path: formatPath(at), kind }
  }
  if (isArray(value)) return first(value, (item) => inValue(at, item))
  if (!isObject(value)) return undefined
  return first(Object.keys(value), (key) => {
    const kind = secretShape(key)
    return kind === undefined ? inValue([...at, key], ownValue(value, key) ?? null) : { path: formatPath(at), kind }
  })
}

/** Nesting that is looked into; frames hold at most 64 levels. */
const bodyDepthMax = 64

const inBody = (value: unknown, path: string, depth: number): SecretFound | undefined => {
  if (typeof value === "string") {
    const kind = secretShape(value)
    return kind === undefined ? undefined : { path, kind }
  }
  if (typeof value !== "object" || value === null || value instanceof Uint8Array || depth > bodyDepthMax) return undefined
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const found = inBody(value[i], path, depth + 1)
      if (found !== undefined) return found
    }
    return undefined
  }
  for (const [key, inner] of Object.entries(value)) {
    const kind = secretShape(key)
    if (kind !== undefined) return { path, kind }
    const found = inBody(inner, `${path}.${key}`, depth + 1)
    if (found !== undefined) return found
  }
  return undefined
}

const first = <A>(items: ReadonlyArray<A>, find: (item: A) => SecretFound | undefined): SecretFound | undefined => {
  for (const item of items) {
    const found = find(item)
    if (found !== undefined) return found
  }
  return undefined
}

const secretWords: ReadonlySet<string> = new Set([
  "password", "passwd", "passphrase", "pwd", "secret", "secrets", "token", "apikey", "accesskey", "privatekey", "secretkey", "clientsecret", "credential",
  "credentials", "authtoken", "accesstoken", "refreshtoken", "encryptionkey", "signingkey", "psk", "mnemonic"
])

interface Shape {
  readonly kind: string
  readonly pattern: RegExp
  /** Matches that are known examples, found in documentation everywhere. */
  readonly unless?: RegExp
}

/** No shape has fewer characters. */
const shortestToken = 16

/** What every shape begins with: one pass over a text, which nearly always says that none of them is there. */
const hint = /-----BEGIN |AGE-SECRET-KEY-1|AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|AIza|[rs]k_live_|npm_|sk-|[kK][oO][sS][:\-1]/u

/** Patterns run in time linear in the text: no nested repetition. */
const shapes: ReadonlyArray<Shape> = [
  { kind: "a private key", pattern: /-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[\s\\nr]{0,8}(?:[A-Za-z-]{1,20}: [^\n]{0,200}\n\s{0,4}){0,4}[A-Za-z0-9+/=]{32}/u },
  { kind: "an age key", pattern: /\bAGE-SECRET-KEY-1[0-9A-Z]{50}/u },
  { kind: "an AWS access key", pattern: /\b(?:AKIA|ASIA)[0-9A-Z]{16}\b/u, unless: /EXAMPLE$/u },
  { kind: "a GitHub token", pattern: /\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{40})/u, unless: /_(?:x+|X+|0+)$/u },
  { kind: "a GitLab token", pattern: /\bglpat-[A-Za-z0-9_-]{20}/u, unless: /-(?:x+|X+|0+)$/u },
  { kind: "a Slack token", pattern: /\bxox[abeoprs]-[0-9A-Za-z-]{20}/u, unless: /-(?:x+|X+|0+)$/u },
  { kind: "a Google API key", pattern: /\bAIza[0-9A-Za-z_-]{35}/u },
  { kind: "a Stripe key", pattern: /\b[rs]k_live_[0-9A-Za-z]{24}/u },
  { kind: "an npm token", pattern: /\bnpm_[A-Za-z0-9]{36}\b/u },
  { kind: "an API key", pattern: /\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32}/u, unless: /sk-(?:ant-|proj-)?(?:x+|X+|0+|[a-z-]+)$/u },
  { kind: "a secret of kOS", pattern: /\bkos[:-](?:secret|recovery|device-key|mesh-key|invite)[:-][A-Za-z0-9_-]{24}/iu },
  { kind: "an invite", pattern: /\bkos1[A-Za-z0-9_-]{60}/u }
]

/** Each shape as far as its token goes, for masking: a private key to its end line or the end of the text. The first group is the shape itself. */
const masks = shapes.map(({ kind, pattern, unless }) => ({
  kind, unless, whole: new RegExp(`(${pattern.source})${kind === "a private key" ? "(?:[^-]|-(?!----END ))*(?:-----END [A-Z0-9 ]{0,50}-----)?" : "[A-Za-z0-9_-]*"}`, `${pattern.flags}g`)
}))
