package store

import (
	"time"
)

// Kept is what is known of a request that carried an idempotency key. Status 0 means that
// it has not been answered yet.
type Kept struct {
	Request [32]byte // hash of the request
	Status  int
	Answer  string
}

// BeginRequest claims an idempotency key for a request until a time. When it was claimed
// before and that time has not come, it returns what is known of that request.
func (o OrgTx) BeginRequest(key, request [32]byte, now, until time.Time) (*Kept, error) {
	n, err := o.tx.exec(`
		INSERT INTO idempotency (organization_id, key_hash, request_hash, status, answer, until)
		VALUES ($1, $2, $3, 0, '', $4)
		ON CONFLICT (organization_id, key_hash) DO UPDATE
		SET request_hash = excluded.request_hash, status = 0, answer = '', until = excluded.until
		WHERE idempotency.until <= $5`,
		o.id[:], key[:], request[:], micros(until), micros(now))
	if err != nil || n > 0 {
		return nil, err
	}
	k := &Kept{}
	err = o.q.row(`
		SELECT request_hash, status, answer
		FROM idempotency
		WHERE organization_id = $1 AND key_hash = $2`,
		[]any{o.id[:], key[:]}, fixed{k.Request[:]}, &k.Status, &k.Answer)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// EndRequest keeps the answer to the request of a key until a time.
func (o OrgTx) EndRequest(key, request [32]byte, status int, answer string, until time.Time) error {
	return o.tx.send(`
		UPDATE idempotency
		SET status = $4, answer = $5, until = $6
		WHERE organization_id = $1 AND key_hash = $2 AND request_hash = $3 AND status = 0`,
		o.id[:], key[:], request[:], int64(status), answer, micros(until))
}

// ForgetRequest frees the key of a request that failed.
func (o OrgTx) ForgetRequest(key, request [32]byte) error {
	return o.tx.send(`
		DELETE FROM idempotency
		WHERE organization_id = $1 AND key_hash = $2 AND request_hash = $3 AND status = 0`,
		o.id[:], key[:], request[:])
}

// SweepRequests removes up to limit keys whose time has come.
func (s SystemTx) SweepRequests(now time.Time, limit int) error {
	return s.tx.send(`
		DELETE FROM idempotency
		WHERE (organization_id, key_hash) IN (SELECT organization_id, key_hash FROM idempotency WHERE until <= $1 LIMIT $2)`,
		micros(now), int64(limit))
}
