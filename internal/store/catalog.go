package store

import (
	"cmp"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Organization is a row of the organization table.
type Organization struct {
	ID   id.Org
	Name string
}

// CustomerRow is a row of the customer table.
type CustomerRow struct {
	ID           id.Customer
	Organization id.Org
	ExternalID   string // the organization's own name for it
	Internal     bool   // the organization itself
	Title        string // what people call it
	Timezone     string // IANA name; default UTC
	Locale       string // BCP 47 tag; default en
	Attributes   []byte // JSON object that flows see; default {}
	Weight       uint32 // share of the scheduler's turns, from 1
	Revision     uint64 // counts changes
}

// Version is a published version of an integration.
type Version struct {
	Integration id.Integration
	Number      uint32
	Digest      [32]byte
	Profile     uint32
	Definition  []byte // canonical JSON
}

// PutOrganization inserts an organization unless it exists.
func (s SystemTx) PutOrganization(o *Organization, now time.Time) error {
	err := s.tx.send(`
		INSERT INTO organization (organization_id, name, created)
		VALUES ($1, $2, $3)
		ON CONFLICT (organization_id) DO NOTHING`,
		o.ID[:], o.Name, micros(now))
	return err
}

// PutCustomer inserts a customer, or changes the one with the same external id. It
// returns the id under which the customer is kept.
func (s SystemTx) PutCustomer(c *CustomerRow, now time.Time) (id.Customer, error) {
	var kept id.Customer
	err := s.tx.returning(`
		INSERT INTO customer (customer_id, organization_id, external_id, internal, title, timezone, locale, attributes, shard, weight, created, changed)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
		ON CONFLICT (organization_id, external_id) DO UPDATE
		SET title = excluded.title, timezone = excluded.timezone, locale = excluded.locale, attributes = excluded.attributes,
			weight = excluded.weight, changed = excluded.changed, revision = customer.revision + 1, deleted = 0
		RETURNING customer_id`,
		[]any{
			c.ID[:], c.Organization[:], c.ExternalID, c.Internal, c.Title, cmp.Or(c.Timezone, "UTC"), cmp.Or(c.Locale, "en"),
			cmp.Or(string(c.Attributes), "{}"), int64(ShardOf(c.ID)), int64(max(c.Weight, 1)), micros(now),
		}, fixed{kept[:]})
	return kept, err
}

// Weights returns the scheduling weight of every customer whose weight is not 1.
func (s System) Weights() (map[id.Customer]uint32, error) {
	weights := map[id.Customer]uint32{}
	err := s.q.rows(`SELECT customer_id, weight FROM customer WHERE weight > 1 AND deleted = 0`, nil, func(r scanner) error {
		var c id.Customer
		var w uint32
		if err := r.Scan(fixed{c[:]}, &w); err != nil {
			return err
		}
		weights[c] = w
		return nil
	})
	return weights, err
}

// Publish adds a version of the integration of that name, unless its newest version has
// the same digest. It sets v.Integration and v.Number to those that are kept.
func (s SystemTx) Publish(org id.Org, name string, v *Version, now time.Time) error {
	err := s.tx.returning(`
		INSERT INTO integration (integration_id, organization_id, name, created)
		VALUES ($1, $2, $3, $4)
		ON CONFLICT (organization_id, name) DO UPDATE
		SET deleted = 0
		RETURNING integration_id`,
		[]any{v.Integration[:], org[:], name, micros(now)}, fixed{v.Integration[:]})
	if err != nil {
		return err
	}
	var newest [32]byte
	var number uint32
	err = s.q.row(`
		SELECT version, digest
		FROM integration_version
		WHERE integration_id = $1
		ORDER BY version DESC
		LIMIT 1`,
		[]any{v.Integration[:]}, &number, fixed{newest[:]})
	switch {
	case err == nil && newest == v.Digest:
		v.Number = number
		return nil
	case err != nil && !isNotFound(err):
		return err
	}
	v.Number = number + 1
	err = s.tx.send(`
		INSERT INTO integration_version (integration_id, version, digest, profile, definition, created)
		VALUES ($1, $2, $3, $4, $5, $6)`,
		v.Integration[:], int64(v.Number), v.Digest[:], int64(v.Profile), string(v.Definition), micros(now))
	return err
}

// Version finds a published version by its digest. The same definition published twice
// has one content, so that any of them serves for that; which integration and number it has
// in an organization [Org.VersionByDigest] says.
func (s System) Version(digest [32]byte) (*Version, error) {
	v := &Version{Digest: digest}
	err := s.q.row(`
		SELECT integration_id, version, profile, definition
		FROM integration_version
		WHERE digest = $1
		ORDER BY integration_id, version
		LIMIT 1`,
		[]any{digest[:]}, fixed{v.Integration[:]}, &v.Number, &v.Profile, &v.Definition)
	if err != nil {
		return nil, err
	}
	return v, nil
}
