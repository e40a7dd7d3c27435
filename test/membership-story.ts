import { draftOperation, type Operation, type Role, type Statement } from "../src/codec/operation.ts"
import { foldMembership, resolveMembership } from "../src/projections/membership.ts"
import { key, unsignedOperation, viewText } from "./membership-world.ts"
import { summaryOf } from "./resolver-graphs.ts"
import { modelOf } from "./resolver-model.ts"

/**
 * A mesh told step by step: `say` returns the hash, parents default to all heads. Every look at it checks that order does not matter, and
 * that the model sees the same.
 */
export const story = (owner = "ann") => {
  const first = unsignedOperation(draftOperation({
    mesh: "", author: key(owner), parents: [], ms: 1, says: { kind: "mesh.created", name: "hill", nonce: new Uint8Array(32) }
  }))
  const operations: Array<Operation> = [first]
  const mesh = first.hash
  const say = (author: string, says: Statement, parents?: ReadonlyArray<string>, proven = true, holds = false): string => {
    const known = parents ?? resolveMembership(mesh, operations).heads.slice(0, 16)
    const operation = unsignedOperation(draftOperation({ mesh, author: key(author), parents: [...known].sort(), ms: operations.length, says }), proven, holds)
    operations.push(operation)
    return operation.hash
  }
  const invite = (by: string, name: string, uses = 1, role: Role = "member", parents?: ReadonlyArray<string>) =>
    say(by, { kind: "invite.issued", invite: key(name), role, expiresMs: 10, uses }, parents)
  const admit = (by: string, device: string, name: string, parents?: ReadonlyArray<string>, role: Role = "member", log = `${device}-log`) =>
    say(by, { kind: "member.admitted", device: key(device), log: key(log), name: device, role, invite: key(name), proof: new Uint8Array(64) }, parents)
  const why = (hash: string) => view().void.find((entry) => entry.hash === hash)?.why
  const view = () => {
    const forward = resolveMembership(mesh, operations)
    if (viewText(forward) !== viewText(resolveMembership(mesh, [...operations].reverse()))) throw new Error("the order matters")
    const fold = foldMembership(mesh)
    for (const operation of operations) {
      fold.offer(operation)
      if (operations.length < 100) fold.view()
    }
    if (viewText(forward) !== viewText(fold.view())) throw new Error("looking in between matters")
    if (operations.length >= 100) return forward
    const model = JSON.stringify(modelOf(operations))
    const summary = JSON.stringify(summaryOf(forward))
    if (summary !== model) throw new Error(`not as the model sees it: ${summary} ${model}`)
    return forward
  }
  const member = (device: string) => view().members.get(key(device))
  return { mesh, operations, say, invite, admit, why, view, member }
}
