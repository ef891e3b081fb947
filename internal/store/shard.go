package store

import (
	"context"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// ShardClaim is a shard that a server schedules. The fence counts its holders.
type ShardClaim struct {
	Shard uint8
	Fence uint64
}

// PrepareShards makes the rows of all shards, claimed by nobody, unless they are there.
func (s SystemTx) PrepareShards() error {
	var nobody id.Node
	for shard := range int64(Shards) {
		err := s.tx.send(`
			INSERT INTO shard_lease (shard, server_id, fence, until)
			VALUES ($1, $2, 0, 0)
			ON CONFLICT (shard) DO NOTHING`,
			shard, nobody[:])
		if err != nil {
			return err
		}
	}
	return nil
}

// ClaimShards makes a server the scheduler of the shards that it has and of those whose
// claim is over, until a time, and returns them. A shard's fence counts up when it was
// another's.
func (s SystemTx) ClaimShards(server id.Node, now, until time.Time) ([]ShardClaim, error) {
	var list []ShardClaim
	err := s.tx.returningAll(`
		UPDATE shard_lease
		SET server_id = $1, until = $3, fence = CASE WHEN server_id = $1 THEN fence ELSE fence + 1 END
		WHERE server_id = $1 OR until <= $2
		RETURNING shard, fence`,
		[]any{server[:], micros(now), micros(until)}, func(r scanner) error {
			var x ShardClaim
			err := r.Scan(&x.Shard, &x.Fence)
			list = append(list, x)
			return err
		})
	return list, err
}

// EndClaims ends what a server has claimed, because it has ended or is about to.
func (s SystemTx) EndClaims(server id.Node) error {
	return s.tx.send(`UPDATE shard_lease SET until = 0 WHERE server_id = $1`, server[:])
}

// ShardHolders lists the servers whose claims were not ended, lapsed or not.
func (s System) ShardHolders() ([]id.Node, error) {
	var list []id.Node
	err := s.q.rows(`SELECT DISTINCT server_id FROM shard_lease WHERE until > 0`, nil, func(r scanner) error {
		var n id.Node
		err := r.Scan(fixed{n[:]})
		list = append(list, n)
		return err
	})
	return list, err
}

// Notice tells who schedules a shard that another server changed an execution.
type Notice struct {
	Shard     uint8
	ID        [16]byte
	Customer  id.Customer
	Execution id.Execution
}

// PutNotice leaves a notice about an execution of the customer, in the transaction that
// changes it.
func (c CustomerTx) PutNotice(e id.Execution, now time.Time) error {
	n := id.NewEvent(now)
	return c.tx.send(`
		INSERT INTO notice (shard, notice_id, customer_id, execution_id, created)
		VALUES ($1, $2, $3, $4, $5)`,
		int64(ShardOf(c.id)), n[:], c.id[:], e[:], micros(now))
}

// Notices lists notices of the shards that a server has.
func (s System) Notices(server id.Node, limit int) ([]Notice, error) {
	var list []Notice
	err := s.q.rows(`
		SELECT shard, notice_id, customer_id, execution_id
		FROM notice
		WHERE shard IN (SELECT shard FROM shard_lease WHERE server_id = $1)
		ORDER BY notice_id
		LIMIT $2`,
		[]any{server[:], int64(limit)}, func(r scanner) error {
			var x Notice
			err := r.Scan(&x.Shard, fixed{x.ID[:]}, fixed{x.Customer[:]}, fixed{x.Execution[:]})
			list = append(list, x)
			return err
		})
	return list, err
}

// DropNotice removes a notice that a server has acted on, unless the shard is another's
// by now: that one may not have seen it.
func (s SystemTx) DropNotice(n *Notice, server id.Node) error {
	return s.tx.send(`
		DELETE FROM notice
		WHERE shard = $1 AND notice_id = $2 AND EXISTS (SELECT 1 FROM shard_lease WHERE shard = $1 AND server_id = $3)`,
		int64(n.Shard), n.ID[:], server[:])
}

// OpenExecution finds an execution of a customer that has not ended. [ErrNotFound] means
// that it has.
func (s System) OpenExecution(c id.Customer, e id.Execution) (*Unfinished, error) {
	var got *Unfinished
	err := s.q.rows(`
		SELECT `+openColumns+`
		FROM execution
		WHERE customer_id = $1 AND execution_id = $2 AND finished = 0`,
		[]any{c[:], e[:]}, scanOpen(func(x *Unfinished) error { got = x; return nil }))
	if err == nil && got == nil {
		err = ErrNotFound
	}
	return got, err
}

// ChangedInstance is an instance that was changed, or removed.
type ChangedInstance struct {
	Customer id.Customer
	Instance id.Instance
	Revision uint64
	Removed  bool
}

// ChangedInstances lists the instances that were changed since a time.
func (s System) ChangedInstances(since time.Time) ([]ChangedInstance, error) {
	var list []ChangedInstance
	err := s.q.rows(`SELECT customer_id, instance_id, revision, deleted > 0 FROM instance WHERE changed >= $1`,
		[]any{micros(since)}, func(r scanner) error {
			var x ChangedInstance
			err := r.Scan(fixed{x.Customer[:]}, fixed{x.Instance[:]}, &x.Revision, &x.Removed)
			list = append(list, x)
			return err
		})
	return list, err
}

// returningAll runs a writing statement with a RETURNING clause.
func (tx *Tx) returningAll(query string, args []any, each func(scanner) error) error {
	err := tx.w.rows(context.Background(), query, args, each)
	if err != nil {
		tx.broken = true
		return err
	}
	tx.written++
	return nil
}
