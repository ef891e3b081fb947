package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Template is a connection template: the organization's OAuth client for an auth method of
// a connector. The secret of the client is the credential of a connection of kind
// [KindClient] that the organization itself owns.
type Template struct {
	ID               id.Template
	Organization     id.Org
	Name             string
	Connector        string
	ConnectorVersion string
	ConnectorDigest  [32]byte
	Method           string
	Vars             map[string]string
	ClientName       string   // the client id at the provider, which is public
	Scopes           []string // asked for; none: those of the manifest
	// Customers are the ids of the customers who may be connected with the client, or "*", for
	// display: the sealed record of the client decides.
	Customers []string
	Owner     id.Customer
	Client    id.Connection
	Revision  uint64
	CreatedBy string
	Created   time.Time
	Changed   time.Time
}

// PutTemplate inserts a template, or changes everything of it but its connector.
func (o OrgTx) PutTemplate(t *Template, now time.Time) error {
	err := o.tx.returning(`
		INSERT INTO connection_template (template_id, organization_id, name, connector, connector_version, connector_digest, method, vars,
			client_name, scopes, owner_id, client_id, created_by, created, changed, customers)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14, $15)
		ON CONFLICT (template_id) DO UPDATE
		SET name = excluded.name, connector_version = excluded.connector_version, connector_digest = excluded.connector_digest,
			method = excluded.method, vars = excluded.vars, client_name = excluded.client_name, scopes = excluded.scopes,
			customers = excluded.customers, changed = excluded.changed, revision = connection_template.revision + 1
		WHERE connection_template.organization_id = excluded.organization_id AND connection_template.connector = excluded.connector
			AND connection_template.deleted = 0
		RETURNING revision`,
		[]any{
			t.ID[:], o.id[:], t.Name, t.Connector, t.ConnectorVersion, t.ConnectorDigest[:], t.Method, jsonObject(t.Vars),
			t.ClientName, jsonList(t.Scopes), t.Owner[:], t.Client[:], t.CreatedBy, micros(now),
			jsonList(t.Customers),
		}, &t.Revision)
	return err
}

// DeleteTemplate leaves a tombstone of a template. Connections that were made of it cannot
// be refreshed once the credential of its client is gone.
func (o OrgTx) DeleteTemplate(t id.Template, now time.Time) error {
	n, err := o.tx.exec(`
		UPDATE connection_template
		SET deleted = $3, changed = $3
		WHERE organization_id = $1 AND template_id = $2 AND deleted = 0`,
		o.id[:], t[:], micros(now))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

const templateColumns = `template_id, name, connector, connector_version, connector_digest, method, vars, client_name, scopes, owner_id,
			client_id, revision, created_by, created, changed, customers`

func (o Org) scanTemplate(x *Template) []any {
	x.Organization = o.id
	return []any{
		fixed{x.ID[:]},
		&x.Name, &x.Connector, &x.ConnectorVersion,
		fixed{x.ConnectorDigest[:]},
		&x.Method,
		jsonText{&x.Vars},
		&x.ClientName,
		jsonText{&x.Scopes},
		fixed{x.Owner[:]},
		fixed{x.Client[:]},
		&x.Revision, &x.CreatedBy,
		moment{&x.Created},
		moment{&x.Changed},
		jsonText{&x.Customers},
	}
}

// Template reads a template.
func (o Org) Template(t id.Template) (*Template, error) {
	x := &Template{}
	err := o.q.row(`
		SELECT `+templateColumns+`
		FROM connection_template
		WHERE organization_id = $1 AND template_id = $2 AND deleted = 0`,
		[]any{o.id[:], t[:]}, o.scanTemplate(x)...)
	if err != nil {
		return nil, err
	}
	return x, nil
}

// Templates lists templates in the order of their ids, after one; of all connectors, or of
// one.
func (o Org) Templates(connector string, after id.Template, limit int) ([]Template, error) {
	var list []Template
	err := o.q.rows(`
		SELECT `+templateColumns+`
		FROM connection_template
		WHERE organization_id = $1 AND template_id > $2 AND deleted = 0 AND ($3 = '' OR connector = $3)
		ORDER BY template_id
		LIMIT $4`,
		[]any{o.id[:], after[:], connector, int64(limit)}, func(r scanner) error {
			var x Template
			if err := r.Scan(o.scanTemplate(&x)...); err != nil {
				return err
			}
			list = append(list, x)
			return nil
		})
	return list, err
}
