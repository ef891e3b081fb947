-- +goose Up

-- Everything in a column named sealed is ciphertext made by the vault. Ids,
-- versions, days and times are plain. See doc/decisions/keys.md.

-- The check value of the root key: it opens under the right one only.
CREATE TABLE root (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    sealed BLOB NOT NULL
);

-- Seeds of the vault's own signing keys and the blind-index key, under the root key.
CREATE TABLE seed (
    name TEXT NOT NULL PRIMARY KEY,
    sealed BLOB NOT NULL
) WITHOUT ROWID;

-- Customer keys, one row for each version, under the root key.
CREATE TABLE customer_key (
    customer_id BLOB NOT NULL CHECK (length(customer_id) = 16),
    version BIGINT NOT NULL CHECK (version > 0),
    sealed BLOB NOT NULL,
    PRIMARY KEY (customer_id, version)
) WITHOUT ROWID;

-- Private halves of payload pairs, under the customer key. Destroyed after their day.
CREATE TABLE payload_pair (
    customer_id BLOB NOT NULL CHECK (length(customer_id) = 16),
    day BIGINT NOT NULL CHECK (day >= 0),
    key_version BIGINT NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (customer_id, day)
) WITHOUT ROWID;

CREATE INDEX payload_pair_day ON payload_pair (day);

-- Instance keys, under the customer key.
CREATE TABLE instance_key (
    instance_id BLOB NOT NULL PRIMARY KEY CHECK (length(instance_id) = 16),
    customer_id BLOB NOT NULL CHECK (length(customer_id) = 16),
    key_version BIGINT NOT NULL,
    sealed BLOB NOT NULL
) WITHOUT ROWID;

-- Credential records, under the customer key.
CREATE TABLE credential (
    connection_id BLOB NOT NULL PRIMARY KEY CHECK (length(connection_id) = 16),
    customer_id BLOB NOT NULL CHECK (length(customer_id) = 16),
    version BIGINT NOT NULL CHECK (version > 0),
    key_version BIGINT NOT NULL,
    sealed BLOB NOT NULL
) WITHOUT ROWID;

-- Certificates of processes, signed by the authority.
CREATE TABLE identity (
    node_id BLOB NOT NULL PRIMARY KEY CHECK (length(node_id) = 16),
    certificate BLOB NOT NULL
) WITHOUT ROWID;

-- The version ledger: the newest version of everything that has one, kept after
-- its deletion too. The head covers it.
CREATE TABLE ledger (
    kind BIGINT NOT NULL,
    subject BLOB NOT NULL CHECK (length(subject) = 16),
    version BIGINT NOT NULL CHECK (version > 0),
    gone BIGINT NOT NULL CHECK (gone IN (0, 1)),
    PRIMARY KEY (kind, subject)
) WITHOUT ROWID;

-- The vault's log. Each hash covers the leaf and the hash before it.
CREATE TABLE leaf (
    seq INTEGER NOT NULL PRIMARY KEY CHECK (seq > 0),
    time BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    customer_id BLOB NOT NULL CHECK (length(customer_id) = 16),
    requester_id BLOB NOT NULL CHECK (length(requester_id) = 16),
    body BLOB NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
);

-- The vault's MAC over the newest leaf and the ledger, renewed in every transaction.
CREATE TABLE head (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    mac BLOB NOT NULL
);

-- +goose Down

DROP TABLE head;
DROP TABLE leaf;
DROP TABLE ledger;
DROP TABLE identity;
DROP TABLE credential;
DROP TABLE instance_key;
DROP TABLE payload_pair;
DROP TABLE customer_key;
DROP TABLE seed;
DROP TABLE root;
