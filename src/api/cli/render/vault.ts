/** Secrets: never a value but in `get`, which is written as it is. */
import { ago, dim, table, yellow } from "../text.ts"
import { done, type Lines, names, type Renderer } from "./shared.ts"

export const vaultSet: Renderer<"vault.set"> = (value, view) => done(view, value, [dim(view, `Refer to it as vault:${value.name}`)])

export const vaultRotate: Renderer<"vault.rotate"> = (value, view) => done(view, value)

export const vaultGet: Renderer<"vault.get"> = (value) => [value.value]

export const vaultList: Renderer<"vault.list"> = (rows, view) => {
  if (rows.length === 0) return ["No secrets. Next: kos vault set NAME --for NODE"]
  const rotate = rows.filter((row) => row.rotate.length > 0)
  return [
    ...table(view, ["name", "version#", "for", "held by", "rotated", "state"], rows.map((row) => [
      row.name, String(row.version), names(row.recipients, 3), held(row.nodes), ago(view, row.rotated), row.state === "removed" ? `removed ${ago(view, row.by.at)}` : row.state
    ])),
    ...(rotate.length === 0 ? [] : [""]),
    ...rotate.map((row) => yellow(view, `rotate ${row.name}: ${names(row.rotate)} could read it. Next: kos vault rotate ${row.name}`))
  ]
}

export const vaultRemove: Renderer<"vault.remove"> = (value, view) => done(view, value, receipts(value.nodes))

type Nodes = ReadonlyArray<{ readonly node: string; readonly state: string }>

const held = (nodes: Nodes): string => {
  const destroyed = nodes.filter(({ state }) => state === "destroyed").length
  if (nodes.some(({ state }) => state === "destroyed" || state === "not yet" || state === "gone")) return `destroyed by ${destroyed} of ${nodes.length}`
  const wanted = nodes.filter(({ state }) => state !== "courier")
  if (nodes.length === wanted.length && wanted.length > 0 && wanted.every(({ state }) => state === "waiting")) return `0 of ${wanted.length}; set it again`
  return `${wanted.filter(({ state }) => state === "holds").length} of ${wanted.length}${nodes.length > wanted.length ? ", and a courier" : ""}`
}

const receipts = (nodes: Nodes): Lines => {
  const of = (wanted: string) => nodes.filter(({ state }) => state === wanted).map(({ node }) => node)
  return [
    ...(of("destroyed").length === 0 ? [] : [`Destroyed by ${names(of("destroyed"))}.`]),
    ...(of("not yet").length === 0 ? [] : [`Not yet by ${names(of("not yet"))}: when they hear of it.`]),
    ...(of("gone").length === 0 ? [] : [`Out of reach: ${names(of("gone"))} left or was revoked; make the value worthless where it is used.`])
  ]
}
