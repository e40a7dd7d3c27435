/** This node's keys: what they are, how they lie on the disk, and what is done when a device or all owners are lost. */
import { Schema } from "effect"
import { operation } from "../operation.ts"
import { Done, flag, KeyHex, Time, Word } from "./common.ts"

/** A passphrase as it is sent to the daemon; the CLI reads it from a file or a terminal. Its faults are told without its value. */
const Passphrase = Schema.String.check(Schema.isMaxLength(4_096, { message: "a passphrase is at most 4096 characters long" }))
const Words = Schema.String.check(Schema.isMaxLength(4_096, { message: "the recovery words are at most 4096 characters long" }))

const Kept = Schema.Struct({
  sealed: Schema.Boolean,
  /** What opens it; only of a sealed home. */
  by: Schema.optionalKey(Schema.Literals(["passphrase", "credential", "key-file"])),
  /** Name of the credential, or path of the key file. */
  name: Schema.optionalKey(Schema.String)
})

export const keyShow = operation("key.show", {
  summary: "Show this device's key, how its secrets lie on the disk, the mesh's key epochs, and whether it has recovery words. Never a secret.",
  kind: "query",
  place: "either",
  input: Schema.Struct({}),
  output: Schema.Struct({
    device: KeyHex,
    /** Six words to compare by voice. */
    fingerprint: Schema.String,
    home: Schema.String,
    kept: Kept,
    mesh: Schema.Struct({ id: KeyHex, name: Schema.String }),
    /** Newest last. */
    epochs: Schema.Array(Schema.Struct({
      epoch: Schema.Natural,
      /** First digits of the key's commitment: tells two keys of one number apart. */
      commit: Schema.String,
      since: Time,
      by: Schema.String,
      /** Devices and recovery keys that it is sealed to. */
      readers: Schema.Natural,
      /** Does it count? */
      valid: Schema.Boolean,
      /** Can this node open it? Not told without a daemon. */
      held: Schema.optionalKey(Schema.Boolean)
    })),
    recovery: Schema.Struct({
      set: Schema.Boolean,
      /** Fingerprint of the recovery key. */
      fingerprint: Schema.optionalKey(Schema.String),
      /** Does this home keep the words? */
      kept: Schema.Boolean
    }),
    /** False when it was read from the files alone. */
    daemon: Schema.Boolean
  }),
  cli: { describe: {}, examples: ["kos key show"] }
})

const passphraseFile = Schema.optionalKey(Word)
const passphraseDescribe = "file whose content is the passphrase; - reads stdin; without it a terminal is asked"

export const keySeal = operation("key.seal", {
  summary: "Seal this node's secrets on the disk by a passphrase, a key file or a credential of systemd; again to change that.",
  kind: "command",
  place: "either",
  input: Schema.Struct({ passphraseFile, keyFile: Schema.optionalKey(Word), credential: Schema.optionalKey(Word), passphrase: Schema.optionalKey(Passphrase) }),
  output: Schema.Struct({ ...Done.fields, kept: Kept }),
  cli: {
    describe: {
      passphraseFile: passphraseDescribe, keyFile: "file of at least 32 random bytes that is there whenever the node starts, for instance on a stick",
      credential: "name of a credential in $CREDENTIALS_DIRECTORY (LoadCredentialEncrypted= of the unit)", passphrase: ""
    },
    hidden: ["passphrase"], paths: ["keyFile"],
    secrets: [{ key: "passphrase", file: "passphraseFile", prompt: "New passphrase", confirm: true, unless: ["keyFile", "credential"] }],
    examples: ["kos key seal", "kos key seal --key-file /media/stick/kos.key", "kos key seal --credential kos-home-key"]
  }
})

export const keyUnseal = operation("key.unseal", {
  summary: "Write this node's secrets to the disk in clear again, so that it starts without being asked.",
  kind: "command",
  place: "either",
  input: Schema.Struct({}),
  output: Schema.Struct({ ...Done.fields, kept: Kept }),
  cli: { describe: {}, examples: ["kos key unseal"] }
})

export const keyBackup = operation("key.backup", {
  summary: "Write an encrypted backup of the device key and the keys of the mesh: an age file.",
  kind: "command",
  place: "either",
  input: Schema.Struct({
    file: Word, passphraseFile, recipient: Schema.optionalKey(Word), force: flag, passphrase: Schema.optionalKey(Passphrase)
  }),
  output: Schema.Struct({ ...Done.fields, file: Schema.String, bytes: Schema.Natural, operations: Schema.Natural, epochs: Schema.Natural, recovery: Schema.Boolean }),
  cli: {
    positional: ["file"], paths: ["file"], hidden: ["passphrase"],
    describe: {
      file: "where to write it", passphraseFile: passphraseDescribe, recipient: "age recipient (age1…) to encrypt it to instead", force: "replace a file that is there", passphrase: ""
    },
    secrets: [{ key: "passphrase", file: "passphraseFile", prompt: "Passphrase for the backup", confirm: true, unless: ["recipient"] }],
    examples: ["kos key backup attic.age", "kos key backup /media/stick/attic.age --recipient age1…"]
  }
})

export const keyRestore = operation("key.restore", {
  summary: "Make a home from a backup or recovery file; its node begins a new log, whatever became of the old one.",
  kind: "command",
  place: "local",
  input: Schema.Struct({
    file: Word, asNew: flag, name: Schema.optionalKey(Word), passphraseFile, identityFile: Schema.optionalKey(Word), wordsFile: Schema.optionalKey(Word),
    passphrase: Schema.optionalKey(Passphrase), identity: Schema.optionalKey(Passphrase), words: Schema.optionalKey(Words)
  }),
  output: Schema.Struct({
    home: Schema.String, device: KeyHex, fingerprint: Schema.String,
    mesh: Schema.Struct({ id: KeyHex, name: Schema.String }),
    /** A new device key, made owner by the recovery secret. */
    asNew: Schema.Boolean,
    made: Time,
    kept: Kept,
    /** What to know before it is started. */
    notes: Schema.Array(Schema.String),
    next: Schema.String
  }),
  cli: {
    positional: ["file"], paths: ["file"], hidden: ["passphrase", "identity", "words"],
    describe: {
      file: "the backup or recovery file", asNew: "make a new device key, and make it owner by the recovery secret: for a device that was lost or revoked",
      name: "name of the new device (with --as-new)", passphraseFile: passphraseDescribe, identityFile: "file with the age identity (AGE-SECRET-KEY-1…) that opens it; - reads stdin",
      wordsFile: "file with the recovery words, when the backup holds none; - reads stdin", passphrase: "", identity: "", words: ""
    },
    secrets: [
      { key: "identity", file: "identityFile" },
      { key: "words", file: "wordsFile" },
      { key: "passphrase", file: "passphraseFile", prompt: "Passphrase of the backup", unless: ["identity"] }
    ],
    examples: ["kos --home /var/lib/kos key restore attic.age", "kos key restore hill-recovery.age --as-new --name attic-2"]
  }
})

export const keyWords = operation("key.words", {
  summary: "Make the mesh's recovery words, and show them this once: who has them on paper can bring the mesh back when all owners are lost.",
  kind: "command",
  input: Schema.Struct({
    keep: flag, replace: flag, ageFile: Schema.optionalKey(Word), recipient: Schema.optionalKey(Word), force: flag, passphraseFile, passphrase: Schema.optionalKey(Passphrase)
  }),
  output: Schema.Struct({
    ...Done.fields,
    /** The secret itself, 24 words: for this answer only. */
    words: Schema.String,
    fingerprint: Schema.String,
    /** Key epochs that were sealed to the recovery key. */
    epochs: Schema.Natural,
    kept: Schema.Boolean,
    file: Schema.optionalKey(Schema.String)
  }),
  cli: {
    paths: ["ageFile"], hidden: ["passphrase"],
    describe: {
      keep: "keep them in this home too, so that they can be shown again and go into its backups", replace: "make new ones although the mesh has some; the old ones are void then",
      ageFile: "also write an encrypted recovery file (age) for a fresh device", recipient: "age recipient (age1…) of that file", force: "replace a file that is there",
      passphraseFile: "file whose content is the passphrase of the recovery file; - reads stdin; without it a terminal is asked", passphrase: ""
    },
    secrets: [{ key: "passphrase", file: "passphraseFile", prompt: "Passphrase for the recovery file", confirm: true, when: "ageFile", unless: ["recipient"] }],
    examples: ["kos key words", "kos key words --age-file /media/stick/hill-recovery.age", "kos key words --replace"]
  }
})

export const keyRecover = operation("key.recover", {
  summary: "Make this node an owner by the mesh's recovery words, when all owners are lost.",
  kind: "command",
  input: Schema.Struct({ wordsFile: Schema.optionalKey(Word), words: Schema.optionalKey(Words) }),
  output: Schema.Struct({ ...Done.fields, role: Schema.String, /** Key epochs that the words opened. */ epochs: Schema.Natural }),
  cli: {
    hidden: ["words"],
    describe: { wordsFile: "file with the 24 words; - reads stdin; without it a terminal is asked", words: "" },
    secrets: [{ key: "words", file: "wordsFile", prompt: "Recovery words" }],
    examples: ["kos key recover", "kos key recover --words-file -"]
  }
})

export const keyRotate = operation("key.rotate", {
  summary: "Begin a new key epoch: what is written from now on is sealed under a new key, to those who may read now.",
  kind: "command",
  input: Schema.Struct({}),
  output: Schema.Struct({ ...Done.fields, epoch: Schema.Natural, readers: Schema.Natural }),
  cli: { describe: {}, examples: ["kos key rotate"] }
})
