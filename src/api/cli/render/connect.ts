/** Pings, services, connections. */
import { bold, duration, red, table } from "../text.ts"
import { names, type Renderer } from "./shared.ts"

export const nodePing: Renderer<"node.ping"> = (value) => [`${value.name} answered ping ${value.number} in ${value.ms} ms, by ${value.carrier} (${value.remote})`]

export const serviceList: Renderer<"service.list"> = (rows, view) =>
  rows.length === 0
    ? ["No services. Next: kos config set services.NAME.target 127.0.0.1:8080, then services.NAME.allow"]
    : table(view, ["service", "target", "for", "most#", "idle", "yours", ""], rows.map((row) => [
      `${row.node}:${row.name}`, row.target === undefined ? "" : row.remote ? `${row.target} (remote)` : row.target, row.allow.length === 0 ? "nobody" : names(row.allow, 4),
      String(row.connectionsMax), duration(row.idleSeconds * 1_000), row.may ? "yes" : "no", row.fault === undefined ? "" : red(view, row.fault)
    ]))

export const connect: Renderer<"connect"> = (value, view) => [value.state === "listening" ? bold(view, value.sentence) : value.state === "refused" ? red(view, value.sentence) : value.sentence]
