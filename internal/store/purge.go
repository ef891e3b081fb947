package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Row is an execution as retention looks at it.
type Row struct {
	Customer  id.Customer
	Execution id.Execution
	Event     id.Event
	Day       uint32
	Finished  time.Time // zero: it has not ended
	Emptied   bool      // [CustomerTx.Empty] is done with it
}

// Rows lists executions of all customers from one on, in order of their ids, which is that
// of their acceptance. It reads through the one index that every acceptance keeps in any case.
func (s System) Rows(after id.Execution, limit int) ([]Row, error) {
	list := make([]Row, 0, limit)
	err := s.q.rows(`
		SELECT customer_id, execution_id, event_id, day, finished, emptied
		FROM execution
		WHERE execution_id > $1
		ORDER BY execution_id
		LIMIT $2`,
		[]any{after[:], int64(limit)}, func(r scanner) error {
			var x Row
			err := r.Scan(fixed{x.Customer[:]}, fixed{x.Execution[:]}, fixed{x.Event[:]}, &x.Day, moment{&x.Finished}, &x.Emptied)
			list = append(list, x)
			return err
		})
	return list, err
}

// Empty deletes what is sealed of an execution that has ended and whose day is before
// today: journal, wakes, waits, labels, logs, its event and its output. Its metadata stays. It deletes at
// most limit rows of each table, and reports whether nothing is left.
func (c CustomerTx) Empty(x *Row, today uint32, limit int) (done bool, err error) {
	if x.Day >= today || x.Finished.IsZero() {
		return false, ErrNotFound
	}
	for _, query := range []string{
		`DELETE FROM entry
		WHERE customer_id = $1 AND execution_id = $2 AND seq IN (
			SELECT seq FROM entry WHERE customer_id = $1 AND execution_id = $2 ORDER BY seq LIMIT $3)`,
		`DELETE FROM wake
		WHERE customer_id = $1 AND execution_id = $2 AND number IN (
			SELECT number FROM wake WHERE customer_id = $1 AND execution_id = $2 ORDER BY number LIMIT $3)`,
		`DELETE FROM wait
		WHERE customer_id = $1 AND execution_id = $2 AND path IN (
			SELECT path FROM wait WHERE customer_id = $1 AND execution_id = $2 ORDER BY path LIMIT $3)`,
		`DELETE FROM label
		WHERE customer_id = $1 AND execution_id = $2 AND name IN (
			SELECT name FROM label WHERE customer_id = $1 AND execution_id = $2 ORDER BY name LIMIT $3)`,
		`DELETE FROM log
		WHERE customer_id = $1 AND execution_id = $2 AND number IN (
			SELECT number FROM log WHERE customer_id = $1 AND execution_id = $2 ORDER BY number LIMIT $3)`,
	} {
		n, err := c.tx.exec(query, c.id[:], x.Execution[:], int64(limit))
		if err != nil || n >= int64(limit) {
			return false, err
		}
	}
	// Another execution may still need the event: then its day is later.
	if err := c.tx.send(`DELETE FROM event WHERE customer_id = $1 AND event_id = $2 AND day < $3`, c.id[:], x.Event[:], int64(today)); err != nil {
		return false, err
	}
	err = c.tx.send(`
		UPDATE execution
		SET output = NULL, emptied = TRUE
		WHERE customer_id = $1 AND execution_id = $2 AND finished > 0 AND day < $3`,
		c.id[:], x.Execution[:], int64(today))
	return err == nil, err
}

// Forget deletes the metadata of an execution that is empty and ended before a time.
func (c CustomerTx) Forget(e id.Execution, before time.Time) error {
	return c.tx.send(`
		DELETE FROM execution
		WHERE customer_id = $1 AND execution_id = $2 AND emptied = TRUE AND finished > 0 AND finished < $3`,
		c.id[:], e[:], micros(before))
}

// ExpiredBlobs lists blobs whose day is before a day.
func (s System) ExpiredBlobs(before uint32, limit int, each func(id.Customer, id.Blob)) error {
	return s.q.rows(`
		SELECT customer_id, blob_id
		FROM blob
		WHERE day < $1
		ORDER BY day
		LIMIT $2`,
		[]any{int64(before), int64(limit)}, func(r scanner) error {
			var c id.Customer
			var b id.Blob
			err := r.Scan(fixed{c[:]}, fixed{b[:]})
			each(c, b)
			return err
		})
}

// DeleteBlob deletes the row of a blob whose day is before a day.
func (c CustomerTx) DeleteBlob(b id.Blob, before uint32) error {
	return c.tx.send(`DELETE FROM blob WHERE customer_id = $1 AND blob_id = $2 AND day < $3`, c.id[:], b[:], int64(before))
}

// Lapsed is a kind of rows that are of no use after a time.
type Lapsed int

// The values of [Lapsed].
const (
	Deliveries     Lapsed = iota // by which duplicates are known
	RequestAnswers               // to requests with an idempotency key
	DeadTokens                   // that expired or were revoked
	OldRejections                // of deliveries
)

// queries delete rows up to a time; the first finds that of the last of a batch, unless
// there are few at most. Each of the first two reads a range of an index; rejections are
// a short list of each flow.
func (l Lapsed) queries() (find, remove string) {
	switch l {
	case Deliveries:
		return `SELECT until FROM dedupe WHERE until < $1 ORDER BY until LIMIT 1 OFFSET $2`, `DELETE FROM dedupe WHERE until <= $1`
	case RequestAnswers:
		return `SELECT until FROM idempotency WHERE until < $1 ORDER BY until LIMIT 1 OFFSET $2`, `DELETE FROM idempotency WHERE until <= $1`
	case DeadTokens:
		return "", `DELETE FROM token WHERE expires > 0 AND expires <= $1 OR deleted > 0 AND deleted <= $1`
	default:
		return `SELECT at FROM rejection WHERE at < $1 ORDER BY at LIMIT 1 OFFSET $2`, `DELETE FROM rejection WHERE at <= $1`
	}
}

// DeleteLapsed deletes about limit rows whose time was before a time, and reports whether
// none is left.
func (s SystemTx) DeleteLapsed(l Lapsed, before time.Time, limit int) (done bool, err error) {
	find, remove := l.queries()
	until := micros(before) - 1
	done = true
	if find != "" {
		var last int64
		switch err := s.q.row(find, []any{micros(before), int64(limit - 1)}, &last); {
		case err == nil:
			done, until = false, last
		case !isNotFound(err):
			return false, err
		}
	}
	_, err = s.tx.exec(remove, until)
	return done, err
}

// Customers lists every customer, also deleted ones.
func (s System) Customers() ([]id.Customer, error) {
	var list []id.Customer
	err := s.q.rows(`SELECT customer_id FROM customer`, nil, func(r scanner) error {
		var c id.Customer
		err := r.Scan(fixed{c[:]})
		list = append(list, c)
		return err
	})
	return list, err
}

// OldFlowRecords finds the time up to which [CustomerTx.DeleteFlowRecords] has about limit
// records to delete; zero: there is none before the time.
func (c Customer) OldFlowRecords(before time.Time, limit int) (until time.Time, err error) {
	err = c.q.row(`
		SELECT COALESCE(MAX(at), 0)
		FROM (SELECT at FROM flow_record WHERE customer_id = $1 AND at < $2 ORDER BY at LIMIT $3) AS oldest`,
		[]any{c.id[:], micros(before), int64(limit)}, moment{&until})
	return until, err
}

// DeleteFlowRecords deletes the records of calls out up to a time.
func (c CustomerTx) DeleteFlowRecords(until time.Time) error {
	return c.tx.send(`DELETE FROM flow_record WHERE customer_id = $1 AND at <= $2`, c.id[:], micros(until))
}
