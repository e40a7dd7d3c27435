/**
 * How a home's vault is opened when it starts: where the passphrase, credential or key file comes from.
 *
 * A passphrase is looked for in this order: `--passphrase-file` ("-" reads stdin), the file that `KOS_PASSPHRASE_FILE` names, the credential
 * `kos-passphrase` of systemd, a terminal. Never in an argument or an environment variable, which other processes can read. A wrong one is
 * said in one sentence and changes nothing; at a terminal it may be tried three times with growing pauses, elsewhere once.
 */
import { setTimeout as delay } from "node:timers/promises"
import { join, resolve } from "node:path"
import { asBuffer } from "../codec/hash.ts"
import { Refusal } from "../commands/refusal.ts"
import { readSmall, wipeable } from "../vault/files.ts"
import type { HomeLook } from "../vault/home.ts"
import { type HomeKeyHeader, type Lock, lockSecretBytesMax } from "../vault/sealing.ts"
import { VaultError } from "../vault/vault-error.ts"
import { Vault } from "../vault/vault.ts"

/** Where secrets may come from; none of them needs to be there. */
export interface KeySources {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  readonly passphraseFile?: string | undefined
  readonly stdin?: AsyncIterable<unknown>
  readonly ask?: ((prompt: string) => Promise<string>) | undefined
  /** Other pauses, for tests. */
  readonly pausesMs?: ReadonlyArray<number>
}

export const passphraseCredential = "kos-passphrase"
export const homeKeyCredential = "kos-home-key"
/** Pauses after a wrong passphrase at a terminal, milliseconds; after the last one there is no further try. */
export const pausesMs: ReadonlyArray<number> = [1_000, 4_000]

/** Opens the vault with whatever there is; undefined when the home has none. Throws `Refusal`. */
export const unlockVault = async (home: string, sources: KeySources): Promise<Vault | undefined> => {
  for (let tries = 0; ; tries++) {
    let asked = false
    try {
      return await Vault.open(home, {
        unlock: async (header) => {
          const found = await secretOf(home, header, sources)
          if (found !== undefined) return found
          if (sources.ask === undefined) throw lockedRefusal(home, header)
          asked = true
          return Buffer.from(await sources.ask(tries === 0 ? `Passphrase of ${home}: ` : "That does not open it. Passphrase: "), "utf8")
        }
      })
    } catch (cause) {
      const pause = (sources.pausesMs ?? pausesMs)[tries]
      if (!(cause instanceof VaultError) || cause.reason !== "wrong" || !asked || pause === undefined) throw asRefusal(cause)
      await delay(pause)
    }
  }
}

/** The lock that a new home gets at once, when its passphrase or credential is there already; undefined: it stays unsealed. */
export const lockForNew = async (sources: KeySources): Promise<Lock | undefined> => {
  const passphrase = await passphraseOf(sources)
  if (passphrase !== undefined) return { way: "passphrase", name: "", secret: passphrase }
  if (!credentialThere(sources)) return undefined
  const secret = await readCredential(homeKeyCredential, sources)
  return secret === undefined ? undefined : { way: "credential", name: homeKeyCredential, secret }
}

/** The lock that somebody asks for by name. */
export const lockBy = async (
  wish: { readonly passphrase?: string | undefined; readonly keyFile?: string | undefined; readonly credential?: string | undefined }, sources: KeySources
): Promise<Lock> => {
  const given = [wish.passphrase, wish.keyFile, wish.credential].filter((one) => one !== undefined).length
  if (given === 0) throw new Refusal({ kind: "usage", detail: "a passphrase, a key file or a credential is needed", hint: "kos key seal --passphrase-file FILE" })
  if (given > 1) throw new Refusal({ kind: "usage", detail: "only one of passphrase, key file and credential can seal a home" })
  if (wish.passphrase !== undefined) return { way: "passphrase", name: "", secret: Buffer.from(wish.passphrase, "utf8") }
  const header = wish.keyFile !== undefined ? { way: "key-file" as const, name: resolve(sources.cwd, wish.keyFile) } : { way: "credential" as const, name: wish.credential ?? "" }
  const secret = header.way === "key-file" ? await readKeyFileAt(header.name) : await readCredential(header.name, sources)
  if (secret !== undefined) return { ...header, secret }
  throw new Refusal({
    kind: "not-found",
    detail: header.way === "key-file" ? `there is no key file ${header.name}` : `there is no credential ${header.name} ($CREDENTIALS_DIRECTORY is ${sources.env["CREDENTIALS_DIRECTORY"] ?? "not set"})`
  })
}

/** What a person and a script are told of a fault with keys. */
export const asRefusal = (cause: unknown): Refusal => {
  if (cause instanceof Refusal) return cause
  if (!(cause instanceof VaultError)) return new Refusal({ kind: "failed", detail: cause instanceof Error ? cause.message : String(cause) })
  switch (cause.reason) {
    case "locked": case "wrong": return new Refusal({ kind: "denied", detail: cause.detail })
    case "refused": return new Refusal({ kind: "usage", detail: cause.detail })
    case "missing": return new Refusal({ kind: "not-found", detail: cause.detail })
    case "damaged": return new Refusal({ kind: "failed", detail: cause.detail })
  }
}

export const keptOf = ({ sealed }: Pick<HomeLook, "sealed">): { readonly sealed: boolean; readonly by?: HomeKeyHeader["way"]; readonly name?: string } =>
  sealed === undefined ? { sealed: false } : { sealed: true, by: sealed.way, ...(sealed.name === "" ? {} : { name: sealed.name }) }

const secretOf = async (home: string, header: HomeKeyHeader, sources: KeySources): Promise<Uint8Array | undefined> => {
  if (header.way === "passphrase") return passphraseOf(sources)
  const secret = header.way === "credential" ? await readCredential(header.name, sources) : await readKeyFileAt(header.name)
  if (secret === undefined) throw lockedRefusal(home, header)
  return secret
}

const lockedRefusal = (home: string, { way, name }: HomeKeyHeader): Refusal => new Refusal(way === "passphrase"
  ? { kind: "denied", detail: `the keys of ${home} are sealed by a passphrase, and none was given`, hint: "--passphrase-file FILE, KOS_PASSPHRASE_FILE, or the credential kos-passphrase" }
  : way === "credential"
    ? { kind: "denied", detail: `the keys of ${home} are sealed by the credential ${name}, and it is not there`, hint: `LoadCredentialEncrypted=${name} in the unit` }
    : { kind: "denied", detail: `the keys of ${home} are sealed by the key file ${name}, and it is not there`, hint: "put the medium in that holds it" })

const passphraseOf = async (sources: KeySources): Promise<Uint8Array | undefined> => {
  const named = sources.passphraseFile ?? (sources.env["KOS_PASSPHRASE_FILE"] || undefined)
  if (named === "-") return withoutLineEnd(await readAll(sources.stdin))
  if (named !== undefined) {
    const path = resolve(sources.cwd, named)
    const bytes = await readKeyFileAt(path)
    if (bytes === undefined) throw new Refusal({ kind: "not-found", detail: `there is no passphrase file ${path}` })
    return withoutLineEnd(bytes)
  }
  if (!credentialThere(sources)) return undefined
  const credential = await readCredential(passphraseCredential, sources)
  return credential === undefined ? undefined : withoutLineEnd(credential)
}

const credentialThere = ({ env }: KeySources): boolean => (env["CREDENTIALS_DIRECTORY"] ?? "") !== ""

const readCredential = async (name: string, { env }: KeySources): Promise<Uint8Array | undefined> => {
  const directory = env["CREDENTIALS_DIRECTORY"] ?? ""
  if (!/^[A-Za-z0-9_.-]{1,255}$/.test(name) || name === "." || name === "..") throw new Refusal({ kind: "usage", detail: "a credential's name is letters, digits, '.', '_' and '-'" })
  return directory === "" ? undefined : readKeyFileAt(join(directory, name))
}

const readKeyFileAt = async (path: string): Promise<Uint8Array | undefined> => {
  const bytes = await readSmall(path, lockSecretBytesMax).catch((cause: unknown) => {
    throw new Refusal({ kind: "failed", detail: `${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}` })
  })
  if (bytes === "absent") return undefined
  if (bytes === "no file") throw new Refusal({ kind: "usage", detail: `${path} is no file` })
  if (bytes === "too large") throw new Refusal({ kind: "usage", detail: `${path} is larger than ${lockSecretBytesMax} bytes` })
  return bytes
}

const readAll = async (stdin: AsyncIterable<unknown> | undefined): Promise<Uint8Array> => {
  const parts: Array<Buffer> = []
  let size = 0
  for await (const part of stdin ?? []) {
    // The stream's own bytes, not a copy of them: they are overwritten too.
    const bytes = typeof part === "string" ? Buffer.from(part) : part instanceof Uint8Array ? asBuffer(part) : Buffer.alloc(0)
    size += bytes.byteLength
    if (size > lockSecretBytesMax) throw new Refusal({ kind: "usage", detail: `stdin is larger than ${lockSecretBytesMax} bytes` })
    parts.push(bytes)
  }
  const whole = Buffer.concat(parts)
  const out = wipeable(whole)
  for (const part of [whole, ...parts]) part.fill(0)
  return out
}

/** An editor ends the file with a line end that nobody means. */
const withoutLineEnd = (bytes: Uint8Array): Uint8Array => {
  const end = bytes.at(-1) !== 0x0a ? bytes.byteLength : bytes.at(-2) === 0x0d ? bytes.byteLength - 2 : bytes.byteLength - 1
  const out = wipeable(bytes.subarray(0, end))
  bytes.fill(0)
  return out
}
