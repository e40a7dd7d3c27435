import { didYouMean } from "../codec/suggest.ts"
import type { Edit, Json } from "../projections/documents/types.ts"
import { agentFaults, definitionFaults, readAgent, readAgentFile, versionFault, whereFault } from "../projections/families/agents.ts"
import { agentDoc, isWhy, nameFault, shown } from "../projections/families/doc-id.ts"
import { isFaulty, parseTable, type Format } from "../projections/families/formats.ts"
import { canonicalJson, equalJson, ownValue, type JsonObject } from "../projections/families/json.ts"
import { checked, decideResolve, isConflicted, notFound, pathOfFault, refuseSecret, usage, valueOf, type Decided, type Documents, type Resolve } from "./decide-change.ts"
import type { Refusal } from "./refusal.ts"

/** Decides wishes about the registry of agents. */
export type AgentsCommand =
  /** A definition's file; `name` counts when the file names none, and must agree when it does. */
  | { readonly _tag: "Apply"; readonly text: string; readonly format: Format; readonly name?: string }
  | { readonly _tag: "Remove"; readonly name: string }
  | { readonly _tag: "Start"; readonly name: string }
  | { readonly _tag: "Stop"; readonly name: string }
  /** Makes the registers say what they said earlier. */
  | { readonly _tag: "Revert"; readonly name: string; readonly earlier: JsonObject }
  | Resolve

export const decideAgents = (documents: Documents, command: AgentsCommand): Decided => {
  if (command._tag === "Resolve") return decideResolve(documents, command)
  if (command._tag === "Apply") return apply(documents, command)
  const bad = nameFault(command.name)
  if (bad !== undefined) return usage(bad, { path: "name" })
  const agent = readAgent(valueOf(documents, agentDoc(command.name)))
  if (agent === undefined || (agent.state === "removed" && command._tag !== "Revert" && command._tag !== "Remove")) return missing(documents, command.name)
  switch (command._tag) {
    case "Remove": return write(documents, command.name, { state: "removed", desired: "stopped" }, "removed")
    case "Start": return write(documents, command.name, { desired: "running" }, "start")
    case "Stop": return write(documents, command.name, { desired: "stopped" }, "stop")
    case "Revert": {
      const fault = agentFaults(command.earlier)[0]
      if (fault !== undefined) return usage(`the earlier state cannot be written: ${fault}`)
      const { definition, version, desired, where, state } = command.earlier
      return write(documents, command.name, { definition, version, desired, where, state: state ?? "present" }, "reverted")
    }
  }
}

/** Names of the agents that are present. */
export const agentNames = (documents: Documents): ReadonlyArray<string> =>
  [...documents.keys()].filter((doc) => doc.startsWith("agents/") && readAgent(valueOf(documents, doc))?.state === "present").map((doc) => doc.slice("agents/".length)).sort()

type Registers = Readonly<Record<string, Json | undefined>>

const apply = (documents: Documents, command: AgentsCommand & { readonly _tag: "Apply" }): Decided => {
  const parsed = parseTable(command.text, command.format)
  if (isFaulty(parsed)) return usage(`${parsed.faults[0]?.detail ?? "the file cannot be read"}; nothing was written`)
  const file = readAgentFile(parsed.value)
  if (isWhy(file)) return usage(`${file.why}; nothing was written`)
  const { definition, version, desired, where } = file.value
  const name = file.value.name ?? command.name
  if (name === undefined) return usage("name: expected the agent's name in the file, found nothing", { path: "name" })
  if (command.name !== undefined && command.name !== name) return usage(`name: expected ${command.name}, found ${shown(name)} in the file`, { path: "name" })
  const fault = badName(name) ?? definitionFaults(definition, "strict")[0] ?? (version === undefined ? undefined : versionFault(version)) ??
    (where === undefined ? undefined : whereFault(where)) ?? agentFaults({ definition, ...(desired === undefined ? {} : { desired }) })[0]
  if (fault !== undefined) {
    const line = parsed.lines.get(pathOfFault(fault).replace(/^definition\./u, ""))
    return usage(`${line === undefined ? "" : `line ${line}: `}${fault}; nothing was written`, { path: pathOfFault(fault) })
  }
  const secret = refuseDefinition(definition)
  if (secret !== undefined) return secret
  const before = readAgent(valueOf(documents, agentDoc(name)))
  const changed = before === undefined || !equalJson(before.definition, definition)
  const registers: Registers = {
    definition,
    version: version ?? (before === undefined ? "1" : changed ? next(before.version) : before.version),
    desired: desired ?? (before === undefined || before.state === "removed" ? "stopped" : undefined),
    where: where ?? (before === undefined ? ["all"] : undefined),
    state: "present"
  }
  return write(documents, name, registers, before === undefined ? "added" : "changed")
}

const write = (documents: Documents, name: string, registers: Registers, what: string): Decided => {
  const doc = agentDoc(name)
  const value = valueOf(documents, doc)
  const edits: Array<Edit> = []
  for (const [key, wished] of Object.entries(registers)) {
    const now = ownValue(value, key)
    if (wished === undefined || (now !== undefined && equalJson(now, wished) && !isConflicted(documents, doc, key))) continue
    edits.push({ _tag: "Set", key, json: canonicalJson(wished) })
  }
  const summary = what === "start" || what === "stop" ? `agent ${name} is to ${what === "start" ? "run" : "stop"}` : `${what} agent ${name}`
  return checked(documents, [{ doc, edits, paths: edits.flatMap((edit) => ("key" in edit ? [edit.key] : [])), summary }])
}

/** The environment's names tell secrets; `secrets` holds names of vault items, which are none. */
const refuseDefinition = (definition: JsonObject): Refusal | undefined => {
  const { secrets: _names, ...rest } = definition
  return refuseSecret("definition", rest)
}

const badName = (name: string): string | undefined => {
  const why = nameFault(name)
  return why === undefined ? undefined : `name: ${why}`
}

/** Counts a whole number up; any other version gets a count behind it. */
const next = (version: string): string => {
  const found = /^(.*?)(\d{1,9})$/su.exec(version)
  if (found === null) return `${version}.2`
  return /^\d+$/u.test(version) ? String(Number(version) + 1) : `${found[1] ?? ""}${Number(found[2]) + 1}`
}

const missing = (documents: Documents, name: string): Refusal => notFound(`there is no agent ${shown(name)}${didYouMean(name, agentNames(documents))}`, "kos agent list")
