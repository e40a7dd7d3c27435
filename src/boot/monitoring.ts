/** What `/readyz` and `/metrics` say. */
import { Effect } from "effect"
import type { Readiness } from "../api/server.ts"
import type { DaemonView } from "../api/node.ts"
import { settingBytes } from "../projections/families/config-view.ts"
import { peerStates } from "../api/handlers/peers.ts"

/** Below this commands are refused, bytes; see `diskReserveBytes` of the journal. */
const reserveBytes = 16 * 1024 * 1024
/** Blocks that may wait to be folded while the node still counts as caught up. */
const behindMax = 1_000

export const readinessOf = (daemon: DaemonView): Effect.Effect<Readiness> => Effect.promise(async () => {
  const mesh = daemon.mesh()
  const free = await mesh.diskFree()
  const freeBytesMin = settingBytes(daemon.config(), "disk.free.min")
  const checks = [
    { name: "log writable", ok: free >= reserveBytes, detail: `${mesh.journal.length()} blocks` },
    { name: "projections caught up", ok: mesh.runner.fault === undefined && mesh.runner.behind() <= behindMax, detail: mesh.runner.fault ?? `${mesh.runner.behind()} blocks behind` },
    { name: "disk", ok: free >= freeBytesMin, detail: `${Math.round(free / 1_048_576)} MiB free` }
  ]
  return { ready: checks.every((check) => check.ok), checks }
})

/** Prometheus text format 0.0.4. */
export const metricsText = (daemon: DaemonView): Effect.Effect<string> => Effect.promise(async () => {
  const mesh = daemon.mesh()
  const totals = mesh.tables.events.totals()
  const documents = mesh.tables.documents.totals()
  const peers = [...peerStates(mesh).values()]
  const lines: Array<string> = []
  const metric = (name: string, type: "gauge" | "counter", help: string, values: ReadonlyArray<readonly [string, number]>) => {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`)
    for (const [labels, value] of values) lines.push(`${name}${labels} ${value}`)
  }
  metric("kos_events_total", "counter", "Events held, by what they count as.", [
    ['{status="known"}', totals.events - totals.unknown - totals.quarantined], ['{status="unknown"}', totals.unknown], ['{status="quarantined"}', totals.quarantined]
  ])
  metric("kos_own_log_blocks", "gauge", "Blocks of the log that this node writes.", [["", mesh.journal.length()]])
  metric("kos_blocks_behind", "gauge", "Blocks held and not folded yet.", [["", mesh.runner.behind()]])
  metric("kos_documents", "gauge", "Documents.", [["", documents.documents]])
  metric("kos_conflicts", "gauge", "Documents with conflicts.", [["", documents.conflicts]])
  metric("kos_peers_in_touch", "gauge", "Members in touch.", [["", peers.filter((peer) => peer.inTouch).length]])
  metric("kos_events_waiting", "gauge", "Events that a member is not known to hold.", peers.map((peer) => [`{node=${JSON.stringify(peer.name)}}`, peer.waiting] as const))
  metric("kos_disk_free_bytes", "gauge", "Bytes free where the logs are.", [["", await mesh.diskFree()]])
  metric("process_resident_memory_bytes", "gauge", "Resident memory.", [["", process.memoryUsage.rss()]])
  return `${lines.join("\n")}\n`
})
