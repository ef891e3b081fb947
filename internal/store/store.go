package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Limits of the writer.
const (
	// batchLimit is the most closures of one transaction.
	batchLimit = 256
	// queueLimit is the most closures that wait; more wait to be queued.
	queueLimit = 4096
	// gatherFrom is the size of a batch after which the writer expects another large
	// one and lets it gather for gatherFor.
	gatherFrom = 8
	gatherFor  = 500 * time.Microsecond
	// crowdFrom and crowdFor are the same for batches of which the next ones will only be
	// larger when they come sooner: then time is saved by fewer commits.
	crowdFrom = 16
	crowdFor  = 1500 * time.Microsecond
	// retryLimit is how often a group runs again that is not to blame for its failure.
	retryLimit = 8
)

// Errors of this package, to be compared with errors.Is.
var (
	// ErrNotFound: there is no such row, or it belongs to another customer.
	ErrNotFound = errors.New("not found")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("store is closed")
)

// Store is the database of one server. It is safe for concurrent use.
type Store struct {
	write  writer
	read   *statements
	readDB *sql.DB

	queue     chan *job
	completed chan []*job   // closed by the writer
	closing   chan struct{} // closed by Close
	mu        sync.RWMutex  // held for reading while a job is queued, so that none is queued after closing
	closed    bool
	closeOnce sync.Once
	ended     sync.WaitGroup
	closeErr  error
}

// job is one closure with what follows its commit.
type job struct {
	fn   func(*Tx) error
	done func(error)
	err  error
	// careful says that what it expected once was not so.
	careful bool
}

func newStore(write writer, read *sql.DB, closing chan struct{}) *Store {
	s := &Store{
		write: write, readDB: read, read: newStatements(read),
		queue: make(chan *job, queueLimit), completed: make(chan []*job, 16), closing: closing,
	}
	s.ended.Go(s.writer)
	s.ended.Go(s.completer)
	return s
}

// Submit queues a write. done is called exactly once, after the commit or the failure,
// in the order of the commits, by one goroutine, which it must not hold up: in
// particular it must not call Submit. Submit waits only when too many writes are queued.
func (s *Store) Submit(fn func(*Tx) error, done func(error)) {
	s.mu.RLock()
	closed := s.closed
	if !closed {
		s.queue <- &job{fn: fn, done: done}
	}
	s.mu.RUnlock()
	if closed {
		done(ErrClosed)
	}
}

// Write runs a write and returns when it is committed. When the context ends first the
// write may still happen.
func (s *Store) Write(ctx context.Context, fn func(*Tx) error) error {
	result := make(chan error, 1)
	s.Submit(fn, func(err error) { result <- err })
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("write: %w", ctx.Err())
	}
}

// Close commits what is queued, ends the writer and closes the database.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(s.closing)
		s.ended.Wait()
		s.closeErr = errors.Join(s.write.close(), s.readDB.Close())
	})
	return s.closeErr
}

// writer is the one goroutine that writes.
func (s *Store) writer() {
	defer close(s.completed)
	tx := &Tx{w: s.write}
	last := 0
	for {
		batch := s.gather(last)
		if batch == nil {
			return
		}
		last = len(batch)
		s.run(tx, batch)
		s.completed <- batch
	}
}

// completer calls the done functions, so that the writer can go on with the next batch.
func (s *Store) completer() {
	for batch := range s.completed {
		for _, j := range batch {
			j.done(j.err)
		}
	}
}

// gather waits for a closure and takes what else is waiting. nil means that the store is
// closed and nothing is queued.
func (s *Store) gather(last int) []*job {
	var first *job
	select {
	case first = <-s.queue:
	case <-s.closing:
		select {
		case first = <-s.queue:
		default:
			return nil
		}
	}
	batch := append(make([]*job, 0, max(last, 8)), first)
	if batch = s.drain(batch); last >= gatherFrom && len(batch) < last {
		wait := gatherFor
		if last >= crowdFrom {
			wait = crowdFor
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-s.closing:
			t.Stop()
		}
		batch = s.drain(batch)
	}
	return batch
}

func (s *Store) drain(batch []*job) []*job {
	for len(batch) < batchLimit {
		select {
		case j := <-s.queue:
			batch = append(batch, j)
		default:
			return batch
		}
	}
	return batch
}

// run commits the closures of a batch together. One that fails after it wrote is taken
// out and the rest runs again; after the second such failure each runs alone.
func (s *Store) run(tx *Tx, batch []*job) {
	todo := batch
	for failures, retries := 0, 0; len(todo) > 0; {
		group, rest := todo, []*job(nil)
		if failures > 1 {
			group, rest = todo[:1], todo[1:]
		}
		failed, again := s.try(tx, group)
		switch {
		case again != nil && retries < retryLimit:
			retries++
			continue
		case again != nil:
			fail(group, again)
			fallthrough
		case failed < 0:
			todo, retries = rest, 0
			continue
		}
		failures++
		left := make([]*job, 0, len(todo))
		left = append(append(left, group[:failed]...), group[failed+1:]...)
		todo = append(left, rest...)
	}
}

// try runs a group in one transaction. It returns the index of the closure that must be
// taken out, or -1 when each job of the group has its result, or why the whole group
// should run again.
func (s *Store) try(tx *Tx, group []*job) (failed int, again error) {
	if err := tx.w.begin(); err != nil {
		fail(group, fmt.Errorf("begin transaction: %w", err))
		return -1, nil
	}
	for i, j := range group {
		tx.w.job(i)
		tx.careful = j.careful
		before := tx.written
		j.err = j.fn(tx)
		f := tx.w.failed()
		if f == nil && !tx.broken && (j.err == nil || tx.written == before) {
			continue
		}
		tx.broken = false
		tx.w.rollback()
		if f == nil {
			f = &failure{job: i, err: errBroken}
		}
		return f.sentence(group)
	}
	if err := tx.w.commit(); err != nil {
		f := tx.w.failed()
		tx.w.rollback()
		if f != nil {
			return f.sentence(group)
		}
		fail(group, fmt.Errorf("commit: %w", err))
	}
	return -1, nil
}

// errBroken is for a closure that went on after a statement of it had failed.
var errBroken = errors.New("a statement of the write failed")

// sentence says who of a group is taken out for a failure.
func (f *failure) sentence(group []*job) (failed int, again error) {
	if f.unmet {
		for _, j := range group {
			j.careful = true
		}
	}
	if f.again {
		return -1, f.err
	}
	if j := group[f.job]; j.err == nil {
		j.err = f.err
	}
	return f.job, nil
}

func fail(group []*job, err error) {
	for _, j := range group {
		j.err = errors.Join(j.err, err)
	}
}
