/** The step that makes the tables. */
export const secretsSql = `
CREATE TABLE secrets (
  log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, item TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, owner TEXT NOT NULL,
  fresh INTEGER NOT NULL, recipients TEXT NOT NULL, ms INTEGER NOT NULL, count INTEGER NOT NULL, commitment TEXT NOT NULL, nonce BLOB NOT NULL, cipher BLOB NOT NULL,
  PRIMARY KEY (log, block, offset)
) STRICT;
CREATE INDEX secrets_item ON secrets (item);

-- An item key sealed to a reader key.
CREATE TABLE secret_boxes (
  log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, item TEXT NOT NULL, reader TEXT NOT NULL, sealed BLOB NOT NULL,
  PRIMARY KEY (log, block, offset, item, reader)
) STRICT;
CREATE INDEX secret_boxes_reader ON secret_boxes (reader);

CREATE TABLE secret_readers (
  log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, key TEXT NOT NULL, generation INTEGER NOT NULL, refused TEXT NOT NULL,
  ms INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (log, block, offset)
) STRICT;

-- what: 0 held, 1 shredded, 2 removed.
CREATE TABLE secret_receipts (
  log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, item TEXT NOT NULL, what INTEGER NOT NULL, reader TEXT NOT NULL, ms INTEGER NOT NULL,
  PRIMARY KEY (log, block, offset, item)
) STRICT;
`

/** All are derived, and have columns log, block and offset. */
export const secretTableNames: ReadonlyArray<string> = ["secrets", "secret_boxes", "secret_readers", "secret_receipts"]
