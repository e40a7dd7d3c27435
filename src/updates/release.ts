/**
 * A release: one target of a channel, with its signed `custom` fields as this version reads them.
 *
 * The target file is the payload's chunk index. Its path is `AREA/NAME@VERSION@PLATFORM`, where the area is `kos`, `os`, `agents/PUBLISHER`
 * or `codex/PUBLISHER`; a delegated publisher signs below its own area only.
 */
import { Result, Schema } from "effect"
import { Malformed } from "../codec/malformed.ts"
import { isVersion } from "./version.ts"

export const releaseKinds = ["bundle", "agent", "codex", "os"] as const
export type ReleaseKind = (typeof releaseKinds)[number]
export const rings = ["canary", "early", "all"] as const
export type Ring = (typeof rings)[number]

const Text = (max: number) => Schema.String.check(Schema.isMaxLength(max))
const Version = Text(64).check(Schema.makeFilter((text: string) => isVersion(text) || "no version such as 1.2.3"))
const Bytes = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }))
const Hash = Schema.String.check(Schema.isPattern(/^[0-9a-f]{64}$/))
const EventTypes = Schema.Array(Schema.String.check(Schema.isPattern(/^[a-z][a-z0-9.-]{0,62}\/[1-9][0-9]{0,3}$/))).check(Schema.isMaxLength(512))

/** A command of the release that says by exit code 0 that it is healthy; run in its slot, `{node}` stands for the Node that runs it. */
const Check = Schema.Struct({
  name: Text(64), command: Schema.Array(Text(256)).check(Schema.isMinLength(1), Schema.isMaxLength(16)),
  timeoutMs: Schema.Int.check(Schema.isBetween({ minimum: 100, maximum: 600_000 }))
})

/** Signed `custom` of a target. Keys that are not here are kept by TUF and ignored by us. */
export const ReleaseCustom = Schema.Struct({
  kos: Schema.Literal(1),
  kind: Schema.Literals(releaseKinds),
  name: Schema.String.check(Schema.isPattern(/^[a-z0-9][a-z0-9._-]{0,63}$/)),
  version: Version,
  /** `linux-x64`, `linux-arm64` or `any`. */
  platform: Schema.String.check(Schema.isPattern(/^(any|[a-z0-9]{1,16}-[a-z0-9_]{1,16})$/)),
  /** Boards that it is for; empty for all. */
  boards: Schema.Array(Text(64)).check(Schema.isMaxLength(32)),
  /** Canonical archive of a tree, or the image itself. */
  payload: Schema.Struct({ form: Schema.Literals(["tree", "file"]), length: Bytes, sha256: Hash }),
  needs: Schema.Struct({
    /** kOS that must run it: at least, and below; for `agent`, `codex` and `os`. */
    kosMin: Schema.NullOr(Version), kosBelow: Schema.NullOr(Version),
    /** Smallest version of the same name that it can come from. */
    from: Schema.NullOr(Version),
    /** Beyond payload, tree and packs, bytes. */
    freeBytes: Bytes
  }),
  /** Event types that it reads and that it may write. */
  events: Schema.Struct({ reads: EventTypes, writes: EventTypes }),
  /** No device goes below this version once it committed this release. */
  minSecure: Schema.NullOr(Version),
  /** It mends a security problem: `update.auto security` takes it. */
  security: Schema.Boolean,
  ring: Schema.Literals(rings),
  /** Share of devices that take it by themselves. */
  rolloutPermille: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1_000 })),
  checks: Schema.Array(Check).check(Schema.isMaxLength(16)),
  /** For how long it must stay healthy before it is committed. */
  healthyMs: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 86_400_000 })),
  /** Within how long it must be healthy. */
  deadlineMs: Schema.Int.check(Schema.isBetween({ minimum: 1_000, maximum: 3_600_000 })),
  /** What runs it, below the tree; for `agent` and `codex`. */
  entry: Schema.NullOr(Text(256)),
  migrations: Schema.Array(Text(256)).check(Schema.isMaxLength(32)),
  risk: Text(512),
  notes: Text(4_096)
})
export type ReleaseCustom = typeof ReleaseCustom.Type

/** A release of a channel that this device follows, verified. */
export interface Release {
  /** SHA-256 of its index, 64 hex digits: its identity everywhere. */
  readonly id: string
  /** SHA-256 of the channel's first root, 64 hex digits. */
  readonly channel: string
  /** Name of the channel here. */
  readonly channelName: string
  readonly target: string
  /** Bytes of the index. */
  readonly indexLength: number
  /** Ids of the keys that signed the role it is in. */
  readonly signers: ReadonlyArray<string>
  readonly threshold: number
  /** `targets`, or the delegated role. */
  readonly role: string
  readonly custom: ReleaseCustom
  /** Its publisher's own list has expired: it is not taken by itself (R2.4). */
  readonly stale?: true
}

export const targetPath = (area: string, { name, version, platform }: Pick<ReleaseCustom, "name" | "version" | "platform">): string => `${area}/${name}@${version}@${platform}`

/** What a target's path promises must be what its custom says. */
export const decodeCustom = (target: string, custom: unknown): Result.Result<ReleaseCustom, Malformed> => {
  // R1.9: what does not fit is no release.
  const decoded = Schema.decodeUnknownResult(ReleaseCustom)(custom)
  if (Result.isFailure(decoded)) return Result.fail(new Malformed({ what: `release ${target}`, why: String(decoded.failure).slice(0, 300) }))
  const { success } = decoded
  const area = target.slice(0, target.lastIndexOf("/"))
  return area !== "" && targetPath(area, success) === target && areaFits(area, success.kind)
    ? Result.succeed(success)
    : Result.fail(new Malformed({ what: `release ${target}`, why: `its path does not say ${success.kind} ${success.name} ${success.version} for ${success.platform}` }))
}

const areaFits = (area: string, kind: ReleaseKind): boolean => {
  const publisher = /^(agents|codex)\/[a-z0-9][a-z0-9._-]{0,63}$/.exec(area)?.[1]
  return kind === "bundle" ? area === "kos" : kind === "os" ? area === "os" : publisher === (kind === "agent" ? "agents" : "codex")
}
