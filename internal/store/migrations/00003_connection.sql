-- What connections through connectors need: templates with the organization's OAuth
-- clients, one-time links by which a customer connects, what is under way at a provider,
-- notices to the organization, and more about each connection.

-- +goose Up
ALTER TABLE organization ADD COLUMN title TEXT NOT NULL DEFAULT '';
ALTER TABLE organization ADD COLUMN brand TEXT NOT NULL DEFAULT '{}';
ALTER TABLE organization ADD COLUMN logo BYTEA NOT NULL DEFAULT '';
ALTER TABLE organization ADD COLUMN return_urls TEXT NOT NULL DEFAULT '[]';

CREATE TABLE connection_template (
  template_id BYTEA NOT NULL PRIMARY KEY,
  organization_id BYTEA NOT NULL REFERENCES organization (organization_id),
  name TEXT NOT NULL,
  connector TEXT NOT NULL,
  connector_version TEXT NOT NULL,
  connector_digest BYTEA NOT NULL,
  method TEXT NOT NULL,
  vars TEXT NOT NULL DEFAULT '{}',
  client_name TEXT NOT NULL DEFAULT '',
  scopes TEXT NOT NULL DEFAULT '[]',
  customers TEXT NOT NULL DEFAULT '[]',
  owner_id BYTEA NOT NULL,
  client_id BYTEA NOT NULL,
  revision BIGINT NOT NULL DEFAULT 1,
  created_by TEXT NOT NULL,
  created BIGINT NOT NULL,
  changed BIGINT NOT NULL,
  deleted BIGINT NOT NULL DEFAULT 0,
  FOREIGN KEY (owner_id, client_id) REFERENCES connection (customer_id, connection_id)
);
CREATE INDEX connection_template_organization ON connection_template (organization_id, template_id);

ALTER TABLE connection ADD COLUMN template_id BYTEA;
ALTER TABLE connection ADD COLUMN method TEXT NOT NULL DEFAULT '';
ALTER TABLE connection ADD COLUMN connector_version TEXT NOT NULL DEFAULT '';
ALTER TABLE connection ADD COLUMN connector_digest BYTEA;
ALTER TABLE connection ADD COLUMN vars TEXT NOT NULL DEFAULT '{}';
ALTER TABLE connection ADD COLUMN scopes TEXT NOT NULL DEFAULT '[]';
ALTER TABLE connection ADD COLUMN shared TEXT NOT NULL DEFAULT '{}';
ALTER TABLE connection ADD COLUMN token_expires BIGINT NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN refresh_due BIGINT NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN refresh_failures BIGINT NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN failing_since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN last_refresh BIGINT NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN last_used BIGINT NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN created_by TEXT NOT NULL DEFAULT '';
ALTER TABLE connection ADD COLUMN account_hash BYTEA;
ALTER TABLE connection ADD COLUMN problem TEXT NOT NULL DEFAULT '';
ALTER TABLE connection ADD COLUMN reason TEXT NOT NULL DEFAULT '';
CREATE INDEX connection_refresh ON connection (refresh_due, connection_id) WHERE refresh_due > 0 AND deleted = 0;
CREATE INDEX connection_account ON connection (connector, account_hash) WHERE account_hash IS NOT NULL;

CREATE TABLE connect_link (
  link_id BYTEA NOT NULL PRIMARY KEY,
  organization_id BYTEA NOT NULL REFERENCES organization (organization_id),
  customer_id BYTEA NOT NULL REFERENCES customer (customer_id),
  hash BYTEA NOT NULL UNIQUE,
  connector TEXT NOT NULL,
  connector_version TEXT NOT NULL,
  connector_digest BYTEA NOT NULL,
  template_id BYTEA REFERENCES connection_template (template_id),
  connection_id BYTEA,
  replaces_id BYTEA,
  name TEXT NOT NULL,
  methods TEXT NOT NULL DEFAULT '[]',
  vars TEXT NOT NULL DEFAULT '{}',
  shared TEXT NOT NULL DEFAULT '{}',
  shared_proof BYTEA,
  return_url TEXT NOT NULL DEFAULT '',
  created_by TEXT NOT NULL,
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL,
  used BIGINT NOT NULL DEFAULT 0,
  made_id BYTEA,
  entered_hash BYTEA,
  connected BIGINT NOT NULL DEFAULT 0,
  deleted BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX connect_link_organization ON connect_link (organization_id, link_id);
CREATE INDEX connect_link_expires ON connect_link (expires);

-- A visit to a provider that has not come back. The state that the provider carries is in
-- its hash here, and the rest of the secrets in the keystore.
CREATE TABLE connect_visit (
  state_hash BYTEA NOT NULL PRIMARY KEY,
  browser_hash BYTEA NOT NULL,
  link_id BYTEA NOT NULL REFERENCES connect_link (link_id),
  organization_id BYTEA NOT NULL REFERENCES organization (organization_id),
  customer_id BYTEA NOT NULL REFERENCES customer (customer_id),
  connection_id BYTEA NOT NULL,
  template_id BYTEA,
  method TEXT NOT NULL,
  vars TEXT NOT NULL,
  scopes TEXT NOT NULL,
  other_account BOOLEAN NOT NULL,
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL,
  used BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX connect_visit_expires ON connect_visit (expires);

-- What the organization should know of: a connection that must be connected again, one
-- that is about to expire or that nobody has used for long.
CREATE TABLE connection_notice (
  notice_id BYTEA NOT NULL PRIMARY KEY,
  organization_id BYTEA NOT NULL REFERENCES organization (organization_id),
  customer_id BYTEA NOT NULL,
  connection_id BYTEA NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('needs_reconnect', 'expiring', 'failing', 'unused', 'revoked', 'connected')),
  reason TEXT NOT NULL DEFAULT '',
  at BIGINT NOT NULL,
  seen BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX connection_notice_organization ON connection_notice (organization_id, notice_id);
CREATE INDEX connection_notice_connection ON connection_notice (connection_id, kind);

-- Connectors that the organization has published itself, beside those of the catalogue. A
-- version never changes.
CREATE TABLE connector (
  organization_id BYTEA NOT NULL REFERENCES organization (organization_id),
  name TEXT NOT NULL,
  version TEXT NOT NULL,
  digest BYTEA NOT NULL,
  tier TEXT NOT NULL,
  title TEXT NOT NULL,
  manifest TEXT NOT NULL,
  cases BIGINT NOT NULL DEFAULT 0,
  retrieved TEXT NOT NULL DEFAULT '',
  created_by TEXT NOT NULL,
  created BIGINT NOT NULL,
  PRIMARY KEY (organization_id, name, version)
);

-- A wait for an event of a connector: the blind index of whose events it is for, the places
-- of an event that its key is made of, as a JSON list, and in key_hash that key.
ALTER TABLE wait ADD COLUMN scope_hash BYTEA;
ALTER TABLE wait ADD COLUMN shape TEXT NOT NULL DEFAULT '';
CREATE INDEX wait_scope ON wait (scope_hash, shape) WHERE open = TRUE AND scope_hash IS NOT NULL;

-- Events of a provider's app whose account nobody has connected: how many, and since when.
CREATE TABLE app_unknown (
  template_id BYTEA NOT NULL PRIMARY KEY REFERENCES connection_template (template_id),
  events BIGINT NOT NULL,
  since BIGINT NOT NULL,
  last BIGINT NOT NULL
);

-- +goose Down
DROP TABLE app_unknown;
DROP INDEX wait_scope;
ALTER TABLE wait DROP COLUMN shape;
ALTER TABLE wait DROP COLUMN scope_hash;
DROP TABLE connector;
DROP TABLE connection_notice;
DROP TABLE connect_visit;
DROP TABLE connect_link;
DROP INDEX connection_account;
DROP INDEX connection_refresh;
ALTER TABLE connection DROP COLUMN reason;
ALTER TABLE connection DROP COLUMN problem;
ALTER TABLE connection DROP COLUMN account_hash;
ALTER TABLE connection DROP COLUMN created_by;
ALTER TABLE connection DROP COLUMN last_used;
ALTER TABLE connection DROP COLUMN last_refresh;
ALTER TABLE connection DROP COLUMN failing_since;
ALTER TABLE connection DROP COLUMN refresh_failures;
ALTER TABLE connection DROP COLUMN refresh_due;
ALTER TABLE connection DROP COLUMN token_expires;
ALTER TABLE connection DROP COLUMN shared;
ALTER TABLE connection DROP COLUMN scopes;
ALTER TABLE connection DROP COLUMN vars;
ALTER TABLE connection DROP COLUMN connector_digest;
ALTER TABLE connection DROP COLUMN connector_version;
ALTER TABLE connection DROP COLUMN method;
ALTER TABLE connection DROP COLUMN template_id;
DROP TABLE connection_template;
ALTER TABLE organization DROP COLUMN return_urls;
ALTER TABLE organization DROP COLUMN logo;
ALTER TABLE organization DROP COLUMN brand;
ALTER TABLE organization DROP COLUMN title;
