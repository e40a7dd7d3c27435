/** What a proposal changes against what is in force, in words: what a signer reads before signing. */
import { Root, type Targets } from "@tufjs/models"
import { Result } from "effect"
import { decodeCustom } from "../release.ts"
import { logOf, onlineOf, planOf, yankedOf } from "./build.ts"

/** Lines that are told at most. */
export const changesMax = 64

export const changesOf = (signed: Root | Targets, before: Root | Targets | undefined, nameOf: (key: string) => string): ReadonlyArray<string> => {
  const all = signed instanceof Root ? rootChanges(signed, before instanceof Root ? before : undefined, nameOf)
    : targetsChanges(signed, before === undefined || before instanceof Root ? undefined : before, nameOf)
  return all.length > changesMax ? [...all.slice(0, changesMax - 1), `and ${all.length - changesMax + 1} changes more`] : all
}

const rootChanges = (next: Root, before: Root | undefined, nameOf: (key: string) => string): ReadonlyArray<string> => {
  const named = (keys: ReadonlyArray<string>): string => keys.map(nameOf).join(", ")
  const roles = [["root", "changes of the signers"], ["targets", "releases"]] as const
  return [
    ...roles.flatMap(([role, what]) => {
      const [now, then] = [planOf(next, role), before === undefined ? undefined : planOf(before, role)]
      if (then === undefined) return [`${now.threshold} of ${named(now.keys)} sign ${what}`]
      const [added, removed] = [now.keys.filter((key) => !then.keys.includes(key)), then.keys.filter((key) => !now.keys.includes(key))]
      return [
        ...(added.length === 0 ? [] : [`+ ${named(added)} may sign ${what}`]), ...(removed.length === 0 ? [] : [`- ${named(removed)} may not sign ${what} any more`]),
        ...(now.threshold === then.threshold ? [] : [`~ ${now.threshold} signature${now.threshold === 1 ? "" : "s"} in place of ${then.threshold} for ${what}`])
      ]
    }),
    ...(before === undefined ? [`log ${logOf(next)}`] : logOf(before) === logOf(next) ? [] : [`~ goes on in log ${logOf(next)} in place of ${logOf(before)}`]),
    ...(before === undefined || onlineOf(before) === onlineOf(next) ? [] : [`~ another key for the publishing node: ${onlineOf(next).slice(0, 16)}`]),
    expiryLine(next, before)
  ]
}

const targetsChanges = (next: Targets, before: Targets | undefined, nameOf: (key: string) => string): ReadonlyArray<string> => {
  const had = before?.targets ?? {}
  const yanked = yankedOf(next)
  return [
    ...Object.values(next.targets).flatMap((target) => {
      const then = had[target.path]
      if (then !== undefined && then.equals(target)) return []
      const custom = decodeCustom(target.path, target.custom)
      const says = Result.isFailure(custom) ? `no release: ${custom.failure.message}`
        : `${custom.success.kind}, ${custom.success.payload.length} bytes, payload ${custom.success.payload.sha256.slice(0, 16)}, ring ${custom.success.ring}, ${custom.success.rolloutPermille} of 1000`
      return [`${then === undefined ? "+" : "~"} ${target.path} (${(target.hashes["sha256"] ?? "").slice(0, 16)}): ${says}`]
    }),
    ...Object.keys(had).filter((path) => next.targets[path] === undefined).map((path) => {
      const why = yanked.find(({ target }) => target === path)
      return `- ${path}${why === undefined ? "" : `, yanked: ${why.reason}`}`
    }),
    ...Object.values(next.delegations?.roles ?? {}).flatMap((role) => {
      const then = before?.delegations?.roles?.[role.name]
      const keys = role.keyIDs.flatMap((id) => next.delegations?.keys[id]?.keyVal["public"] ?? [])
      return then !== undefined && then.equals(role) ? [] : [`${then === undefined ? "+" : "~"} ${role.threshold} of ${keys.map(nameOf).join(", ")} sign ${role.paths?.join(", ") ?? role.name}`]
    }),
    ...Object.keys(before?.delegations?.roles ?? {}).filter((name) => next.delegations?.roles?.[name] === undefined).map((name) => `- ${name} may not sign any more`),
    expiryLine(next, before)
  ]
}

const expiryLine = (next: Root | Targets, before: Root | Targets | undefined): string => {
  const [until, had] = [next.expires.slice(0, 10), before?.expires.slice(0, 10)]
  return `good until ${until}${had === undefined || had === until ? "" : `, in place of ${had}`}`
}
