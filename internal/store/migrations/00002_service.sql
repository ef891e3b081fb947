-- What a service needs beside the core: customers as the organization describes them,
-- drafts, tokens, webhook addresses, schedules, rejected deliveries and the answers to
-- requests that carried an idempotency key.

-- +goose Up
ALTER TABLE customer ADD COLUMN title TEXT NOT NULL DEFAULT '';
ALTER TABLE customer ADD COLUMN timezone TEXT NOT NULL DEFAULT 'UTC';
ALTER TABLE customer ADD COLUMN locale TEXT NOT NULL DEFAULT 'en';
ALTER TABLE customer ADD COLUMN attributes TEXT NOT NULL DEFAULT '{}';
ALTER TABLE customer ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
ALTER TABLE customer DROP COLUMN profile;

ALTER TABLE integration ADD COLUMN hidden BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE integration ADD COLUMN draft TEXT NOT NULL DEFAULT '';
ALTER TABLE integration ADD COLUMN draft_revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE integration ADD COLUMN draft_changed BIGINT NOT NULL DEFAULT 0;
ALTER TABLE integration_version ADD COLUMN source TEXT NOT NULL DEFAULT '';

ALTER TABLE instance ADD COLUMN previous_digest BYTEA;

ALTER TABLE execution ADD COLUMN size BIGINT NOT NULL DEFAULT 0;
ALTER TABLE execution ADD COLUMN retries BIGINT NOT NULL DEFAULT 0;
ALTER TABLE execution ADD COLUMN emptied BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX execution_faulted ON execution (customer_id, execution_id) WHERE status = 'faulted';

DROP INDEX blob_day;
CREATE INDEX blob_day ON blob (day, blob_id);

ALTER TABLE entry ADD COLUMN took BIGINT NOT NULL DEFAULT 0;
ALTER TABLE entry ADD COLUMN error_type TEXT NOT NULL DEFAULT '';

CREATE TABLE log (
  customer_id BYTEA NOT NULL,
  execution_id BYTEA NOT NULL,
  number BIGINT NOT NULL CHECK (number > 0),
  path TEXT NOT NULL,
  lines BIGINT NOT NULL,
  size BIGINT NOT NULL,
  day BIGINT NOT NULL,
  committed BIGINT NOT NULL,
  body BYTEA NOT NULL,
  PRIMARY KEY (customer_id, execution_id, number)
);

CREATE TABLE token (
  token_id BYTEA NOT NULL PRIMARY KEY,
  organization_id BYTEA NOT NULL REFERENCES organization (organization_id),
  name TEXT NOT NULL,
  role TEXT NOT NULL,
  hash BYTEA NOT NULL UNIQUE,
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL,
  used BIGINT NOT NULL DEFAULT 0,
  deleted BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE idempotency (
  organization_id BYTEA NOT NULL,
  key_hash BYTEA NOT NULL,
  request_hash BYTEA NOT NULL,
  status BIGINT NOT NULL,
  answer TEXT NOT NULL,
  until BIGINT NOT NULL,
  PRIMARY KEY (organization_id, key_hash)
);
CREATE INDEX idempotency_until ON idempotency (until);

CREATE TABLE hook (
  hash BYTEA NOT NULL PRIMARY KEY,
  customer_id BYTEA NOT NULL,
  instance_id BYTEA NOT NULL,
  flow TEXT NOT NULL,
  generation BIGINT NOT NULL,
  created BIGINT NOT NULL,
  deleted BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX hook_flow ON hook (customer_id, instance_id, flow, generation);

CREATE TABLE rejection (
  customer_id BYTEA NOT NULL,
  instance_id BYTEA NOT NULL,
  flow TEXT NOT NULL,
  number BIGINT NOT NULL,
  at BIGINT NOT NULL,
  reason TEXT NOT NULL,
  size BIGINT NOT NULL,
  repeats BIGINT NOT NULL,
  PRIMARY KEY (customer_id, instance_id, flow, number)
);

CREATE TABLE schedule (
  customer_id BYTEA NOT NULL,
  instance_id BYTEA NOT NULL,
  flow TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('schedule', 'poll', 'deploy')),
  cron TEXT NOT NULL DEFAULT '',
  timezone TEXT NOT NULL DEFAULT 'UTC',
  every BIGINT NOT NULL DEFAULT 0,
  jitter BIGINT NOT NULL DEFAULT 0,
  shard BIGINT NOT NULL CHECK (shard BETWEEN 0 AND 63),
  next_run BIGINT NOT NULL,
  last_run BIGINT NOT NULL DEFAULT 0,
  last_execution_id BYTEA,
  revision BIGINT NOT NULL DEFAULT 1,
  PRIMARY KEY (customer_id, instance_id, flow)
);
CREATE INDEX schedule_due ON schedule (next_run) WHERE next_run >= 0;

-- What tells the server that schedules a shard that another server changed an execution.
CREATE TABLE notice (
  shard BIGINT NOT NULL CHECK (shard BETWEEN 0 AND 63),
  notice_id BYTEA NOT NULL,
  customer_id BYTEA NOT NULL,
  execution_id BYTEA NOT NULL,
  created BIGINT NOT NULL,
  PRIMARY KEY (shard, notice_id)
);
CREATE INDEX instance_changed ON instance (changed);

-- +goose Down
DROP INDEX instance_changed;
DROP TABLE notice;
DROP TABLE schedule;
DROP TABLE rejection;
DROP TABLE hook;
DROP TABLE idempotency;
DROP TABLE token;
DROP TABLE log;
ALTER TABLE entry DROP COLUMN error_type;
ALTER TABLE entry DROP COLUMN took;
DROP INDEX blob_day;
CREATE INDEX blob_day ON blob (day);
DROP INDEX execution_faulted;
ALTER TABLE execution DROP COLUMN emptied;
ALTER TABLE execution DROP COLUMN retries;
ALTER TABLE execution DROP COLUMN size;
ALTER TABLE instance DROP COLUMN previous_digest;
ALTER TABLE integration_version DROP COLUMN source;
ALTER TABLE integration DROP COLUMN draft_changed;
ALTER TABLE integration DROP COLUMN draft_revision;
ALTER TABLE integration DROP COLUMN draft;
ALTER TABLE integration DROP COLUMN hidden;
ALTER TABLE customer ADD COLUMN profile BYTEA NOT NULL DEFAULT '';
ALTER TABLE customer DROP COLUMN revision;
ALTER TABLE customer DROP COLUMN attributes;
ALTER TABLE customer DROP COLUMN locale;
ALTER TABLE customer DROP COLUMN timezone;
ALTER TABLE customer DROP COLUMN title;
