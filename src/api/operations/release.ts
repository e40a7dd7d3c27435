/** Making releases: channels, what waits for signatures, and publishing. */
import { Schema } from "effect"
import { operation } from "../operation.ts"
import { Done, DurationText, flag, KeyHex, Time, Word } from "./common.ts"

const Names = Schema.Array(Word).check(Schema.isMaxLength(32))
const Threshold = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 32 }))
const Sentence = Schema.String.check(Schema.isMaxLength(512))
const Passphrase = Schema.String.check(Schema.isMaxLength(4_096, { message: "a passphrase is at most 4096 characters long" }))
const Version = Schema.NonEmptyString.check(Schema.isMaxLength(64))
const Kind = Schema.Literals(["bundle", "agent", "codex", "os"])
const Ring = Schema.Literals(["canary", "early", "all"])

const Signer = Schema.Struct({
  /** Public key. */
  key: KeyHex,
  /** What its owner calls it, or the node that says it is its own; empty when nobody here knows it. */
  name: Schema.String,
  signed: Schema.Boolean
})

const Need = Schema.Struct({
  /** As what they sign: `root 1`, `targets`, `agents-acme`. */
  as: Schema.String, threshold: Schema.Natural, signed: Schema.Natural, signers: Schema.Array(Signer)
})

const ProposalRow = Schema.Struct({
  id: KeyHex, channel: KeyHex, channelName: Schema.String, role: Schema.String, version: Schema.Natural, summary: Schema.String,
  /** Node that proposed it. */
  by: Schema.String, at: Time,
  /** `complete`: enough have signed, and the publishing node has not published it yet. */
  state: Schema.Literals(["waiting", "complete", "closed"]),
  /** Why it is closed; empty else. */
  why: Schema.String,
  needs: Schema.Array(Need),
  /** What it adds, removes and changes against what is in force, one sentence each. */
  changes: Schema.Array(Schema.String)
})
export type ProposalRow = typeof ProposalRow.Type

const ReleaseRow = Schema.Struct({ id: KeyHex, target: Schema.String, role: Schema.String, version: Schema.String, kind: Schema.String, ring: Schema.String, permille: Schema.Natural, security: Schema.Boolean })

const ChannelRow = Schema.Struct({
  name: Schema.String,
  /** Id of its first proposal: what these commands know it by. */
  id: KeyHex,
  /** Log in which it is published. */
  log: KeyHex,
  /** This node publishes it. */
  here: Schema.Boolean,
  /** To follow it by; empty until its first root is published here. */
  code: Schema.String,
  versions: Schema.Struct({ root: Schema.Natural, targets: Schema.Natural, snapshot: Schema.Natural, timestamp: Schema.Natural }),
  expires: Schema.optionalKey(Time),
  needs: Schema.Array(Need),
  publishers: Schema.Array(Need),
  releases: Schema.Array(ReleaseRow),
  yanked: Schema.Array(Schema.Struct({ target: Schema.String, id: Schema.String, reason: Schema.String })),
  waiting: Schema.Array(ProposalRow)
})
export type ReleaseChannelRow = typeof ChannelRow.Type

const Proposed = Schema.Struct({
  ...Done.fields, proposals: Schema.Array(ProposalRow),
  /** Command to go on with. */
  next: Schema.String
})

const keyInput = { key: Schema.optionalKey(Word), passphraseFile: Schema.optionalKey(Word), passphrase: Schema.optionalKey(Passphrase) }
const keyDescribe = {
  key: "file with a signer's key, instead of this node's", passphraseFile: "file whose content is that key's passphrase; - reads stdin; without it a terminal is asked", passphrase: ""
}
const keySecrets = [{ key: "passphrase", file: "passphraseFile", prompt: "Passphrase of the key (empty when it has none)", when: "key" }]
const channel = { channel: Schema.optionalKey(Word) }
const channelDescribe = "name of the channel, or the beginning of its id; not needed when there is only one"
const signerDescribe = "who signs: a node that has a signer's key, a key (64 hex digits), or a key file (absolute path); may be given several times"

export const releaseKey = operation("release.key", {
  summary: "Show the key with which this node signs releases, and make it when there is none; or make one in a file, to keep on a stick.",
  kind: "command",
  input: Schema.Struct({ name: Schema.optionalKey(Schema.NonEmptyString.check(Schema.isMaxLength(64))), out: Schema.optionalKey(Word), force: flag, passphraseFile: Schema.optionalKey(Word), passphrase: Schema.optionalKey(Passphrase) }),
  output: Schema.Struct({ ...Done.fields, key: KeyHex, name: Schema.String, file: Schema.optionalKey(Schema.String), sealed: Schema.Boolean }),
  cli: {
    paths: ["out"], hidden: ["passphrase"],
    describe: { name: "what to call it (default: this node's name)", out: "file to make a new key in, mode 0600", force: "replace a file that is there", passphraseFile: "file whose content is the passphrase that seals the key file; - reads stdin; without it a terminal is asked", passphrase: "" },
    secrets: [{ key: "passphrase", file: "passphraseFile", prompt: "Passphrase for the key file (empty for none)", confirm: true, when: "out" }],
    examples: ["kos release key", "kos release key --out /media/stick/release.key --name 'Mara, on paper'"]
  }
})

export const releaseInit = operation("release.init", {
  summary: "Begin a channel: say who signs, make the keys that stay here, and propose its first root.",
  kind: "command",
  input: Schema.Struct({
    name: Schema.NonEmptyString.check(Schema.isPattern(/^[a-z0-9][a-z0-9._-]{0,31}$/, { message: "expected lower-case letters, digits, dots and dashes, at most 32" })),
    signer: Schema.optionalKey(Names), threshold: Schema.optionalKey(Threshold), rootSigner: Schema.optionalKey(Names), rootThreshold: Schema.optionalKey(Threshold), ...keyInput
  }),
  output: Schema.Struct({ ...Proposed.fields, channel: ChannelRow }),
  cli: {
    positional: ["name"], paths: ["key"], hidden: ["passphrase"], secrets: keySecrets,
    describe: {
      name: "name of the channel", signer: `${signerDescribe} (default: this node)`, threshold: "how many of them (default: more than half)",
      rootSigner: "who signs changes of the signers (default: the same)", rootThreshold: "how many of those (default: more than half)", ...keyDescribe
    },
    examples: ["kos release init hill", "kos release init hill --signer attic --signer cellar --signer /media/stick/release.key --threshold 2"]
  }
})

export const releasePack = operation("release.pack", {
  summary: "Make a release of a directory or file, and propose it to the channel's signers.",
  kind: "command",
  input: Schema.Struct({
    path: Word, release: Word, ...channel, kind: Kind, publisher: Schema.optionalKey(Word), platform: Schema.optionalKey(Word),
    board: Schema.optionalKey(Names), from: Schema.optionalKey(Version), kosMin: Schema.optionalKey(Version), kosBelow: Schema.optionalKey(Version),
    freeBytes: Schema.optionalKey(Schema.Natural), ring: Schema.optionalKey(Ring), permille: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1_000 }))),
    security: flag, minSecure: Schema.optionalKey(Version), check: Schema.optionalKey(Schema.Array(Schema.NonEmptyString).check(Schema.isMaxLength(16))),
    healthy: Schema.optionalKey(DurationText), deadline: Schema.optionalKey(DurationText), entry: Schema.optionalKey(Schema.NonEmptyString.check(Schema.isMaxLength(256))),
    notes: Schema.optionalKey(Word), note: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(4_096))), risk: Schema.optionalKey(Sentence),
    migration: Schema.optionalKey(Schema.Array(Schema.String.check(Schema.isMaxLength(256))).check(Schema.isMaxLength(32))),
    reads: Schema.optionalKey(Schema.Array(Word).check(Schema.isMaxLength(512))), writes: Schema.optionalKey(Schema.Array(Word).check(Schema.isMaxLength(512))),
    full: flag, patchFrom: Schema.optionalKey(Word), ...keyInput
  }),
  output: Schema.Struct({
    ...Proposed.fields, release: KeyHex, target: Schema.String,
    /** Bytes of the payload, of its index, and of the packs made now. */
    payloadBytes: Schema.Natural, indexBytes: Schema.Natural,
    packs: Schema.Array(Schema.Struct({ sha256: KeyHex, kind: Schema.String, bytes: Schema.Natural })),
    /** Older releases that had to go for lack of room. */
    dropped: Schema.Array(Schema.String)
  }),
  cli: {
    positional: ["path", "release"], paths: ["path", "notes", "patchFrom", "key"], hidden: ["passphrase"], secrets: keySecrets,
    describe: {
      path: "directory (a tree), or file (an image)", channel: channelDescribe, release: "NAME@VERSION, such as kos@0.4.0", kind: "what it is",
      publisher: "whose it is, for agents and codex modules", platform: "linux-x64, linux-arm64 or any (default: this one's for a bundle, else any)", board: "only for this board; may be given several times",
      from: "smallest version of it that a device can come from", kosMin: "smallest kOS that runs it", kosBelow: "first kOS that does not", freeBytes: "bytes it needs beside itself",
      ring: "who takes it by itself: canary, early or all (default: all)", permille: "share of devices that take it by themselves (default: 1000)", security: "it mends a security problem",
      minSecure: "no device that took it goes below this version", check: "NAME=COMMAND that says by exit code 0 that it is healthy; may be given several times",
      healthy: "for how long it must stay healthy (default: 1m)", deadline: "within how long it must be healthy (default: 2m)", entry: "what runs it, a path in the tree; for agents and codex modules",
      notes: "file with notes for people", note: "notes in a word", risk: "what may go wrong, in a sentence", migration: "what it changes in data; may be given several times",
      reads: "event types that it reads; found by asking a bundle's own bin/kos when left out", writes: "event types that it may write", full: "also a pack with everything, for devices that have nothing",
      patchFrom: "directory or file of the release before, for a patch", ...keyDescribe
    },
    examples: ["kos release pack dist kos@0.4.0 --kind bundle", "kos release pack watcher watcher@1.2.0 --channel hill --kind agent --publisher acme --entry main.js"]
  }
})

export const releaseSign = operation("release.sign", {
  summary: "Sign what waits for this node's key; without a name show what waits and what it would change.",
  kind: "command",
  input: Schema.Struct({ proposal: Schema.optionalKey(Word), ...channel, ...keyInput }),
  output: Proposed,
  cli: {
    positional: ["proposal"], paths: ["key"], hidden: ["passphrase"], secrets: keySecrets,
    describe: { proposal: "beginning of its id, or `all` of a channel that lacks this key's signature", channel: "only of this channel", ...keyDescribe },
    examples: ["kos release sign", "kos release sign 3fa9c1d2", "kos release sign all --channel hill --key /media/stick/release.key"]
  }
})

export const releasePublish = operation("release.publish", {
  summary: "Publish everything that enough keys have signed; checked first as a client would. Only on the node that publishes the channel.",
  kind: "command",
  input: Schema.Struct({ ...channel, packed: Schema.optionalKey(Word), trustClock: flag }),
  output: Schema.Struct({
    ...Done.fields, channel: ChannelRow,
    /** What was published, one sentence each. */
    published: Schema.Array(Schema.String),
    /** What a person should know, such as metadata that expires soon. */
    notes: Schema.Array(Schema.String),
    /** Command with which a mesh follows the channel. */
    follow: Schema.String
  }),
  cli: {
    positional: ["channel"], paths: ["packed"],
    describe: { channel: channelDescribe, packed: "directory with indexes and packs that were made on another node (its updates/made)", trustClock: "although this node's clock is far ahead of what was signed last" },
    examples: ["kos release publish hill"]
  }
})

export const releaseYank = operation("release.yank", {
  summary: "Propose to take a release out of its channel, with a reason that devices which run it will show.",
  kind: "command",
  input: Schema.Struct({ release: Word, reason: Schema.NonEmptyString.check(Schema.isMaxLength(512)), ...channel, ...keyInput }),
  output: Proposed,
  cli: {
    positional: ["release"], paths: ["key"], hidden: ["passphrase"], secrets: keySecrets,
    describe: { release: "NAME@VERSION, or the beginning of its id", reason: "why, in a sentence", channel: channelDescribe, ...keyDescribe }, examples: ["kos release yank kos@0.4.0 --reason 'loses events on a full disk'"]
  }
})

export const releaseRotate = operation("release.rotate", {
  summary: "Propose other signers, thresholds or keys for a channel; with --log this node takes its publication over. Without a change its dates are renewed.",
  kind: "command",
  input: Schema.Struct({
    ...channel, addSigner: Schema.optionalKey(Names), removeSigner: Schema.optionalKey(Names), threshold: Schema.optionalKey(Threshold),
    addRootSigner: Schema.optionalKey(Names), removeRootSigner: Schema.optionalKey(Names), rootThreshold: Schema.optionalKey(Threshold), online: flag, log: flag, ...keyInput
  }),
  output: Proposed,
  cli: {
    positional: ["channel"], paths: ["key"], hidden: ["passphrase"], secrets: keySecrets,
    describe: {
      channel: channelDescribe, addSigner: signerDescribe, removeSigner: "who signs releases no more", threshold: "how many must sign a release", addRootSigner: "who signs changes of the signers, too",
      removeRootSigner: "who signs such changes no more", rootThreshold: "how many must sign such a change", online: "a new key for the publishing node", log: "a new log, at this node: when the one that published is lost", ...keyDescribe
    },
    examples: ["kos release rotate hill --add-signer shed --remove-signer attic", "kos release rotate hill --log"]
  }
})

export const releaseDelegate = operation("release.delegate", {
  summary: "Propose to let a publisher sign agents or codex modules by itself, below its own name only.",
  kind: "command",
  input: Schema.Struct({ publisher: Word, ...channel, area: Schema.Literals(["agents", "codex"]), signer: Names, threshold: Schema.optionalKey(Threshold), ...keyInput }),
  output: Proposed,
  cli: {
    positional: ["publisher"], paths: ["key"], hidden: ["passphrase"], secrets: keySecrets,
    describe: { publisher: "its name", channel: channelDescribe, area: "agents or codex", signer: signerDescribe, threshold: "how many of them (default: more than half)", ...keyDescribe },
    examples: ["kos release delegate acme --area agents --signer shed"]
  }
})

export const releaseWithdraw = operation("release.withdraw", {
  summary: "Take a proposal back, so that it is published no more whoever signs it.",
  kind: "command",
  input: Schema.Struct({ proposal: Word, reason: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(256))) }),
  output: Done,
  cli: { positional: ["proposal"], describe: { proposal: "beginning of its id", reason: "why" }, examples: ["kos release withdraw 3fa9c1d2 --reason 'wrong tree'"] }
})

export const releaseList = operation("release.list", {
  summary: "List the channels that are made in this mesh, with their releases and what waits for signatures.",
  kind: "query",
  input: Schema.Struct({ ...channel }),
  output: Schema.Array(ChannelRow),
  cli: { positional: ["channel"], describe: { channel: "only this one" }, examples: ["kos release list"] }
})

export const releaseShow = operation("release.show", {
  summary: "Show one proposal: what it changes, who has signed and who may.",
  kind: "query",
  input: Schema.Struct({ proposal: Word }),
  output: Schema.Struct({ ...ProposalRow.fields, /** Size of what is signed. */ bytes: Schema.Natural, expires: Time, /** The signed part itself. */ signed: Schema.Json }),
  cli: { positional: ["proposal"], describe: { proposal: "beginning of its id" }, examples: ["kos release show 3fa9c1d2"] }
})
