/**
 * Which key epoch is in force: the one to seal new frames under. A pure function of the operations.
 *
 * A rotation that knew another takes its place for good: going back would undo what it was made for, be it a revocation or a key that
 * somebody may have seen. What is left are rotations that did not know each other. Of these one that is sealed to nobody but those who may
 * read now comes before one that is not (a revocation here, a rotation on demand there that did not know of it), then the last by depth and
 * hash. A node that holds no key of the first takes the next, in the end one whose place was taken: what it writes is readable by
 * fewer, or by more, than it should be, until an admin's reactor shares or rotates.
 */
import type { Operation } from "../codec/operation.ts"
import type { EpochRecord, Membership } from "../projections/membership.ts"
import { readersOf } from "./epoch-statements.ts"

/** Epochs whose rotation counts, the one in force first. `operations`: parents before children. */
export const epochOrder = (membership: Membership, operations: ReadonlyArray<Operation>): ReadonlyArray<EpochRecord> => {
  const readers = new Set(readersOf(membership))
  const superseded = supersededRotations(membership.epochs, operations)
  const placeOf = (record: EpochRecord): number => superseded.has(record.hash) ? 2 : isSealedBeyond(record, readers) ? 1 : 0
  const ordered = membership.epochs.filter((record) => record.valid).toReversed().map((record) => ({ record, place: placeOf(record) }))
  return ordered.toSorted((a, b) => a.place - b.place).map(({ record }) => record)
}

/** Is it sealed to somebody who may not read now? */
export const isSealedBeyond = (record: EpochRecord, readers: ReadonlySet<string>): boolean => [...record.sealed.keys()].some((reader) => !readers.has(reader))

/** Rotations that count and that a later one which counts knew of. */
const supersededRotations = (epochs: ReadonlyArray<EpochRecord>, operations: ReadonlyArray<Operation>): ReadonlySet<string> => {
  const valid = new Set(epochs.filter((record) => record.valid).map((record) => record.hash))
  const superseded = new Set<string>()
  // With each operation the rotations in its past that none of that past supersedes; most operations share their parent's list.
  const known = new Map<string, ReadonlyArray<string>>()
  const none: ReadonlyArray<string> = []
  for (const { hash, parents } of operations) {
    let past = known.get(parents[0] ?? "") ?? none
    for (const parent of parents.slice(1)) {
      const more = known.get(parent) ?? none
      if (more !== past) past = [...new Set([...past, ...more])].filter((rotation) => !superseded.has(rotation))
    }
    if (valid.has(hash)) {
      for (const rotation of past) superseded.add(rotation)
      past = [hash]
    }
    known.set(hash, past)
  }
  return superseded
}

/** Which of these rotations the author of an operation could know. */
export const rotationsBefore = (hash: string, rotations: ReadonlySet<string>, byHash: ReadonlyMap<string, Operation>): ReadonlySet<string> => {
  const seen = new Set<string>()
  const found = new Set<string>()
  const open = [...byHash.get(hash)?.parents ?? []]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (seen.has(next)) continue
    seen.add(next)
    if (rotations.has(next)) found.add(next)
    open.push(...byHash.get(next)?.parents ?? [])
  }
  return found
}
