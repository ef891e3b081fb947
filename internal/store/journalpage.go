package store

import (
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// JournalAfter reads up to limit entries of an execution behind one of its entries, in
// order, with bodies of up to maxBody bytes: a larger one is left out, which each is told.
// The error of each ends the reading and is returned.
func (c Customer) JournalAfter(e id.Execution, after uint32, limit, maxBody int, each func(x *wire.Entry, leftOut bool) error) error {
	return c.q.rows(`
		SELECT seq, kind, path, epoch, hash, CASE WHEN LENGTH(body) <= $5 THEN body END, LENGTH(body) > $5
		FROM entry
		WHERE customer_id = $1 AND execution_id = $2 AND seq > $3
		ORDER BY seq
		LIMIT $4`,
		[]any{c.id[:], e[:], int64(after), int64(limit), int64(maxBody)}, func(r scanner) error {
			var x wire.Entry
			var leftOut bool
			if err := r.Scan(&x.Seq, &x.Kind, &x.Path, &x.Epoch, fixed{x.Hash[:]}, &x.Body, &leftOut); err != nil {
				return err
			}
			return each(&x, leftOut)
		})
}

// JournalEntries reads entries by their numbers, in the order of these. A number without
// an entry is left out. The error of each ends the reading and is returned.
func (c Customer) JournalEntries(e id.Execution, seqs []uint32, each func(*wire.Entry) error) error {
	for _, seq := range seqs {
		err := c.q.rows(`
			SELECT seq, kind, path, epoch, hash, body
			FROM entry
			WHERE customer_id = $1 AND execution_id = $2 AND seq = $3`,
			[]any{c.id[:], e[:], int64(seq)}, func(r scanner) error {
				var x wire.Entry
				if err := r.Scan(&x.Seq, &x.Kind, &x.Path, &x.Epoch, fixed{x.Hash[:]}, &x.Body); err != nil {
					return err
				}
				return each(&x)
			})
		if err != nil {
			return err
		}
	}
	return nil
}

// WakeHeads reads the wakes of an execution in order of arrival without their bodies, and
// how many bytes these have together.
func (c Customer) WakeHeads(e id.Execution) (list []wire.Entry, bytes int64, err error) {
	err = c.q.rows(`
		SELECT number, path, reason, hash, LENGTH(body)
		FROM wake
		WHERE customer_id = $1 AND execution_id = $2
		ORDER BY number`,
		[]any{c.id[:], e[:]}, func(r scanner) error {
			x := wire.Entry{Kind: wire.EntryWake}
			var size int64
			if err := r.Scan(&x.Seq, &x.Path, &x.Epoch, fixed{x.Hash[:]}, &size); err != nil {
				return err
			}
			bytes += size
			list = append(list, x)
			return nil
		})
	return list, bytes, err
}

// WakesByNumber reads wakes by their numbers, in the order of these. A number without a
// wake is left out. The error of each ends the reading and is returned.
func (c Customer) WakesByNumber(e id.Execution, numbers []uint32, each func(*wire.Entry) error) error {
	for _, number := range numbers {
		err := c.q.rows(`
			SELECT number, path, reason, hash, body
			FROM wake
			WHERE customer_id = $1 AND execution_id = $2 AND number = $3`,
			[]any{c.id[:], e[:], int64(number)}, func(r scanner) error {
				x := wire.Entry{Kind: wire.EntryWake}
				if err := r.Scan(&x.Seq, &x.Path, &x.Epoch, fixed{x.Hash[:]}, &x.Body); err != nil {
					return err
				}
				return each(&x)
			})
		if err != nil {
			return err
		}
	}
	return nil
}
