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

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
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
	conn, err := write.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), read.Close(), write.Close())
	}
	return newStore(&writerSQLite{newStatements(conn), conn, write, o.Log}, read, make(chan struct{})), nil
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
	sync := "synchronous(full)"
	if o.Durability == Temporary {
		sync = "synchronous(off)"
	}
	// busy_timeout comes first, so that the others wait for a lock too.
	q["_pragma"] = []string{
		"busy_timeout(5000)", "journal_mode(wal)", sync, "foreign_keys(1)", "temp_store(memory)",
		fmt.Sprintf("cache_size(-%d)", cacheKiB), "cell_size_check(1)", "trusted_schema(0)", "secure_delete(0)", fmt.Sprintf("wal_autocheckpoint(%d)", checkpointPages),
	}
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
	*statements
	conn *sql.Conn
	db   *sql.DB
	log  *slog.Logger
}

var _ writer = (*writerSQLite)(nil)

func (w *writerSQLite) begin() error {
	_, err := w.conn.ExecContext(context.Background(), beginSQLite)
	return err
}

func (w *writerSQLite) exec(query string, args []any) (int64, error) {
	ctx := context.Background()
	st, err := w.get(ctx, query)
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// send has nothing to gain from waiting.
func (w *writerSQLite) send(query string, args []any) (int64, error) { return w.exec(query, args) }

func (w *writerSQLite) commit() error {
	_, err := w.conn.ExecContext(context.Background(), "COMMIT")
	return err
}

func (w *writerSQLite) rollback() {
	ctx := context.Background()
	if _, err := w.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		// SQLite has ended the transaction itself on some errors; there is nothing left to undo.
		w.log.DebugContext(ctx, "transaction had ended before its rollback", "error", err)
	}
}

// job does not matter: a statement fails while the closure runs that it belongs to.
func (w *writerSQLite) job(int) {}

func (w *writerSQLite) failed() *failure { return nil }

func (w *writerSQLite) close() error {
	w.statements.close()
	return errors.Join(w.conn.Close(), w.db.Close())
}
