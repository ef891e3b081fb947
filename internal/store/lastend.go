package store

import "github.com/bulkheadhq/bulkhead/internal/id"

// lastAmong is among how many of the newest executions of a customer [Customer.LastEnds] looks.
const lastAmong = 1000

// LastEnds lists how the newest executions of an instance ended that completed or faulted and
// that no other called, the newest first. It looks among the newest of the customer only.
func (c Customer) LastEnds(i id.Instance, limit int) ([]Status, error) {
	var list []Status
	err := c.q.rows(`
		SELECT status
		FROM (
			SELECT execution_id, instance_id, status, parent_id
			FROM execution
			WHERE customer_id = $1
			ORDER BY execution_id DESC
			LIMIT $3) AS newest
		WHERE instance_id = $2 AND parent_id IS NULL AND (status = 'completed' OR status = 'faulted')
		ORDER BY execution_id DESC
		LIMIT $4`,
		[]any{c.id[:], i[:], int64(lastAmong), int64(limit)}, func(r scanner) error {
			var s Status
			err := r.Scan(&s)
			list = append(list, s)
			return err
		})
	return list, err
}
