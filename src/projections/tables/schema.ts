/**
 * The schema, as a list of steps; a released step is never changed, only followed by another.
 *
 * *Derived* tables are a function of the set of valid events and count in the fingerprint: events, commands, cursors, witnesses, operations
 * (those read in a log), documents (without `stalled`), sealed, cutoffs. names, counts, document_snapshots, document_changes and memory_pages are derived too, but say nothing
 * new; refold_blocks and refold_documents are what is still to be derived again.
 * *Local* tables are what only this node saw and a rebuild cannot know: heads, peer_heads, peer_cursors, peers, facts, quarantine; so are
 * the arrival numbers of events.
 */
import { federationSql, federationTableNames } from "./federation.ts"
import { approvalsSql } from "./approvals.ts"
import { cutoffsSql } from "./cutoffs.ts"
import { evidenceSql } from "./evidence.ts"
import { registerWritesSql } from "./register-writes.ts"
import { sealedSql } from "./sealed.ts"
import { secretsSql, secretTableNames } from "./secrets-sql.ts"
import { updatesSql, updateTableNames } from "./updates-sql.ts"

export interface Migration {
  readonly name: string
  readonly sql: string
}

/** "kOST" in the file's header. */
export const applicationId = 0x6b4f5354

/** Emptied before a rebuild in place; names and operations stay. */
export const derivedTables: ReadonlyArray<string> = [
  "evidence", "evidence_cleared",
  "events", "counts", "commands", "cursors", "witnesses", "documents", "document_snapshots", "document_changes", "memory_pages",
  "cutoffs", "refold_blocks", "refold_documents", "sealed",
  "approval_asked", "approval_given", "change_causes", "policy_kept", "register_writes",
  ...secretTableNames,
  ...federationTableNames,
  ...updateTableNames
]

/**
 * Tables with the columns (log, block, offset) of the event that each row came from. Rows of events that count no longer are taken out of them, and
 * these events are folded again when they count again (projections/rebuild.ts). Rows of document changes are made whether they count or not: whoever
 * reads them looks at the status of the event.
 */
export const addressedTables: ReadonlyArray<string> = ["witnesses", "approval_asked", "approval_given", "change_causes", "policy_kept", "register_writes", ...secretTableNames, ...federationTableNames, ...updateTableNames]

const first = `
CREATE TABLE migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;

-- Keys of logs and devices, event types, actors, subjects (and so documents), each stored once.
CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;

-- id: the arrival number here. status: 0 known, 1 unknown type, 2 quarantined.
CREATE TABLE events (
  id INTEGER PRIMARY KEY, log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, type INTEGER NOT NULL,
  ms INTEGER NOT NULL, count INTEGER NOT NULL, actor INTEGER NOT NULL, subject INTEGER NOT NULL, status INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_address ON events (log, block, offset);
CREATE INDEX events_log_type_ms ON events (log, type, ms);
CREATE INDEX events_subject ON events (subject);

-- How many events there are of each kind: totals at once, and the way into (log, type, ms) when a query names no log.
CREATE TABLE counts (log INTEGER NOT NULL, type INTEGER NOT NULL, status INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (log, type, status)) STRICT, WITHOUT ROWID;

-- Commands that came in here and the first event that they led to.
CREATE TABLE commands (command BLOB PRIMARY KEY, event INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Blocks of each log that are folded.
CREATE TABLE cursors (log INTEGER PRIMARY KEY, folded INTEGER NOT NULL) STRICT;

-- What members signed in their checkpoints: this log had this tree hash at this length.
CREATE TABLE witnesses (
  log INTEGER NOT NULL, length INTEGER NOT NULL, fork INTEGER NOT NULL, tree_hash TEXT NOT NULL, device INTEGER NOT NULL,
  PRIMARY KEY (log, length, fork, tree_hash, device)
) STRICT, WITHOUT ROWID;

-- Signed membership operations. hash: 64 hex digits. source: 0 read in a log, 1 shown by a peer before its log was reached.
-- log, block, offset: the event that it was first read in.
CREATE TABLE operations (
  hash TEXT PRIMARY KEY, source INTEGER NOT NULL, bytes BLOB NOT NULL, log INTEGER, block INTEGER, offset INTEGER
) STRICT;

CREATE TABLE heads (log INTEGER PRIMARY KEY, length INTEGER NOT NULL, changed INTEGER NOT NULL) STRICT;
CREATE TABLE peer_heads (log INTEGER NOT NULL, device INTEGER NOT NULL, length INTEGER NOT NULL, PRIMARY KEY (log, device)) STRICT, WITHOUT ROWID;
CREATE TABLE peer_cursors (device INTEGER PRIMARY KEY, sequence_id TEXT NOT NULL, sequence INTEGER NOT NULL) STRICT;
CREATE TABLE peers (
  device INTEGER PRIMARY KEY, carrier TEXT NOT NULL, remote TEXT NOT NULL, up INTEGER NOT NULL, up_ms INTEGER, down_ms INTEGER
) STRICT;

-- id: the document's name in names. live is null when it equals value; faults and conflicts are null when there are none.
CREATE TABLE documents (
  id INTEGER PRIMARY KEY, heads TEXT, value TEXT, live TEXT, faults TEXT, conflicts TEXT, writers TEXT,
  changes INTEGER NOT NULL DEFAULT 0, waiting INTEGER NOT NULL DEFAULT 0, stalled TEXT
) STRICT;
CREATE INDEX documents_conflicts ON documents (id) WHERE conflicts IS NOT NULL;
CREATE INDEX documents_unwell ON documents (id) WHERE faults IS NOT NULL OR stalled IS NOT NULL;

-- A table of its own: a new state must not rewrite the snapshot beside it. changes: how many changes it covers.
CREATE TABLE document_snapshots (id INTEGER PRIMARY KEY, changes INTEGER NOT NULL, snapshot BLOB NOT NULL, gate BLOB NOT NULL) STRICT;

-- Changes since the snapshot; id grows in arrival order. A rowid table: appending to its end is five times faster than inserting by document.
CREATE TABLE document_changes (
  id INTEGER PRIMARY KEY, doc INTEGER NOT NULL, log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL,
  ms INTEGER NOT NULL, change BLOB NOT NULL
) STRICT;
CREATE INDEX document_changes_doc ON document_changes (doc);

-- rowid: the page's name in names.
CREATE VIRTUAL TABLE memory_pages USING fts5 (page, title, fields, text, tokenize = "unicode61 remove_diacritics 2");

CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- event -1: the whole frame.
CREATE TABLE quarantine (
  id INTEGER PRIMARY KEY, log INTEGER NOT NULL, block INTEGER NOT NULL, event INTEGER NOT NULL, device TEXT NOT NULL, why TEXT NOT NULL, ms INTEGER
) STRICT;
CREATE UNIQUE INDEX quarantine_address ON quarantine (log, block, event);
`

// Rows of witnesses get the address of their checkpoint, so everything is folded anew. Operations stay known meanwhile.
const cutoffs = `
DROP TABLE witnesses;
-- log, block, offset: the checkpoint. about: the log that it speaks of.
CREATE TABLE witnesses (
  log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, about INTEGER NOT NULL, length INTEGER NOT NULL, fork INTEGER NOT NULL,
  tree_hash TEXT NOT NULL, device INTEGER NOT NULL, PRIMARY KEY (log, block, offset, about, length, fork)
) STRICT, WITHOUT ROWID;
CREATE INDEX witnesses_about ON witnesses (about, length);
ALTER TABLE documents ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
${cutoffsSql}
${sealedSql}
DELETE FROM events; DELETE FROM counts; DELETE FROM commands; DELETE FROM cursors; DELETE FROM documents; DELETE FROM document_snapshots;
DELETE FROM document_changes; DELETE FROM memory_pages; DELETE FROM quarantine;
UPDATE operations SET source = 1;
`

export const migrations: ReadonlyArray<Migration> = [
  { name: "first", sql: first },
  { name: "evidence", sql: evidenceSql },
  { name: "policy", sql: approvalsSql + registerWritesSql },
  { name: "cutoffs", sql: cutoffs },
  { name: "secrets", sql: secretsSql },
  { name: "federation", sql: federationSql },
  { name: "updates", sql: updatesSql }
]
