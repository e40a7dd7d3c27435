/** Tables of updates and of the making of releases, on their own: the schema names them, and what reads them needs the schema. */
export const updateTableNames: ReadonlyArray<string> = ["update_steps", "update_said", "release_said"]

export const updatesSql = `
-- release: id. body: as in the event, as JSON.
CREATE TABLE update_steps (
  log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, step TEXT NOT NULL, release TEXT NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (log, block, offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX update_steps_release ON update_steps (release);

-- what: offered, advised, turn, banned, channel or capable. about: release, channel, or device: of capable the one that says it.
CREATE TABLE update_said (
  log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, what TEXT NOT NULL, about TEXT NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (log, block, offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX update_said_what ON update_said (what, about);

-- what: proposed, signed, withdrawn or signer. proposal: SHA-256 of the bytes to be signed. body: as JSON, without those bytes.
CREATE TABLE release_said (
  log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, what TEXT NOT NULL, channel TEXT NOT NULL, proposal TEXT NOT NULL,
  body TEXT NOT NULL, unsigned BLOB, PRIMARY KEY (log, block, offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX release_said_what ON release_said (what, channel);
CREATE INDEX release_said_proposal ON release_said (proposal);
`
