/** What key commands do in the same way with a daemon and without one. */
import { stat } from "node:fs/promises"
import { Refusal } from "../../commands/refusal.ts"
import type { Membership } from "../../projections/membership.ts"
import { type Backup, type BackupLock, forgetBackup, sealBackup } from "../../vault/backup.ts"
import { writeWhole } from "../../vault/files.ts"
import type { SealedEpoch } from "../../vault/keyring.ts"
import { fingerprintOf } from "../../vault/words.ts"
import type { OutputOf } from "../operations/table.ts"
import { asRefusal } from "../unlocking.ts"
import { timeText } from "./reading.ts"

/** Rows of `kos key show`; `held` says of an epoch whether its key is here. */
export const epochRows = (membership: Membership, held?: (epoch: SealedEpoch) => boolean): OutputOf<"key.show">["epochs"] =>
  membership.epochs.map((record) => ({
    epoch: record.epoch, commit: record.commit.slice(0, 8), since: timeText(record.ms), by: membership.members.get(record.by)?.name ?? record.by.slice(0, 8),
    readers: record.sealed.size, valid: record.valid, ...(held === undefined ? {} : { held: held(record) })
  }))

export const recoveryRow = ({ recovery }: Membership, kept: boolean): OutputOf<"key.show">["recovery"] =>
  ({ set: recovery !== undefined, ...(recovery === undefined ? {} : { fingerprint: fingerprintOf(recovery) }), kept })

/** To whom an encrypted file goes, by the input of the command. */
export const backupLockOf = ({ passphrase, recipient }: { readonly passphrase?: string | undefined; readonly recipient?: string | undefined }): BackupLock => {
  if (recipient !== undefined && passphrase !== undefined) throw new Refusal({ kind: "usage", detail: "the file is encrypted to a passphrase or to a recipient, not to both" })
  if (recipient !== undefined) return { recipient }
  if (passphrase !== undefined) return { passphrase: Buffer.from(passphrase, "utf8") }
  throw new Refusal({ kind: "usage", detail: "a passphrase or a recipient is needed to encrypt the file", hint: "--passphrase-file FILE or --recipient age1…" })
}

/** Refuses a place where something is already, unless it is to be replaced. */
export const checkPlace = async (file: string, force: boolean): Promise<void> => {
  const found = await stat(file).catch(() => undefined)
  if (found === undefined) return
  if (!found.isFile()) throw new Refusal({ kind: "usage", detail: `${file} is no file` })
  if (!force) throw new Refusal({ kind: "conflict", detail: `${file} is there already`, hint: "--force replaces it" })
}

/** Encrypts a backup and writes it whole, mode 0600; its secrets are overwritten in memory. Resolves with its size in bytes. */
export const writeBackup = async (file: string, backup: Backup, lock: BackupLock, force: boolean): Promise<number> => {
  try {
    await checkPlace(file, force)
    const bytes = await sealBackup(backup, lock)
    await writeWhole(file, bytes)
    return bytes.byteLength
  } catch (cause) {
    const absent = typeof cause === "object" && cause !== null && "code" in cause && cause.code === "ENOENT"
    throw absent ? new Refusal({ kind: "not-found", detail: `there is no directory for ${file}` }) : asRefusal(cause)
  } finally {
    if ("passphrase" in lock) lock.passphrase.fill(0)
    forgetBackup(backup)
  }
}

/** What a person is told of a backup: counts, never what is in it. */
export const backupSummary = (file: string, { meshes }: Backup): { readonly file: string; readonly operations: number; readonly epochs: number; readonly recovery: boolean } => ({
  file,
  operations: meshes.reduce((sum, mesh) => sum + mesh.operations.length, 0),
  epochs: meshes.reduce((sum, mesh) => sum + mesh.epochs.length, 0),
  recovery: meshes.some((mesh) => mesh.recovery !== undefined)
})
