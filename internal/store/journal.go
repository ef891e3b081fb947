package store

import (
	"bytes"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Advance makes room for entries at the end of the journal of a running execution. It
// returns the sequence of the last one and the expiry day. [ErrNotFound] means that the
// fence is stale, or that entries with numbers do not follow the last one: nothing may be
// written. Entries without a number follow whatever is there.
func (c CustomerTx) Advance(e id.Execution, fence uint64, entries []wire.Entry) (last, day uint32, err error) {
	err = c.tx.returning(`
		UPDATE execution
		SET last_seq = last_seq + $4, interruptions = 0, size = size + $5
		WHERE customer_id = $1 AND execution_id = $2 AND fence = $3 AND status = 'running' AND (last_seq + 1 = $6 OR $6 = 0)
		RETURNING last_seq, day`,
		[]any{c.id[:], e[:], int64(fence), int64(len(entries)), int64(SizeOf(entries)), firstNumber(entries)}, &last, &day)
	return last, day, err
}

// firstNumber is the number that the first entry claims; 0: none.
func firstNumber(entries []wire.Entry) int64 {
	if len(entries) == 0 {
		return 0
	}
	return int64(entries[0].Seq)
}

// Repeats reports whether entries are in the journal of an execution that is running under
// the fence, each under its number and the same in all that a resume goes by.
func (c CustomerTx) Repeats(e id.Execution, fence uint64, entries []wire.Entry) (bool, error) {
	if firstNumber(entries) == 0 {
		return false, nil
	}
	if holds, err := c.Holds(e, fence); err != nil || !holds {
		return false, err
	}
	seqs := make([]uint32, len(entries))
	for i := range entries {
		seqs[i] = entries[i].Seq
	}
	same := 0
	err := c.JournalEntries(e, seqs, func(x *wire.Entry) error {
		if y := &entries[same]; x.Seq == y.Seq && x.Kind == y.Kind && x.Path == y.Path && x.Epoch == y.Epoch && x.Hash == y.Hash && bytes.Equal(x.Body, y.Body) {
			same++
		}
		return nil
	})
	return same == len(entries), err
}

// Finish is Advance together with the end of an execution's stay in a worker. A finish
// with status waiting whose worker has not seen every wake leaves the execution pending.
func (c CustomerTx) Finish(e id.Execution, fence uint64, entries []wire.Entry, f *wire.Finish, now time.Time) (*Ended, error) {
	status, ok := StatusOf(f.Status)
	if !ok {
		return nil, ErrNotFound
	}
	x := &Ended{Fence: fence}
	dest := []any{&x.Status, &x.LastSeq, &x.Day, fixed{x.Runner[:]}, fixed{x.Parent[:]}, &x.ParentPath, &x.Awaited}
	var err error
	if status == Waiting {
		err = c.tx.returning(`
			UPDATE execution
			SET last_seq = last_seq + $4, interruptions = 0, lease_until = 0, size = size + $6,
				status = CASE WHEN wakes > $5 THEN 'pending' ELSE 'waiting' END
			WHERE customer_id = $1 AND execution_id = $2 AND fence = $3 AND status = 'running'
			RETURNING status, last_seq, day, runner_id, parent_id, parent_path, awaited`,
			[]any{c.id[:], e[:], int64(fence), int64(len(entries)), int64(f.Wakes), int64(SizeOf(entries))}, dest...)
	} else {
		err = c.tx.returning(`
			UPDATE execution
			SET last_seq = last_seq + $4, interruptions = 0, lease_until = 0, status = $5, finished = $6, error_type = $7,
				error_step = $8, output = $9, size = size + $10
			WHERE customer_id = $1 AND execution_id = $2 AND fence = $3 AND status = 'running'
			RETURNING status, last_seq, day, runner_id, parent_id, parent_path, awaited`,
			[]any{
				c.id[:], e[:], int64(fence), int64(len(entries)), string(status), micros(now), f.ErrorType, f.ErrorStep, f.Output,
				int64(SizeOf(entries)),
			}, dest...)
	}
	if err != nil {
		return nil, err
	}
	return x, nil
}

// SizeOf is what entries count in the size of an execution, in bytes.
func SizeOf(entries []wire.Entry) int {
	n := 0
	for i := range entries {
		n += len(entries[i].Body) + len(entries[i].Path)
	}
	return n
}

// InsertEntries writes entries whose last one has the sequence last.
func (c CustomerTx) InsertEntries(e id.Execution, entries []wire.Entry, last, day uint32, now time.Time) error {
	seq := int64(last) - int64(len(entries))
	for i := range entries {
		x := &entries[i]
		seq++
		err := c.tx.send(`
			INSERT INTO entry (customer_id, execution_id, seq, kind, path, epoch, hash, day, committed, body, took, error_type)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			c.id[:], e[:], seq, int64(x.Kind), x.Path, int64(x.Epoch), x.Hash[:], int64(day), micros(now), blob(x.Body),
			x.Took.Microseconds(), x.ErrorType)
		if err != nil {
			return err
		}
	}
	return nil
}

// Journal reads the journal of an execution in order.
func (c Customer) Journal(e id.Execution) ([]wire.Entry, error) {
	return c.entries(`
		SELECT seq, kind, path, epoch, hash, body
		FROM entry
		WHERE customer_id = $1 AND execution_id = $2
		ORDER BY seq`, e)
}

// Wakes reads the wakes of an execution in order of arrival, as entries.
func (c Customer) Wakes(e id.Execution) ([]wire.Entry, error) {
	list, err := c.entries(`
		SELECT number, 0, path, reason, hash, body
		FROM wake
		WHERE customer_id = $1 AND execution_id = $2
		ORDER BY number`, e)
	for i := range list {
		list[i].Kind = wire.EntryWake
	}
	return list, err
}

func (c Customer) entries(query string, e id.Execution, more ...any) ([]wire.Entry, error) {
	var list []wire.Entry
	err := c.q.rows(query, append([]any{c.id[:], e[:]}, more...), func(r scanner) error {
		var x wire.Entry
		if err := r.Scan(&x.Seq, &x.Kind, &x.Path, &x.Epoch, fixed{x.Hash[:]}, &x.Body); err != nil {
			return err
		}
		list = append(list, x)
		return nil
	})
	return list, err
}

// PutLabel stores the blind index of a label and its sealed value.
func (c CustomerTx) PutLabel(e id.Execution, name string, valueHash [32]byte, day uint32, sealed []byte) error {
	err := c.tx.send(`
		INSERT INTO label (customer_id, execution_id, name, value_hash, day, body)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (customer_id, execution_id, name) DO UPDATE
		SET value_hash = excluded.value_hash, body = excluded.body`,
		c.id[:], e[:], name, valueHash[:], int64(day), blob(sealed))
	return err
}

// Labelled lists executions with a label of that blind index, newest first.
func (c Customer) Labelled(valueHash [32]byte, limit int) ([]id.Execution, error) {
	var list []id.Execution
	err := c.q.rows(`
		SELECT execution_id
		FROM label
		WHERE customer_id = $1 AND value_hash = $2
		ORDER BY execution_id DESC
		LIMIT $3`,
		[]any{c.id[:], valueHash[:], int64(limit)}, func(r scanner) error {
			var e id.Execution
			if err := r.Scan(fixed{e[:]}); err != nil {
				return err
			}
			list = append(list, e)
			return nil
		})
	return list, err
}
