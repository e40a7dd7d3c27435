/**
 * Deciders of recovery: the secret on paper, and what it is for. Pure but for the chance inside sealing.
 *
 * Both say two things in one unit of operations. *Set*: this is the recovery key, and these epoch keys are sealed to it; so that whoever has the paper
 * can read what the mesh wrote before. *Used*: this device is an owner, and the epoch keys that the paper opened are sealed to it; so that
 * also a device that could read nothing (a seeder, a new one) reads from then on.
 */
import { Result } from "effect"
import { toHex } from "../codec/bytes.ts"
import { epochCommit, isNodeName, proveLogHeld, recoveryHash, type Unsigned } from "../codec/operation.ts"
import { type KeyPair, sign } from "../codec/signature.ts"
import { type EpochKey, makeKeyring } from "../vault/keyring.ts"
import { recoveryKeyPair } from "../vault/words.ts"
import { sharingStatements } from "./epoch-statements.ts"
import { Refusal } from "./refusal.ts"
import { next, owner, type Situation } from "./situation.ts"

export interface Recovered {
  readonly operations: ReadonlyArray<Unsigned>
  /** Key epochs that were sealed along. */
  readonly epochs: number
}

/** A recovery key for the mesh, in place of an earlier one. `keys` are the epoch keys held, newest first. */
export const setRecoveryOperations = (
  situation: Situation, wish: { readonly entropy: Uint8Array; readonly keys: ReadonlyArray<EpochKey> }
): Result.Result<Recovered & { readonly recovery: string }, Refusal> => {
  const me = owner(situation, "set the recovery words of the mesh")
  if (Result.isFailure(me)) return Result.fail(me.failure)
  const recovery = toHex(recoveryKeyPair(situation.membership.id, wish.entropy).publicKey)
  const operations = next(situation, [{ kind: "recovery.set", recovery }, ...sharingStatements(wish.keys, [recovery])])
  return Result.succeed({ operations, epochs: wish.keys.length, recovery })
}

/** Makes this device an owner by the recovery secret. `log` is what it writes, by `logKeyPair`; `keys` are epoch keys that are known otherwise. */
export const recoverOperations = (
  situation: Situation,
  wish: { readonly entropy: Uint8Array; readonly log: string; readonly logKeyPair: KeyPair; readonly name: string; readonly keys?: ReadonlyArray<EpochKey> }
): Result.Result<Recovered, Refusal> => {
  const { membership, device } = situation
  if (membership.recovery === undefined) return refuse("denied", `${membership.name} has no recovery words`)
  const pair = recoveryKeyPair(membership.id, wish.entropy)
  const recovery = toHex(pair.publicKey)
  if (recovery !== membership.recovery) return refuse("denied", `these are not the recovery words of ${membership.name}, or they were replaced by others`)
  if (!isNodeName(wish.name)) return refuse("usage", "a node's name is letters, digits, '.', '_' and '-', at most 63, beginning with a letter or digit")
  const me = membership.members.get(device)
  if (me?.standing === "member" && me.role === "owner") return refuse("conflict", "this node is an owner already")
  // What it wrote stays cut off, and a new device begins with a new log anyway.
  if (me !== undefined && me.standing !== "member") return refuse("denied", `this device was ${me.standing === "revoked" ? "revoked" : "gone"} from ${membership.name}; make a new one: kos --home DIR key restore FILE --as-new`)
  const keys = distinct([...opened(situation, pair), ...wish.keys ?? []])
  const proof = sign(recoveryHash(membership.id, recovery, device, wish.log), pair)
  const held = proveLogHeld(membership.id, device, wish.logKeyPair)
  const operations = next(situation, [{ kind: "recovery.used", log: wish.log, name: wish.name, recovery, proof, ...held }, ...sharingStatements(keys, [device])])
  return Result.succeed({ operations, epochs: keys.length })
}

/** What the secret on paper opens of the mesh's epochs. */
const opened = ({ membership }: Situation, pair: KeyPair): ReadonlyArray<EpochKey> =>
  makeKeyring({ device: pair, legacyKey: new Uint8Array(32), epochs: () => membership.epochs }).held()

const distinct = (keys: ReadonlyArray<EpochKey>): ReadonlyArray<EpochKey> =>
  [...new Map(keys.map((key) => [epochCommit(key.key), key])).values()].toSorted((a, b) => b.epoch - a.epoch)

const refuse = (kind: Refusal["kind"], detail: string) => Result.fail(new Refusal({ kind, detail }))
