package store

import (
	"context"
	"database/sql"
	_ "embed" // the dumped schema
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/bulkheadhq/bulkhead/internal/store/sqlite"
)

// fileName is the name of the database in its directory.
const fileName = "bulkhead.db"

// checkpointPages is the size of the write-ahead log, in pages, at which it is
// written back.
const checkpointPages = 8000

// cacheKiB is the most memory that one connection keeps pages in.
const cacheKiB = 16 << 10

// beginSQLite takes the lock at once, which a transaction that writes needs in any case.
const beginSQLite = "BEGIN IMMEDIATE"

//go:embed schema.sqlite.sql
var schemaSQLite string

func engineSQLite() engine {
	return engine{goose.DialectSQLite3, `SELECT COUNT(*) FROM sqlite_schema`, beginSQLite, schemaSQLite}
}

func openSQLite(ctx context.Context, o Options) (*Store, error) {
	if err := createFile(filepath.Join(o.Dir, fileName)); err != nil {
		return nil, err
	}
	write, err := openPool(o, 1, "immediate", "")
	if err != nil {
		return nil, err
	}
	if err := engineSQLite().prepare(ctx, write); err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read, err := openPool(o, readers, "deferred", "query_only(1)")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	conn, err := openWriter(o)
	if err := errors.Join(err, write.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), read.Close())
	}
	return newStore(&writerSQLite{conn, o.Log}, read, make(chan struct{})), nil
}

// busyTimeout is how long a connection waits for another one's lock.
const busyTimeout = 5 * time.Second

// pragmas are the settings of every connection.
func pragmas(d Durability) []string {
	sync := "synchronous(full)"
	if d == Temporary {
		sync = "synchronous(off)"
	}
	return []string{
		"journal_mode(wal)", sync, "foreign_keys(1)", "temp_store(memory)",
		fmt.Sprintf("cache_size(-%d)", cacheKiB), "cell_size_check(1)", "trusted_schema(0)", "secure_delete(0)", fmt.Sprintf("wal_autocheckpoint(%d)", checkpointPages),
	}
}

// openWriter opens the connection that writes.
func openWriter(o Options) (*sqlite.Conn, error) {
	conn, err := sqlite.Open(filepath.Join(o.Dir, fileName), busyTimeout)
	if err != nil {
		return nil, err
	}
	for _, p := range pragmas(o.Durability) {
		if _, err := conn.Exec("PRAGMA " + p); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// createFile makes the file of a new database, for its owner only; SQLite gives its log
// the same permissions.
func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}

func openPool(o Options, conns int, txlock, pragma string) (*sql.DB, error) {
	q := url.Values{"_txlock": {txlock}}
	// busy_timeout comes first, so that the others wait for a lock too.
	q["_pragma"] = append([]string{fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds())}, pragmas(o.Durability)...)
	if pragma != "" {
		q["_pragma"] = append(q["_pragma"], pragma)
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.Join(o.Dir, fileName)}).EscapedPath(), RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// writerSQLite writes on its one connection.
type writerSQLite struct {
	conn *sqlite.Conn
	log  *slog.Logger
}

var _ writer = (*writerSQLite)(nil)

func (w *writerSQLite) begin() error {
	_, err := w.conn.Exec(beginSQLite)
	return err
}

func (w *writerSQLite) exec(query string, args []any) (int64, error) {
	st, err := w.conn.Prepare(query)
	if err != nil {
		return 0, fmt.Errorf("prepare statement: %w", err)
	}
	return st.Exec(args)
}

// send has nothing to gain from waiting.
func (w *writerSQLite) send(query string, args []any) (int64, error) { return w.exec(query, args) }

func (w *writerSQLite) expect(query string, args []any) (bool, error) {
	n, err := w.exec(query, args)
	return n == 1, err
}

func (w *writerSQLite) rows(_ context.Context, query string, args []any, each func(scanner) error) error {
	st, err := w.conn.Prepare(query)
	if err != nil {
		return fmt.Errorf("prepare statement: %w", err)
	}
	if err := st.Query(args, func(r sqlite.Row) error { return each(r) }); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	return nil
}

func (w *writerSQLite) row(_ context.Context, query string, args, dest []any) error {
	st, err := w.conn.Prepare(query)
	if err != nil {
		return fmt.Errorf("prepare statement: %w", err)
	}
	found := false
	err = st.Query(args, func(r sqlite.Row) error {
		if found {
			return nil
		}
		found = true
		return r.Scan(dest...)
	})
	switch {
	case err != nil:
		return fmt.Errorf("query: %w", err)
	case !found:
		return ErrNotFound
	}
	return nil
}

func (w *writerSQLite) commit() error {
	_, err := w.conn.Exec("COMMIT")
	return err
}

func (w *writerSQLite) rollback() {
	if _, err := w.conn.Exec("ROLLBACK"); err != nil {
		// SQLite has ended the transaction itself on some errors; there is nothing left to undo.
		w.log.Debug("transaction had ended before its rollback", "error", err)
	}
}

// job does not matter: a statement fails while the closure runs that it belongs to.
func (w *writerSQLite) job(int) {}

func (w *writerSQLite) failed() *failure { return nil }

func (w *writerSQLite) close() error { return w.conn.Close() }
