-- +goose Up

-- Authorizations that have begun: a person was sent to the provider. state is the
-- SHA-256 of the state parameter, sealed the verifier and the draft of the record under
-- the customer key; it is empty when the row was used, which is remembered until it
-- expires. Not part of a copy of the keystore.
CREATE TABLE pending (
    state BLOB NOT NULL PRIMARY KEY CHECK (length(state) = 32),
    customer_id BLOB NOT NULL CHECK (length(customer_id) = 16),
    connection_id BLOB NOT NULL CHECK (length(connection_id) = 16),
    expires BIGINT NOT NULL,
    key_version BIGINT NOT NULL,
    sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX pending_customer ON pending (customer_id);
CREATE INDEX pending_connection ON pending (connection_id);
CREATE INDEX pending_expires ON pending (expires);

-- Who renews the credential of a connection, what the provider answered and nobody has
-- read yet, and how often it failed: the lock over all processes. Under the customer
-- key; the ledger remembers the version.
CREATE TABLE intent (
    connection_id BLOB NOT NULL PRIMARY KEY CHECK (length(connection_id) = 16),
    customer_id BLOB NOT NULL CHECK (length(customer_id) = 16),
    version BIGINT NOT NULL CHECK (version > 0),
    key_version BIGINT NOT NULL,
    sealed BLOB NOT NULL
) WITHOUT ROWID;
