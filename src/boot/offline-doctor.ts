import { access, constants, stat, statfs } from "node:fs/promises"
import type { InputOf, OutputOf } from "../api/operations/table.ts"
import { Refusal } from "../commands/refusal.ts"
import { Tables } from "../projections/tables/tables.ts"
import { currentMeshOf, lookAtHome, meshDirectoryOf } from "../vault/home.ts"
import { holder } from "./lock.ts"

/** `kos doctor` without a daemon: what can be seen from the files alone. */
export const offlineDoctor = async (
  input: InputOf<"doctor">, context: { readonly home: string }
): Promise<OutputOf<"doctor">> => {
  const { home } = context
  if (input.rebuild) throw new Refusal({ kind: "failed", detail: "a rebuild reads the logs through the daemon, and none runs", hint: `kos --home ${home} daemon run` })
  const findings: Array<OutputOf<"doctor">["findings"][number]> = []
  const look = await lookAtHome(home)
  const mesh = await currentMeshOf(home)
  if (look === undefined || mesh === undefined) throw new Refusal({ kind: "not-found", detail: `${home} is no node yet`, hint: `kos --home ${home} init` })
  const pid = await holder(home)
  findings.push(pid === undefined
    ? { about: "daemon", level: "note", detail: "no daemon runs on this home", fix: `kos --home ${home} daemon run` }
    : { about: "daemon", level: "fault", detail: `pid ${pid} holds this home but does not answer on its socket`, fix: `look into ${home}/logs/kos.log` })
  const { bavail, bsize } = await statfs(home)
  const free = Math.round(bavail * bsize / 1_048_576)
  findings.push({ about: "disk", level: free < 64 ? "fault" : "good", detail: `${free} MiB are free` })
  const writable = await access(home, constants.W_OK).then(() => true, () => false)
  if (!writable) findings.push({ about: "disk", level: "fault", detail: `${home} cannot be written` })
  for (const path of ["keys/device", `mesh/${mesh.slice(0, 16)}/keys/mesh`]) {
    const mode = await stat(`${home}/${path}`).then((found) => found.mode, () => undefined)
    if (mode === undefined) findings.push({ about: "keys", level: "fault", detail: `${path} is missing; without it this node is nobody` })
    else if ((mode & 0o077) !== 0) findings.push({ about: "permissions", level: "fault", detail: `${path} can be read by others`, fix: `chmod 600 ${home}/${path}` })
  }
  try {
    const tables = new Tables(`${meshDirectoryOf(home, mesh)}/tables.db`, { readOnly: true })
    const broken = tables.integrity()
    const events = tables.events.totals().events
    tables.close()
    findings.push(broken.length === 0
      ? { about: "tables", level: "good", detail: `the tables are whole and hold ${events} events` }
      : { about: "tables", level: "fault", detail: broken[0] ?? "the tables are damaged", fix: "start the daemon: it rebuilds them from the logs" })
  } catch (cause) {
    findings.push({ about: "tables", level: "warning", detail: cause instanceof Error ? cause.message : String(cause), fix: "start the daemon: it rebuilds them from the logs" })
  }
  return { healthy: findings.every(({ level }) => level === "good" || level === "note"), daemon: false, findings }
}
