package keystore

import (
	"context"
	"errors"
	"fmt"
	"maps"
)

// maxBatch is the most closures that share a transaction.
const maxBatch = 256

// job is one closure on its way to the writer. answer has room for its one result.
type job struct {
	ctx    context.Context
	do     func(*Tx) error
	answer chan error
	alone  bool   // no other closure may share the transaction
	after  func() // runs after the commit and before any other closure
	shreds bool
}

// state is what a transaction changes in memory when it is committed.
type state struct {
	changes map[entry]Version
	seq     uint64
	hash    [32]byte
	sign    Signer
	shreds  bool
}

// Tx is the transaction of one closure. It must not be kept.
type Tx struct {
	rows
	ctx   context.Context
	store *Store
	batch *state // of the closures before this one in the same transaction
	own   state
}

// Write runs do in a transaction and returns when it is committed, or do's error
// when it was undone. do runs in the writer's goroutine: it must be short, must not
// call Write, and must have no effect outside the transaction.
func (s *Store) Write(ctx context.Context, do func(*Tx) error) error {
	return s.send(&job{ctx: ctx, do: do, answer: make(chan error, 1)})
}

// WriteAlone is Write for a closure that changes what other closures rely on in
// memory: it shares its transaction with none, and after runs when it is committed,
// before the next closure.
func (s *Store) WriteAlone(ctx context.Context, do func(*Tx) error, after func()) error {
	return s.send(&job{ctx: ctx, do: do, answer: make(chan error, 1), alone: true, after: after})
}

func (s *Store) send(j *job) error {
	s.mu.RLock()
	open := s.open
	s.mu.RUnlock()
	if !open {
		return fmt.Errorf("write keystore: %w: it is not unlocked", ErrClosed)
	}
	select {
	case s.jobs <- j:
	case <-s.done:
		return fmt.Errorf("write keystore: %w", ErrClosed)
	case <-j.ctx.Done():
		return fmt.Errorf("write keystore: %w", j.ctx.Err())
	}
	select {
	case err := <-j.answer:
		return err
	case <-s.stopped:
		select { // the writer may have answered just before it ended
		case err := <-j.answer:
			return err
		default:
			return fmt.Errorf("write keystore: %w", ErrClosed)
		}
	}
}

// run is the writer. It ends when the store is closed, after the jobs already taken.
func (s *Store) run() {
	defer close(s.stopped)
	var held *job // taken while the batch before it was gathered
	for {
		first := held
		if first == nil {
			select {
			case first = <-s.jobs:
			case <-s.done:
				return
			}
		}
		var jobs []*job
		jobs, held = s.gather(first)
		s.serve(jobs)
	}
}

// gather takes the jobs that wait behind the first one and may share its transaction.
func (s *Store) gather(first *job) (jobs []*job, held *job) {
	jobs = []*job{first}
	for len(jobs) < maxBatch && !first.alone {
		select {
		case j := <-s.jobs:
			if j.alone {
				return jobs, j
			}
			jobs = append(jobs, j)
		default:
			return jobs, nil
		}
	}
	return jobs, nil
}

// serve runs the jobs in one transaction and answers them.
func (s *Store) serve(jobs []*job) {
	results := make([]error, len(jobs))
	err := s.transact(jobs, results)
	for i, j := range jobs {
		if results[i] == nil {
			results[i] = err
		}
		j.answer <- results[i]
	}
}

// transact runs the jobs, each in a savepoint, and commits. results gets the errors
// of single jobs; the returned error is of the whole transaction. A job's context
// does not reach its statements: SQLite ends the whole transaction when one is interrupted.
func (s *Store) transact(jobs []*job, results []error) (err error) {
	ctx := context.Background()
	if err := s.in.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.in.exec(ctx, "ROLLBACK"))
		}
	}()
	b := &state{changes: map[entry]Version{}, seq: s.seq, hash: s.hash, sign: s.sign}
	for i, j := range jobs {
		if results[i] = j.ctx.Err(); results[i] != nil {
			continue
		}
		if results[i], err = s.runJob(ctx, b, j); err != nil {
			return err
		}
	}
	digest, changed := s.ledger.with(b.changes)
	if err := s.in.exec(ctx, "INSERT OR REPLACE INTO head (id, mac) VALUES (1, $1)", b.sign(headState(b.seq, b.hash, digest))); err != nil {
		return fmt.Errorf("write head: %w", err)
	}
	if err := s.in.exec(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	s.mu.Lock()
	s.ledger.apply(b.changes, changed)
	s.seq, s.hash, s.sign = b.seq, b.hash, b.sign
	s.mu.Unlock()
	for i, j := range jobs {
		if j.after != nil && results[i] == nil {
			j.after()
		}
	}
	if b.shreds {
		s.shred(ctx, jobs, results)
	}
	return nil
}

// runJob runs one closure. failed is its own error, after which the transaction goes
// on without it; err means that the transaction cannot.
func (s *Store) runJob(ctx context.Context, b *state, j *job) (failed, err error) {
	if err := s.in.exec(ctx, "SAVEPOINT job"); err != nil {
		return nil, err
	}
	tx := &Tx{rows: s.in, ctx: ctx, store: s, batch: b, own: state{seq: b.seq, hash: b.hash, sign: b.sign}}
	if failed = j.do(tx); failed != nil {
		if err := s.in.exec(ctx, "ROLLBACK TO job"); err != nil {
			return nil, err
		}
	}
	if err := s.in.exec(ctx, "RELEASE job"); err != nil {
		return nil, err
	}
	if failed == nil {
		maps.Copy(b.changes, tx.own.changes)
		b.seq, b.hash, b.sign, b.shreds = tx.own.seq, tx.own.hash, tx.own.sign, b.shreds || tx.own.shreds
		j.shreds = tx.own.shreds
	}
	return failed, nil
}

// shred moves what the write-ahead log holds into the file, where deleted content
// was overwritten, and empties the log. When that fails the deletions are committed
// all the same; their callers learn that traces may remain.
func (s *Store) shred(ctx context.Context, jobs []*job, results []error) {
	var busy, frames, moved int
	err := s.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved)
	if err == nil && busy != 0 {
		err = errors.New("a reader held the log")
	}
	for i, j := range jobs {
		if err != nil && j.shreds {
			results[i] = fmt.Errorf("empty the write-ahead log after a deletion: %w", err)
		}
	}
}
