/** Sharing named things with other meshes. */
import { Schema } from "effect"
import { operation } from "../operation.ts"
import { Done, flag, KeyHex, limit, Time, Word } from "./common.ts"

const Kind = Schema.Literals(["names", "releases", "threats"])

const Row = Schema.Struct({
  id: KeyHex,
  state: Schema.Literals(["open", "ended"]),
  /** Meshes on the other side; empty until one has come. */
  with: Schema.Array(Schema.Struct({ id: KeyHex, name: Schema.String, shares: Schema.Array(Kind) })),
  /** What this mesh shares, and how many things of it there are; `note` when there is nothing of that kind to share. */
  shares: Schema.Array(Schema.Struct({ kind: Kind, things: Schema.Natural, note: Schema.optionalKey(Schema.String) })),
  /** Things that were received, of all kinds. */
  received: Schema.Natural,
  /** Is this node the bridge? */
  bridge: Schema.Boolean,
  begun: Schema.Struct({ node: Schema.String, at: Time }),
  ended: Schema.optionalKey(Schema.Struct({ node: Schema.String, at: Time }))
})

export const meshFederate = operation("mesh.federate", {
  summary: "Share named things with another mesh, and see what it shares; either side ends it.",
  kind: "command",
  input: Schema.Struct({
    invite: Schema.optionalKey(Schema.NonEmptyString.check(Schema.isMaxLength(4_096))),
    share: Schema.optionalKey(Schema.Array(Schema.String.check(Schema.isMaxLength(256))).check(Schema.isMaxLength(16))),
    list: flag,
    end: Schema.optionalKey(Word),
    timeout: limit(60, 3_600)
  }),
  output: Schema.Struct({
    ...Done.fields,
    federations: Schema.Array(Row),
    /** For an admin of the other mesh. */
    invite: Schema.optionalKey(Schema.String)
  }),
  cli: {
    positional: ["invite"],
    describe: {
      invite: "what the other mesh's admin got from this command; without it this side begins",
      share: "what this mesh shares: names, releases, threats; separated by commas", list: "show the federations", end: "end the one with this mesh, by its name or the federation's id",
      timeout: "give up after this many seconds (exit 7)"
    },
    examples: ["kos mesh federate --share names", "kos mesh federate kos-invite:… --share names,threats", "kos mesh federate --list", "kos mesh federate --end allotments"]
  }
})
