import { Result } from "effect"
import { shortKey } from "../codec/bytes.ts"
import { decodeOperation, type Statement } from "../codec/operation.ts"

/** What a signed membership operation says, as one line for people. Devices stand in it by their whole key, for whoever knows their names. */
export const operationText = (bytes: Uint8Array): string => {
  const decoded = decodeOperation(bytes)
  return Result.isFailure(decoded) ? "a membership operation that cannot be read" : statementText(decoded.success.says, decoded.success.author)
}

const statementText = (says: Statement, author: string): string => {
  switch (says.kind) {
    case "mesh.created": return `made the mesh ${says.name}`
    case "mesh.named": return `called the mesh ${says.name}`
    case "invite.issued": return `made the invite ${shortKey(says.invite)} for ${says.uses === 1 ? "one device" : `${says.uses} devices`} as ${says.role}`
    case "invite.withdrawn": return `withdrew the invite ${shortKey(says.invite)}`
    case "member.admitted": return `admitted ${says.device} as ${says.role}, called ${says.name}`
    case "member.named": return says.device === author ? `took the name ${says.name}` : `gave ${says.device} the name ${says.name}`
    case "member.left": return "left the mesh"
    case "member.revoked": return `expelled ${says.device}${says.reason === undefined ? "" : `: ${says.reason}`}`
    case "role.set": return `made ${says.device} ${says.role}`
    case "log.attached": return `writes the log ${shortKey(says.log)}`
    case "log.succeeded": return `closed the log ${shortKey(says.log)} at ${says.length} blocks and writes ${shortKey(says.successor)}`
    case "epoch.rotated": return `made key epoch ${says.epoch} for ${says.sealed.length} ${says.sealed.length === 1 ? "reader" : "readers"}`
    case "epoch.shared": return `gave key epoch ${says.epoch} to ${says.sealed.map(({ reader }) => reader).slice(0, 4).join(", ")}${says.sealed.length > 4 ? ` and ${says.sealed.length - 4} more` : ""}`
    case "owners.threshold": return `wants ${says.threshold} owners to agree before one is expelled`
    case "recovery.set": return "set the recovery words"
    case "recovery.used": return `became owner by the recovery words, called ${says.name}`
    case "kept": return `${says.name}, of a newer version`
  }
}
