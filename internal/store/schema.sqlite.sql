-- Made from the migrations by `go test ./internal/store -update`.

CREATE TABLE goose_db_version (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);

CREATE TABLE organization (
  organization_id BYTEA NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  created BIGINT NOT NULL,
  deleted BIGINT NOT NULL DEFAULT 0
, title TEXT NOT NULL DEFAULT '', brand TEXT NOT NULL DEFAULT '{}', logo BYTEA NOT NULL DEFAULT '', return_urls TEXT NOT NULL DEFAULT '[]');

CREATE TABLE customer (
  customer_id BYTEA NOT NULL PRIMARY KEY,
  organization_id BYTEA NOT NULL REFERENCES organization (organization_id),
  external_id TEXT NOT NULL,
  internal BOOLEAN NOT NULL DEFAULT FALSE,
  shard BIGINT NOT NULL CHECK (shard BETWEEN 0 AND 63),
  weight BIGINT NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000),
  created BIGINT NOT NULL,
  changed BIGINT NOT NULL,
  deleted BIGINT NOT NULL DEFAULT 0, title TEXT NOT NULL DEFAULT '', timezone TEXT NOT NULL DEFAULT 'UTC', locale TEXT NOT NULL DEFAULT 'en', attributes TEXT NOT NULL DEFAULT '{}', revision BIGINT NOT NULL DEFAULT 1,
  UNIQUE (organization_id, external_id)
);

CREATE TABLE integration (
  integration_id BYTEA NOT NULL PRIMARY KEY,
  organization_id BYTEA NOT NULL REFERENCES organization (organization_id),
  project_id BYTEA,
  name TEXT NOT NULL,
  created BIGINT NOT NULL,
  deleted BIGINT NOT NULL DEFAULT 0, hidden BOOLEAN NOT NULL DEFAULT FALSE, draft TEXT NOT NULL DEFAULT '', draft_revision BIGINT NOT NULL DEFAULT 0, draft_changed BIGINT NOT NULL DEFAULT 0,
  UNIQUE (organization_id, name)
);

CREATE TABLE integration_version (
  integration_id BYTEA NOT NULL REFERENCES integration (integration_id),
  version BIGINT NOT NULL CHECK (version > 0),
  digest BYTEA NOT NULL,
  profile BIGINT NOT NULL,
  definition TEXT NOT NULL,
  connector_lock TEXT NOT NULL DEFAULT '{}',
  created BIGINT NOT NULL, source TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (integration_id, version)
);

CREATE INDEX integration_version_digest ON integration_version (digest);

CREATE TABLE connection (
  customer_id BYTEA NOT NULL REFERENCES customer (customer_id),
  connection_id BYTEA NOT NULL,
  name TEXT NOT NULL,
  connector TEXT NOT NULL,
  kind TEXT NOT NULL,
  host TEXT NOT NULL,
  record_version BIGINT NOT NULL,
  health TEXT NOT NULL DEFAULT 'unknown' CHECK (health IN ('unknown', 'ok', 'expiring', 'failing', 'needs_reconnect', 'revoked')),
  health_checked BIGINT NOT NULL DEFAULT 0,
  account BYTEA NOT NULL,
  egress_pool TEXT NOT NULL DEFAULT '',
  created BIGINT NOT NULL,
  changed BIGINT NOT NULL,
  deleted BIGINT NOT NULL DEFAULT 0, template_id BYTEA, method TEXT NOT NULL DEFAULT '', connector_version TEXT NOT NULL DEFAULT '', connector_digest BYTEA, vars TEXT NOT NULL DEFAULT '{}', scopes TEXT NOT NULL DEFAULT '[]', shared TEXT NOT NULL DEFAULT '{}', token_expires BIGINT NOT NULL DEFAULT 0, refresh_due BIGINT NOT NULL DEFAULT 0, refresh_failures BIGINT NOT NULL DEFAULT 0, failing_since BIGINT NOT NULL DEFAULT 0, last_refresh BIGINT NOT NULL DEFAULT 0, last_used BIGINT NOT NULL DEFAULT 0, created_by TEXT NOT NULL DEFAULT '', account_hash BYTEA, problem TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (customer_id, connection_id)
);

CREATE UNIQUE INDEX connection_id ON connection (connection_id);

CREATE TABLE instance (
  customer_id BYTEA NOT NULL REFERENCES customer (customer_id),
  instance_id BYTEA NOT NULL,
  integration_id BYTEA NOT NULL REFERENCES integration (integration_id),
  digest BYTEA NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('needs_config', 'needs_connection', 'enabled', 'paused', 'failing', 'removing')),
  config BYTEA NOT NULL,
  config_version BIGINT NOT NULL,
  egress_pool TEXT NOT NULL DEFAULT '',
  runner_pool TEXT NOT NULL DEFAULT '',
  in_flight_cap BIGINT NOT NULL DEFAULT 0,
  revision BIGINT NOT NULL DEFAULT 1,
  created BIGINT NOT NULL,
  changed BIGINT NOT NULL,
  deleted BIGINT NOT NULL DEFAULT 0, previous_digest BYTEA,
  PRIMARY KEY (customer_id, instance_id)
);

CREATE UNIQUE INDEX instance_id ON instance (instance_id);

CREATE TABLE instance_slot (
  customer_id BYTEA NOT NULL,
  instance_id BYTEA NOT NULL,
  slot TEXT NOT NULL,
  owner_id BYTEA NOT NULL,
  connection_id BYTEA NOT NULL,
  PRIMARY KEY (customer_id, instance_id, slot),
  FOREIGN KEY (customer_id, instance_id) REFERENCES instance (customer_id, instance_id),
  FOREIGN KEY (owner_id, connection_id) REFERENCES connection (customer_id, connection_id)
);

CREATE TABLE execution (
  customer_id BYTEA NOT NULL,
  execution_id BYTEA NOT NULL,
  instance_id BYTEA NOT NULL,
  digest BYTEA NOT NULL,
  flow TEXT NOT NULL,
  trigger_kind TEXT NOT NULL,
  event_id BYTEA NOT NULL,
  event_source TEXT NOT NULL DEFAULT '',
  event_type TEXT NOT NULL DEFAULT '',
  status TEXT NOT NULL CHECK (status = 'pending' OR status = 'running' OR status = 'waiting' OR status = 'completed' OR status = 'faulted' OR status = 'cancelled'),
  fence BIGINT NOT NULL,
  runner_id BYTEA,
  lease_until BIGINT NOT NULL DEFAULT 0,
  interruptions BIGINT NOT NULL DEFAULT 0,
  interruption TEXT NOT NULL DEFAULT '',
  last_seq BIGINT NOT NULL DEFAULT 0,
  wakes BIGINT NOT NULL DEFAULT 0,
  shard BIGINT NOT NULL CHECK (shard BETWEEN 0 AND 63),
  priority BIGINT NOT NULL DEFAULT 0,
  order_key BYTEA,
  seed BYTEA NOT NULL,
  test BOOLEAN NOT NULL DEFAULT FALSE,
  accepted BIGINT NOT NULL,
  first_started BIGINT NOT NULL DEFAULT 0,
  finished BIGINT NOT NULL DEFAULT 0,
  expires BIGINT NOT NULL,
  day BIGINT NOT NULL,
  retention BIGINT NOT NULL,
  error_type TEXT NOT NULL DEFAULT '',
  error_step TEXT NOT NULL DEFAULT '',
  output BYTEA,
  root_id BYTEA NOT NULL,
  parent_id BYTEA,
  parent_path TEXT NOT NULL DEFAULT '',
  awaited BOOLEAN NOT NULL DEFAULT FALSE,
  cause TEXT NOT NULL DEFAULT 'trigger' CHECK (cause = 'trigger' OR cause = 'call' OR cause = 'replay' OR cause = 'on_fault' OR cause = 'test'),
  cause_id BYTEA,
  batch_id BYTEA,
  egress_pool TEXT NOT NULL DEFAULT '',
  runner_pool TEXT NOT NULL DEFAULT '',
  account BYTEA,
  deleted BIGINT NOT NULL DEFAULT 0, size BIGINT NOT NULL DEFAULT 0, retries BIGINT NOT NULL DEFAULT 0, emptied BOOLEAN NOT NULL DEFAULT FALSE,
  PRIMARY KEY (customer_id, execution_id)
);

CREATE UNIQUE INDEX execution_id ON execution (execution_id);

CREATE INDEX execution_open ON execution (shard, expires) WHERE finished = 0;

CREATE INDEX execution_child ON execution (customer_id, parent_id) WHERE parent_path <> '';

CREATE TABLE event (
  customer_id BYTEA NOT NULL,
  event_id BYTEA NOT NULL,
  day BIGINT NOT NULL,
  body BYTEA NOT NULL,
  PRIMARY KEY (customer_id, event_id)
);

CREATE TABLE entry (
  customer_id BYTEA NOT NULL,
  execution_id BYTEA NOT NULL,
  seq BIGINT NOT NULL CHECK (seq > 0),
  kind BIGINT NOT NULL,
  path TEXT NOT NULL,
  epoch BIGINT NOT NULL,
  hash BYTEA NOT NULL,
  day BIGINT NOT NULL,
  committed BIGINT NOT NULL,
  body BYTEA NOT NULL, took BIGINT NOT NULL DEFAULT 0, error_type TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (customer_id, execution_id, seq)
);

CREATE TABLE wait (
  customer_id BYTEA NOT NULL,
  execution_id BYTEA NOT NULL,
  path TEXT NOT NULL,
  kind BIGINT NOT NULL,
  at BIGINT NOT NULL,
  key_hash BYTEA,
  child_id BYTEA,
  open BOOLEAN NOT NULL DEFAULT TRUE, scope_hash BYTEA, shape TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (customer_id, execution_id, path)
);

CREATE INDEX wait_due ON wait (at) WHERE open = TRUE AND at > 0;

CREATE INDEX wait_key ON wait (key_hash) WHERE open = TRUE AND key_hash IS NOT NULL;

CREATE TABLE wake (
  customer_id BYTEA NOT NULL,
  execution_id BYTEA NOT NULL,
  number BIGINT NOT NULL CHECK (number > 0),
  path TEXT NOT NULL,
  reason BIGINT NOT NULL,
  hash BYTEA NOT NULL,
  day BIGINT NOT NULL,
  arrived BIGINT NOT NULL,
  body BYTEA NOT NULL,
  PRIMARY KEY (customer_id, execution_id, number)
);

CREATE TABLE state (
  customer_id BYTEA NOT NULL,
  instance_id BYTEA NOT NULL,
  name_hash BYTEA NOT NULL,
  version BIGINT NOT NULL,
  present BOOLEAN NOT NULL,
  body BYTEA NOT NULL,
  changed BIGINT NOT NULL,
  PRIMARY KEY (customer_id, instance_id, name_hash)
);

CREATE TABLE label (
  customer_id BYTEA NOT NULL,
  execution_id BYTEA NOT NULL,
  name TEXT NOT NULL,
  value_hash BYTEA NOT NULL,
  day BIGINT NOT NULL,
  body BYTEA NOT NULL,
  PRIMARY KEY (customer_id, execution_id, name)
);

CREATE INDEX label_value ON label (customer_id, value_hash, execution_id);

CREATE TABLE blob (
  customer_id BYTEA NOT NULL,
  blob_id BYTEA NOT NULL,
  execution_id BYTEA NOT NULL,
  day BIGINT NOT NULL,
  size BIGINT NOT NULL,
  chunks BIGINT NOT NULL,
  created BIGINT NOT NULL,
  PRIMARY KEY (customer_id, blob_id)
);

CREATE TABLE dedupe (
  customer_id BYTEA NOT NULL,
  instance_id BYTEA NOT NULL,
  flow TEXT NOT NULL,
  key_hash BYTEA NOT NULL,
  execution_id BYTEA NOT NULL,
  until BIGINT NOT NULL,
  PRIMARY KEY (customer_id, instance_id, flow, key_hash)
);

CREATE INDEX dedupe_until ON dedupe (until);

CREATE TABLE flow_record (
  customer_id BYTEA NOT NULL,
  request_id BYTEA NOT NULL,
  done BOOLEAN NOT NULL,
  instance_id BYTEA NOT NULL,
  execution_id BYTEA NOT NULL,
  connection_id BYTEA NOT NULL,
  node_id BYTEA NOT NULL,
  at BIGINT NOT NULL,
  method TEXT NOT NULL,
  host TEXT NOT NULL,
  address TEXT NOT NULL,
  status BIGINT NOT NULL,
  sent BIGINT NOT NULL,
  received BIGINT NOT NULL,
  duration BIGINT NOT NULL,
  verdict TEXT NOT NULL,
  scrubbed BIGINT NOT NULL,
  PRIMARY KEY (customer_id, request_id, done)
);

CREATE INDEX flow_record_at ON flow_record (customer_id, at);

CREATE TABLE shard_lease (
  shard BIGINT NOT NULL PRIMARY KEY CHECK (shard BETWEEN 0 AND 63),
  server_id BYTEA NOT NULL,
  fence BIGINT NOT NULL,
  until BIGINT NOT NULL
);

CREATE INDEX execution_faulted ON execution (customer_id, execution_id) WHERE status = 'faulted';

CREATE INDEX blob_day ON blob (day, blob_id);

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

CREATE TABLE notice (
  shard BIGINT NOT NULL CHECK (shard BETWEEN 0 AND 63),
  notice_id BYTEA NOT NULL,
  customer_id BYTEA NOT NULL,
  execution_id BYTEA NOT NULL,
  created BIGINT NOT NULL,
  PRIMARY KEY (shard, notice_id)
);

CREATE INDEX instance_changed ON instance (changed);

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

CREATE INDEX wait_scope ON wait (scope_hash, shape) WHERE open = TRUE AND scope_hash IS NOT NULL;

CREATE TABLE app_unknown (
  template_id BYTEA NOT NULL PRIMARY KEY REFERENCES connection_template (template_id),
  events BIGINT NOT NULL,
  since BIGINT NOT NULL,
  last BIGINT NOT NULL
);

INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, TRUE);
INSERT INTO goose_db_version (version_id, is_applied) VALUES (1, TRUE);
INSERT INTO goose_db_version (version_id, is_applied) VALUES (2, TRUE);
INSERT INTO goose_db_version (version_id, is_applied) VALUES (3, TRUE);
