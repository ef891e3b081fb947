package keystore

import (
	"context"
	"crypto/hmac"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// maxLeaves is the most leaves that one call of [Store.Leaves] returns.
const maxLeaves = 1000

// Unlock checks the head with the vault's signer, loads the ledger and starts the
// writer. A store that does not agree with its head is [ErrDamaged].
func (s *Store) Unlock(ctx context.Context, sign Signer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		return fmt.Errorf("unlock keystore: %w", ErrInUse)
	}
	if err := s.check(ctx, sign); err != nil {
		return fmt.Errorf("unlock keystore: %w", err)
	}
	s.sign, s.open = sign, true
	go s.run()
	return nil
}

func (s *Store) check(ctx context.Context, sign Signer) error {
	if err := s.loadLedger(ctx); err != nil {
		return err
	}
	digests := map[int][32]byte{}
	for b := range buckets {
		digests[b] = s.ledger.bucketDigest(b, nil)
	}
	s.ledger.apply(nil, digests)
	digest, _ := s.ledger.with(nil)
	if err := s.loadTail(ctx); err != nil {
		return err
	}
	var mac []byte
	err := s.one(ctx, "head", `SELECT mac FROM head WHERE id = 1`, nil, []any{&mac})
	if errors.Is(err, ErrNotFound) {
		return s.checkEmpty(ctx)
	}
	if err != nil {
		return err
	}
	if !hmac.Equal(mac, sign(headState(s.seq, s.hash, digest))) {
		return fmt.Errorf("%w: its head does not cover its log and versions: restore the newest copy", ErrDamaged)
	}
	return nil
}

// checkEmpty accepts a store without a head only when nothing was ever written.
func (s *Store) checkEmpty(ctx context.Context) error {
	n := 0
	if err := s.one(ctx, "row counts", `SELECT (SELECT COUNT(*) FROM root) + (SELECT COUNT(*) FROM seed) + (SELECT COUNT(*) FROM customer_key)
		+ (SELECT COUNT(*) FROM ledger) + (SELECT COUNT(*) FROM leaf) + (SELECT COUNT(*) FROM identity)`, nil, []any{&n}); err != nil {
		return err
	}
	if n != 0 {
		return fmt.Errorf("%w: it has no head", ErrDamaged)
	}
	return nil
}

func (s *Store) loadLedger(ctx context.Context) error {
	all := map[entry]Version{}
	err := s.each(ctx, "ledger", `SELECT kind, subject, version, gone FROM ledger`, nil, func(r *sql.Rows) error {
		var e entry
		var v Version
		var subject []byte
		if err := r.Scan(&e.Kind, &subject, &v.Number, &v.Gone); err != nil {
			return err
		}
		if len(subject) != len(e.Subject) || v.Number == 0 {
			return ErrDamaged
		}
		copy(e.Subject[:], subject)
		all[e] = v
		return nil
	})
	s.ledger.apply(all, nil)
	return err
}

// loadTail reads the newest leaf and checks its hash against the one before it.
func (s *Store) loadTail(ctx context.Context) error {
	var last uint64
	if err := s.one(ctx, "log", `SELECT COALESCE(MAX(seq), 0) FROM leaf`, nil, []any{&last}); err != nil || last == 0 {
		return err
	}
	tail, err := s.Leaves(ctx, max(last, 2)-2, 2)
	if err != nil {
		return err
	}
	if len(tail) == 0 || tail[len(tail)-1].Seq != last {
		return fmt.Errorf("%w: leaf %d of the log cannot be read", ErrDamaged, last)
	}
	s.seq, s.hash = last, tail[len(tail)-1].Hash
	if len(tail) == 2 {
		return follows(tail[0].Hash, tail[0].Seq, &tail[1])
	}
	return follows([32]byte{}, 0, &tail[0])
}

// follows checks that a leaf comes right after the one with that hash.
func follows(before [32]byte, seq uint64, l *Leaf) error {
	if l.Seq != seq+1 || l.digest(before) != l.Hash {
		return fmt.Errorf("%w: leaf %d of the log was changed or the one before it is missing", ErrDamaged, l.Seq)
	}
	return nil
}

// Head is the number and the hash of the newest leaf. A copy kept elsewhere shows
// later whether the log still contains it.
func (s *Store) Head() (seq uint64, hash [32]byte) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.seq, s.hash
}

// Version is what the ledger says of a subject, as of the last commit.
func (s *Store) Version(kind Kind, subject Subject) Version {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.ledger.get(entry{kind, subject})
}

// Leaves are at most n leaves after number after, in order.
func (s *Store) Leaves(ctx context.Context, after uint64, n int) ([]Leaf, error) {
	var all []Leaf
	err := s.each(ctx, "log", `SELECT seq, time, kind, customer_id, requester_id, body, hash FROM leaf WHERE seq > $1 ORDER BY seq LIMIT $2`,
		[]any{after, min(n, maxLeaves)}, func(r *sql.Rows) error {
			var l Leaf
			var us int64
			var customer, requester, hash []byte
			if err := r.Scan(&l.Seq, &us, &l.Kind, &customer, &requester, &l.Body, &hash); err != nil {
				return err
			}
			if len(customer) != len(l.Customer) || len(requester) != len(l.Requester) || len(hash) != len(l.Hash) {
				return ErrDamaged
			}
			l.Time = time.UnixMicro(us).UTC()
			copy(l.Customer[:], customer)
			copy(l.Requester[:], requester)
			copy(l.Hash[:], hash)
			all = append(all, l)
			return nil
		})
	return all, err
}

// VerifyLog checks every leaf against the one before it, and the last against the
// head. It returns how many there are.
func (s *Store) VerifyLog(ctx context.Context) (uint64, error) {
	seq, hash := s.Head()
	var at Leaf
	for at.Seq < seq {
		if err := ctx.Err(); err != nil {
			return at.Seq, fmt.Errorf("verify log: %w", err)
		}
		page, err := s.Leaves(ctx, at.Seq, maxLeaves)
		if err != nil {
			return at.Seq, fmt.Errorf("verify log: %w", err)
		}
		if len(page) == 0 {
			return at.Seq, fmt.Errorf("verify log: %w: it ends at leaf %d of %d", ErrDamaged, at.Seq, seq)
		}
		for i := range page {
			if err := follows(at.Hash, at.Seq, &page[i]); err != nil {
				return at.Seq, fmt.Errorf("verify log: %w", err)
			}
			if at = page[i]; at.Seq == seq {
				break
			}
		}
	}
	if at.Hash != hash {
		return at.Seq, fmt.Errorf("verify log: %w: leaf %d is not the one that was written", ErrDamaged, at.Seq)
	}
	return at.Seq, nil
}
