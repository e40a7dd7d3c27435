/** Roles, expulsion, evidence. */
import { bold, count, dim, short, table, when, yellow } from "../text.ts"
import { done, names, type Renderer } from "./shared.ts"

export const nodeRole: Renderer<"node.role"> = (value, view) => done(view, value, value.events.length === 0 || value.was === value.role ? [] : [dim(view, `It was ${value.was}.`)])

export const nodeRevoke: Renderer<"node.revoke"> = (value, view) => {
  const { epochs, secrets } = value.readable
  return [
    ...done(view, value),
    ...(value.epoch === undefined ? [] : [`The mesh writes under a new key, epoch ${value.epoch}.`]),
    ...(value.told.length === 0 ? [] : [`Cut off by ${names(value.told)} already.`]),
    ...(value.untold.length === 0 ? [] : [yellow(view, `In touch, and not heard from yet: ${names(value.untold)}.`)]),
    ...(value.cutoffs.length === 0 ? [] : ["", ...table(view, ["log", "counts up to#"], value.cutoffs.map(({ log, length }) => [short(log), String(length)]))]),
    "",
    epochs.length === 0
      ? "No key was sealed to it: it could read nothing."
      : `It could read what was written under ${count(epochs.length, "key epoch")}: ${epochs.map(({ epoch, since }) => `${epoch} (from ${when(view, since)})`).join(", ")}.`,
    ...(secrets.length === 0 ? ["No secret in the vault was for it."] : [yellow(view, `Rotate: ${names(secrets, 20)}.`), `Next: ${bold(view, `kos vault rotate ${secrets[0] ?? ""} --file NEW`)}`])
  ]
}

export const nodeClear: Renderer<"node.clear"> = (value, view) => [
  ...done(view, value),
  ...value.logs.map(({ log, length, treeHash }) => dim(view, `log ${short(log)}: ${treeHash.slice(0, 8)} at length ${length}`))
]

export const meshThreshold: Renderer<"mesh.threshold"> = (value, view) => [
  ...done(view, value), value.owners.length < 2 ? `${names(value.owners)} is the only owner, whom nobody expels.` : `To expel an owner, ${value.threshold} of ${names(value.owners)} must agree.`
]
