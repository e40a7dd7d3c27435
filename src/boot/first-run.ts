/**
 * The first run: from an empty directory to a node that is a mesh of one. Everything that a later start needs is on disk before
 * `current` names the mesh, so a first run that was cut short begins again.
 */
import { Result } from "effect"
import { hostname } from "node:os"
import { toHex } from "../codec/bytes.ts"
import { encodeCbor } from "../codec/cbor.ts"
import { isNodeName, proveLogHeld } from "../codec/operation.ts"
import { keyPairFromSeed, randomBytes } from "../codec/signature.ts"
import { decideCreateMesh } from "../commands/decide-membership.ts"
import { signed } from "../commands/membership-events.ts"
import { Refusal } from "../commands/refusal.ts"
import { logKey } from "../events/hypercore-store.ts"
import { makeDirectory, writeWhole } from "../vault/files.ts"
import { keyBytes, Vault } from "../vault/vault.ts"
import { introductionFile } from "./introduction.ts"
import { asRefusal, type KeySources, lockForNew, unlockVault } from "../api/unlocking.ts"

export interface Home {
  readonly vault: Vault
  readonly mesh: string
  /** True when this call made it. */
  readonly created: boolean
}

/** Opens the home with the keys that `sources` give, and makes it a node of a mesh of one when it is none yet: sealed at once when a passphrase or credential is there. */
export const openHome = async (home: string, name: string | undefined, now: () => number, sources: KeySources = { env: {}, cwd: home }): Promise<Result.Result<Home, Refusal>> => {
  await makeDirectory(home)
  const vault = await openVault(home, sources).catch(asRefusal)
  if (vault instanceof Refusal) return Result.fail(vault)
  const current = await vault.currentMesh()
  if (current !== undefined) return Result.succeed({ vault, mesh: current, created: false })
  const made = await createMesh(vault, name ?? defaultName(), now())
  if (Result.isFailure(made)) return Result.fail(made.failure)
  await vault.setCurrentMesh(made.success)
  return Result.succeed({ vault, mesh: made.success, created: true })
}

const openVault = async (home: string, sources: KeySources): Promise<Vault> => {
  const existing = await unlockVault(home, sources)
  if (existing !== undefined) return existing
  const lock = await lockForNew(sources)
  return Vault.create(home, lock === undefined ? {} : { lock }).finally(() => lock?.secret.fill(0))
}

/**
 * Makes keys, log and founding operations of a mesh of one; the caller makes it current. A further mesh beside others has a name of its own and the
 * device key of `deviceSeed`.
 */
export const createMesh = async (
  vault: Vault, nodeName: string, ms: number, further?: { readonly name: string; readonly deviceSeed: Uint8Array }
): Promise<Result.Result<string, Refusal>> => {
  const logSeed = randomBytes(keyBytes)
  const logKeys = keyPairFromSeed(logSeed)
  const who = { device: further === undefined ? vault.deviceId : toHex(keyPairFromSeed(further.deviceSeed).publicKey), ms }
  const wish = { name: further?.name ?? nodeName, nodeName, log: logKey(logKeys.publicKey), nonce: randomBytes(32), newKey: randomBytes(keyBytes) }
  // The mesh's id follows from its first operation alone, and the proof that this node holds its log's key names the mesh.
  const decided = Result.flatMap(decideCreateMesh(wish, who), (first) => decideCreateMesh({ ...wish, ...proveLogHeld(first.mesh, who.device, logKeys) }, who))
  if (Result.isFailure(decided)) return Result.fail(decided.failure)
  const { mesh, operations } = decided.success
  await vault.addMesh(mesh, randomBytes(keyBytes), logSeed, further?.deviceSeed)
  const inside = await vault.forMesh(mesh)
  await writeIntroduction(vault, mesh, operations.map((unsigned) => signed(inside, unsigned)))
  return Result.succeed(mesh)
}

/** Operations that let this node know its mesh before it holds any log of it. */
export const writeIntroduction = (vault: Vault, mesh: string, operations: ReadonlyArray<Uint8Array>): Promise<void> =>
  writeWhole(introductionFile(vault.meshDirectory(mesh)), encodeCbor([...operations]))

/** The host's name as far as it can be a node's name. */
export const defaultName = (): string => {
  const name = (hostname().split(".")[0] ?? "").normalize("NFC").replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[^\p{L}\p{N}]+/u, "").slice(0, 63)
  return isNodeName(name) ? name : "node"
}
