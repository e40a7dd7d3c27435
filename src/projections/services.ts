/** Which services a node declares, as its configuration is in force by policy, and who may use them by membership as of now. */
import { configDoc, type LayerId } from "./families/doc-id.ts"
import { isAllowed, readServices, type ServiceRule } from "./families/services.ts"
import type { Members } from "./members.ts"
import { PolicyView } from "./policy-view.ts"
import type { Tables } from "./tables/tables.ts"

type Known = Pick<Members, "view" | "operations">

/** What the layers of its role and of the node itself say; empty for a device that is no member now. */
export const servicesOf = (parts: { readonly tables: Tables; readonly members: Members }, device: string): ReadonlyMap<string, ServiceRule> => {
  const member = parts.members.view().members.get(device)
  if (member?.standing !== "member") return new Map()
  const policy = new PolicyView(parts)
  const layers: ReadonlyArray<LayerId> = [`role:${member.role}`, `node:${device}`]
  return readServices(Object.assign({}, ...layers.map((layer) => policy.document(configDoc(layer, "services")).values)))
}

/** May the device use it now, as a member with its present role and name? */
export const mayUseService = (members: Known, rule: ServiceRule, device: string): boolean => {
  const member = members.view().members.get(device)
  return member?.standing === "member" && isAllowed(rule, device, member.role, (name) => deviceNamed(members, name))
}

/**
 * The device that a name means: the whole key, or the name as it is now. A node names itself, and operations can be back-dated: while two
 * members want one name it means neither of them here, or the second could take the first one's place.
 */
export const deviceNamed = (members: Known, name: string): string | undefined => {
  const wanted = name.toLowerCase()
  const present = [...members.view().members.values()].filter(({ standing }) => standing === "member")
  if (/^[0-9a-f]{64}$/.test(wanted)) return present.find(({ device }) => device === wanted)?.device
  const holder = present.find((member) => member.name.toLowerCase() === wanted)
  const pushedAside = new Set(present.filter((member) => member.name.toLowerCase().startsWith(`${wanted}-`)).map(({ device }) => device))
  const isContested = pushedAside.size > 0 && members.operations().some(({ says }) =>
    (says.kind === "member.named" || says.kind === "member.admitted") && pushedAside.has(says.device) && says.name.toLowerCase() === wanted)
  return isContested ? undefined : holder?.device
}
