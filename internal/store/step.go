package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// StepInfo is what the journal says of one step path, in clear.
type StepInfo struct {
	Path     string
	First    uint32 // number of its first entry
	Results  uint32
	Faults   uint32
	Attempts uint32
	Waits    uint32 // open ones
	Logs     bool
	Began    time.Time
	Last     time.Time
}

// Steps lists the step paths of an execution by their first entries, after one.
func (c Customer) Steps(x id.Execution, after uint32, limit int) ([]StepInfo, error) {
	var list []StepInfo
	err := c.q.rows(`
		SELECT e.path, MIN(e.seq), SUM(CASE WHEN e.kind IN ($3, $7) THEN 1 ELSE 0 END), SUM(CASE WHEN e.kind = $4 THEN 1 ELSE 0 END),
			SUM(CASE WHEN e.kind = $5 THEN 1 ELSE 0 END), SUM(CASE WHEN e.kind = $6 THEN 1 ELSE 0 END), MIN(e.committed), MAX(e.committed),
			(SELECT COUNT(*) FROM wait w WHERE w.customer_id = $1 AND w.execution_id = $2 AND w.path = e.path AND w.open = TRUE)
		FROM entry e
		WHERE e.customer_id = $1 AND e.execution_id = $2 AND e.path <> ''
		GROUP BY e.path
		HAVING MIN(e.seq) > $8
		ORDER BY MIN(e.seq)
		LIMIT $9`,
		[]any{
			c.id[:], x[:], int64(wire.EntryResult), int64(wire.EntryFault), int64(wire.EntryAttempt), int64(wire.EntryLog), int64(wire.EntryReply),
			int64(after), int64(limit),
		}, func(r scanner) error {
			var s StepInfo
			var logs int64
			err := r.Scan(&s.Path, &s.First, &s.Results, &s.Faults, &s.Attempts, &logs, moment{&s.Began}, moment{&s.Last}, &s.Waits)
			if err != nil {
				return err
			}
			s.Logs = logs > 0
			list = append(list, s)
			return nil
		})
	return list, err
}
