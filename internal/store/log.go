package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// InsertLogs stores sealed log lines of an execution. A number that exists keeps its lines.
func (c CustomerTx) InsertLogs(e id.Execution, logs []wire.LogLines, day uint32, now time.Time) error {
	for i := range logs {
		x := &logs[i]
		err := c.tx.send(`
			INSERT INTO log (customer_id, execution_id, number, path, lines, size, day, committed, body)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			ON CONFLICT (customer_id, execution_id, number) DO NOTHING`,
			c.id[:], e[:], int64(x.Number), x.Path, int64(x.Lines), int64(len(x.Body)), int64(day), micros(now), blob(x.Body))
		if err != nil {
			return err
		}
	}
	return nil
}

// Logged is how many log lines of an execution are stored, and their sealed bytes.
func (c Customer) Logged(e id.Execution) (lines, size uint32, err error) {
	err = c.q.row(`
		SELECT COALESCE(MAX(number + lines - 1), 0), CAST(COALESCE(SUM(size), 0) AS BIGINT)
		FROM log
		WHERE customer_id = $1 AND execution_id = $2`,
		[]any{c.id[:], e[:]}, &lines, &size)
	return lines, size, err
}

// Logs reads up to limit groups of log lines after a number, in order, as entries of kind
// EntryLog: Seq and Epoch are the number of the first line.
func (c Customer) Logs(e id.Execution, after uint64, limit int) ([]wire.Entry, error) {
	return c.entries(`
		SELECT number, 8, path, number, NULL, body
		FROM log
		WHERE customer_id = $1 AND execution_id = $2 AND number > $3
		ORDER BY number
		LIMIT $4`, e, int64(after), int64(limit))
}

// StepEntry is what the database says in clear of a journal entry.
type StepEntry struct {
	Seq       uint32
	Kind      wire.EntryKind
	Path      string
	Committed time.Time
	Took      time.Duration // 0: not known
	ErrorType string        // of a fault or a failed attempt
}

// StepEntries calls each with the entries of an execution after a sequence, in order, up to
// limit. The error of each ends the reading and is returned.
func (c Customer) StepEntries(e id.Execution, after uint32, limit int, each func(*StepEntry) error) error {
	return c.q.rows(`
		SELECT seq, kind, path, committed, took, error_type
		FROM entry
		WHERE customer_id = $1 AND execution_id = $2 AND seq > $3
		ORDER BY seq
		LIMIT $4`,
		[]any{c.id[:], e[:], int64(after), int64(limit)}, func(r scanner) error {
			var x StepEntry
			var took int64
			if err := r.Scan(&x.Seq, &x.Kind, &x.Path, moment{&x.Committed}, &took, &x.ErrorType); err != nil {
				return err
			}
			x.Took = time.Duration(took) * time.Microsecond
			return each(&x)
		})
}

// OpenWaits lists the waits of an execution that nobody has answered: the path of each, its
// kind, and when it fires or times out.
func (c Customer) OpenWaits(e id.Execution, limit int) ([]wire.Wait, error) {
	var list []wire.Wait
	err := c.q.rows(`
		SELECT path, kind, at
		FROM wait
		WHERE customer_id = $1 AND execution_id = $2 AND open = TRUE
		ORDER BY path
		LIMIT $3`,
		[]any{c.id[:], e[:], int64(limit)}, func(r scanner) error {
			var w wire.Wait
			if err := r.Scan(&w.Path, &w.Kind, moment{&w.At}); err != nil {
				return err
			}
			list = append(list, w)
			return nil
		})
	return list, err
}
