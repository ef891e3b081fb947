package store

import "github.com/bulkheadhq/bulkhead/internal/id"

// EndedAfter lists deleted connections of all customers in order of their ids, from one on. Their rows stay: they say what a
// keystore that was restored must not have.
func (s System) EndedAfter(after id.Connection, limit int) ([]Owned, error) {
	var list []Owned
	err := s.q.rows(`
		SELECT customer_id, connection_id
		FROM connection
		WHERE connection_id > $1 AND deleted <> 0
		ORDER BY connection_id
		LIMIT $2`,
		[]any{after[:], int64(limit)}, func(r scanner) error {
			var x Owned
			err := r.Scan(fixed{x.Customer[:]}, fixed{x.Connection[:]})
			list = append(list, x)
			return err
		})
	return list, err
}
