package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// MaxRejections is how many rejections of a flow are kept: the newest.
const MaxRejections = 50

// Rejection is a request to a webhook that started nothing, with what is known of the later
// ones like it.
type Rejection struct {
	At      time.Time // of the last of them
	Reason  string    // one of a fixed list
	Size    int64     // of the last body, in bytes; -1: not known
	Repeats uint64    // how many like it came after the first
}

// PutRejection stores rejections of one flow for one reason. They add to the newest row when
// that has the same reason; else the oldest of [MaxRejections] gives way.
func (c CustomerTx) PutRejection(i id.Instance, flow string, r *Rejection) error {
	var number int64
	var reason string
	err := c.q.row(`
		SELECT number, reason
		FROM rejection
		WHERE customer_id = $1 AND instance_id = $2 AND flow = $3
		ORDER BY number DESC
		LIMIT 1`,
		[]any{c.id[:], i[:], flow}, &number, &reason)
	if err != nil && !isNotFound(err) {
		return err
	}
	if err == nil && reason == r.Reason {
		return c.tx.send(`
			UPDATE rejection
			SET at = $5, size = $6, repeats = repeats + $7
			WHERE customer_id = $1 AND instance_id = $2 AND flow = $3 AND number = $4`,
			c.id[:], i[:], flow, number, micros(r.At), r.Size, int64(r.Repeats)+1)
	}
	err = c.tx.send(`
		INSERT INTO rejection (customer_id, instance_id, flow, number, at, reason, size, repeats)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		c.id[:], i[:], flow, number+1, micros(r.At), r.Reason, r.Size, int64(r.Repeats))
	if err != nil {
		return err
	}
	return c.tx.send(`
		DELETE FROM rejection
		WHERE customer_id = $1 AND instance_id = $2 AND flow = $3 AND number <= $4`,
		c.id[:], i[:], flow, number+1-MaxRejections)
}

// Rejections lists the rejections of a flow, the newest first.
func (c Customer) Rejections(i id.Instance, flow string) ([]Rejection, error) {
	var list []Rejection
	err := c.q.rows(`
		SELECT at, reason, size, repeats
		FROM rejection
		WHERE customer_id = $1 AND instance_id = $2 AND flow = $3
		ORDER BY number DESC`,
		[]any{c.id[:], i[:], flow}, func(r scanner) error {
			var x Rejection
			if err := r.Scan(moment{&x.At}, &x.Reason, &x.Size, &x.Repeats); err != nil {
				return err
			}
			list = append(list, x)
			return nil
		})
	return list, err
}

// FlowRejection is a rejection with the flow whose webhook it was sent to.
type FlowRejection struct {
	Flow string
	Rejection
}

// InstanceRejections lists the rejections of all flows of an instance, the newest first.
func (c Customer) InstanceRejections(i id.Instance, limit int) ([]FlowRejection, error) {
	var list []FlowRejection
	err := c.q.rows(`
		SELECT flow, at, reason, size, repeats
		FROM rejection
		WHERE customer_id = $1 AND instance_id = $2
		ORDER BY at DESC
		LIMIT $3`,
		[]any{c.id[:], i[:], int64(limit)}, func(r scanner) error {
			var x FlowRejection
			if err := r.Scan(&x.Flow, moment{&x.At}, &x.Reason, &x.Size, &x.Repeats); err != nil {
				return err
			}
			list = append(list, x)
			return nil
		})
	return list, err
}
