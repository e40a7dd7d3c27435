/**
 * `kos-verify FILE`: what a proof file proves, for a person or as JSON. Needs Node 20 or later and nothing else; reads one file, opens no
 * connection. Exit codes: 0 proved, 1 not proved, 2 the file cannot be read or is no proof file, or wrong usage.
 */
import { Result } from "effect"
import { readFileSync, statSync } from "node:fs"
import { shortKey, toHex } from "../bytes.ts"
import { stampText } from "../clock.ts"
import { proofBytesMax } from "./format.ts"
import { type ProofReport, verifyProof } from "./verify.ts"

const usageText = `Usage: kos-verify FILE [--json] [--mesh ID]

Checks a proof file that "kos event export --proof" wrote: signatures, order, and that the shown events are those signed.
  --json      one JSON value instead of text
  --mesh ID   also require that the events are of the mesh with this id (64 hex digits, or the first 16 or more)

Exit code 0: proved. 1: not proved, with what fails. 2: not a proof file, or it cannot be read.`

/** Body text of one event on a person's line at most, characters. */
const bodyLengthMax = 160

export const run = (args: ReadonlyArray<string>, print: (text: string) => void, complain: (text: string) => void): number => {
  const asJson = args.includes("--json")
  const rest = args.filter((arg) => arg !== "--json")
  if (rest.includes("--help") || rest.includes("-h")) {
    print(usageText)
    return 0
  }
  const meshAt = rest.indexOf("--mesh")
  const [, mesh = meshAt < 0 ? "" : "?"] = meshAt < 0 ? [] : rest.splice(meshAt, 2)
  const [path] = rest
  const failed = (detail: string): number => {
    if (asJson) print(JSON.stringify({ proved: false, malformed: detail }))
    else complain(detail)
    return 2
  }
  if (path === undefined || rest.length !== 1 || path.startsWith("-") || (mesh !== "" && !/^[0-9a-f]{16,64}$/.test(mesh))) return failed(usageText)
  let bytes: Uint8Array
  try {
    if (statSync(path).size > proofBytesMax) return failed(`${path} is larger than ${proofBytesMax} bytes.`)
    bytes = readFileSync(path)
  } catch (cause) {
    return failed(`${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`)
  }
  const checked = verifyProof(bytes)
  if (Result.isFailure(checked)) return failed(`Not a proof: ${checked.failure.message}.`)
  const report = expecting(checked.success, mesh)
  print(asJson ? JSON.stringify(report, plainBytes) : text(report))
  return report.proved ? 0 : 1
}

const expecting = (report: ProofReport, mesh: string): ProofReport =>
  report.mesh.id.startsWith(mesh) ? report
    : { ...report, proved: false, faults: [`the events are of mesh ${report.mesh.id}, not of ${mesh}`, ...report.faults] }

const text = (report: ProofReport): string => {
  const events = report.logs.reduce((sum, log) => sum + log.events.length, 0)
  const lines = [
    `mesh ${clean(report.mesh.name)}, id ${report.mesh.id}`,
    `${report.operations} membership operations lead from its creation to the devices below`
  ]
  for (const log of report.logs) {
    const first = log.events[0]?.block
    const last = log.events[log.events.length - 1]?.block
    lines.push("", `${clean(log.deviceName ?? "unknown device")} (${log.role ?? "no member"}), device ${log.device ?? "unknown"}`,
      `  log ${log.log}${first === undefined ? "" : `, blocks ${first} to ${last}`} of ${log.length} when its tree was signed`)
    for (const { block, offset, event } of log.events) {
      lines.push(`  ${block}.${offset}  ${stampText(event.at)}  ${event.type}  ${clean(event.actor)}  ${clean(event.subject)}  ${bodyText(event.body)}`)
    }
  }
  lines.push("")
  if (!report.proved) {
    return [...lines, "NOT PROVED:", ...report.faults.map((fault) => `  ${clean(fault)}`)].join("\n")
  }
  return [
    ...lines, `proved: ${events} ${events === 1 ? "event was" : "events were"} written by the devices named above, at these places, in this order.`,
    "Times are as the devices' clocks had them. Whether this is the mesh you mean, its id says: compare it with one you trust."
  ].join("\n")
}

/** Nothing in a file may move the cursor or turn the reading direction. */
const clean = (value: string): string => value.replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, "\ufffd")

const bodyText = (body: unknown): string => {
  const short = (_: string, value: unknown): unknown =>
    value instanceof Uint8Array ? `<${value.byteLength} bytes ${shortKey(toHex(value))}>` : value
  const whole = clean(JSON.stringify(body, short) ?? "")
  return whole.length > bodyLengthMax ? `${whole.slice(0, bodyLengthMax)}…` : whole
}

const plainBytes = (_: string, value: unknown): unknown => value instanceof Uint8Array ? Buffer.from(value).toString("base64") : value
