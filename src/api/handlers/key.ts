/**
 * Keys of a running node: shown, sealed, backed up, made recoverable and rotated.
 *
 * A passphrase or words come in a request and go nowhere else: not into an event, not into a log line, not into a refusal. What is recorded is
 * that it was done. Agents have no business here.
 */
import { Effect, Result } from "effect"
import { randomBytes } from "../../codec/signature.ts"
import { recoverOperations, setRecoveryOperations } from "../../commands/decide-recovery.ts"
import { membershipLock, operationEvents, signed } from "../../commands/membership-events.ts"
import { Refusal } from "../../commands/refusal.ts"
import { settingTexts } from "../../projections/families/config-view.ts"
import type { Backup, MeshBackup } from "../../vault/backup.ts"
import { lockText } from "../../vault/vault.ts"
import { fingerprintOf, readRecoveryWords, recoveryEntropyBytes, recoveryKeyPair, recoveryWords } from "../../vault/words.ts"
import { toHex } from "../../codec/bytes.ts"
import type { DaemonView, MeshView } from "../node.ts"
import type { Call } from "../operation.ts"
import type { Done } from "../operations/common.ts"
import type { Handlers } from "../operations/table.ts"
import { asRefusal, keptOf, lockBy } from "../unlocking.ts"
import { rotateEpoch } from "./epoch.ts"
import { backupLockOf, backupSummary, checkPlace, epochRows, recoveryRow, writeBackup } from "./key-parts.ts"
import { refuse } from "./reading.ts"

type Names = "key.show" | "key.seal" | "key.unseal" | "key.backup" | "key.words" | "key.recover" | "key.rotate"

export const keyHandlers = (daemon: DaemonView): Pick<Handlers, Names> => ({
  "key.show": () => attempt(async () => {
    const mesh = daemon.mesh()
    const view = mesh.members.view()
    const kept = await mesh.vault.recovery(mesh.mesh)
    const row = recoveryRow(view, kept !== undefined)
    kept?.fill(0)
    return {
      device: mesh.vault.deviceId, fingerprint: fingerprintOf(mesh.vault.deviceId), home: daemon.home, kept: keptOf({ sealed: mesh.vault.sealed() }),
      mesh: { id: mesh.mesh, name: view.name }, epochs: epochRows(view, (epoch) => mesh.keyring.keyOf(epoch) !== undefined), recovery: row, daemon: true
    }
  }),

  "key.seal": (input, call) => byPerson(call, Effect.gen(function*() {
    const { vault } = daemon.mesh()
    const before = vault.sealed()
    const lock = yield* attempt(() => lockBy(input, { env: daemon.env, cwd: daemon.home }))
    yield* attempt(() => vault.seal(lock).finally(() => lock.secret.fill(0)))
    const done = yield* noted(daemon, "key.seal", call, `the keys are ${before === undefined ? "" : "now "}sealed by ${lockText(lock)}`, `the keys of this node are sealed by a ${lock.way}`)
    return { ...done, kept: keptOf({ sealed: vault.sealed() }) }
  })),

  "key.unseal": (_input, call) => byPerson(call, Effect.gen(function*() {
    const { vault } = daemon.mesh()
    if (vault.sealed() === undefined) return { summary: "the keys are not sealed", events: [], kept: { sealed: false } }
    yield* attempt(() => vault.unseal())
    const done = yield* noted(daemon, "key.unseal", call, "the keys lie on the disk in clear now", "the keys of this node are no longer sealed")
    return { ...done, kept: { sealed: false } }
  })),

  "key.backup": (input, call) => byPerson(call, Effect.gen(function*() {
    const mesh = daemon.mesh()
    const recovery = yield* attempt(() => mesh.vault.recovery(mesh.mesh))
    const lock = yield* attempt(async () => {
      await checkPlace(input.file, input.force)
      return backupLockOf(input)
    })
    const backup: Backup = { version: 1, made: daemon.now(), device: mesh.vault.deviceSeed(), meshes: [meshBackup(daemon, mesh, recovery)] }
    const told = backupSummary(input.file, backup)
    const bytes = yield* attempt(() => writeBackup(input.file, backup, lock, input.force))
    const done = yield* noted(daemon, "key.backup", call, "the backup is written", "an encrypted backup of this device's key and the mesh's keys was written")
    return { ...told, bytes, ...done }
  })),

  "key.words": (input, call) => byPerson(call, Effect.gen(function*() {
    const mesh = daemon.mesh()
    const lock = yield* attempt(async () => {
      if (input.ageFile === undefined) return undefined
      await checkPlace(input.ageFile, input.force)
      return { file: input.ageFile, lock: backupLockOf(input) }
    })
    const made = yield* secretOf(mesh, input.replace, call)
    const { recovery, entropy, epochs } = made
    yield* attempt(async () => {
      if (made.fresh || input.keep) await mesh.vault.keepRecovery(mesh.mesh, input.keep ? entropy : undefined)
    })
    const words = recoveryWords(entropy)
    const file = lock === undefined ? undefined : yield* attempt(() =>
      writeBackup(lock.file, { version: 1, made: daemon.now(), meshes: [meshBackup(daemon, mesh, entropy)] }, lock.lock, input.force)).pipe(Effect.result)
    entropy.fill(0)
    const unwritten = file !== undefined && Result.isFailure(file) ? `; but the recovery file could not be written: ${file.failure.detail}` : ""
    return {
      ...made.done, summary: made.done.summary + unwritten, words, fingerprint: fingerprintOf(recovery), epochs,
      kept: input.keep || !made.fresh, ...(lock === undefined || unwritten !== "" ? {} : { file: lock.file })
    }
  })),

  "key.recover": ({ words }, call) => byPerson(call, Effect.gen(function*() {
    if (words === undefined) return yield* refuse("usage", "the recovery words are needed", "kos key recover --words-file FILE")
    const read = readRecoveryWords(words)
    if (Result.isFailure(read)) return yield* refuse("denied", `these are no recovery words: ${read.failure}`)
    const mesh = daemon.mesh()
    const device = mesh.vault.deviceId
    const { keyPair } = yield* attempt(() => mesh.vault.logKeyPair(mesh.mesh))
    const { operations, epochs } = yield* Effect.fromResult(recoverOperations(mesh.situation(), {
      entropy: read.success, log: mesh.journal.log(), logKeyPair: keyPair, name: mesh.members.nameOf(device), keys: mesh.keyring.held()
    }))
    read.success.fill(0)
    // They count before they stand in the log: a node without a key could not write down what gives it one.
    yield* attempt(async () => {
      mesh.tables.transaction(() => {
        for (const operation of operations) mesh.members.take(signed(mesh.vault, operation), "met")
      })
      mesh.members.changed()
      mesh.runner.wake()
    })
    const me = mesh.members.view().members.get(device)
    if (me?.standing !== "member" || me.role !== "owner") return yield* refuse("failed", "the recovery does not count: the mesh knows of something that speaks against it", "kos mesh show")
    const done = yield* mesh.dispatch.run("key.recover", call, [membershipLock], Effect.succeed({
      summary: `this node is owner of ${mesh.members.view().name}; revoke the lost ones with kos node revoke, then kos key words --replace`, events: operationEvents(mesh.vault, operations)
    }))
    return { role: me.role, epochs, ...done }
  })),

  "key.rotate": (_input, call) => byPerson(call, rotateEpoch(daemon.mesh(), call))
})

/** Says when another log of this device has grown since this one was begun: two nodes go by one key. */
export const twinOf = (mesh: MeshView): string | undefined => {
  const me = mesh.members.view().members.get(mesh.vault.deviceId)
  const mine = me?.logs.find(({ log }) => log === mesh.journal.log())
  const begun = mine === undefined ? undefined : mesh.members.operations().find((operation) => operation.hash === mine.from)?.ms
  if (me === undefined || begun === undefined) return undefined
  const twin = me.logs.find(({ log, closedAt, cutAt }) => {
    if (log === mesh.journal.log() || closedAt !== undefined || cutAt !== undefined) return false
    const newest = mesh.tables.events.query({ logs: [log], order: "newest", limit: 1 }).events[0]
    return newest !== undefined && newest.ms > begun
  })
  return twin === undefined ? undefined : `another node goes by this device's key: log ${twin.log.slice(0, 8)} has grown since this one was begun; stop one of the two, and revoke the device when it was stolen`
}

interface MadeSecret {
  readonly entropy: Uint8Array
  readonly recovery: string
  readonly epochs: number
  /** False when it is the one that this home kept. */
  readonly fresh: boolean
  readonly done: Done
}

/** The kept recovery secret, or a new one that the mesh knows of from now on. */
const secretOf = (mesh: MeshView, replace: boolean, call: Call): Effect.Effect<MadeSecret, Refusal> => Effect.gen(function*() {
  const present = mesh.members.view().recovery
  if (present !== undefined && !replace) {
    const kept = yield* attempt(() => mesh.vault.recovery(mesh.mesh))
    if (kept === undefined || toHex(recoveryKeyPair(mesh.mesh, kept).publicKey) !== present) {
      return yield* refuse("conflict", "the mesh has recovery words already, and they are not kept here", "--replace makes new ones and voids the old")
    }
    return { entropy: kept, recovery: present, epochs: 0, fresh: false, done: { summary: "these words are kept in this home", events: [] } }
  }
  const entropy = randomBytes(recoveryEntropyBytes)
  let said: { readonly recovery: string; readonly epochs: number } | undefined
  const done = yield* mesh.dispatch.run("key.words", call, [membershipLock], Effect.suspend(() => Effect.fromResult(
    Result.map(setRecoveryOperations(mesh.situation(), { entropy, keys: mesh.keyring.held() }), ({ operations, recovery, epochs }) => {
      said = { recovery, epochs }
      return { summary: "the mesh has recovery words; write them down, they are shown this once", events: operationEvents(mesh.vault, operations) }
    })
  )))
  if (said === undefined) return yield* refuse("conflict", "this command was done before, and its words were shown then", "kos key words --replace")
  if (mesh.members.view().recovery !== said.recovery) return yield* refuse("failed", "the recovery words do not count: somebody else set others at the same time", "kos key words --replace")
  return { entropy, ...said, fresh: true, done }
})

const meshBackup = (daemon: DaemonView, mesh: MeshView, recovery: Uint8Array | undefined): MeshBackup => {
  const view = mesh.members.view()
  const peer = [...view.members.keys()].flatMap((device) => {
    const met = device === mesh.vault.deviceId ? undefined : mesh.tables.receipts.peer(device)
    return met?.remote !== undefined && /^\d+\.\d+\.\d+\.\d+:\d+$/.test(met.remote) ? [{ device, remote: met.remote }] : []
  })[0]
  return {
    id: mesh.mesh, name: view.name, node: mesh.members.nameOf(mesh.vault.deviceId), key: new Uint8Array(mesh.meshKey),
    bootstrap: settingTexts(daemon.config(), "network.bootstrap").filter((hint) => hint.length <= 256).slice(0, 16), ...(peer === undefined ? {} : { peer }),
    operations: mesh.members.operations().map(({ bytes }) => bytes),
    epochs: mesh.keyring.held().map(({ epoch, key }) => ({ epoch, key: new Uint8Array(key) })),
    ...(recovery === undefined ? {} : { recovery: new Uint8Array(recovery) })
  }
}

/** An agent acts for a person on what the mesh holds, not on the keys of the device. */
const byPerson = <A>(call: Call, work: Effect.Effect<A, Refusal>): Effect.Effect<A, Refusal> =>
  call.actor.startsWith("agent:") ? Effect.fail(new Refusal({ kind: "denied", detail: "agents may not handle the keys of this device" })) : work

/** Records that it was done; a node that writes nothing into its log has done it all the same. */
const noted = (daemon: DaemonView, name: string, call: Call, summary: string, detail: string): Effect.Effect<Done> => {
  const { dispatch } = daemon.mesh()
  return dispatch.run(name, call, [], Effect.succeed({ summary, events: [{ type: "command.done/1", subject: "node", body: { name, detail } }] })).pipe(
    Effect.map((done) => ({ ...done, summary })), Effect.orElseSucceed(() => ({ summary, events: [] }))
  )
}

const attempt = <A>(work: () => Promise<A>): Effect.Effect<A, Refusal> => Effect.tryPromise({ try: work, catch: asRefusal })
