package store

import (
	"fmt"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// filter makes the condition of a list: its texts are constants of this package, what
// callers give are arguments.
type filter struct {
	where []string
	args  []any
}

// and adds a condition with one argument, whose place is %d.
func (f *filter) and(condition string, arg any) {
	f.args = append(f.args, arg)
	f.where = append(f.where, fmt.Sprintf(condition, len(f.args)))
}

func (f *filter) String() string { return strings.Join(f.where, " AND ") }

// limit adds the argument of LIMIT and returns its place.
func (f *filter) limit(n int) string {
	f.args = append(f.args, int64(n))
	return fmt.Sprintf("$%d", len(f.args))
}

// CustomerInfo is a customer with its times.
type CustomerInfo struct {
	CustomerRow
	Created time.Time
	Changed time.Time
}

const customerColumns = `customer_id, external_id, internal, title, timezone, locale, attributes, weight, revision, created, changed`

func (o Org) scanCustomer(c *CustomerInfo) []any {
	c.Organization = o.id
	return []any{
		fixed{c.ID[:]},
		&c.ExternalID, &c.Internal, &c.Title, &c.Timezone, &c.Locale, &c.Attributes, &c.Weight, &c.Revision,
		moment{&c.Created},
		moment{&c.Changed},
	}
}

// Customers lists customers in the order of their ids, after one.
func (o Org) Customers(after id.Customer, limit int) ([]CustomerInfo, error) {
	var list []CustomerInfo
	err := o.q.rows(`
		SELECT `+customerColumns+`
		FROM customer
		WHERE organization_id = $1 AND customer_id > $2 AND deleted = 0
		ORDER BY customer_id
		LIMIT $3`,
		[]any{o.id[:], after[:], int64(limit)}, func(r scanner) error {
			var c CustomerInfo
			if err := r.Scan(o.scanCustomer(&c)...); err != nil {
				return err
			}
			list = append(list, c)
			return nil
		})
	return list, err
}

// Customer reads a customer.
func (o Org) Customer(c id.Customer) (*CustomerInfo, error) {
	x := &CustomerInfo{}
	err := o.q.row(`
		SELECT `+customerColumns+`
		FROM customer
		WHERE organization_id = $1 AND customer_id = $2 AND deleted = 0`,
		[]any{o.id[:], c[:]}, o.scanCustomer(x)...)
	if err != nil {
		return nil, err
	}
	return x, nil
}

// DeleteCustomer leaves a tombstone of a customer that has no instances and no connections,
// whose credentials nobody could reach to destroy them afterwards. Its external id may name
// another customer then. inUse means that it has some, or is the organization itself.
func (o OrgTx) DeleteCustomer(c id.Customer, now time.Time) (inUse bool, err error) {
	if inUse, err := o.CustomerInUse(c); err != nil || inUse {
		return inUse, err
	}
	// The tombstone keeps no description, and frees the external id.
	return false, o.tx.send(`
		UPDATE customer
		SET deleted = $3, changed = $3, external_id = $4, title = '', attributes = '{}', revision = revision + 1
		WHERE organization_id = $1 AND customer_id = $2 AND deleted = 0`,
		o.id[:], c[:], micros(now), c.String())
}

// Using lists the instances that have a connection in a slot, of any customer of the
// organization.
func (o Org) Using(n id.Connection) (list []InstanceKey, err error) {
	err = o.q.rows(`
		SELECT s.customer_id, s.instance_id
		FROM instance_slot s
		JOIN customer c ON c.customer_id = s.customer_id
		JOIN instance i ON i.customer_id = s.customer_id AND i.instance_id = s.instance_id
		JOIN integration g ON g.integration_id = i.integration_id
		WHERE c.organization_id = $1 AND s.connection_id = $2 AND i.deleted = 0 AND substr(g.name, 1, 7) <> $3
		ORDER BY s.instance_id, s.slot`,
		[]any{o.id[:], n[:], ProbePrefix}, func(r scanner) error {
			var k InstanceKey
			if err := r.Scan(fixed{k.Customer[:]}, fixed{k.Instance[:]}); err != nil {
				return err
			}
			if len(list) == 0 || list[len(list)-1] != k {
				list = append(list, k)
			}
			return nil
		})
	return list, err
}

// InstanceKey names an instance of a customer.
type InstanceKey struct {
	Customer id.Customer
	Instance id.Instance
}

// InstanceInfo is an instance with what lists show of it.
type InstanceInfo struct {
	Instance
	Name     string // of the integration
	Version  uint32
	Previous uint32 // version before; 0: none
	Created  time.Time
	Changed  time.Time
}

// InstanceQuery says which instances are listed. Zero fields mean any.
type InstanceQuery struct {
	Customer    id.Customer
	Integration id.Integration
	State       InstanceState
	After       id.Instance
}

// Instances lists instances in the order of their ids; not those of test runs.
func (o Org) Instances(q *InstanceQuery, limit int) ([]InstanceInfo, error) {
	var f filter
	f.and("c.organization_id = $%d", o.id[:])
	f.and("i.instance_id > $%d", q.After[:])
	f.and("g.hidden = $%d", false)
	if !q.Customer.IsZero() {
		f.and("i.customer_id = $%d", q.Customer[:])
	}
	if !q.Integration.IsZero() {
		f.and("i.integration_id = $%d", q.Integration[:])
	}
	if q.State != "" {
		f.and("i.state = $%d", string(q.State))
	}
	return o.instances(&f, limit)
}

// Instance reads an instance with its slots.
func (o Org) Instance(i id.Instance) (*InstanceInfo, error) {
	var f filter
	f.and("c.organization_id = $%d", o.id[:])
	f.and("i.instance_id = $%d", i[:])
	list, err := o.instances(&f, 1)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return &list[0], nil
}

func (o Org) instances(f *filter, limit int) ([]InstanceInfo, error) {
	var list []InstanceInfo
	err := o.q.rows(`
		SELECT i.customer_id, i.instance_id, i.integration_id, i.digest, i.state, i.config_version, i.in_flight_cap, i.revision,
			i.created, i.changed, g.name,
			COALESCE((SELECT MAX(v.version) FROM integration_version v WHERE v.integration_id = i.integration_id AND v.digest = i.digest), 0),
			COALESCE((SELECT MAX(v.version) FROM integration_version v WHERE v.integration_id = i.integration_id AND v.digest = i.previous_digest), 0)
		FROM instance i
		JOIN customer c ON c.customer_id = i.customer_id
		JOIN integration g ON g.integration_id = i.integration_id
		WHERE i.deleted = 0 AND c.deleted = 0 AND `+f.String()+`
		ORDER BY i.instance_id
		LIMIT `+f.limit(limit),
		f.args, func(r scanner) error {
			var x InstanceInfo
			err := r.Scan(fixed{x.Customer[:]}, fixed{x.ID[:]}, fixed{x.Integration[:]}, fixed{x.Digest[:]}, &x.State, &x.ConfigVersion,
				&x.InFlightCap, &x.Revision, moment{&x.Created}, moment{&x.Changed}, &x.Name, &x.Version, &x.Previous)
			if err != nil {
				return err
			}
			list = append(list, x)
			return nil
		})
	if err != nil {
		return nil, err
	}
	for n := range list {
		x := &list[n]
		if x.Slots, err = (Customer{o.q, x.Customer}).slots(x.ID); err != nil {
			return nil, err
		}
	}
	return list, nil
}
