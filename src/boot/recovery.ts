/**
 * Keys of a home that no daemon holds: shown, sealed, backed up, and made anew from a backup.
 *
 * **How a home is restored.** Everything is written below `restoring/` in the new home: keys, the mesh's introduction (all operations of the
 * backup), hints, `current`. Then the meshes and `current` are moved to their places, and last of all `keys`, in one rename. A home without
 * `keys/device` is nobody; so a restoring that was cut short leaves nothing that runs, and the next one begins again.
 *
 * **Why nothing forks.** No backup holds the seed of a log. The restored home gets a new one; at its first start the daemon attaches that log by
 * the device key, and the old one stays as the mesh holds it. The old device may even run on: one device may have two open logs.
 *
 * **A new device key (`--as-new`).** For a device that was lost or revoked. The recovery secret, from the file or from paper, signs that the new
 * device is an owner (`recovery.used`); the epoch keys that it opens are sealed to the new device. These operations stand in the introduction, and
 * the daemon writes them into its new log at its first start; peers take them at the handshake like those of any newcomer.
 */
import { Effect, Result } from "effect"
import { existsSync } from "node:fs"
import { rename, rm } from "node:fs/promises"
import { backupLockOf, backupSummary, checkPlace, epochRows, recoveryRow, writeBackup } from "../api/handlers/key-parts.ts"
import { timeText } from "../api/handlers/reading.ts"
import type { InputOf, OutputOf } from "../api/operations/table.ts"
import { asRefusal, keptOf, type KeySources, lockBy, lockForNew, unlockVault } from "../api/unlocking.ts"
import { toHex } from "../codec/bytes.ts"
import { isNodeName, type Operation, openOperation } from "../codec/operation.ts"
import { keyPairFromSeed, randomBytes } from "../codec/signature.ts"
import { recoverOperations } from "../commands/decide-recovery.ts"
import { signed } from "../commands/membership-events.ts"
import { Refusal } from "../commands/refusal.ts"
import type { Situation } from "../commands/situation.ts"
import { logKey } from "../events/hypercore-store.ts"
import { type Membership, resolveMembership } from "../projections/membership.ts"
import { blob } from "../projections/tables/database.ts"
import { Tables } from "../projections/tables/tables.ts"
import { type Backup, backupBytesMax, type BackupKey, forgetBackup, type MeshBackup, openBackup } from "../vault/backup.ts"
import { makeDirectory, readSmall } from "../vault/files.ts"
import { currentMeshOf, keyBytes, lookAtHome, meshDirectoryOf, meshPlace } from "../vault/home.ts"
import { makeKeyring } from "../vault/keyring.ts"
import type { Lock } from "../vault/sealing.ts"
import { lockText, Vault } from "../vault/vault.ts"
import { fingerprintOf, readRecoveryWords } from "../vault/words.ts"
import { defaultName, writeIntroduction } from "./first-run.ts"
import { readHints, readIntroduction, writeHints } from "./introduction.ts"
import { HomeInUse, lockHome } from "./lock.ts"

type Context = { readonly home: string } & KeySources

export const showKeys = async (_input: InputOf<"key.show">, { home }: Context): Promise<OutputOf<"key.show">> => {
  const look = await lookAtHome(home).catch((cause: unknown) => { throw asRefusal(cause) })
  const mesh = await currentMeshOf(home)
  if (look === undefined || mesh === undefined) throw noNode(home)
  const { membership } = await readMesh(home, mesh)
  return {
    device: look.device, fingerprint: fingerprintOf(look.device), home, kept: keptOf(look), mesh: { id: mesh, name: membership.name },
    epochs: epochRows(membership), recovery: recoveryRow(membership, existsSync(`${meshDirectoryOf(home, mesh)}/keys/recovery`)), daemon: false
  }
}

export const sealKeys = (input: InputOf<"key.seal">, context: Context): Promise<OutputOf<"key.seal">> => withVault(context, async (vault) => {
  const lock = await lockBy(input, context)
  const before = vault.sealed()
  await vault.seal(lock).finally(() => lock.secret.fill(0))
  return { summary: `the keys are ${before === undefined ? "" : "now "}sealed by ${lockText(lock)}`, events: [], kept: keptOf({ sealed: vault.sealed() }) }
})

export const unsealKeys = (_input: InputOf<"key.unseal">, context: Context): Promise<OutputOf<"key.unseal">> => withVault(context, async (vault) => {
  const before = vault.sealed()
  await vault.unseal()
  return { summary: before === undefined ? "the keys are not sealed" : "the keys lie on the disk in clear now", events: [], kept: { sealed: false } }
})

export const backupKeys = (input: InputOf<"key.backup">, context: Context): Promise<OutputOf<"key.backup">> => withVault(context, async (root) => {
  const lock = backupLockOf(input)
  await checkPlace(input.file, input.force)
  const id = await root.currentMesh()
  if (id === undefined) throw noNode(context.home)
  const vault = await root.forMesh(id)
  const { operations, membership } = await readMesh(context.home, id)
  const key = await vault.meshKey(id)
  const hints = await readHints(vault.meshDirectory(id))
  const recovery = await vault.recovery(id)
  const [remote] = hints.lan
  const backup: Backup = {
    version: 1, made: nowMs(), device: vault.deviceSeed(),
    meshes: [{
      id, name: membership.name, node: membership.members.get(vault.deviceId)?.name ?? "", key, bootstrap: hints.bootstrap,
      ...(remote === undefined ? {} : { peer: { device: hints.issuer, remote } }),
      operations: operations.map(({ bytes }) => bytes),
      epochs: makeKeyring({ device: vault.device, legacyKey: key, epochs: () => membership.epochs }).held().map(({ epoch, key: held }) => ({ epoch, key: new Uint8Array(held) })),
      ...(recovery === undefined ? {} : { recovery })
    }]
  }
  const told = backupSummary(input.file, backup)
  const bytes = await writeBackup(input.file, backup, lock, input.force)
  return { ...told, bytes, summary: "the backup is written", events: [] }
})

/** Makes a home from a backup. */
export const restoreKeys = async (input: InputOf<"key.restore">, context: Context): Promise<OutputOf<"key.restore">> => {
  process.umask(0o077)
  const { home } = context
  return held(home, async () => {
    const staging = `${home}/restoring`
    const interrupted = existsSync(staging)
    if (existsSync(`${home}/keys/device`)) throw new Refusal({ kind: "conflict", detail: `${home} has keys already; a backup is restored into a new home`, hint: "kos --home DIR key restore FILE" })
    if (!interrupted && (existsSync(`${home}/current`) || existsSync(`${home}/mesh`) || existsSync(`${home}/keys`))) {
      throw new Refusal({ kind: "conflict", detail: `${home} has been a node before; move it aside, or choose another home`, hint: "kos --home DIR key restore FILE" })
    }
    const backup = await readBackup(input)
    let staged = false
    try {
      const asNew = input.asNew || backup.device === undefined
      const plan = backup.meshes.map((mesh) => ({ mesh, known: openAll(mesh.operations) }))
      if (!asNew) refuseWhenGone(backup, plan[0]?.known ?? [])
      if (interrupted) for (const path of ["restoring", "current", "mesh"]) await rm(`${home}/${path}`, { recursive: true, force: true })
      await makeDirectory(staging)
      staged = true
      const lock = await lockForNew(context)
      const vault = await create(staging, asNew ? undefined : backup.device, lock)
      const taken = asNew ? backup.meshes.slice(0, 1) : backup.meshes
      for (const mesh of taken) await restoreMesh(vault, mesh, asNew ? { name: input.name ?? (isNodeName(mesh.node) ? mesh.node : defaultName()), words: input.words } : undefined)
      await vault.setCurrentMesh(backup.meshes[0].id)
      staged = false
      await makeDirectory(`${home}/mesh`)
      for (const { id } of taken) await rename(`${staging}/${meshPlace(id)}`, `${home}/${meshPlace(id)}`)
      await rename(`${staging}/current`, `${home}/current`)
      await rename(`${staging}/keys`, `${home}/keys`)
      await rm(staging, { recursive: true, force: true })
      return {
        home, device: vault.deviceId, fingerprint: fingerprintOf(vault.deviceId), mesh: { id: backup.meshes[0].id, name: backup.meshes[0].name }, asNew,
        made: timeText(backup.made), kept: keptOf({ sealed: vault.sealed() }),
        notes: [
          "The node begins a new log: no backup holds the seed of an old one.",
          asNew ? "It is a new device, made owner by the recovery secret. Revoke the lost one when you meet the mesh: kos node revoke NAME"
            : "If the device that the backup is of still runs, stop it for good: two nodes would go by one key."
        ],
        next: `kos --home ${home} daemon run`
      }
    } catch (cause) {
      // Refused before anything was moved: as if it had not been tried.
      if (staged) await rm(staging, { recursive: true, force: true })
      throw asRefusal(cause)
    } finally {
      forgetBackup(backup)
    }
  })
}

const create = async (home: string, seed: Uint8Array | undefined, lock: Lock | undefined): Promise<Vault> => {
  try {
    return await Vault.create(home, { ...(seed === undefined ? {} : { seed }), ...(lock === undefined ? {} : { lock }) })
  } finally {
    lock?.secret.fill(0)
  }
}

/** Writes what the daemon needs to enter one mesh; with a new device also what makes that an owner. */
const restoreMesh = async (vault: Vault, mesh: MeshBackup, asNew: { readonly name: string; readonly words: string | undefined } | undefined): Promise<void> => {
  const logSeed = randomBytes(keyBytes)
  const logKeyPair = keyPairFromSeed(logSeed)
  const log = logKey(logKeyPair.publicKey)
  await vault.addMesh(mesh.id, mesh.key, logSeed)
  logSeed.fill(0)
  let operations = mesh.operations
  if (asNew !== undefined) {
    const entropy = asNew.words === undefined ? mesh.recovery : readWords(asNew.words)
    if (entropy === undefined) {
      throw new Refusal({ kind: "denied", detail: "the file holds no recovery secret, so it makes no new device an owner", hint: "--words-file FILE with the 24 words, or join by an invite" })
    }
    const situation: Situation = { membership: resolveMembership(mesh.id, openAll(mesh.operations)), device: vault.deviceId, ms: nowMs() }
    const recovered = await Effect.runPromise(Effect.fromResult(recoverOperations(situation, { entropy, log, logKeyPair, name: asNew.name, keys: mesh.epochs })))
    operations = [...operations, ...recovered.operations.map((unsigned) => signed(vault, unsigned))]
  }
  await writeIntroduction(vault, mesh.id, operations)
  await writeHints(vault.meshDirectory(mesh.id), { bootstrap: mesh.bootstrap, issuer: mesh.peer?.device ?? "", lan: mesh.peer === undefined ? [] : [mesh.peer.remote] })
  if (mesh.recovery !== undefined) await vault.keepRecovery(mesh.id, mesh.recovery)
}

const readWords = (text: string): Uint8Array => {
  const read = readRecoveryWords(text)
  if (Result.isFailure(read)) throw new Refusal({ kind: "denied", detail: `these are no recovery words: ${read.failure}` })
  return read.success
}

const readBackup = async (input: InputOf<"key.restore">): Promise<Backup> => {
  const bytes = await readSmall(input.file, backupBytesMax).catch((cause: unknown) => { throw asRefusal(cause) })
  if (bytes === "absent") throw new Refusal({ kind: "not-found", detail: `there is no file ${input.file}` })
  if (typeof bytes === "string") throw new Refusal({ kind: "usage", detail: `${input.file} is ${bytes === "too large" ? `larger than ${backupBytesMax} bytes` : "no file"}` })
  const key: BackupKey | undefined = input.identity !== undefined ? { identity: identityIn(input.identity) }
    : input.passphrase !== undefined ? { passphrase: Buffer.from(input.passphrase, "utf8") } : undefined
  if (key === undefined) throw new Refusal({ kind: "usage", detail: "the passphrase or the identity that opens the file is needed", hint: "--passphrase-file FILE or --identity-file FILE" })
  try {
    return await openBackup(bytes, key, input.file)
  } catch (cause) {
    throw asRefusal(cause)
  } finally {
    if ("passphrase" in key) key.passphrase.fill(0)
  }
}

/** An identity file of age has comments around the one line that counts. */
const identityIn = (text: string): string => text.split(/\r?\n/).map((line) => line.trim()).find((line) => line !== "" && !line.startsWith("#")) ?? ""

const refuseWhenGone = ({ device, meshes }: Backup, known: ReadonlyArray<Operation>): void => {
  if (device === undefined) return
  const id = toHex(keyPairFromSeed(device).publicKey)
  const standing = resolveMembership(meshes[0].id, known).members.get(id)?.standing
  if (standing === "member") return
  throw new Refusal({ kind: "denied", detail: `the device of the backup ${standing === "revoked" ? "was revoked from" : standing === "left" ? "has left" : "is no member of"} ${meshes[0].name}`, hint: "--as-new makes a new device by the recovery secret" })
}

const openAll = (operations: ReadonlyArray<Uint8Array>): ReadonlyArray<Operation> => operations.flatMap((bytes) => {
  const opened = openOperation(bytes)
  return Result.isSuccess(opened) ? [opened.success] : []
})

/** The mesh as the files tell: the tables when there are any, and what founded it or came with the invite. */
const readMesh = async (home: string, id: string): Promise<{ readonly operations: ReadonlyArray<Operation>; readonly membership: Membership }> => {
  const directory = meshDirectoryOf(home, id)
  const file = `${directory}/tables.db`
  const all = openAll([...(existsSync(file) ? operationsIn(file) : []), ...await readIntroduction(directory)])
  const operations = [...new Map(all.map((operation) => [operation.hash, operation])).values()]
  return { operations, membership: resolveMembership(id, operations) }
}

const operationsIn = (file: string): ReadonlyArray<Uint8Array> => {
  const tables = new Tables(file, { readOnly: true })
  try {
    return tables.database.prepare("SELECT bytes FROM operations ORDER BY rowid").all().map((row) => blob(row["bytes"]))
  } finally {
    tables.close()
  }
}

const noNode = (home: string) => new Refusal({ kind: "not-found", detail: `${home} is no node yet`, hint: `kos --home ${home} init` })

const nowMs = (): number => Math.floor(performance.timeOrigin + performance.now())

/** Opens the vault while nobody else holds the home. */
const withVault = <A>(context: Context, work: (vault: Vault) => Promise<A>): Promise<A> => {
  process.umask(0o077)
  return lookAtHome(context.home).catch((cause: unknown) => { throw asRefusal(cause) }).then((look) => {
    if (look === undefined) throw noNode(context.home)
    return held(context.home, async () => {
      const vault = await unlockVault(context.home, context)
      if (vault === undefined) throw noNode(context.home)
      return work(vault).catch((cause: unknown) => { throw asRefusal(cause) })
    })
  })
}

const held = async <A>(home: string, work: () => Promise<A>): Promise<A> => {
  const release = await lockHome(home).catch((cause: unknown) => {
    throw cause instanceof HomeInUse ? new Refusal({ kind: "conflict", detail: `${cause.message}, and it does not answer`, hint: "kos doctor" }) : asRefusal(cause)
  })
  try {
    return await work()
  } finally {
    await release()
  }
}
