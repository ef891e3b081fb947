package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Hook is one address of a flow with a webhook. The address itself is not stored: only
// the SHA-256 of its token is.
type Hook struct {
	Customer   id.Customer
	Instance   id.Instance
	Flow       string
	Generation uint32    // from 1; a rotation makes the next
	Created    time.Time //
	Closes     time.Time // when it ends, which may be to come; zero: it is open
}

// PutHook stores an address, or opens the one with that hash again.
func (c CustomerTx) PutHook(hash [32]byte, h *Hook, now time.Time) error {
	return c.tx.send(`
		INSERT INTO hook (hash, customer_id, instance_id, flow, generation, created)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (hash) DO UPDATE
		SET deleted = 0`,
		hash[:], c.id[:], h.Instance[:], h.Flow, int64(h.Generation), micros(now))
}

// CloseHooks ends the addresses of a flow up to a generation at a time, unless they end
// before it.
func (c CustomerTx) CloseHooks(i id.Instance, flow string, generation uint32, at time.Time) error {
	return c.tx.send(`
		UPDATE hook
		SET deleted = $5
		WHERE customer_id = $1 AND instance_id = $2 AND flow = $3 AND generation <= $4 AND (deleted = 0 OR deleted > $5)`,
		c.id[:], i[:], flow, int64(generation), micros(at))
}

// Hooks lists the addresses of an instance, those of a flow together, the newest first.
func (c Customer) Hooks(i id.Instance) ([]Hook, error) {
	var list []Hook
	err := c.q.rows(`
		SELECT flow, generation, created, deleted
		FROM hook
		WHERE customer_id = $1 AND instance_id = $2
		ORDER BY flow, generation DESC`,
		[]any{c.id[:], i[:]}, func(r scanner) error {
			h := Hook{Customer: c.id, Instance: i}
			if err := r.Scan(&h.Flow, &h.Generation, moment{&h.Created}, moment{&h.Closes}); err != nil {
				return err
			}
			list = append(list, h)
			return nil
		})
	return list, err
}

// HookByHash finds an address by the SHA-256 of its token, also one that has ended.
func (s System) HookByHash(hash [32]byte) (*Hook, error) {
	h := &Hook{}
	err := s.q.row(`
		SELECT customer_id, instance_id, flow, generation, created, deleted
		FROM hook
		WHERE hash = $1`,
		[]any{hash[:]}, fixed{h.Customer[:]}, fixed{h.Instance[:]}, &h.Flow, &h.Generation, moment{&h.Created}, moment{&h.Closes})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Profile reads how the organization describes the customer.
func (c Customer) Profile() (*CustomerRow, error) {
	x := &CustomerRow{ID: c.id}
	err := c.q.row(`
		SELECT organization_id, external_id, internal, title, timezone, locale, attributes, weight, revision
		FROM customer
		WHERE customer_id = $1 AND deleted = 0`,
		[]any{c.id[:]}, fixed{x.Organization[:]}, &x.ExternalID, &x.Internal, &x.Title, &x.Timezone, &x.Locale, &x.Attributes,
		&x.Weight, &x.Revision)
	if err != nil {
		return nil, err
	}
	return x, nil
}
