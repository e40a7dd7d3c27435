import { Effect, Result } from "effect"
import { existsSync } from "node:fs"
import { openOperation } from "../codec/operation.ts"
import { Refusal } from "../commands/refusal.ts"
import type { InputOf, OutputOf } from "../api/operations/table.ts"
import { socketPath } from "../api/socket.ts"
import type { KeySources } from "../api/unlocking.ts"
import { logKey } from "../events/hypercore-store.ts"
import { type Membership, resolveMembership } from "../projections/membership.ts"
import { blob } from "../projections/tables/database.ts"
import { Tables } from "../projections/tables/tables.ts"
import type { Vault } from "../vault/vault.ts"
import { openHome } from "./first-run.ts"
import { readIntroduction } from "./introduction.ts"
import { HomeInUse, lockHome } from "./lock.ts"

/** A mesh as far as the files tell without a daemon: the tables when there are any, else what founded it or came with the invite. */
const onDisk = async (vault: Vault, mesh: string): Promise<Membership> => {
  const directory = vault.meshDirectory(mesh)
  const founding = await readIntroduction(directory)
  const file = `${directory}/tables.db`
  const kept = existsSync(file) ? operationsIn(file) : []
  const operations = [...founding, ...kept].flatMap((bytes) => {
    const opened = openOperation(bytes)
    return Result.isSuccess(opened) ? [opened.success] : []
  })
  return resolveMembership(mesh, operations)
}

/** The mesh's name, as the files tell. */
export const nameOnDisk = async (vault: Vault, mesh: string): Promise<string> => (await onDisk(vault, mesh)).name

/** What the mesh calls this node, as the files tell. */
const nameOf = async (vault: Vault, mesh: string): Promise<string> =>
  (await onDisk(vault, mesh)).members.get(vault.deviceId)?.name ?? vault.deviceId.slice(0, 8)

const operationsIn = (file: string): ReadonlyArray<Uint8Array> => {
  const tables = new Tables(file, { readOnly: true })
  try {
    return tables.database.prepare("SELECT bytes FROM operations").all().map((row) => blob(row["bytes"]))
  } finally {
    tables.close()
  }
}

/** `kos init`: makes the home without running anything. */
export const init = async (
  input: InputOf<"init">, context: { readonly home: string } & Partial<KeySources>
): Promise<OutputOf<"init">> => {
  process.umask(0o077)
  const { home } = context
  const release = await lockHome(home).catch((cause: unknown) => {
    throw cause instanceof HomeInUse ? new Refusal({ kind: "conflict", detail: cause.message, hint: "kos status" }) : cause
  })
  try {
    const opened = await openHome(home, input.name, () => Math.floor(performance.timeOrigin + performance.now()), { env: {}, cwd: home, ...context })
    const { vault: root, mesh, created } = await Effect.runPromise(Effect.fromResult(opened))
    const vault = await root.forMesh(mesh)
    if (!created && input.name !== undefined) {
      throw new Refusal({ kind: "conflict", detail: `${home} is a node already`, hint: `kos --home ${home} node name ${input.name}` })
    }
    const { keyPair } = await vault.logKeyPair(mesh)
    return {
      created, name: await nameOf(vault, mesh), device: vault.deviceId, log: logKey(keyPair.publicKey), home,
      socket: socketPath(home), next: `kos --home ${home} daemon run`
    }
  } finally {
    await release()
  }
}
