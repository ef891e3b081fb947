package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"
)

// preparer is a connection or a pool.
type preparer interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// statements keeps every statement of a connection prepared. The number of statements
// is that of the texts in this package. It is safe for concurrent use.
type statements struct {
	db preparer

	mu   sync.RWMutex
	open map[string]*sql.Stmt
}

func newStatements(db preparer) *statements {
	return &statements{db: db, open: map[string]*sql.Stmt{}}
}

func (s *statements) get(ctx context.Context, query string) (*sql.Stmt, error) {
	s.mu.RLock()
	st := s.open[query]
	s.mu.RUnlock()
	if st != nil {
		return st, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.open[query]; st != nil {
		return st, nil
	}
	st, err := s.db.PrepareContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("prepare statement: %w", err)
	}
	s.open[query] = st
	return st, nil
}

func (s *statements) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.open {
		_ = st.Close() // the connection is closed next
	}
	clear(s.open)
}

// scanner is one row of a result.
type scanner interface {
	Scan(dest ...any) error
}

// session runs reading statements: on the readers' pool, or inside a transaction.
type session interface {
	// rows calls each on every row of a result. It must not use the session.
	rows(ctx context.Context, query string, args []any, each func(scanner) error) error
	// row scans exactly one row; none is [ErrNotFound].
	row(ctx context.Context, query string, args, dest []any) error
}

var _ session = (*statements)(nil)

func (s *statements) rows(ctx context.Context, query string, args []any, each func(scanner) error) error {
	st, err := s.get(ctx, query)
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(ctx, args...)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	for rows.Next() {
		if err := each(rows); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	return nil
}

func (s *statements) row(ctx context.Context, query string, args, dest []any) error {
	st, err := s.get(ctx, query)
	if err != nil {
		return err
	}
	if err := st.QueryRowContext(ctx, args...).Scan(dest...); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		return fmt.Errorf("query: %w", err)
	}
	return nil
}

// querier is a session with the context of who reads.
type querier struct {
	ctx context.Context //nolint:containedctx // a handle is made for one call chain
	on  session
}

func (q querier) rows(query string, args []any, each func(scanner) error) error {
	return q.on.rows(q.ctx, query, args, each)
}

func (q querier) row(query string, args []any, dest ...any) error {
	return q.on.row(q.ctx, query, args, dest)
}

// writer is the one connection that writes, of either engine. It is for one goroutine.
type writer interface {
	session
	begin() error
	// exec runs a writing statement and returns how many rows it changed.
	exec(query string, args []any) (int64, error)
	// send is exec for those who need not know how many rows it changed: it may fail only
	// when a later statement or the commit does, and returns at least how many rows.
	send(query string, args []any) (int64, error)
	// expect is exec of a statement that changes one row, for those who can go on as if it
	// had: when that shows later to be wrong, the statement is one that failed.
	expect(query string, args []any) (bool, error)
	// commit returns an error when nothing was committed.
	commit() error
	rollback()
	// job says to which closure the following statements belong.
	job(i int)
	// failed is the statement that made the transaction useless, or nil when it is the
	// one that has just returned an error, if any.
	failed() *failure
	close() error
}

// failure is a statement that failed.
type failure struct {
	job   int // the closure it belongs to
	err   error
	again bool // the same may succeed in another transaction
	unmet bool // it changed no row, and was expected to: the same succeeds when it is waited for
}

// Tx is the transaction of a write. It is valid until the closure returns.
type Tx struct {
	w       writer
	written int64 // rows written on this connection
	broken  bool  // a statement failed: the transaction must be rolled back
	careful bool  // the closure that runs may expect nothing

	// The arguments and results of one statement, copied so that those of the callers
	// stay on their stacks.
	args, dest []any
}

func (tx *Tx) querier() querier { return querier{context.Background(), tx.w} }

// exec runs a writing statement and returns how many rows it changed.
func (tx *Tx) exec(query string, args ...any) (int64, error) {
	tx.args = append(tx.args[:0], args...)
	n, err := tx.w.exec(query, tx.args)
	clear(tx.args)
	if err != nil {
		tx.broken = true
		return 0, fmt.Errorf("write: %w", err)
	}
	tx.written += n
	return n, nil
}

// send runs a writing statement of which only the success matters, which may show later.
func (tx *Tx) send(query string, args ...any) error {
	tx.args = append(tx.args[:0], args...)
	n, err := tx.w.send(query, tx.args)
	clear(tx.args)
	if err != nil {
		tx.broken = true
		return fmt.Errorf("write: %w", err)
	}
	tx.written += n
	return nil
}

// expect runs a writing statement that most likely changes one row. When it says that it
// did, and did not, the closure runs again and must not ask (see careful).
func (tx *Tx) expect(query string, args ...any) (bool, error) {
	tx.args = append(tx.args[:0], args...)
	ok, err := tx.w.expect(query, tx.args)
	clear(tx.args)
	switch {
	case err != nil:
		tx.broken = true
		return false, fmt.Errorf("write: %w", err)
	case ok:
		tx.written++
	}
	return ok, nil
}

// returning runs a writing statement with a RETURNING clause that changes at most one
// row; none is [ErrNotFound].
func (tx *Tx) returning(query string, args []any, dest ...any) error {
	tx.args, tx.dest = append(tx.args[:0], args...), append(tx.dest[:0], dest...)
	err := tx.w.row(context.Background(), query, tx.args, tx.dest)
	clear(tx.args)
	clear(tx.dest)
	switch {
	case err == nil:
		tx.written++
	case !errors.Is(err, ErrNotFound):
		tx.broken = true
	}
	return err
}

// fixed scans a byte string of known length into an array. NULL leaves it zero.
type fixed struct{ to []byte }

// Scan implements sql.Scanner.
func (f fixed) Scan(src any) error {
	switch b := src.(type) {
	case nil:
		clear(f.to)
		return nil
	case []byte:
		if len(b) == len(f.to) {
			copy(f.to, b)
			return nil
		}
	}
	return fmt.Errorf("column holds %T, want %d bytes", src, len(f.to))
}

// moment scans a time. 0 leaves it zero.
type moment struct{ to *time.Time }

// Scan implements sql.Scanner.
func (m moment) Scan(src any) error {
	us, ok := src.(int64)
	if !ok {
		return fmt.Errorf("column holds %T, want a time", src)
	}
	*m.to = fromMicros(us)
	return nil
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// blob is b as an argument of a column that is not null.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// optional is the argument of an array that is NULL when it is zero.
func optional(b []byte) any {
	for _, x := range b {
		if x != 0 {
			return b
		}
	}
	return nil
}
