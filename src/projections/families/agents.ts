import { didYouMean } from "../../codec/suggest.ts"
import type { Json } from "../documents/types.ts"
import { nameFault, parseLayer, isWhy, shown, type Read } from "./doc-id.ts"
import { describe, isArray, isObject, jsonFault, type JsonObject } from "./json.ts"
import { readValue, type SettingType } from "./values.ts"

/**
 * The registry of agents: what to run (`definition`, `version`), whether (`desired`), where, and whether it is still wanted at all (`state`).
 * Each is one register: two people who change the definition at the same time get a conflict to resolve, not a mixture.
 */
export interface AgentRecord {
  readonly definition: JsonObject
  readonly version: string
  readonly desired: "running" | "stopped"
  /** Node names, `node:DEVICE`, `role:ROLE` or `all`; empty means nowhere. */
  readonly where: ReadonlyArray<string>
  readonly state: "present" | "removed"
}

export const definitionLimits = { depthMax: 8, bytesMax: 32 * 1024 }
export const versionCharsMax = 64
export const placesMax = 64
export const argumentsMax = 128
export const argumentCharsMax = 4096
export const environmentMax = 64

/** The keys of a definition, as people write them in a file, with one sentence each. */
export const definitionAbout: Readonly<Record<string, string>> = {
  description: "One sentence on what the agent does",
  image: "Image to run, when it is no command",
  command: "Program and first arguments to run, when it is no image",
  args: "Arguments that follow the command",
  env: "Environment: a table of names and plain values",
  secrets: "Names of vault items that the agent is given",
  needs: "Limits and rights: memory, cpu, disk, network, tools",
  restart: "always, on-failure or never"
}

/** The keys beside the definition in an agent's file. */
export const recordAbout: Readonly<Record<string, string>> = {
  name: "Name of the agent",
  version: "Version of the definition; counted up when absent",
  desired: "running or stopped",
  where: "Nodes that run it: names, role:ROLE or all"
}

/** The record that a document's value is, or undefined for one that was never applied. */
export const readAgent = (value: JsonObject): AgentRecord | undefined => {
  const { definition, version, desired, where, state } = value
  if (!isObject(definition)) return undefined
  const removed = state === "removed"
  return {
    definition,
    version: typeof version === "string" ? version : "1",
    desired: desired === "running" && !removed ? "running" : "stopped",
    where: isArray(where) ? where.filter((place) => typeof place === "string") : [],
    state: removed ? "removed" : "present"
  }
}

export const agentFaults = (value: JsonObject): ReadonlyArray<string> => {
  const faults: Array<string> = []
  const { definition, version, desired, where, state } = value
  if (definition !== undefined) faults.push(...definitionFaults(definition, "kept"))
  else if (state !== "removed" && (desired !== undefined || where !== undefined)) faults.push("definition: expected a table, found nothing")
  if (version !== undefined) push(faults, versionFault(version))
  if (desired !== undefined && desired !== "running" && desired !== "stopped") faults.push(`desired: expected running or stopped, found ${describe(desired)}`)
  if (where !== undefined) push(faults, whereFault(where))
  if (state !== undefined && state !== "present" && state !== "removed") faults.push(`state: expected present or removed, found ${describe(state)}`)
  return faults
}

export const versionFault = (version: Json): string | undefined =>
  typeof version === "string" && version.length <= versionCharsMax && /^[A-Za-z0-9][A-Za-z0-9.+_-]*$/u.test(version)
    ? undefined
    : `version: expected letters, digits, '.', '+', '_' and '-', at most ${versionCharsMax}, found ${describe(version)}`

export const whereFault = (where: Json): string | undefined => {
  if (!isArray(where) || where.length > placesMax) return `where: expected a list of at most ${placesMax} node names, role:ROLE or all, found ${describe(where)}`
  const bad = where.find((place) => typeof place !== "string" || placeFault(place) !== undefined)
  return bad === undefined ? undefined : `where: expected node names, role:ROLE or all, found ${describe(bad)}`
}

/** Why a word does not say where an agent runs, or undefined. */
export const placeFault = (place: string): string | undefined => {
  if (!place.includes(":")) return nameFault(place)
  const layer = parseLayer(place)
  return isWhy(layer) ? layer.why : undefined
}

/**
 * Faults of a definition. Unknown keys are faults in a file that a person applies ("strict"), and kept in a document, where they come from newer nodes.
 */
export const definitionFaults = (definition: Json, unknown: "strict" | "kept"): ReadonlyArray<string> => {
  if (!isObject(definition)) return [`definition: expected a table, found ${describe(definition)}`]
  const large = jsonFault(definition, definitionLimits)
  if (large !== undefined) return [`definition: ${large}`]
  const faults: Array<string> = []
  if (unknown === "strict") {
    const known = Object.keys(definitionAbout)
    for (const key of Object.keys(definition)) if (!known.includes(key)) faults.push(`definition: there is no key ${shown(key)}${didYouMean(key, [...known, ...Object.keys(recordAbout)])}`)
  }
  const { description, image, command, args, env, secrets, needs, restart } = definition
  if ((image === undefined) === (command === undefined)) faults.push(`definition: expected either image or command, found ${image === undefined ? "neither" : "both"}`)
  if (description !== undefined) push(faults, of("definition.description", line(500), description))
  if (image !== undefined) push(faults, of("definition.image", imageType, image))
  if (command !== undefined) push(faults, texts("definition.command", command, 1))
  if (args !== undefined) push(faults, texts("definition.args", args, 0))
  if (env !== undefined) faults.push(...environmentFaults(env))
  if (secrets !== undefined) push(faults, names("definition.secrets", secrets))
  if (needs !== undefined) faults.push(...needsFaults(needs, unknown))
  if (restart !== undefined) push(faults, of("definition.restart", { kind: "choice", of: ["always", "on-failure", "never"] }, restart))
  return faults
}

/** A parsed agent file, taken apart into the registers that it sets. Absent keys are left as they are. */
export const readAgentFile = (file: Json): Read<{ readonly name?: string; readonly version?: string; readonly desired?: Json; readonly where?: Json; readonly definition: JsonObject }> => {
  if (!isObject(file)) return { why: `an agent's file is a table of keys, found ${describe(file)}` }
  const { name, version, desired, where, definition: nested, ...rest } = file
  if (name !== undefined && typeof name !== "string") return { why: `name: expected a name, found ${describe(name)}` }
  const written = typeof version === "number" ? String(version) : version
  if (written !== undefined && typeof written !== "string") return { why: `version: expected a version such as 1.2.0, found ${describe(written)}` }
  if (nested !== undefined && Object.keys(rest).length > 0) return { why: `${Object.keys(rest)[0]} stands beside definition; put it inside` }
  const definition = nested ?? rest
  if (!isObject(definition)) return { why: `definition: expected a table, found ${describe(definition)}` }
  return {
    value: {
      definition: typeof definition["command"] === "string" ? { ...definition, command: definition["command"].split(/\s+/u).filter((word) => word !== "") } : definition,
      ...(name === undefined ? {} : { name }),
      ...(written === undefined ? {} : { version: written }),
      ...(desired === undefined ? {} : { desired }),
      ...(where === undefined ? {} : { where: typeof where === "string" ? where.split(/[\s,]+/u).filter((place) => place !== "") : where })
    }
  }
}

const imageType: SettingType = { kind: "text", charsMax: 512, format: { pattern: /^[A-Za-z0-9][A-Za-z0-9._:/@-]*$/u, words: "the name of an image" } }

const line = (charsMax: number): SettingType => ({ kind: "text", charsMax })

const needsTypes: Readonly<Record<string, SettingType>> = {
  memory: { kind: "bytes", min: 1024 * 1024, max: 2 ** 40 },
  disk: { kind: "bytes", min: 0, max: 2 ** 50 },
  cpu: { kind: "number", min: 0.01, max: 1024 },
  network: { kind: "choice", of: ["none", "mesh", "internet"] }
}

const needsFaults = (needs: Json, unknown: "strict" | "kept"): ReadonlyArray<string> => {
  if (!isObject(needs)) return [`definition.needs: expected a table, found ${describe(needs)}`]
  return Object.entries(needs).flatMap(([key, value]) => {
    const type = Object.hasOwn(needsTypes, key) ? needsTypes[key] : undefined
    const fault = key === "tools" ? names("definition.needs.tools", value)
      : type !== undefined ? of(`definition.needs.${key}`, type, value)
      : unknown === "strict" ? `definition.needs: there is no key ${shown(key)}${didYouMean(key, [...Object.keys(needsTypes), "tools"])}` : undefined
    return fault === undefined ? [] : [fault]
  })
}

const environmentFaults = (env: Json): ReadonlyArray<string> => {
  if (!isObject(env)) return [`definition.env: expected a table of names and values, found ${describe(env)}`]
  const entries = Object.entries(env)
  if (entries.length > environmentMax) return [`definition.env: expected at most ${environmentMax} names, found ${entries.length}`]
  return entries.flatMap(([name, value]) => {
    if (!/^[A-Za-z_][A-Za-z0-9_]{0,127}$/u.test(name)) return [`definition.env: expected names of letters, digits and '_', found ${shown(name)}`]
    return typeof value === "string" && value.length <= argumentCharsMax ? [] : [`definition.env.${name}: expected a text of at most ${argumentCharsMax} characters, found ${describe(value)}`]
  })
}

const names = (path: string, value: Json): string | undefined => {
  const bad = isArray(value) && value.length <= environmentMax ? value.find((item) => typeof item !== "string" || nameFault(item) !== undefined) : value
  return bad === undefined ? undefined : `${path}: expected a list of at most ${environmentMax} names, found ${describe(bad)}`
}

const texts = (path: string, value: Json, min: number): string | undefined => {
  const fits = isArray(value) && value.length >= min && value.length <= argumentsMax &&
    value.every((item) => typeof item === "string" && item.length <= argumentCharsMax && !item.includes("\u0000"))
  return fits ? undefined : `${path}: expected a list of ${min} to ${argumentsMax} texts, found ${describe(value)}`
}

const of = (path: string, type: SettingType, value: Json): string | undefined => {
  const read = readValue(type, value)
  return isWhy(read) ? `${path}: ${read.why}` : undefined
}

const push = (faults: Array<string>, fault: string | undefined): void => {
  if (fault !== undefined) faults.push(fault)
}
