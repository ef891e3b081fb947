package store

import "strings"

// class says what a column may hold. Every column has one (see the test): a plain column
// with the reason why it may be read by whoever steals the database, or a sealed one.
type class string

// sealed columns hold ciphertext only.
const sealed class = "sealed"

// plain is the class of a column that may be read, and why.
func plain(reason string) class { return class("plain: " + reason) }

// classes declares the columns that are not covered by a rule of classOf.
func classes() map[string]class {
	builder := plain("written by the builder of an integration, holds nothing of a customer")
	metadata := plain("metadata of an execution: statuses, step names, error types, numbers, sizes")
	keyed := plain("HMAC under the blind-index key, or SHA-256 of a random token; opens nothing")
	place := plain("host names are shown to operators and in flow records; paths and queries are not stored")
	operator := plain("chosen by the operator")
	describes := plain("how the organization describes its customer; schedules need the time zone, every event carries it")
	return map[string]class{
		"organization.name":                     operator,
		"customer.external_id":                  plain("the organization's own id of the customer, by which it finds it"),
		"customer.internal":                     operator,
		"customer.title":                        describes,
		"customer.timezone":                     describes,
		"customer.locale":                       describes,
		"customer.attributes":                   describes,
		"customer.revision":                     metadata,
		"customer.weight":                       operator,
		"integration.name":                      builder,
		"integration.hidden":                    metadata,
		"integration.draft":                     builder,
		"integration.draft_revision":            metadata,
		"integration_version.source":            builder,
		"integration_version.version":           metadata,
		"integration_version.digest":            plain("SHA-256 of the definition"),
		"integration_version.profile":           metadata,
		"integration_version.definition":        builder,
		"integration_version.connector_lock":    builder,
		"connection.name":                       operator,
		"connection.connector":                  metadata,
		"connection.kind":                       metadata,
		"connection.host":                       place,
		"connection.record_version":             metadata,
		"connection.health":                     metadata,
		"connection.account":                    sealed,
		"connection.method":                     metadata,
		"connection.connector_version":          metadata,
		"connection.connector_digest":           plain("SHA-256 of the manifest"),
		"connection.vars":                       place,
		"connection.scopes":                     plain("what the provider was asked for, by the names of its documentation"),
		"connection.shared":                     operator,
		"connection.token_expires":              plain("a time"),
		"connection.refresh_due":                plain("a time"),
		"connection.refresh_failures":           metadata,
		"connection.failing_since":              plain("a time"),
		"connection.last_refresh":               plain("a time"),
		"connection.last_used":                  plain("a time"),
		"connection.created_by":                 plain("the name of a token of the API, or that it was by a link"),
		"connection.account_hash":               keyed,
		"connection.problem":                    plain("one of a fixed list of reasons, or an error code of OAuth; nothing else that the provider said"),
		"connection.reason":                     plain("why it was deleted, one of a fixed list"),
		"organization.title":                    operator,
		"organization.brand":                    operator,
		"organization.logo":                     operator,
		"organization.return_urls":              operator,
		"connection_template.name":              operator,
		"connection_template.connector":         metadata,
		"connection_template.connector_version": metadata,
		"connection_template.connector_digest":  plain("SHA-256 of the manifest"),
		"connection_template.method":            metadata,
		"connection_template.vars":              operator,
		"connection_template.client_name":       plain("the public id of an OAuth client; its secret is in the keystore"),
		"connection_template.scopes":            operator,
		"connection_template.customers":         operator,
		"connection_template.found":             place,
		"connection_template.revision":          metadata,
		"connection_template.created_by":        operator,
		"connect_link.hash":                     keyed,
		"connect_link.connector":                metadata,
		"connect_link.connector_version":        metadata,
		"connect_link.connector_digest":         plain("SHA-256 of the manifest"),
		"connect_link.name":                     operator,
		"connect_link.methods":                  metadata,
		"connect_link.vars":                     operator,
		"connect_link.return_url":               operator,
		"connect_link.created_by":               operator,
		"connect_visit.state_hash":              keyed,
		"connect_visit.browser_hash":            keyed,
		"connect_visit.method":                  metadata,
		"connect_visit.vars":                    place,
		"connect_visit.scopes":                  metadata,
		"connect_visit.other_account":           metadata,
		"connection_notice.kind":                metadata,
		"connection_notice.reason":              plain("one of a fixed list of reasons, or an error code of OAuth"),
		"connection_notice.seen":                plain("a time"),
		"connector.name":                        builder,
		"connector.version":                     builder,
		"connector.digest":                      plain("SHA-256 of the manifest"),
		"connector.tier":                        metadata,
		"connector.title":                       builder,
		"connector.manifest":                    builder,
		"connector.cases":                       metadata,
		"connector.created_by":                  operator,
		"instance.digest":                       plain("SHA-256 of the definition"),
		"instance.previous_digest":              plain("SHA-256 of the definition"),
		"instance.state":                        metadata,
		"instance.config":                       sealed,
		"instance.config_version":               metadata,
		"instance.in_flight_cap":                operator,
		"instance.revision":                     metadata,
		"instance_slot.slot":                    builder,
		"execution.digest":                      plain("SHA-256 of the definition"),
		"execution.flow":                        builder,
		"execution.trigger_kind":                metadata,
		"execution.event_source":                plain("CloudEvents source, a name given by the platform, not by the sender"),
		"execution.event_type":                  plain("CloudEvents type, a name given by the platform, not by the sender"),
		"execution.status":                      metadata,
		"execution.interruptions":               metadata,
		"execution.interruption":                metadata,
		"execution.last_seq":                    metadata,
		"execution.wakes":                       metadata,
		"execution.priority":                    metadata,
		"execution.order_key":                   keyed,
		"execution.seed":                        plain("random, makes uuid() repeatable; opens nothing"),
		"execution.test":                        metadata,
		"execution.error_type":                  metadata,
		"execution.error_step":                  metadata,
		"execution.output":                      sealed,
		"execution.parent_path":                 metadata,
		"execution.awaited":                     metadata,
		"execution.cause":                       metadata,
		"execution.account":                     keyed,
		"execution.size":                        metadata,
		"execution.retries":                     metadata,
		"execution.emptied":                     metadata,
		"token.name":                            operator,
		"token.role":                            operator,
		"token.hash":                            keyed,
		"idempotency.key_hash":                  keyed,
		"idempotency.request_hash":              plain("SHA-256 of method, path and body, keyed by the client's random key; compared, never shown"),
		"idempotency.status":                    metadata,
		"idempotency.answer":                    plain("an answer of the API to a POST: ids, times and statuses, no customer's data and no secret"),
		"hook.hash":                             keyed,
		"hook.flow":                             builder,
		"hook.generation":                       metadata,
		"rejection.flow":                        builder,
		"rejection.number":                      metadata,
		"rejection.reason":                      plain("one of a fixed list of reasons, nothing of the request"),
		"rejection.size":                        metadata,
		"rejection.repeats":                     metadata,
		"schedule.flow":                         builder,
		"schedule.kind":                         metadata,
		"schedule.cron":                         plain("a time plan"),
		"schedule.timezone":                     plain("a time plan"),
		"schedule.every":                        plain("a time plan"),
		"schedule.jitter":                       plain("a time plan"),
		"schedule.revision":                     metadata,
		"event.body":                            sealed,
		"entry.seq":                             metadata,
		"entry.kind":                            metadata,
		"entry.path":                            metadata,
		"entry.epoch":                           metadata,
		"entry.hash":                            plain("hash of the resolved input, made by the worker; compared, never shown"),
		"entry.body":                            sealed,
		"wait.path":                             metadata,
		"wait.kind":                             metadata,
		"wait.key_hash":                         keyed,
		"wait.open":                             metadata,
		"wake.number":                           metadata,
		"wake.path":                             metadata,
		"wake.reason":                           metadata,
		"wake.hash":                             plain("id of a child, or zero"),
		"wake.body":                             sealed,
		"state.name_hash":                       keyed,
		"state.version":                         metadata,
		"state.present":                         metadata,
		"state.body":                            sealed,
		"entry.took":                            metadata,
		"entry.error_type":                      metadata,
		"log.number":                            metadata,
		"log.path":                              metadata,
		"log.lines":                             metadata,
		"log.size":                              metadata,
		"log.body":                              sealed,
		"label.name":                            builder,
		"label.value_hash":                      keyed,
		"label.body":                            sealed,
		"blob.size":                             metadata,
		"blob.chunks":                           metadata,
		"dedupe.flow":                           builder,
		"dedupe.key_hash":                       keyed,
		"flow_record.done":                      metadata,
		"flow_record.method":                    metadata,
		"flow_record.host":                      place,
		"flow_record.address":                   place,
		"flow_record.status":                    metadata,
		"flow_record.sent":                      metadata,
		"flow_record.received":                  metadata,
		"flow_record.verdict":                   metadata,
		"flow_record.scrubbed":                  metadata,
	}
}

// classOf is the class of a column, or "" when nobody declared one.
func classOf(table, column string) class {
	if c, ok := classes()[table+"."+column]; ok {
		return c
	}
	switch {
	case strings.HasSuffix(column, "_id"):
		return plain("an id")
	case strings.HasSuffix(column, "_pool"):
		return plain("chosen by the operator")
	}
	switch column {
	case "created", "changed", "deleted", "accepted", "finished", "first_started", "expires", "day", "retention",
		"lease_until", "until", "at", "used", "draft_changed", "next_run", "last_run", "arrived", "committed", "health_checked", "duration":
		return plain("a time")
	case "shard", "fence":
		return plain("scheduling")
	}
	return ""
}
