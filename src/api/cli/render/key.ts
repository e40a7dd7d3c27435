/** Keys: what they are, and what was done with them. */
import { ago, bold, bytes, count, dim, pairs, short, table, yellow } from "../text.ts"
import { done, type Renderer } from "./shared.ts"

export const keyShow: Renderer<"key.show"> = (value, view) => [
  `${bold(view, value.fingerprint)} ${dim(view, "(six words for this device's key)")}`,
  ...pairs(view, [
    ["device", value.device], ["mesh", value.mesh.name === "" ? short(value.mesh.id) : `${value.mesh.name} (${short(value.mesh.id)})`],
    ["on disk", keptText(value.kept)],
    ["recovery", value.recovery.set ? `set${value.recovery.fingerprint === undefined ? "" : `: ${value.recovery.fingerprint}`}${value.recovery.kept ? ", kept here" : ""}` : "no recovery words; next: kos key words"]
  ]),
  ...(value.epochs.length === 0 ? [] : ["", ...table(view, ["epoch#", "key", "since", "by", "readers#", ""], value.epochs.map((row) => [
    String(row.epoch), row.commit, ago(view, row.since), row.by, String(row.readers), `${row.valid ? "" : "void"}${row.held === false ? " not held" : ""}`.trim()
  ]))])
]

export const keySeal: Renderer<"key.seal"> = (value, view) => done(view, value)

export const keyUnseal: Renderer<"key.unseal"> = (value, view) => done(view, value)

export const keyBackup: Renderer<"key.backup"> = (value, view) => done(view, value, [
  `${value.file}: ${bytes(value.bytes)}, ${count(value.operations, "membership operation")}, ${count(value.epochs, "epoch key")}${value.recovery ? ", and the recovery words" : ""}. No seed of a log: who restores begins a new one.`
])

export const keyRestore: Renderer<"key.restore"> = (value, view) => [
  `${bold(view, value.asNew ? "A new device" : "The device of the backup")} in ${value.mesh.name === "" ? short(value.mesh.id) : value.mesh.name}: ${value.fingerprint}`,
  ...pairs(view, [["device", value.device], ["home", value.home], ["backup of", ago(view, value.made)], ["on disk", keptText(value.kept)]]),
  ...value.notes,
  "",
  `Next: ${bold(view, value.next)}`
]

export const keyWords: Renderer<"key.words"> = (value, view) => {
  const words = value.words.split(" ")
  return [
    ...Array.from({ length: Math.ceil(words.length / 6) }, (_, row) =>
      words.slice(row * 6, row * 6 + 6).map((word, i) => `${String(row * 6 + i + 1).padStart(2)} ${word.padEnd(9)}`).join(" ").trimEnd()),
    "",
    ...done(view, value),
    ...(value.file === undefined ? [] : [`The recovery file is ${value.file}.`]),
    yellow(view, "Whoever has these words can make a device of theirs owner of the mesh. Keep them on paper, apart from the devices."),
    dim(view, `Key of the words: ${value.fingerprint}`)
  ]
}

export const keyRecover: Renderer<"key.recover"> = (value, view) => done(view, value, [`${count(value.epochs, "epoch key")} opened.`])

export const keyRotate: Renderer<"key.rotate"> = (value, view) => done(view, value, [`Epoch ${value.epoch}, for ${count(value.readers, "reader")}.`])

const keptText = ({ sealed, by, name }: { readonly sealed: boolean; readonly by?: string; readonly name?: string }): string =>
  sealed ? `sealed by a ${by ?? "lock"}${name === undefined ? "" : ` (${name})`}` : "not sealed; next: kos key seal"
