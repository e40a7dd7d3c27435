/**
 * One membership operation: a signed statement of one device about who belongs to a mesh and who may what. Design section 5.
 *
 * Bytes: `signature 64 | content`, content being the CBOR array `[1, kind, mesh, author, parents, ms, body]`. The operation's hash is
 * BLAKE2b-256 over the content under a label, and the signature is over that hash: a second signature of one content is the same
 * operation. `mesh` is the hash of the mesh's `mesh.created`, and null in that one. `parents` are the hashes that had no children
 * when the author wrote, sorted: they say what the author knew. `ms` is for people; nothing is decided by it.
 *
 * A kind never changes its meaning. A key that a later version adds to a body is ignored here, and an operation of a kind not known
 * here is kept and passed on: only bytes that break this form are refused.
 */
import { Result } from "effect"
import { fromHex, isHex, toHex } from "./bytes.ts"
import { decodeCbor, encodeCbor } from "./cbor.ts"
import { stampMsMax } from "./clock.ts"
import { hashParts } from "./hash.ts"
import { Malformed } from "./malformed.ts"
import { type KeyPair, sign, verify } from "./signature.ts"
import { logKeyOf, manifestOf } from "./verify/merkle.ts"

export const operationVersion = 1
/** A signed operation at most, bytes. */
export const operationBytesMax = 16 * 1024
/** Parents of one operation at most. */
export const operationParentsMax = 16
/** Uses of one invite at most. */
export const inviteUsesMax = 1_000
/** Cut-offs in one revocation or change of role at most. */
export const cutoffsMax = 128
/** Readers that one operation seals a key to at most; more take further operations (`epoch.shared`). */
export const sealedKeysMax = 96
/** A key sealed to a device: libsodium's sealed box of 32 bytes (X25519, XSalsa20-Poly1305), bytes. */
export const sealedKeyBytes = 80
/** The highest key epoch, as in the header of a frame. */
export const epochMax = 0xffff_ffff
/** Owners that may be asked to agree at most. */
export const thresholdMax = 16
export const reasonLengthMax = 256
export const meshNameLengthMax = 64
export const nodeNameLengthMax = 63

/** From most to least: what each includes is the matter of the resolver. */
export const roles = ["owner", "admin", "member", "reader", "seeder"] as const
export type Role = typeof roles[number]

/** Greater is more; a comparison of roles is one of ranks. */
export const rankOf = (role: Role): number => roles.length - roles.indexOf(role)

/** What an operation says. Keys and hashes are lower-case hex. */
export type Statement =
  | { readonly kind: "mesh.created"; readonly name: string; readonly nonce: Uint8Array }
  | { readonly kind: "mesh.named"; readonly name: string }
  | {
    readonly kind: "invite.issued"; readonly invite: string; readonly role: Role; readonly expiresMs: number; readonly uses: number
    /** By the invite key over mesh and author (`certifyInvite`): a candidate that has only the words learns by it which mesh it is. */
    readonly certificate?: Uint8Array
  }
  | { readonly kind: "invite.withdrawn"; readonly invite: string }
  | LogHeld & {
    readonly kind: "member.admitted"; readonly device: string; readonly log: string; readonly name: string
    readonly role: Role; readonly invite: string
    /** By the invite key over `admissionHash`. */
    readonly proof: Uint8Array
  }
  | { readonly kind: "member.named"; readonly device: string; readonly name: string }
  /** `cutoffs` when the device may write no more: what it wrote in documents from there on is out. */
  | { readonly kind: "role.set"; readonly device: string; readonly role: Role; readonly cutoffs?: ReadonlyArray<Cutoff> }
  | LogHeld & { readonly kind: "log.attached"; readonly log: string }
  /** What proves possession is about the successor. */
  | LogHeld & { readonly kind: "log.succeeded"; readonly log: string; readonly length: number; readonly treeHash: string; readonly successor: string }
  | { readonly kind: "member.left" }
  | { readonly kind: "member.revoked"; readonly device: string; readonly cutoffs: ReadonlyArray<Cutoff>; readonly reason?: string }
  /** A new key for frames, sealed to each who may read, and to the recovery key. `commit` names the key without telling it. */
  | { readonly kind: "epoch.rotated"; readonly epoch: number; readonly commit: string; readonly sealed: ReadonlyArray<SealedKey> }
  /** The same key for further readers. */
  | { readonly kind: "epoch.shared"; readonly epoch: number; readonly commit: string; readonly sealed: ReadonlyArray<SealedKey> }
  /** So many owners must agree before an owner is revoked. */
  | { readonly kind: "owners.threshold"; readonly threshold: number }
  /** The public key of the secret on paper; it takes the place of an earlier one. */
  | { readonly kind: "recovery.set"; readonly recovery: string }
  /** Who holds the secret on paper makes its device an owner. The author is the device. */
  | LogHeld & {
    readonly kind: "recovery.used"; readonly log: string; readonly name: string; readonly recovery: string
    /** By the recovery key over `recoveryHash`. */
    readonly proof: Uint8Array
  }
  /** Kinds of a newer version: kept as they are. */
  | { readonly kind: "kept"; readonly name: string; readonly body: unknown }

/** Proof that a device holds the key of the log that it claims; both or neither. A claim with it goes before claims without. */
export interface LogHeld {
  /** The log's Ed25519 public key, 32 bytes; the log's name is the hash of Hypercore's manifest of it. */
  readonly signer?: Uint8Array
  /** By that key over `logHeldHash`, 64 bytes. */
  readonly held?: Uint8Array
}

/** Blocks of a log from `length` on are out. */
export interface Cutoff {
  readonly log: string
  readonly length: number
}

export interface SealedKey {
  /** Device key, or the recovery key. */
  readonly reader: string
  /** 80 bytes. */
  readonly sealed: Uint8Array
}

export interface Draft {
  /** Hash of `mesh.created`; empty in that operation itself. */
  readonly mesh: string
  /** Device key of the author. */
  readonly author: string
  /** Hashes, ascending, without repetition. */
  readonly parents: ReadonlyArray<string>
  /** Wall milliseconds of the author, for people. */
  readonly ms: number
  readonly says: Statement
}

/** An operation that is ready to be signed by its author. */
export interface Unsigned extends Draft {
  readonly content: Uint8Array
  readonly hash: string
}

/** An operation whose signature, and in an admission the invite's proof, were checked by `openOperation`. */
export interface Operation extends Draft {
  readonly hash: string
  /** Signed bytes, as they are stored and sent. */
  readonly bytes: Uint8Array
  /** In `member.admitted` and `recovery.used`: the proof verifies. True in all others. */
  readonly proven: boolean
  /** It claims a log and proves that the device holds the log's key. */
  readonly holds: boolean
}

const nodeName = /^[\p{L}\p{N}][\p{L}\p{N}._-]*$/u
const meshName = /^[^\p{C}\p{Zl}\p{Zp}\s]([^\p{C}\p{Zl}\p{Zp}]*[^\p{C}\p{Zl}\p{Zp}\s])?$/u
const kindPattern = /^[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)+$/

/** Letters, digits, `.`, `_` and `-`, beginning with a letter or digit, 63 at most: it must fit `NAME:SERVICE`. */
export const isNodeName = (text: unknown): text is string =>
  typeof text === "string" && text.length <= nodeNameLengthMax && nodeName.test(text) && text.normalize("NFC") === text

/** One line of printable text, 64 characters at most. */
export const isMeshName = (text: unknown): text is string =>
  typeof text === "string" && text.length <= meshNameLengthMax && meshName.test(text) && text.normalize("NFC") === text

export const isRole = (value: unknown): value is Role => roles.some((role) => role === value)

/** What an invite's key signs to say: this device, with this log, may come in. */
export const admissionHash = (mesh: string, invite: string, device: string, log: string): Uint8Array =>
  hashParts("kos/admission/1", fromHex(mesh), fromHex(invite), fromHex(device), fromHex(log))

/** What the recovery key signs to say: this device, with this log, is an owner. */
export const recoveryHash = (mesh: string, recovery: string, device: string, log: string): Uint8Array =>
  hashParts("kos/recovery/1", fromHex(mesh), fromHex(recovery), fromHex(device), fromHex(log))

/** What a log's key signs to say: I belong to this device. */
export const logHeldHash = (mesh: string, device: string, log: string): Uint8Array =>
  hashParts("kos/log-held/1", fromHex(mesh), fromHex(device), fromHex(log))

/** The proof that the device holds the log's key, to be put into the statement that claims the log. */
export const proveLogHeld = (mesh: string, device: string, logKeyPair: KeyPair): Required<LogHeld> => {
  const log = toHex(logKeyOf(manifestOf(logKeyPair.publicKey)))
  return { signer: logKeyPair.publicKey, held: sign(logHeldHash(mesh, device, log), logKeyPair) }
}

/** Names a key epoch's key without telling it. */
export const epochCommit = (key: Uint8Array): string => toHex(hashParts("kos/epoch-commit/1", key))

export const operationHash = (content: Uint8Array): string => toHex(hashParts("kos/operation/1", content))

/** Makes the content and its hash. The hash needs no signature, so a later draft can already name an earlier one as its parent. */
export const draftOperation = (draft: Draft): Unsigned => {
  const { kind, body } = bodyToWire(draft.says)
  const content = encodeCbor([
    operationVersion, kind, draft.mesh === "" ? null : fromHex(draft.mesh), fromHex(draft.author),
    draft.parents.map(fromHex), draft.ms, body
  ])
  return { ...draft, content, hash: operationHash(content) }
}

/** Signs a draft with the author's device key; what comes back is read again before it is given out. */
export const signOperation = (unsigned: Unsigned, keyPair: KeyPair): Result.Result<Operation, Malformed> => {
  if (toHex(keyPair.publicKey) !== unsigned.author) return bad("the signing key is not the author's")
  const signature = sign(fromHex(unsigned.hash), keyPair)
  return openOperation(Buffer.concat([signature, unsigned.content]))
}

/** Reads, and checks signature and proofs. Never throws; costs one to three Ed25519 checks. */
export const openOperation = (bytes: Uint8Array): Result.Result<Operation, Malformed> => {
  const decoded = decodeOperation(bytes)
  if (Result.isFailure(decoded)) return decoded
  const operation = decoded.success
  if (!verify(fromHex(operation.hash), bytes.subarray(0, 64), fromHex(operation.author))) return bad("its signature is not the author's")
  return Result.succeed({ ...operation, proven: isProven(operation), holds: isHeld(operation) })
}

const isProven = ({ mesh, author, says }: Operation): boolean => {
  if (says.kind === "recovery.used") return verify(recoveryHash(mesh, says.recovery, author, says.log), says.proof, fromHex(says.recovery))
  if (says.kind === "member.admitted") return verify(admissionHash(mesh, says.invite, says.device, says.log), says.proof, fromHex(says.invite))
  return true
}

const isHeld = ({ mesh, author, says }: Operation): boolean => {
  if (says.kind !== "member.admitted" && says.kind !== "recovery.used" && says.kind !== "log.attached" && says.kind !== "log.succeeded") return false
  const { signer, held } = says
  const log = says.kind === "log.succeeded" ? says.successor : says.log
  if (signer === undefined || held === undefined || toHex(logKeyOf(manifestOf(signer))) !== log) return false
  return verify(logHeldHash(mesh, says.kind === "member.admitted" ? says.device : author, log), held, signer)
}

/** Reads without checking any signature: for showing what was quarantined. `proven` is false. */
export const decodeOperation = (bytes: Uint8Array): Result.Result<Operation, Malformed> => {
  if (bytes.byteLength > operationBytesMax) return bad(`larger than ${operationBytesMax} bytes`)
  if (bytes.byteLength < 64 + 8) return bad("too short")
  const own = new Uint8Array(bytes)
  const content = own.subarray(64)
  const wire = decodeCbor("operation", content)
  if (Result.isFailure(wire)) return Result.fail(wire.failure)
  if (!Array.isArray(wire.success) || wire.success.length !== 7) return bad("not an array of seven")
  const [version, kind, mesh, author, parents, ms, body] = wire.success as ReadonlyArray<unknown>
  if (version !== operationVersion) return bad("its version is not known here")
  if (typeof kind !== "string" || kind.length > 64 || !kindPattern.test(kind)) return bad("kind")
  const first = kind === "mesh.created"
  const meshHex = key32(mesh)
  if (first ? mesh !== null : meshHex === undefined) return bad("mesh")
  const authorHex = key32(author)
  if (authorHex === undefined) return bad("author")
  if (!Array.isArray(parents) || parents.length > operationParentsMax || (parents.length === 0) !== first) return bad("parents")
  const parentsHex: Array<string> = []
  for (const parent of parents as ReadonlyArray<unknown>) {
    const hex = key32(parent)
    const last = parentsHex[parentsHex.length - 1]
    if (hex === undefined || (last !== undefined && hex <= last)) return bad("parents")
    parentsHex.push(hex)
  }
  if (!isCount(ms, stampMsMax)) return bad("time")
  if (!isRecord(body)) return bad("body")
  const says = bodyFromWire(kind, body)
  if (says === undefined) return bad(`body of ${kind}`)
  return Result.succeed({
    mesh: meshHex ?? "", author: authorHex, parents: parentsHex, ms, says, hash: operationHash(content), bytes: own, proven: false, holds: false
  })
}

const bodyToWire = (says: Statement): { readonly kind: string; readonly body: unknown } => {
  switch (says.kind) {
    case "mesh.created": return { kind: says.kind, body: { name: says.name, nonce: says.nonce } }
    case "mesh.named": return { kind: says.kind, body: { name: says.name } }
    case "invite.issued": return {
      kind: says.kind,
      body: {
        invite: fromHex(says.invite), role: says.role, expiresMs: says.expiresMs, uses: says.uses,
        ...(says.certificate === undefined ? {} : { certificate: says.certificate })
      }
    }
    case "invite.withdrawn": return { kind: says.kind, body: { invite: fromHex(says.invite) } }
    case "member.admitted": return {
      kind: says.kind,
      body: {
        device: fromHex(says.device), log: fromHex(says.log), name: says.name, role: says.role, invite: fromHex(says.invite), proof: says.proof,
        ...heldToWire(says)
      }
    }
    case "member.named": return { kind: says.kind, body: { device: fromHex(says.device), name: says.name } }
    case "role.set": return {
      kind: says.kind,
      body: { device: fromHex(says.device), role: says.role, ...(says.cutoffs === undefined ? {} : { cutoffs: cutoffsToWire(says.cutoffs) }) }
    }
    case "log.attached": return { kind: says.kind, body: { log: fromHex(says.log), ...heldToWire(says) } }
    case "log.succeeded": return {
      kind: says.kind,
      body: { log: fromHex(says.log), length: says.length, treeHash: fromHex(says.treeHash), successor: fromHex(says.successor), ...heldToWire(says) }
    }
    case "member.left": return { kind: says.kind, body: {} }
    case "member.revoked": return {
      kind: says.kind,
      body: {
        device: fromHex(says.device), cutoffs: cutoffsToWire(says.cutoffs), ...(says.reason === undefined ? {} : { reason: says.reason })
      }
    }
    case "epoch.rotated": case "epoch.shared": return {
      kind: says.kind,
      body: { epoch: says.epoch, commit: fromHex(says.commit), sealed: says.sealed.map(({ reader, sealed }) => [fromHex(reader), sealed]) }
    }
    case "owners.threshold": return { kind: says.kind, body: { threshold: says.threshold } }
    case "recovery.set": return { kind: says.kind, body: { recovery: fromHex(says.recovery) } }
    case "recovery.used": return {
      kind: says.kind, body: { log: fromHex(says.log), name: says.name, recovery: fromHex(says.recovery), proof: says.proof, ...heldToWire(says) }
    }
    case "kept": return { kind: says.name, body: says.body }
  }
}

const bodyFromWire = (kind: string, body: Readonly<Record<string, unknown>>): Statement | undefined => {
  const { name, role } = body
  const device = key32(body["device"])
  const log = key32(body["log"])
  const invite = key32(body["invite"])
  const held = heldOf(body)
  switch (kind) {
    case "mesh.created": {
      const nonce = bytesOf(body["nonce"], 32)
      return isMeshName(name) && nonce !== undefined ? { kind, name, nonce } : undefined
    }
    case "mesh.named": return isMeshName(name) ? { kind, name } : undefined
    case "invite.issued": {
      const { expiresMs, uses } = body
      const certificate = bytesOf(body["certificate"], 64)
      if (body["certificate"] !== undefined && certificate === undefined) return undefined
      return invite !== undefined && isRole(role) && isCount(expiresMs, stampMsMax) && isCount(uses, inviteUsesMax) && uses > 0
        ? { kind, invite, role, expiresMs, uses, ...(certificate === undefined ? {} : { certificate }) } : undefined
    }
    case "invite.withdrawn": return invite === undefined ? undefined : { kind, invite }
    case "member.admitted": {
      const proof = bytesOf(body["proof"], 64)
      return device !== undefined && log !== undefined && isNodeName(name) && isRole(role) && invite !== undefined && proof !== undefined && held !== undefined
        ? { kind, device, log, name, role, invite, proof, ...held } : undefined
    }
    case "member.named": return device !== undefined && isNodeName(name) ? { kind, device, name } : undefined
    case "role.set": {
      const cutoffs = body["cutoffs"] === undefined ? undefined : cutoffsOf(body["cutoffs"])
      if (device === undefined || !isRole(role) || (cutoffs === undefined && body["cutoffs"] !== undefined)) return undefined
      return cutoffs === undefined ? { kind, device, role } : { kind, device, role, cutoffs }
    }
    case "log.attached": return log === undefined || held === undefined ? undefined : { kind, log, ...held }
    case "log.succeeded": {
      const { length } = body
      const treeHash = key32(body["treeHash"])
      const successor = key32(body["successor"])
      return log !== undefined && isCount(length, Number.MAX_SAFE_INTEGER) && treeHash !== undefined && successor !== undefined &&
        successor !== log && held !== undefined ? { kind, log, length, treeHash, successor, ...held } : undefined
    }
    case "member.left": return { kind }
    case "member.revoked": {
      const cutoffs = cutoffsOf(body["cutoffs"])
      const { reason } = body
      if (device === undefined || cutoffs === undefined) return undefined
      if (reason === undefined) return { kind, device, cutoffs }
      return typeof reason === "string" && reason.length <= reasonLengthMax ? { kind, device, cutoffs, reason } : undefined
    }
    case "epoch.rotated": case "epoch.shared": {
      const { epoch } = body
      const commit = key32(body["commit"])
      const sealed = sealedOf(body["sealed"])
      return isCount(epoch, epochMax) && epoch > 0 && commit !== undefined && sealed !== undefined ? { kind, epoch, commit, sealed } : undefined
    }
    case "owners.threshold": {
      const { threshold } = body
      return isCount(threshold, thresholdMax) && threshold > 0 ? { kind, threshold } : undefined
    }
    case "recovery.set": {
      const recovery = key32(body["recovery"])
      return recovery === undefined ? undefined : { kind, recovery }
    }
    case "recovery.used": {
      const recovery = key32(body["recovery"])
      const proof = bytesOf(body["proof"], 64)
      return log !== undefined && isNodeName(name) && recovery !== undefined && proof !== undefined && held !== undefined
        ? { kind, log, name, recovery, proof, ...held } : undefined
    }
    default: return { kind: "kept", name: kind, body }
  }
}

const heldToWire = ({ signer, held }: LogHeld): LogHeld => signer === undefined || held === undefined ? {} : { signer, held }

const heldOf = (body: Readonly<Record<string, unknown>>): LogHeld | undefined => {
  if (body["signer"] === undefined && body["held"] === undefined) return {}
  const signer = bytesOf(body["signer"], 32)
  const held = bytesOf(body["held"], 64)
  return signer === undefined || held === undefined ? undefined : { signer, held }
}

const cutoffsToWire = (cutoffs: ReadonlyArray<Cutoff>): unknown => cutoffs.map(({ log, length }) => [fromHex(log), length])

const cutoffsOf = (value: unknown): ReadonlyArray<Cutoff> | undefined => {
  if (!Array.isArray(value) || value.length > cutoffsMax) return undefined
  const out: Array<Cutoff> = []
  for (const entry of value as ReadonlyArray<unknown>) {
    if (!Array.isArray(entry) || entry.length !== 2) return undefined
    const [key, length] = entry as ReadonlyArray<unknown>
    const log = key32(key)
    if (log === undefined || !isCount(length, Number.MAX_SAFE_INTEGER)) return undefined
    out.push({ log, length })
  }
  return out
}

const sealedOf = (value: unknown): ReadonlyArray<SealedKey> | undefined => {
  if (!Array.isArray(value) || value.length > sealedKeysMax) return undefined
  const out: Array<SealedKey> = []
  for (const entry of value as ReadonlyArray<unknown>) {
    if (!Array.isArray(entry) || entry.length !== 2) return undefined
    const [key, bytes] = entry as ReadonlyArray<unknown>
    const reader = key32(key)
    const sealed = bytesOf(bytes, sealedKeyBytes)
    if (reader === undefined || sealed === undefined) return undefined
    out.push({ reader, sealed })
  }
  return out
}

const key32 = (value: unknown): string | undefined =>
  value instanceof Uint8Array && value.byteLength === 32 ? toHex(value) : undefined

const bytesOf = (value: unknown, size: number): Uint8Array | undefined =>
  value instanceof Uint8Array && value.byteLength === size ? value : undefined

const isCount = (value: unknown, max: number): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= max

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array)

/** For callers that hold text: is this a key or hash in our spelling? */
export const isKeyText = (text: unknown): text is string => isHex(text, 32)

const bad = (why: string) => Result.fail(new Malformed({ what: "membership operation", why }))
