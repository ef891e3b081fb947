package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Health is how a connection does, as far as is known.
type Health string

// The values of [Health].
const (
	HealthUnknown        Health = "unknown"         // it was not used or tested since its credential was saved
	HealthOK             Health = "ok"              // its last test, refresh or connect succeeded
	HealthExpiring       Health = "expiring"        // it ends soon and nothing renews it
	HealthFailing        Health = "failing"         // tests or refreshes fail in ways that may pass
	HealthNeedsReconnect Health = "needs_reconnect" // the provider no longer takes its credential
	HealthRevoked        Health = "revoked"         // the credential was revoked and destroyed
)

// KindClient is the kind of the connections that hold the OAuth client of a connection
// template. Lists of connections leave them out, and no slot takes one.
const KindClient = "oauth2-client"

// Shared says who beside its owner may use a connection, for display: the sealed record
// decides.
type Shared struct {
	Customers []string `json:"customers,omitempty"` // ids, or "*"
	Actions   []string `json:"actions,omitempty"`   // none: all
}

// With reports whether a connection of another customer is shared with a customer.
func (s *Shared) With(c id.Customer) bool {
	return slices.Contains(s.Customers, "*") || slices.Contains(s.Customers, c.String())
}

// Connection is the metadata of a connection; its credential is in the keystore.
type Connection struct {
	Customer      id.Customer // the owner
	ID            id.Connection
	Name          string
	Connector     string
	Kind          string
	Host          string // for display
	RecordVersion uint64 // 0: nothing was saved yet
	Account       []byte // sealed: who it is connected as
	EgressPool    string

	Template         id.Template // zero: none
	Method           string      // auth method of the manifest; empty for the built-in connector
	ConnectorVersion string
	ConnectorDigest  [32]byte // of the manifest; zero for the built-in connector
	Vars             map[string]string
	Scopes           []string
	Shared           Shared
	CreatedBy        string
	AccountHash      [32]byte // blind index of the account at the provider; zero: unknown
	// TokenExpires is when its access token ends, or the client certificate that was entered; zero: never, or unknown.
	TokenExpires time.Time
}

// ConnectionInfo is the metadata of a connection with its times and how it does.
type ConnectionInfo struct {
	Connection
	Health          Health
	HealthChecked   time.Time
	Problem         string // why it is not ok: a reason of a fixed list or an error code of OAuth
	RefreshDue      time.Time
	RefreshFailures uint32
	FailingSince    time.Time
	LastRefresh     time.Time
	LastUsed        time.Time
	Created         time.Time
	Changed         time.Time
}

// PutConnection inserts or replaces the metadata of a connection, as of a credential that
// was just entered: what was known of the one before is forgotten.
func (c CustomerTx) PutConnection(n *Connection, now time.Time) error {
	return c.tx.send(`
		INSERT INTO connection (customer_id, connection_id, name, connector, kind, host, record_version, account, egress_pool, created, changed,
			template_id, method, connector_version, connector_digest, vars, scopes, shared, created_by, account_hash,
			token_expires)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
		ON CONFLICT (customer_id, connection_id) DO UPDATE
		SET name = excluded.name, connector = excluded.connector, kind = excluded.kind, host = excluded.host,
			record_version = excluded.record_version, account = excluded.account, egress_pool = excluded.egress_pool,
			changed = excluded.changed, health = 'unknown', deleted = 0, template_id = excluded.template_id, method = excluded.method,
			connector_version = excluded.connector_version, connector_digest = excluded.connector_digest, vars = excluded.vars,
			scopes = excluded.scopes, shared = excluded.shared, account_hash = excluded.account_hash, problem = '', reason = '',
			token_expires = excluded.token_expires, refresh_due = 0, refresh_failures = 0, failing_since = 0`,
		c.id[:], n.ID[:], n.Name, n.Connector, n.Kind, n.Host, int64(n.RecordVersion), blob(n.Account), n.EgressPool, micros(now),
		optional(n.Template[:]), n.Method, n.ConnectorVersion, optional(n.ConnectorDigest[:]), jsonObject(n.Vars), jsonList(n.Scopes),
		jsonObject(n.Shared), n.CreatedBy, optional(n.AccountHash[:]),
		micros(n.TokenExpires))
}

// connectionColumns are what scanConnection reads, of the table under the name n.
const connectionColumns = `n.customer_id, n.connection_id, n.name, n.connector, n.kind, n.host, n.record_version, n.account, n.egress_pool,
			n.template_id, n.method, n.connector_version, n.connector_digest, n.vars, n.scopes, n.shared, n.created_by, n.account_hash,
			n.health, n.health_checked, n.problem, n.token_expires, n.refresh_due, n.refresh_failures, n.failing_since,
			n.last_refresh, n.last_used, n.created, n.changed`

func scanConnection(x *ConnectionInfo) []any {
	return []any{
		fixed{x.Customer[:]},
		fixed{x.ID[:]},
		&x.Name, &x.Connector, &x.Kind, &x.Host, &x.RecordVersion, &x.Account, &x.EgressPool,
		fixed{x.Template[:]},
		&x.Method, &x.ConnectorVersion,
		fixed{x.ConnectorDigest[:]},
		jsonText{&x.Vars},
		jsonText{&x.Scopes},
		jsonText{&x.Shared},
		&x.CreatedBy,
		fixed{x.AccountHash[:]},
		&x.Health,
		moment{&x.HealthChecked},
		&x.Problem,
		moment{&x.TokenExpires},
		moment{&x.RefreshDue},
		&x.RefreshFailures,
		moment{&x.FailingSince},
		moment{&x.LastRefresh},
		moment{&x.LastUsed},
		moment{&x.Created},
		moment{&x.Changed},
	}
}

// Connection reads the metadata of a connection that the customer owns.
func (c Customer) Connection(n id.Connection) (*ConnectionInfo, error) {
	x := &ConnectionInfo{}
	err := c.q.row(`
		SELECT `+connectionColumns+`
		FROM connection n
		WHERE n.customer_id = $1 AND n.connection_id = $2 AND n.deleted = 0`,
		[]any{c.id[:], n[:]}, scanConnection(x)...)
	if err != nil {
		return nil, err
	}
	return x, nil
}

// RenameConnection changes what a connection is called, and nothing of its credential.
func (c CustomerTx) RenameConnection(n id.Connection, name string, now time.Time) error {
	return c.changed(c.tx.exec(`
		UPDATE connection
		SET name = $3, changed = $4
		WHERE customer_id = $1 AND connection_id = $2 AND deleted = 0`,
		c.id[:], n[:], name, micros(now)))
}

// DeleteConnection leaves a tombstone of a connection, with the reason why it is gone.
func (c CustomerTx) DeleteConnection(n id.Connection, reason string, now time.Time) error {
	return c.changed(c.tx.exec(`
		UPDATE connection
		SET deleted = $3, account = $4, account_hash = NULL, health = 'revoked', refresh_due = 0, token_expires = 0, reason = $5
		WHERE customer_id = $1 AND connection_id = $2 AND deleted = 0`,
		c.id[:], n[:], micros(now), []byte{}, reason))
}

func (c CustomerTx) changed(rows int64, err error) error {
	if err == nil && rows == 0 {
		err = ErrNotFound
	}
	return err
}

// ConnectionQuery says which connections are listed. Zero fields mean any.
type ConnectionQuery struct {
	Customer  id.Customer
	Connector string
	Health    Health
	Template  id.Template
	After     id.Connection
}

// Connections lists connections in the order of their ids, of all customers of the
// organization; not the clients of templates.
func (o Org) Connections(q *ConnectionQuery, limit int) ([]ConnectionInfo, error) {
	var f filter
	f.and("c.organization_id = $%d", o.id[:])
	f.and("n.connection_id > $%d", q.After[:])
	f.and("n.kind <> $%d", KindClient)
	if !q.Customer.IsZero() {
		f.and("n.customer_id = $%d", q.Customer[:])
	}
	if q.Connector != "" {
		f.and("n.connector = $%d", q.Connector)
	}
	if q.Health != "" {
		f.and("n.health = $%d", string(q.Health))
	}
	if !q.Template.IsZero() {
		f.and("n.template_id = $%d", q.Template[:])
	}
	return o.connections(&f, limit)
}

// Connection reads the metadata of a connection. The client of a template is none.
func (o Org) Connection(n id.Connection) (*ConnectionInfo, error) {
	var f filter
	f.and("c.organization_id = $%d", o.id[:])
	f.and("n.connection_id = $%d", n[:])
	f.and("n.kind <> $%d", KindClient)
	list, err := o.connections(&f, 1)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return &list[0], nil
}

func (o Org) connections(f *filter, limit int) ([]ConnectionInfo, error) {
	var list []ConnectionInfo
	err := o.q.rows(`
		SELECT `+connectionColumns+`
		FROM connection n
		JOIN customer c ON c.customer_id = n.customer_id
		WHERE n.deleted = 0 AND c.deleted = 0 AND `+f.String()+`
		ORDER BY n.connection_id
		LIMIT `+f.limit(limit),
		f.args, func(r scanner) error {
			var n ConnectionInfo
			if err := r.Scan(scanConnection(&n)...); err != nil {
				return err
			}
			list = append(list, n)
			return nil
		})
	return list, err
}

// TokenSaved is what a refresh, or the first exchange, made of a connection.
type TokenSaved struct {
	RecordVersion uint64
	Expires       time.Time // zero: never
	RefreshDue    time.Time // zero: nothing to refresh
	Scopes        []string  // that were granted; nil: as before
	AccountHash   [32]byte  // zero: as before
}

// TokenSaved notes that a connection has new tokens. A version that is not newer than the
// one that is known changes nothing: answers may come late and twice.
func (c CustomerTx) TokenSaved(n id.Connection, t *TokenSaved, now time.Time) error {
	var scopes any
	if t.Scopes != nil {
		scopes = jsonList(t.Scopes)
	}
	return c.tx.send(`
		UPDATE connection
		SET record_version = $3, token_expires = $4, refresh_due = $5, scopes = COALESCE($6, scopes),
			account_hash = COALESCE($7, account_hash), health = 'ok', health_checked = $8, problem = '', refresh_failures = 0,
			failing_since = 0, last_refresh = $8
		WHERE customer_id = $1 AND connection_id = $2 AND deleted = 0 AND record_version <= $3`,
		c.id[:], n[:], int64(t.RecordVersion), micros(t.Expires), micros(t.RefreshDue), scopes, optional(t.AccountHash[:]), micros(now))
}

// TokenFailed notes that a refresh failed in a way that may pass, and when to try again.
func (c CustomerTx) TokenFailed(n id.Connection, problem string, again, now time.Time) error {
	return c.tx.send(`
		UPDATE connection
		SET health = 'failing', health_checked = $5, problem = $3, refresh_due = $4, refresh_failures = refresh_failures + 1,
			failing_since = CASE WHEN failing_since = 0 THEN $5 ELSE failing_since END
		WHERE customer_id = $1 AND connection_id = $2 AND deleted = 0 AND health <> 'needs_reconnect'`,
		c.id[:], n[:], problem, micros(again), micros(now))
}

// SetHealth notes how a connection does. One that must be connected again is refreshed no
// more. changed reports whether its health was another.
func (c CustomerTx) SetHealth(n id.Connection, h Health, problem string, now time.Time) (changed bool, err error) {
	var was Health
	err = c.q.row(`
		SELECT health
		FROM connection
		WHERE customer_id = $1 AND connection_id = $2 AND deleted = 0`,
		[]any{c.id[:], n[:]}, &was)
	if err != nil {
		return false, err
	}
	return was != h, c.tx.send(`
		UPDATE connection
		SET health = $3, health_checked = $5, problem = $4,
			refresh_due = CASE WHEN $3 IN ('needs_reconnect', 'revoked') THEN 0 ELSE refresh_due END
		WHERE customer_id = $1 AND connection_id = $2 AND deleted = 0`,
		c.id[:], n[:], string(h), problem, micros(now))
}

// SetRefreshDue plans the next refresh of a connection.
func (c CustomerTx) SetRefreshDue(n id.Connection, due time.Time) error {
	return c.tx.send(`
		UPDATE connection
		SET refresh_due = $3
		WHERE customer_id = $1 AND connection_id = $2 AND deleted = 0 AND health NOT IN ('needs_reconnect', 'revoked')`,
		c.id[:], n[:], micros(due))
}

// ConnectionUsed notes when connections were last used. A use that is noted late does not
// turn the time back.
func (s SystemTx) ConnectionUsed(n id.Connection, at time.Time) error {
	return s.tx.send(`UPDATE connection SET last_used = $2 WHERE connection_id = $1 AND last_used < $2`, n[:], micros(at))
}

// ConnectionsOfAccount lists the connections to one account at a provider, for events that
// arrive for all customers at one address.
func (o Org) ConnectionsOfAccount(connector string, account [32]byte, limit int) ([]ConnectionInfo, error) {
	var f filter
	f.and("c.organization_id = $%d", o.id[:])
	f.and("n.connector = $%d", connector)
	f.and("n.account_hash = $%d", account[:])
	return o.connections(&f, limit)
}

// jsonText scans a column of JSON.
type jsonText struct{ to any }

// Scan implements sql.Scanner.
func (j jsonText) Scan(src any) error {
	text, ok := src.(string)
	if b, is := src.([]byte); is {
		text, ok = string(b), true
	}
	if !ok {
		return fmt.Errorf("column holds %T, want JSON", src)
	}
	if text == "{}" || text == "[]" {
		return nil
	}
	return json.Unmarshal([]byte(text), j.to)
}

func jsonObject(v any) string {
	b, err := json.Marshal(v)
	if err != nil || string(b) == "null" {
		return "{}"
	}
	return string(b)
}

func jsonList(v []string) string {
	b, err := json.Marshal(v)
	if err != nil || v == nil {
		return "[]"
	}
	return string(b)
}

// UsersOf lists the instances that have connections in a slot, for the connections from one
// id to another.
func (o Org) UsersOf(first, last id.Connection) (map[id.Connection][]id.Instance, error) {
	out := map[id.Connection][]id.Instance{}
	err := o.q.rows(`
		SELECT DISTINCT s.connection_id, s.instance_id
		FROM instance_slot s
		JOIN customer c ON c.customer_id = s.customer_id
		JOIN instance i ON i.customer_id = s.customer_id AND i.instance_id = s.instance_id
		JOIN integration g ON g.integration_id = i.integration_id
		WHERE c.organization_id = $1 AND s.connection_id >= $2 AND s.connection_id <= $3 AND i.deleted = 0 AND substr(g.name, 1, 7) <> $4
		ORDER BY s.connection_id, s.instance_id`,
		[]any{o.id[:], first[:], last[:], ProbePrefix}, func(r scanner) error {
			var n id.Connection
			var i id.Instance
			err := r.Scan(fixed{n[:]}, fixed{i[:]})
			out[n] = append(out[n], i)
			return err
		})
	return out, err
}
