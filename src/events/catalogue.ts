/**
 * The catalogue of event types: for each name and version the schema of its body, its durability, and how an older version is read
 * as the newest (upcast). A name never changes meaning: a new key has a default on decode; a new meaning is the next number.
 *
 * A type that is not here is unknown, not wrong: it is kept, counted, forwarded and shown raw.
 */
import { Effect, Result, Schema } from "effect"
import { Malformed } from "../codec/malformed.ts"
import { operationText } from "./operation-text.ts"
import { secretCipherBytesMax, secretCountMax } from "../codec/secret-item.ts"

/** `durable`: appended at once. `batched`: may linger up to 200 ms for company. Both are synced before anybody hears of them. */
export type Durability = "durable" | "batched"

export interface EventType {
  readonly type: string
  readonly durability: Durability
  readonly body: Schema.Codec<any, any>
  /** Set on a version that is no longer written: the newest type, and how to read the old body as it. */
  readonly upcast?: { readonly to: string; readonly body: (old: any) => unknown }
  /** One sentence for people, with values in it. */
  readonly says: (body: any) => string
}

const Bytes = (max: number) => Schema.Uint8Array.check(Schema.makeFilter((b: Uint8Array) => b.byteLength <= max || `more than ${max} bytes`))
const Text = (max: number) => Schema.String.check(Schema.isMaxLength(max))
const Key = Schema.String.check(Schema.isPattern(/^[0-9a-f]{64}$/))
const Count = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
const List = <S extends Schema.Top>(item: S, max: number) => Schema.Array(item).check(Schema.isMaxLength(max))

/** A document's binary change with what a person reads of it. */
export const DocumentChange = Schema.Struct({
  change: Bytes(262_144),
  /** Registers or fields touched, `text` for a page's text; at most 64 are named. */
  paths: List(Text(256), 64),
  summary: Text(512)
})
export type DocumentChange = typeof DocumentChange.Type

/** A signed membership operation; `src/codec/operation.ts` reads the bytes. */
export const SignedOperation = Schema.Struct({ operation: Bytes(16_384) })

export const Checkpoint = Schema.Struct({
  logs: List(Schema.Struct({ log: Key, fork: Count, length: Count, treeHash: Key }), 1_000)
})

const Register = { doc: Text(256), key: Text(256), json: Schema.NullOr(Text(24_576)) }

/** A change of settings that needs approvals: the edits in full, and what was in force when it was asked. `json` null: no value. */
export const ApprovalAsked = Schema.Struct({
  edits: List(Schema.Struct(Register), 64), base: List(Schema.Struct(Register), 64), summary: Text(512), rule: Text(256),
  approvals: Count, by: Schema.Literals(["admin", "owner"]), expiresMs: Count
})

export const ApprovalGiven = Schema.Struct({ asked: Text(128), verdict: Schema.Literals(["allow", "deny"]), reason: Text(256) })

/** What stood when a rule of policy was made, as addresses of the events that wrote it; in the same frame as the rule. */
export const PolicyKept = Schema.Struct({ rule: Text(256), kept: List(Text(128), 256) })

const SecretName = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/))
const exactly = (size: number) => Schema.Uint8Array.check(Schema.makeFilter((b: Uint8Array) => b.byteLength === size || `not ${size} bytes`))
const Reader = exactly(32)
/** Item keys sealed to reader keys. `src/projections/secrets.ts` tells how secrets travel. */
const SecretBoxes = List(Schema.Struct({ reader: Reader, sealed: exactly(80) }), 96)
/** Ids of versions, 32 bytes each. */
const SecretItems = List(exactly(32), 256)
const Generation = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: secretCountMax }))

export const SecretSet = Schema.Struct({
  name: SecretName, version: Generation,
  /** Device that the name belongs to. */
  owner: Key,
  /** Says more than the version before it; else it is the same value under a new item key. */
  fresh: Schema.Boolean,
  /** `node:DEVICE`, `role:ROLE` or `agent:NAME`. */
  recipients: List(Schema.String.check(Schema.isPattern(/^(node:[0-9a-f]{64}|role:[a-z]{1,16}|agent:[A-Za-z0-9][A-Za-z0-9._-]{0,95})$/)), 64),
  nonce: exactly(24), commit: Key, cipher: Bytes(secretCipherBytesMax), boxes: SecretBoxes
})
export const SecretShared = Schema.Struct({ name: SecretName, item: exactly(32), boxes: SecretBoxes })
/** `refused`: devices whose boxes did not open. */
export const SecretReader = Schema.Struct({ generation: Generation, key: Reader, refused: List(Key, 16) })
export const SecretHeld = Schema.Struct({ reader: Reader, items: SecretItems })
export const SecretShredded = Schema.Struct({ name: SecretName, reader: Reader, items: SecretItems })
export const SecretRemoved = Schema.Struct({ name: SecretName, items: SecretItems })

/** A mesh takes part in a federation, whose id is that of its own small mesh. `src/projections/federation.ts` tells how things travel. */
export const FederationBegun = Schema.Struct({ federation: Key, shares: List(Text(32), 8) })
export const FederationEnded = Schema.Struct({ federation: Key, reason: Text(256) })
const Items = { from: Schema.Struct({ mesh: Key, name: Text(64) }), kind: Text(32), items: List(Schema.Struct({ id: Text(256), value: Schema.NullOr(Text(65_536)) }), 256) }
/** Things of one kind that a mesh shares; `value` null: it is gone. */
export const FederationShared = Schema.Struct(Items)
export type FederationShared = typeof FederationShared.Type
export const FederationReceived = Schema.Struct({ federation: Key, ...Items })

/** One step of a release on its way on this device (`src/updates/rules.md`, R5). `generation`: the slot, from staging on. */
export const UpdateStep = Schema.Struct({
  /** Id of the release: SHA-256 of its index. */
  release: Key,
  channel: Key, target: Text(256), name: Text(64), version: Text(64), kind: Schema.Literals(["bundle", "agent", "codex", "os"]),
  generation: Schema.optionalKey(Count), detail: Text(1_024),
  /** What the release says of it: no version below this one runs here once it is committed. */
  minSecure: Schema.optionalKey(Text(64)),
  /** Of `rehearsed`: how much its rehearsal made otherwise than the running version. */
  differences: Schema.optionalKey(Count)
})
export type UpdateStep = typeof UpdateStep.Type
export const updateSteps = [
  "seen", "verified", "compatible", "unfit", "fetched", "staged", "rehearsed", "trial", "healthy", "committed", "rolled-back", "failed", "stopped"
] as const
export type UpdateStepName = (typeof updateSteps)[number]
/** A release with this device's verdict on it, for agents and people. */
export const UpdateOffered = Schema.Struct({ ...UpdateStep.fields, verdict: Schema.Literals(["compatible", "unfit", "stale"]), risks: List(Text(512), 32) })
/** What an agent or person says of a release; a veto counts where policy lets its author. */
export const UpdateAdvised = Schema.Struct({ release: Key, stance: Schema.Literals(["advice", "veto", "withdrawn"]), text: Text(512) })
/** This device is about to try a release, or is not any more. `number`: one more than the largest that it knew when it asked. */
export const UpdateTurn = Schema.Struct({ release: Key, state: Schema.Literals(["asked", "given-back"]), number: Schema.optionalKey(Count) })
export const UpdateBanned = Schema.Struct({ device: Key, why: Text(256) })
export const ChannelStated = Schema.Struct({ channel: Key, name: Text(64), trust: Schema.Literals(["fresh", "stale", "untrusted", "empty"]), detail: Text(512) })

/** Something that needs signatures before it goes into a channel: the signed part of a TUF metadata file, in canonical JSON. */
export const ReleaseProposed = Schema.Struct({
  channel: Key, role: Text(64), version: Count, unsigned: Bytes(49_152), summary: Text(512)
})
/** A signature over a proposal, whose id is the SHA-256 of its bytes. */
export const ReleaseSigned = Schema.Struct({ channel: Key, proposal: Key, keyId: Key, signature: Text(256) })
export const ReleaseWithdrawn = Schema.Struct({ channel: Key, proposal: Key, reason: Text(256) })
/** Public key with which this node signs releases, and what its person calls it. */
export const ReleaseSigner = Schema.Struct({ key: Key, name: Text(64) })
/** What this version can read and may write; written when it changed. */
export const NodeCapable = Schema.Struct({ version: Text(64), platform: Text(32), board: Text(64), reads: List(Text(68), 512), writes: List(Text(68), 512) })

const define = <S extends Schema.Codec<any, any>>(
  type: string, durability: Durability, body: S, says: (body: S["Type"]) => string
): EventType => ({ type, durability, body, says })

const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`

const recipientsText = (recipients: ReadonlyArray<string>): string =>
  recipients.length === 0 ? "nobody" : recipients.map((one) => one.startsWith("node:") ? one.slice(5, 13) : one).join(", ").slice(0, 256)

const Empty = Schema.Struct({})

const types: ReadonlyArray<EventType> = [
  define("node.started/1", "durable", Schema.Struct({
    version: Text(64), pid: Count, bootId: Text(64), host: Schema.optionalKey(Text(256))
  }), (b) => `started, kOS ${b.version}`),
  define("node.stopped/1", "durable", Schema.Struct({ reason: Text(256) }), (b) => `stopped: ${b.reason}`),
  define("node.found-unclean/1", "durable", Schema.Struct({ sameBoot: Schema.Boolean, length: Count, pid: Count }),
    (b) => `found that the last run ended without a stop${b.sameBoot ? "" : " (the machine restarted)"}`),
  define("node.recovered/1", "durable", Schema.Struct({ what: Text(128), detail: Text(1_024) }), (b) => `recovered ${b.what}: ${b.detail}`),
  define("node.measured/1", "batched", Schema.Struct({
    uptimeSeconds: Count, memoryBytes: Count, diskFreeBytes: Count, peers: Count, events: Count
  }), (b) => `health: ${count(b.peers, "peer")}, ${count(b.events, "event")}, ${Math.round(b.diskFreeBytes / 1e6)} MB free`),
  define("command.done/1", "durable", Schema.Struct({ name: Text(96), detail: Text(1_024) }), (b) => `${b.name}: ${b.detail}`),
  define("command.refused/1", "durable", Schema.Struct({ name: Text(96), kind: Text(32), detail: Text(1_024) }),
    (b) => `${b.name} refused: ${b.detail}`),
  define("config.changed/1", "durable", DocumentChange, (b) => b.summary),
  define("agents.changed/1", "durable", DocumentChange, (b) => b.summary),
  define("memory.changed/1", "durable", DocumentChange, (b) => b.summary),
  define("approval.asked/1", "durable", ApprovalAsked, (b) => `asked for ${count(b.approvals, "approval")}: ${b.summary}`),
  define("approval.given/1", "durable", ApprovalGiven, (b) => `${b.verdict === "allow" ? "allowed" : "denied"} a proposal${b.reason === "" ? "" : `: ${b.reason}`}`),
  define("policy.kept/1", "durable", PolicyKept, (b) => `${count(b.kept.length, "value")} stood before ${b.rule} and stays`),
  ...["mesh.created", "mesh.named", "invite.issued", "invite.withdrawn", "member.admitted", "member.named", "member.left", "member.revoked",
    "role.set", "log.attached", "log.succeeded", "epoch.rotated", "epoch.shared", "owners.threshold", "recovery.set", "recovery.used"
  ].map((name) => define(`${name}/1`, "durable", SignedOperation, ({ operation }) => operationText(operation))),
  define("log.closed/1", "durable", Schema.Struct({
    log: Key, length: Count, expected: Count, why: Text(256)
  }), (b) => `closed log ${b.log.slice(0, 8)} for ever at ${b.length} of ${b.expected} blocks: ${b.why}`),
  define("log.copied/1", "durable", Schema.Struct({ log: Key, length: Count, successor: Key }),
    (b) => `found that its directory is a copy: log ${b.log.slice(0, 8)} is left to the original, ${b.successor.slice(0, 8)} begins here`),
  define("log.healed/1", "durable", Schema.Struct({ log: Key, from: Count, to: Count }),
    (b) => `got blocks ${b.from} to ${b.to} of its own log back from peers`),
  define("checkpoint.made/1", "batched", Checkpoint, (b) => `witnessed ${count(b.logs.length, "log")}`),
  define("evidence.found/1", "durable", Schema.Struct({
    log: Key, length: Count, kind: Text(64), ours: Text(256), theirs: Text(256), from: Text(128),
    /** Two signed histories of the log that differ at `length`; without them it is hearsay. */
    histories: Schema.optionalKey(Schema.Array(Bytes(8_192)).check(Schema.isMaxLength(2)))
  }), (b) => `evidence against log ${b.log.slice(0, 8)}: ${b.kind}`),
  define("evidence.cleared/1", "durable", Schema.Struct({ log: Key, length: Count, treeHash: Key, reason: Text(256) }),
    (b) => `decided which history of log ${b.log.slice(0, 8)} stands: ${b.treeHash.slice(0, 8)} at length ${b.length}`),
  define("peers.changed/1", "batched", Schema.Struct({
    joined: List(Schema.Struct({ device: Key, carrier: Text(32) }), 256),
    left: List(Schema.Struct({ device: Key, carrier: Text(32) }), 256)
  }), (b) => `peers: ${b.joined.length} came, ${b.left.length} went`),
  define("service.opened/1", "batched", Schema.Struct({ service: Text(64), device: Key, count: Count }),
    (b) => `${count(b.count, "connection")} to ${b.service} by ${b.device.slice(0, 8)}`),
  define("service.refused/1", "batched", Schema.Struct({ service: Text(64), device: Key, count: Count, why: Text(256) }),
    (b) => `refused ${count(b.count, "connection")} by ${b.device.slice(0, 8)}: ${b.why}`),
  define("service.closed/1", "batched", Schema.Struct({
    service: Text(64), device: Key, count: Count, bytesIn: Count, bytesOut: Count, seconds: Count, broken: Count, why: Text(256)
  }), (b) => `${count(b.count, "connection")} to ${b.service} by ${b.device.slice(0, 8)} ended: ${b.bytesIn} bytes in, ${b.bytesOut} out, ${b.seconds} s${b.broken === 0 ? "" : `; ${b.broken} broken off: ${b.why}`}`),
  define("sync.exported/1", "durable", Schema.Struct({ blocks: Count, bytes: Count, logs: Count }), (b) => `exported ${count(b.blocks, "block")} of ${count(b.logs, "log")}`),
  define("sync.imported/1", "durable", Schema.Struct({ blocks: Count, logs: Count }), (b) => `imported ${count(b.blocks, "block")} of ${count(b.logs, "log")}`),
  define("secret.set/1", "durable", SecretSet, (b) => `${b.fresh ? "set" : "sealed anew"} secret ${b.name}, version ${b.version}, for ${recipientsText(b.recipients)}`),
  define("secret.shared/1", "durable", SecretShared, (b) => `gave the key of secret ${b.name} to ${count(b.boxes.length, "recipient")}`),
  define("secret.reader/1", "durable", SecretReader, (b) => `has reader key ${b.generation} for secrets; earlier ones are destroyed`),
  define("secret.held/1", "durable", SecretHeld, (b) => `holds the keys of ${count(b.items.length, "secret")}`),
  define("secret.removed/1", "durable", SecretRemoved, (b) => `removed secret ${b.name}`),
  define("secret.shredded/1", "durable", SecretShredded, (b) => `destroyed its keys of secret ${b.name}`),
  define("secret.read/1", "durable", Schema.Struct({ name: SecretName, version: Count, times: Count }), (b) => `read secret ${b.name}${b.times > 1 ? ` ${b.times} times` : ""}`),
  define("secret.denied/1", "durable", Schema.Struct({ name: SecretName, times: Count, why: Text(256) }),
    (b) => `was denied secret ${b.name}${b.times > 1 ? ` ${b.times} times` : ""}: ${b.why}`),
  define("federation.begun/1", "durable", FederationBegun, (b) => `federates as ${b.federation.slice(0, 8)}, sharing ${b.shares.length === 0 ? "nothing yet" : b.shares.join(", ")}`),
  define("federation.ended/1", "durable", FederationEnded, (b) => `ended the federation ${b.federation.slice(0, 8)}${b.reason === "" ? "" : `: ${b.reason}`}`),
  define("federation.shared/1", "durable", FederationShared, (b) => `${b.from.name} shares ${count(b.items.length, "change")} of ${b.kind}`),
  define("federation.received/1", "durable", FederationReceived, (b) => `${count(b.items.length, "change")} of ${b.kind} from ${b.from.name}`),
  define("node.capable/1", "durable", NodeCapable, (b) => `runs kOS ${b.version} on ${b.platform} and reads ${count(b.reads.length, "event type")}`),
  ...updateSteps.map((step) => define(`update.${step}/1`, "durable", UpdateStep, (b) => `${b.name} ${b.version}: ${step}${b.detail === "" ? "" : `, ${b.detail}`}`)),
  define("update.offered/1", "durable", UpdateOffered, (b) => `${b.name} ${b.version} is offered: ${b.verdict}${b.risks.length === 0 ? "" : `; ${b.risks.join("; ")}`}`),
  define("update.advised/1", "durable", UpdateAdvised, (b) => `${b.stance === "veto" ? "vetoes" : b.stance === "advice" ? "advises on" : "takes back its word on"} release ${b.release.slice(0, 8)}${b.text === "" ? "" : `: ${b.text}`}`),
  define("update.turn/1", "durable", UpdateTurn, (b) => b.state === "asked" ? `asks for its turn to try release ${b.release.slice(0, 8)}` : `gives back its turn to try release ${b.release.slice(0, 8)}`),
  define("update.banned/1", "durable", UpdateBanned, (b) => `takes no more pieces from ${b.device.slice(0, 8)}: ${b.why}`),
  define("channel.stated/1", "durable", ChannelStated, (b) => `channel ${b.name} is ${b.trust}${b.detail === "" ? "" : `: ${b.detail}`}`),
  define("release.proposed/1", "durable", ReleaseProposed, (b) => `proposes ${b.role} ${b.version} of channel ${b.channel.slice(0, 8)}: ${b.summary}`),
  define("release.signed/1", "durable", ReleaseSigned, (b) => `signs proposal ${b.proposal.slice(0, 8)} of channel ${b.channel.slice(0, 8)}`),
  define("release.withdrawn/1", "durable", ReleaseWithdrawn, (b) => `withdraws proposal ${b.proposal.slice(0, 8)}${b.reason === "" ? "" : `: ${b.reason}`}`),
  define("release.signer/1", "durable", ReleaseSigner, (b) => `signs releases as ${b.name} with key ${b.key.slice(0, 8)}`),
  define("sync.paused/1", "durable", Empty, () => "paused sync"),
  define("sync.resumed/1", "durable", Empty, () => "resumed sync")
]

export const eventTypes: ReadonlyMap<string, EventType> = new Map(types.map((t) => [t.type, t]))

/** What this version reads, and what it may write: a type with an upcast is only read. */
export const schemaRange: { readonly reads: ReadonlyArray<string>; readonly writes: ReadonlyArray<string> } = {
  reads: types.map(({ type }) => type).sort(), writes: types.filter(({ upcast }) => upcast === undefined).map(({ type }) => type).sort()
}

/** Types whose body is a `DocumentChange`; their subject is the document. */
export const documentTypes: ReadonlySet<string> = new Set(["config.changed/1", "agents.changed/1", "memory.changed/1"])

const operationBody: unknown = SignedOperation
/** Types whose body is a `SignedOperation`. */
export const operationTypes: ReadonlySet<string> = new Set(types.filter((t) => t.body === operationBody).map((t) => t.type))

export type DecodedBody =
  | { readonly _tag: "Known"; readonly type: EventType; readonly body: unknown }
  | { readonly _tag: "Unknown" }

const decoders = new Map(types.map((t) => [t.type, Schema.decodeUnknownResult(t.body)]))

/** Decodes a body by the catalogue and upcasts it. A type we do not know is not a fault; a known type with a wrong body is. */
export const decodeBody = (
  type: string, body: unknown, catalogue: ReadonlyMap<string, EventType> = eventTypes
): Result.Result<DecodedBody, Malformed> => {
  const known = catalogue.get(type)
  if (known === undefined) return Result.succeed({ _tag: "Unknown" })
  if (documentTypes.has(type) && isPlainChange(body)) return Result.succeed({ _tag: "Known", type: known, body })
  const decode = decoders.get(type) ?? Schema.decodeUnknownResult(known.body)
  const decoded: Result.Result<unknown, unknown> = decode(body)
  if (Result.isFailure(decoded)) return Result.fail(new Malformed({ what: `body of ${type}`, why: String(decoded.failure).slice(0, 200) }))
  if (known.upcast === undefined) return Result.succeed({ _tag: "Known", type: known, body: decoded.success })
  return decodeBody(known.upcast.to, known.upcast.body(decoded.success), catalogue)
}

/** The common case without the schema machinery: it runs for every change of every log. */
const isPlainChange = (body: unknown): boolean => {
  if (typeof body !== "object" || body === null || !("change" in body) || !("paths" in body) || !("summary" in body)) return false
  const { change, paths, summary } = body
  return change instanceof Uint8Array && change.byteLength <= 262_144 && typeof summary === "string" && summary.length <= 512 &&
    Array.isArray(paths) && paths.length <= 64 && paths.every((p: unknown) => typeof p === "string" && p.length <= 256)
}

/** Encodes a body that this node is about to write; a body that does not fit its own schema is our defect. */
export const encodeBody = (type: string, body: unknown): Effect.Effect<unknown> => {
  const known = eventTypes.get(type)
  if (known === undefined || known.upcast !== undefined) return Effect.die(new Error(`${type} is not written by this version`))
  return Effect.orDie(Schema.encodeUnknownEffect(known.body)(body))
}
