package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// CustomerOf finds the customer of an execution.
func (s System) CustomerOf(e id.Execution) (id.Customer, error) {
	var c id.Customer
	err := s.q.row(`SELECT customer_id FROM execution WHERE execution_id = $1 AND deleted = 0`, []any{e[:]}, fixed{c[:]})
	return c, err
}

// InFlightCaps returns the cap of every instance that has one of its own.
func (s System) InFlightCaps() (map[id.Instance]uint32, error) {
	caps := map[id.Instance]uint32{}
	err := s.q.rows(`SELECT instance_id, in_flight_cap FROM instance WHERE in_flight_cap > 0 AND deleted = 0`, nil, func(r scanner) error {
		var i id.Instance
		var n uint32
		if err := r.Scan(fixed{i[:]}, &n); err != nil {
			return err
		}
		caps[i] = n
		return nil
	})
	return caps, err
}

// Unfinished is an execution that has not ended, as the scheduler needs it.
type Unfinished struct {
	Customer  id.Customer
	Execution id.Execution
	Instance  id.Instance
	Digest    [32]byte
	Status    Status
	Fence     uint64
	Runner    id.Node
	Expires   time.Time
	Day       uint32
	Flow      string
	OrderKey  [32]byte // see [Execution]
	Size      int64
	Retries   uint32
	Begun     bool // it was given to a runner at least once
	Called    bool // by another execution, not by an event
}

// openColumns are the columns in the order of scanOpen.
const openColumns = `customer_id, execution_id, instance_id, digest, status, fence, runner_id, expires, day, flow, order_key, size,
	retries, first_started > 0, parent_id IS NOT NULL`

// OpenExecutions lists the executions of a shard that are pending or running, and those
// that wait and have an order key, in order of acceptance.
func (s System) OpenExecutions(shard uint8, each func(*Unfinished) error) error {
	return s.q.rows(`
		SELECT `+openColumns+`
		FROM execution
		WHERE shard = $1 AND finished = 0 AND (status <> 'waiting' OR order_key IS NOT NULL)
		ORDER BY execution_id`,
		[]any{int64(shard)}, scanOpen(each))
}

// Expiring lists the executions of a shard that have not ended and expire before a time.
func (s System) Expiring(shard uint8, before time.Time, limit int, each func(*Unfinished) error) error {
	return s.q.rows(`
		SELECT `+openColumns+`
		FROM execution
		WHERE shard = $1 AND finished = 0 AND expires < $2
		ORDER BY expires
		LIMIT $3`,
		[]any{int64(shard), micros(before), int64(limit)}, scanOpen(each))
}

func scanOpen(each func(*Unfinished) error) func(scanner) error {
	return func(r scanner) error {
		var x Unfinished
		err := r.Scan(fixed{x.Customer[:]}, fixed{x.Execution[:]}, fixed{x.Instance[:]}, fixed{x.Digest[:]}, &x.Status,
			&x.Fence, fixed{x.Runner[:]}, moment{&x.Expires}, &x.Day, &x.Flow, fixed{x.OrderKey[:]}, &x.Size, &x.Retries, &x.Begun,
			&x.Called)
		if err != nil {
			return err
		}
		return each(&x)
	}
}

// OpenChildren lists the children of an execution for which it waits and that have not
// ended.
func (c Customer) OpenChildren(parent id.Execution) ([]id.Execution, error) {
	var list []id.Execution
	err := c.q.rows(`
		SELECT execution_id
		FROM execution
		WHERE customer_id = $1 AND parent_id = $2 AND parent_path <> '' AND awaited = TRUE AND finished = 0`,
		[]any{c.id[:], parent[:]}, func(r scanner) error {
			var e id.Execution
			if err := r.Scan(fixed{e[:]}); err != nil {
				return err
			}
			list = append(list, e)
			return nil
		})
	return list, err
}
