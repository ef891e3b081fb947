package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Removal is an instance that is being removed.
type Removal struct {
	Customer id.Customer
	Instance id.Instance
	Test     bool // it is a test run's
	Since    time.Time
}

// Removals lists the instances that are being removed.
func (s System) Removals() ([]Removal, error) {
	var list []Removal
	err := s.q.rows(`
		SELECT i.customer_id, i.instance_id, i.changed, g.hidden
		FROM instance i
		JOIN integration g ON g.integration_id = i.integration_id
		WHERE i.state = 'removing' AND i.deleted = 0`, nil, func(r scanner) error {
		var x Removal
		err := r.Scan(fixed{x.Customer[:]}, fixed{x.Instance[:]}, moment{&x.Since}, &x.Test)
		list = append(list, x)
		return err
	})
	return list, err
}

// OpenOf is an execution of an instance that has not ended.
type OpenOf struct {
	ID       id.Execution
	Status   Status
	Accepted time.Time
}

// OpenOf lists up to limit executions of an instance that have not ended.
func (c Customer) OpenOf(i id.Instance, limit int) ([]OpenOf, error) {
	var list []OpenOf
	err := c.q.rows(`
		SELECT execution_id, status, accepted
		FROM execution
		WHERE shard = $1 AND finished = 0 AND customer_id = $2 AND instance_id = $3
		LIMIT $4`,
		[]any{int64(ShardOf(c.id)), c.id[:], i[:], int64(limit)}, func(r scanner) error {
			var x OpenOf
			err := r.Scan(fixed{x.ID[:]}, &x.Status, moment{&x.Accepted})
			list = append(list, x)
			return err
		})
	return list, err
}

// Started reports whether an instance has an execution of a flow by that kind of trigger that
// was accepted at a time or later.
func (c Customer) Started(i id.Instance, flow, trigger string, since time.Time) (bool, error) {
	var n int64
	err := c.q.row(`
		SELECT COUNT(*)
		FROM execution
		WHERE customer_id = $1 AND execution_id >= $2 AND instance_id = $3 AND trigger_kind = $4 AND accepted >= $5 AND flow = $6`,
		[]any{c.id[:], firstID(since), i[:], trigger, micros(since), flow}, &n)
	return n > 0, err
}

// firstID is an id before those that were made from a time on.
func firstID(t time.Time) []byte {
	x := id.NewExecution(t.Add(-time.Minute))
	clear(x[6:])
	return x[:]
}

// RemoveInstance leaves a tombstone of an instance that is being removed and has no open
// execution, without its config, its connections, its state and what started its flows.
// [ErrNotFound] means that it is not, or has.
func (c CustomerTx) RemoveInstance(i id.Instance, now time.Time) error {
	open, err := c.OpenOf(i, 1)
	if err != nil {
		return err
	}
	if len(open) > 0 {
		return ErrNotFound
	}
	n, err := c.tx.exec(`
		UPDATE instance
		SET deleted = $3, changed = $3, revision = revision + 1, config = $4, config_version = 0
		WHERE customer_id = $1 AND instance_id = $2 AND state = 'removing' AND deleted = 0`,
		c.id[:], i[:], micros(now), []byte{})
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return err
	}
	for _, query := range []string{
		`DELETE FROM instance_slot WHERE customer_id = $1 AND instance_id = $2`,
		`DELETE FROM state WHERE customer_id = $1 AND instance_id = $2`,
		`DELETE FROM hook WHERE customer_id = $1 AND instance_id = $2`,
		`DELETE FROM rejection WHERE customer_id = $1 AND instance_id = $2`,
		`DELETE FROM schedule WHERE customer_id = $1 AND instance_id = $2`,
		`DELETE FROM dedupe WHERE customer_id = $1 AND instance_id = $2`,
	} {
		if err := c.tx.send(query, c.id[:], i[:]); err != nil {
			return err
		}
	}
	return nil
}

// InstancesIn lists the instances in a state.
func (s System) InstancesIn(state InstanceState) ([]id.Instance, error) {
	var list []id.Instance
	err := s.q.rows(`SELECT instance_id FROM instance WHERE state = $1 AND deleted = 0`, []any{string(state)}, func(r scanner) error {
		var i id.Instance
		err := r.Scan(fixed{i[:]})
		list = append(list, i)
		return err
	})
	return list, err
}

// JudgeInstance changes the state of an instance from one to another, if it has that. It
// reports whether it did.
func (c CustomerTx) JudgeInstance(i id.Instance, from, to InstanceState, now time.Time) (bool, error) {
	n, err := c.tx.exec(`
		UPDATE instance
		SET state = $4, changed = $5, revision = revision + 1
		WHERE customer_id = $1 AND instance_id = $2 AND state = $3 AND deleted = 0`,
		c.id[:], i[:], string(from), string(to), micros(now))
	return n > 0, err
}

// CountWaiting is how many executions wait.
func (s System) CountWaiting() (int, error) {
	var n int64
	err := s.q.row(`SELECT COUNT(*) FROM execution WHERE finished = 0 AND status = 'waiting'`, nil, &n)
	return int(n), err
}
