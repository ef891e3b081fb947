package store

// Backlog counts the events of a customer that were accepted and whose execution has not
// begun, and their bytes. What executions call is not among them.
func (c Customer) Backlog() (events, bytes int64, err error) {
	err = c.q.row(`
		SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT)
		FROM execution
		WHERE shard = $1 AND finished = 0 AND customer_id = $2 AND status = 'pending' AND first_started = 0 AND parent_id IS NULL`,
		[]any{int64(ShardOf(c.id)), c.id[:]}, &events, &bytes)
	return events, bytes, err
}

// Backlog is what [Customer.Backlog] counts, of one shard.
type Backlog struct {
	Shard         uint8
	Events, Bytes int64
}

// Backlogs counts the events that have not begun of every shard that has some.
func (s System) Backlogs() ([]Backlog, error) {
	var list []Backlog
	err := s.q.rows(`
		SELECT shard, COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT)
		FROM execution
		WHERE finished = 0 AND status = 'pending' AND first_started = 0 AND parent_id IS NULL
		GROUP BY shard`, nil, func(r scanner) error {
		var x Backlog
		err := r.Scan(&x.Shard, &x.Events, &x.Bytes)
		list = append(list, x)
		return err
	})
	return list, err
}
