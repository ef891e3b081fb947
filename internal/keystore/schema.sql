-- The dump of all migrations, written by go test -update.
BEGIN;
CREATE TABLE credential (
    connection_id BLOB NOT NULL PRIMARY KEY CHECK (length(connection_id) = 16),
    customer_id BLOB NOT NULL CHECK (length(customer_id) = 16),
    version BIGINT NOT NULL CHECK (version > 0),
    key_version BIGINT NOT NULL,
    sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE customer_key (
    customer_id BLOB NOT NULL CHECK (length(customer_id) = 16),
    version BIGINT NOT NULL CHECK (version > 0),
    sealed BLOB NOT NULL,
    PRIMARY KEY (customer_id, version)
) WITHOUT ROWID;
CREATE TABLE goose_db_version (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);
CREATE TABLE head (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    mac BLOB NOT NULL
);
CREATE TABLE identity (
    node_id BLOB NOT NULL PRIMARY KEY CHECK (length(node_id) = 16),
    certificate BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE instance_key (
    instance_id BLOB NOT NULL PRIMARY KEY CHECK (length(instance_id) = 16),
    customer_id BLOB NOT NULL CHECK (length(customer_id) = 16),
    key_version BIGINT NOT NULL,
    sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE intent (
    connection_id BLOB NOT NULL PRIMARY KEY CHECK (length(connection_id) = 16),
    customer_id BLOB NOT NULL CHECK (length(customer_id) = 16),
    version BIGINT NOT NULL CHECK (version > 0),
    key_version BIGINT NOT NULL,
    sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE leaf (
    seq INTEGER NOT NULL PRIMARY KEY CHECK (seq > 0),
    time BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    customer_id BLOB NOT NULL CHECK (length(customer_id) = 16),
    requester_id BLOB NOT NULL CHECK (length(requester_id) = 16),
    body BLOB NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
);
CREATE TABLE ledger (
    kind BIGINT NOT NULL,
    subject BLOB NOT NULL CHECK (length(subject) = 16),
    version BIGINT NOT NULL CHECK (version > 0),
    gone BIGINT NOT NULL CHECK (gone IN (0, 1)),
    PRIMARY KEY (kind, subject)
) WITHOUT ROWID;
CREATE TABLE payload_pair (
    customer_id BLOB NOT NULL CHECK (length(customer_id) = 16),
    day BIGINT NOT NULL CHECK (day >= 0),
    key_version BIGINT NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (customer_id, day)
) WITHOUT ROWID;
CREATE INDEX payload_pair_day ON payload_pair (day);
CREATE TABLE pending (
    state BLOB NOT NULL PRIMARY KEY CHECK (length(state) = 32),
    customer_id BLOB NOT NULL CHECK (length(customer_id) = 16),
    connection_id BLOB NOT NULL CHECK (length(connection_id) = 16),
    expires BIGINT NOT NULL,
    key_version BIGINT NOT NULL,
    sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX pending_connection ON pending (connection_id);
CREATE INDEX pending_customer ON pending (customer_id);
CREATE INDEX pending_expires ON pending (expires);
CREATE TABLE root (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    sealed BLOB NOT NULL
);
CREATE TABLE seed (
    name TEXT NOT NULL PRIMARY KEY,
    sealed BLOB NOT NULL
) WITHOUT ROWID;
INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, 1);
INSERT INTO goose_db_version (version_id, is_applied) VALUES (1, 1);
INSERT INTO goose_db_version (version_id, is_applied) VALUES (2, 1);
PRAGMA user_version = 2;
COMMIT;
