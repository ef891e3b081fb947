package keystore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"modernc.org/sqlite"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Sealed is a ciphertext with what is needed to open it.
type Sealed struct {
	Customer   id.Customer // whose key seals it
	KeyVersion uint64      // which version of that key
	Version    uint64      // of the row itself; 0 where rows never change
	Data       []byte
}

// Identity is the stored certificate of a node.
type Identity struct {
	Node        id.Node
	Certificate []byte
}

// rows reads rows with prepared statements.
type rows struct {
	db interface {
		PrepareContext(context.Context, string) (*sql.Stmt, error)
	}
	mu    *sync.Mutex
	stmts map[string]*sql.Stmt // by their text, which is constant
}

func newRows(db interface {
	PrepareContext(context.Context, string) (*sql.Stmt, error)
},
) rows {
	return rows{db: db, mu: &sync.Mutex{}, stmts: map[string]*sql.Stmt{}}
}

func (r rows) prepare(ctx context.Context, q string) (*sql.Stmt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.stmts[q]; ok {
		return s, nil
	}
	s, err := r.db.PrepareContext(ctx, q)
	if err != nil {
		return nil, damaged(err)
	}
	r.stmts[q] = s
	return s, nil
}

// close finalises the statements: SQLite keeps a connection that has one open, and
// with it the write-ahead log.
func (r rows) close() error {
	if r.mu == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, s := range r.stmts {
		errs = append(errs, s.Close())
	}
	clear(r.stmts)
	return errors.Join(errs...)
}

func (r rows) exec(ctx context.Context, q string, args ...any) error {
	s, err := r.prepare(ctx, q)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(ctx, args...)
	return damaged(err)
}

// one reads the row that q finds. A context that ends does not stop it: a read is
// short, and in the writer's transaction an interruption would end the whole of it.
func (r rows) one(ctx context.Context, what, q string, args, to []any) error {
	ctx = context.WithoutCancel(ctx)
	s, err := r.prepare(ctx, q)
	if err == nil {
		err = damaged(s.QueryRowContext(ctx, args...).Scan(to...))
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}

// damaged translates what SQLite says of a broken file, and of a missing row.
func damaged(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case 1, 11, 26: // SQLITE_ERROR (a table is missing), SQLITE_CORRUPT, SQLITE_NOTADB
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return err
}

// Root is the check value of the root key.
func (r rows) Root(ctx context.Context) ([]byte, error) {
	var b []byte
	err := r.one(ctx, "root check", `SELECT sealed FROM root WHERE id = 1`, nil, []any{&b})
	return b, err
}

// Seed is the sealed seed of a name.
func (r rows) Seed(ctx context.Context, name string) ([]byte, error) {
	var b []byte
	err := r.one(ctx, "seed", `SELECT sealed FROM seed WHERE name = $1`, []any{name}, []any{&b})
	return b, err
}

// CustomerKey is a version of a customer's wrapped key.
func (r rows) CustomerKey(ctx context.Context, c id.Customer, version uint64) ([]byte, error) {
	var b []byte
	err := r.one(ctx, "customer key", `SELECT sealed FROM customer_key WHERE customer_id = $1 AND version = $2`, []any{c[:], version}, []any{&b})
	return b, err
}

// Payload is the private half of a customer's payload pair of a day.
func (r rows) Payload(ctx context.Context, c id.Customer, day uint32) (Sealed, error) {
	s := Sealed{Customer: c}
	err := r.one(ctx, "payload pair", `SELECT key_version, sealed FROM payload_pair WHERE customer_id = $1 AND day = $2`,
		[]any{c[:], day}, []any{&s.KeyVersion, &s.Data})
	return s, err
}

// Instance is an instance's key.
func (r rows) Instance(ctx context.Context, i id.Instance) (Sealed, error) {
	return r.owned(ctx, "instance key", `SELECT customer_id, key_version, 0, sealed FROM instance_key WHERE instance_id = $1`, i[:])
}

// Connection is a connection's credential record.
func (r rows) Connection(ctx context.Context, n id.Connection) (Sealed, error) {
	return r.owned(ctx, "credential", `SELECT customer_id, key_version, version, sealed FROM credential WHERE connection_id = $1`, n[:])
}

func (r rows) owned(ctx context.Context, what, q string, key []byte) (Sealed, error) {
	var s Sealed
	var customer []byte
	if err := r.one(ctx, what, q, []any{key}, []any{&customer, &s.KeyVersion, &s.Version, &s.Data}); err != nil {
		return s, err
	}
	if len(customer) != len(s.Customer) {
		return s, fmt.Errorf("read %s: %w: owner of %d bytes", what, ErrDamaged, len(customer))
	}
	copy(s.Customer[:], customer)
	return s, nil
}

// Identities are the stored certificates. They are public, and to be checked
// against the authority's key.
func (r rows) Identities(ctx context.Context) ([]Identity, error) {
	var all []Identity
	err := r.each(ctx, "identities", `SELECT node_id, certificate FROM identity ORDER BY node_id`, nil, func(found *sql.Rows) error {
		var node []byte
		var i Identity
		err := found.Scan(&node, &i.Certificate)
		copy(i.Node[:], node)
		all = append(all, i)
		return err
	})
	return all, err
}

func (r rows) each(ctx context.Context, what, q string, args []any, row func(*sql.Rows) error) (err error) {
	ctx = context.WithoutCancel(ctx)
	defer func() {
		if err != nil {
			err = fmt.Errorf("read %s: %w", what, damaged(err))
		}
	}()
	s, err := r.prepare(ctx, q)
	if err != nil {
		return err
	}
	found, err := s.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	for found.Next() {
		if err := row(found); err != nil {
			return err
		}
	}
	return found.Err()
}
