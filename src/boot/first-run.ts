/**
 * The first run: from an empty directory to a node that is a mesh of one. Everything that a later start needs is on disk before
 * `current` names the mesh, so a first run that was cut short begins again.
 */
import { Result } from "effect"
import { hostname } from "node:os"
import { encodeCbor } from "../codec/cbor.ts"
import { isNodeName } from "../codec/operation.ts"
import { keyPairFromSeed, randomBytes } from "../codec/signature.ts"
import { decideCreateMesh } from "../commands/decide-membership.ts"
import { signed } from "../commands/membership-events.ts"
import type { Refusal } from "../commands/refusal.ts"
import { logKey } from "../events/hypercore-store.ts"
import { makeDirectory, writeWhole } from "../vault/files.ts"
import { keyBytes, Vault } from "../vault/vault.ts"
import { introductionFile } from "./introduction.ts"

export interface Home {
  readonly vault: Vault
  readonly mesh: string
  /** True when this call made it. */
  readonly created: boolean
}

/** Opens the home, and makes it a node of a mesh of one when it is none yet. */
export const openHome = async (home: string, name: string | undefined, now: () => number): Promise<Result.Result<Home, Refusal>> => {
  await makeDirectory(home)
  const existing = await Vault.open(home)
  const current = await existing?.currentMesh()
  if (existing !== undefined && current !== undefined) return Result.succeed({ vault: existing, mesh: current, created: false })
  const vault = existing ?? await Vault.create(home)
  const made = await createMesh(vault, name ?? defaultName(), now())
  if (Result.isFailure(made)) return Result.fail(made.failure)
  await vault.setCurrentMesh(made.success)
  return Result.succeed({ vault, mesh: made.success, created: true })
}

/** Makes keys, log and founding operations of a mesh of one; the caller makes it current. */
export const createMesh = async (vault: Vault, name: string, ms: number): Promise<Result.Result<string, Refusal>> => {
  const logSeed = randomBytes(keyBytes)
  const decided = decideCreateMesh(
    { name, nodeName: name, log: logKey(keyPairFromSeed(logSeed).publicKey), nonce: randomBytes(32) }, { device: vault.deviceId, ms }
  )
  if (Result.isFailure(decided)) return Result.fail(decided.failure)
  const { mesh, operations } = decided.success
  await vault.addMesh(mesh, randomBytes(keyBytes), logSeed)
  await writeIntroduction(vault, mesh, operations.map((unsigned) => signed(vault, unsigned)))
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
