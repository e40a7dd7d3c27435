/**
 * The membership of this node's mesh as the rest of kOS sees it: operations kept in a table, folded once, and a signal when it changed.
 *
 * Operations come by two roads and are the same by their hash: in an event of a log (`log`), or shown by a peer at the handshake
 * before the log that holds them was reached (`met`). Both count, as each is signed by itself. In the end every met one is also
 * found in its author's log, so the set that counts converges; until then a rebuild keeps the met ones, because no log holds them yet.
 */
import { Result } from "effect"
import { type Operation, openOperation, rankOf } from "../codec/operation.ts"
import { foldMembership, type Membership, type MembershipFold } from "./membership.ts"
import type { Address } from "../codec/address.ts"
import type { Evidence, HeldLogEvidence } from "./tables/evidence.ts"
import type { Names } from "./tables/names.ts"
import { blob, type Database } from "./tables/database.ts"

/** Operations that one mesh keeps at most; more are refused, so that a member cannot fill the disk through the handshake. */
export const operationsMax = 100_000

export type Source = "log" | "met"

export interface AttachedLog {
  readonly log: string
  readonly device: string
  readonly closedAt: number | undefined
  /** Blocks from here on do not count. */
  readonly cutAt: number | undefined
  /** Changes of documents from this block on do not count. */
  readonly docsTo: number | undefined
}

export class Members {
  readonly mesh: string
  readonly #database: Database
  readonly #names: Names
  readonly #fold: MembershipFold
  readonly #listeners = new Set<() => void>()
  readonly #evidence: Evidence | undefined
  #logs: { readonly of: Membership; readonly version: number; readonly logs: ReadonlyArray<AttachedLog> } | undefined

  constructor(mesh: string, { database, names, evidence }: { readonly database: Database; readonly names: Names; readonly evidence?: Evidence }) {
    this.mesh = mesh
    this.#database = database
    this.#names = names
    this.#fold = foldMembership(mesh)
    this.#evidence = evidence
    for (const row of database.prepare("SELECT bytes FROM operations ORDER BY rowid").all()) {
      const opened = openOperation(blob(row["bytes"]))
      if (Result.isSuccess(opened)) this.#fold.offer(opened.success)
    }
  }

  view(): Membership {
    return this.#fold.view()
  }

  /** `revoked` is also who left. */
  standing(device: string): "member" | "revoked" | "unknown" {
    const member = this.view().members.get(device)
    return member === undefined ? "unknown" : member.standing === "member" ? "member" : "revoked"
  }

  /** Who revoked the device, by name, when by that one's clock, and why; undefined unless it stands revoked. */
  revocationOf(device: string): { readonly by: string; readonly ms: number; readonly reason: string } | undefined {
    const revoked = this.view().members.get(device)?.revoked
    return revoked === undefined ? undefined : { by: this.nameOf(revoked.by), ms: revoked.ms, reason: revoked.reason }
  }

  /** Why an operation that is here does not count; undefined when it does. */
  whyVoid(hash: string): string | undefined {
    return this.#fold.whyVoid(hash)
  }

  /** Parents before children. */
  operations(): ReadonlyArray<Operation> {
    return this.#fold.operations()
  }

  /** Every log of every device that ever belonged, with what bounds it: closings, revocations, and evidence that nobody has decided about. */
  logs(): ReadonlyArray<AttachedLog> {
    const view = this.view()
    const version = this.#evidence?.version ?? 0
    if (this.#logs?.of !== view || this.#logs.version !== version) {
      const held = new Map(this.evidence().filter(({ decided }) => decided === undefined).map(({ accused, length }) => [accused, length - 1]))
      this.#logs = {
        of: view, version,
        logs: [...view.members.values()].flatMap((member) => member.logs.map(({ log, closedAt, cutAt, docsTo }) => ({
          log, device: member.device, closedAt, cutAt: least(cutAt, held.get(log)), docsTo: least(docsTo, held.get(log))
        })))
      }
    }
    return this.#logs.logs
  }

  /** Logs of which two signed histories were shown. What an admin or owner decides about another's log counts. */
  evidence(): ReadonlyArray<HeldLogEvidence> {
    const view = this.view()
    return this.#evidence?.all(({ log, block }, accused) => {
      const member = view.members.get(view.devices.get(log) ?? "")
      if (member === undefined || rankOf(member.role) < rankOf("admin") || member.device === view.devices.get(accused)) return false
      // By membership alone: were a decision bound by evidence about the log it stands in, it would depend on what came first.
      const cut = member.logs.find((entry) => entry.log === log)?.cutAt
      return cut === undefined || block < cut
    }) ?? []
  }

  /** Changes with the evidence; a change of it can move cut-offs. */
  evidenceVersion(): number {
    return this.#evidence?.version ?? 0
  }

  /** Device that a log belongs to. */
  deviceOf(log: string): string | undefined {
    return this.view().devices.get(log)
  }

  /** What people call the device; its first digits when it is not known. */
  nameOf(device: string): string {
    return this.view().members.get(device)?.name ?? device.slice(0, 8)
  }

  /** Checks and keeps bytes from anywhere; why not, when they are not kept. Call within the transaction of their cursor, if they have one. */
  take(bytes: Uint8Array, source: Source, at?: Address): Result.Result<Operation, string> {
    const opened = openOperation(bytes)
    if (Result.isFailure(opened)) return Result.fail(opened.failure.message)
    const operation = opened.success
    if (operation.mesh !== this.mesh && operation.hash !== this.mesh) return Result.fail("it belongs to another mesh")
    const kept = this.#database.prepare("SELECT count(*) AS n FROM operations").get()?.["n"]
    if (typeof kept === "number" && kept >= operationsMax) return Result.fail(`more than ${operationsMax} operations`)
    this.#database.prepare(
      "INSERT INTO operations (hash, source, bytes, log, block, offset) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO UPDATE SET " +
      "source = min(source, excluded.source), log = coalesce(log, excluded.log), block = coalesce(block, excluded.block), offset = coalesce(offset, excluded.offset)"
    ).run(operation.hash, source === "log" ? 0 : 1, bytes, at === undefined ? null : this.#names.idOf(at.log), at?.block ?? null, at?.offset ?? null)
    const offered = this.#fold.offer(operation)
    if (offered._tag === "Refused") return Result.fail(offered.why)
    return Result.succeed(operation)
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** To be called after the transaction that took something in. */
  changed(): void {
    for (const listener of this.#listeners) listener()
  }
}

const least = (a: number | undefined, b: number | undefined): number | undefined => a === undefined ? b : b === undefined ? a : Math.min(a, b)
