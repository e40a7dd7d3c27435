/** Letting others in, coming in, going. */
import { Schema } from "effect"
import { operation } from "../operation.ts"
import { By, Done, DurationText, flag, KeyHex, limit, Time, withDefault, Word } from "./common.ts"
import { Role } from "./roles.ts"

/** Who stands at the door: shown here and there, to be compared. */
const Waiting = Schema.Struct({
  /** To confirm it by, when several wait with one invite. */
  id: Schema.String,
  device: KeyHex,
  name: Schema.String,
  /** Six words; the other screen shows the same ones, or somebody stands between. */
  words: Schema.String,
  since: Time,
  until: Time
})

const InviteRow = Schema.Struct({
  /** Short id to confirm and revoke it by. */
  id: Schema.String,
  role: Role,
  issued: By,
  expires: Time,
  uses: Schema.Natural,
  used: Schema.Natural,
  state: Schema.Literals(["open", "used", "expired", "withdrawn"]),
  waiting: Schema.Array(Waiting)
})

export const inviteCreate = operation("invite.create", {
  summary: "Make an invite for another device.",
  kind: "command",
  input: Schema.Struct({
    role: withDefault(Role, "member"),
    expires: Schema.optionalKey(DurationText),
    uses: limit(1, 100),
    words: flag,
    qr: flag
  }),
  /** `words` and `qr` stand for the same invite as the text; the QR code is made of block characters, for a dark terminal. */
  output: Schema.Struct({ ...InviteRow.fields, invite: Schema.String, words: Schema.String, qr: Schema.String }),
  cli: {
    describe: {
      role: "what the newcomer may do; admins and owners are confirmed by comparing six words",
      expires: "how long it is good for: 30m, 24h, 7d (default: the setting invite.expires)", uses: "how many devices may use it",
      words: "show it as twelve words, to be dictated", qr: "show it as a QR code, to be scanned"
    },
    examples: ["kos invite create", "kos invite create --expires 1h --uses 3", "kos invite create --words", "kos invite create --role admin --qr"]
  }
})

export const inviteList = operation("invite.list", {
  summary: "List invites, what became of them, and who waits to be confirmed.",
  kind: "query",
  input: Schema.Struct({ all: flag }),
  output: Schema.Array(InviteRow),
  cli: { describe: { all: "also used, expired and withdrawn ones" }, alias: { a: "all" }, examples: ["kos invite list --all"] }
})

export const inviteConfirm = operation("invite.confirm", {
  summary: "Let a candidate in as admin or owner, after comparing the six words on both screens.",
  kind: "command",
  input: Schema.Struct({ id: Word, deny: flag }),
  output: Schema.Struct({ name: Schema.String, device: KeyHex, role: Role, words: Schema.String, admitted: Schema.Boolean, ...Done.fields }),
  cli: {
    positional: ["id"], describe: { id: "id of the invite or of the candidate, from `kos invite list`", deny: "turn it away: the words are not the same" },
    examples: ["kos invite confirm 7f3a90bc", "kos invite confirm 7f3a90bc --deny"]
  }
})

export const inviteRevoke = operation("invite.revoke", {
  summary: "Withdraw an invite.",
  kind: "command",
  input: Schema.Struct({ id: Word }),
  output: Done,
  cli: { positional: ["id"], describe: { id: "its id, from `kos invite list`" }, examples: ["kos invite revoke 7f3a90bc"] }
})

export const join = operation("join", {
  summary: "Enter a mesh with an invite; beside the meshes that this node is in, unless it is alone.",
  kind: "command",
  input: Schema.Struct({
    invite: Schema.NonEmptyString.check(Schema.isMaxLength(4096)),
    words: Schema.optionalKey(Schema.Array(Schema.String.check(Schema.isMaxLength(256))).check(Schema.isMaxLength(64))),
    timeout: limit(60, 3_600),
    name: Schema.optionalKey(Word)
  }),
  output: Schema.Struct({
    mesh: Schema.Struct({ id: KeyHex, name: Schema.String }), role: Schema.String, members: Schema.Natural, admittedBy: Schema.String,
    /** False while the first sync goes on. */
    synced: Schema.Boolean,
    ...Done.fields
  }),
  cli: {
    positional: ["invite"], rest: "words", stdin: "invite",
    describe: {
      invite: "the invite: its text, or its twelve words", words: "the rest of the words, when they are not quoted; four letters of each are enough",
      timeout: "give up after this many seconds (exit 7); the time in which a person over there compares words does not count",
      name: "what this node is to be called there; its present name when left out"
    },
    examples: ["kos join kos-invite:…", "kos join legal winner thank year wave sausage worth useful legal winner thank yellow", "kos join < invite.txt"]
  }
})

export const leave = operation("leave", {
  summary: "Leave the mesh; this node keeps what it holds, and is a mesh of its own again when that was its last one.",
  kind: "command",
  input: Schema.Struct({ force: flag }),
  output: Done,
  cli: { describe: { force: "leave although events of this node have reached nobody yet" }, examples: ["kos leave"] }
})
