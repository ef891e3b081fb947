package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Blob is the row of a sealed blob whose content is in the blob store.
type Blob struct {
	ID        id.Blob
	Execution id.Execution // who made it
	Day       uint32
	Size      uint64 // sealed bytes
	Chunks    uint32
}

// PutBlob records a complete blob.
func (c CustomerTx) PutBlob(b *Blob, now time.Time) error {
	err := c.tx.send(`
		INSERT INTO blob (customer_id, blob_id, execution_id, day, size, chunks, created)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		c.id[:], b.ID[:], b.Execution[:], int64(b.Day), int64(b.Size), int64(b.Chunks), micros(now))
	return err
}

// Blob reads the row of a blob.
func (c Customer) Blob(b id.Blob) (*Blob, error) {
	x := &Blob{ID: b}
	err := c.q.row(`
		SELECT execution_id, day, size, chunks
		FROM blob
		WHERE customer_id = $1 AND blob_id = $2`,
		[]any{c.id[:], b[:]}, fixed{x.Execution[:]}, &x.Day, &x.Size, &x.Chunks)
	if err != nil {
		return nil, err
	}
	return x, nil
}

// PutFlowRecord stores one record of a call out.
func (c CustomerTx) PutFlowRecord(m *wire.FlowRecord) error {
	err := c.tx.send(`
		INSERT INTO flow_record (customer_id, request_id, done, instance_id, execution_id, connection_id, node_id, at,
			method, host, address, status, sent, received, duration, verdict, scrubbed)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
		ON CONFLICT (customer_id, request_id, done) DO NOTHING`,
		c.id[:], m.Request[:], m.Done, m.Instance[:], m.Execution[:], m.Connection[:], m.Node[:], micros(m.Time),
		m.Method, m.Host, m.Address, int64(m.Status), int64(m.Sent), int64(m.Received), m.Duration.Microseconds(),
		m.Verdict, int64(m.Scrubbed))
	return err
}

// Deduplicate remembers the key of a delivery until a time. When the key was seen before
// and its time has not come, it returns the execution of that delivery and seen.
func (c CustomerTx) Deduplicate(i id.Instance, flow string, key [32]byte, e id.Execution, now, until time.Time) (first id.Execution, seen bool, err error) {
	n, err := c.tx.exec(`
		INSERT INTO dedupe (customer_id, instance_id, flow, key_hash, execution_id, until)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (customer_id, instance_id, flow, key_hash) DO UPDATE
		SET execution_id = excluded.execution_id, until = excluded.until
		WHERE dedupe.until <= $7`,
		c.id[:], i[:], flow, key[:], e[:], micros(until), micros(now))
	if err != nil || n > 0 {
		return e, false, err
	}
	err = c.q.row(`
		SELECT execution_id
		FROM dedupe
		WHERE customer_id = $1 AND instance_id = $2 AND flow = $3 AND key_hash = $4`,
		[]any{c.id[:], i[:], flow, key[:]}, fixed{first[:]})
	return first, true, err
}

// FlowRecords lists the records of calls out in a time, the oldest first.
func (c Customer) FlowRecords(from, until time.Time, limit int) ([]wire.FlowRecord, error) {
	var list []wire.FlowRecord
	err := c.q.rows(`
		SELECT request_id, done, instance_id, execution_id, connection_id, node_id, at, method, host, address, status, sent,
			received, duration, verdict, scrubbed
		FROM flow_record
		WHERE customer_id = $1 AND at >= $2 AND at < $3
		ORDER BY at, request_id, done
		LIMIT $4`,
		[]any{c.id[:], micros(from), micros(until), int64(limit)}, func(r scanner) error {
			m := wire.FlowRecord{Customer: c.id}
			var duration int64
			err := r.Scan(fixed{m.Request[:]}, &m.Done, fixed{m.Instance[:]}, fixed{m.Execution[:]}, fixed{m.Connection[:]},
				fixed{m.Node[:]}, moment{&m.Time}, &m.Method, &m.Host, &m.Address, &m.Status, &m.Sent, &m.Received, &duration,
				&m.Verdict, &m.Scrubbed)
			if err != nil {
				return err
			}
			m.Duration = time.Duration(duration) * time.Microsecond
			list = append(list, m)
			return nil
		})
	return list, err
}
