package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// fileName is the name of the database in its directory.
const fileName = "bulkhead.db"

// readers is the number of connections that only read.
const readers = 4

// checkpointPages is the size of the write-ahead log, in pages, at which it is
// written back.
const checkpointPages = 8000

// cacheKiB is the most memory that one connection keeps pages in.
const cacheKiB = 16 << 10

// beginSQLite takes the lock at once, which a transaction that writes needs in any case.
const beginSQLite = "BEGIN IMMEDIATE"

// Durability says what a commit survives.
type Durability byte

// The values of [Durability].
const (
	// Durable commits survive a loss of power. It is the default.
	Durable Durability = iota
	// Temporary commits survive a crash of the process only: for state that is deleted
	// when the process ends.
	Temporary
)

// Options say where the database is and how it is kept. The zero value of each field
// but Dir is its default.
type Options struct {
	Dir        string // directory of the database file; required
	Durability Durability
	Log        *slog.Logger // default: none
}

//go:embed migrations/*.sql
var migrations embed.FS

//go:embed schema.sqlite.sql
var schema string

// Open opens the database of a directory, creates it when there is none, and brings
// an older one up to date. Only one Store may have a directory open for writing.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Dir == "" {
		return nil, errors.New("open store: no directory")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := createFile(filepath.Join(o.Dir, fileName)); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	write, err := openPool(o, 1, "immediate", "")
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := prepareSchema(ctx, write); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), write.Close())
	}
	read, err := openPool(o, readers, "deferred", "query_only(1)")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), write.Close())
	}
	conn, err := write.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), read.Close(), write.Close())
	}
	return newStore(o, beginSQLite, write, conn, read), nil
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

// prepareSchema creates an empty database from the dumped schema in one go, which takes
// a few milliseconds, and migrates any other.
func prepareSchema(ctx context.Context, db *sql.DB) error {
	var tables int
	err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_schema`).Scan(&tables)
	if err != nil {
		return fmt.Errorf("read schema: %w", err)
	}
	if tables > 0 {
		return migrate(ctx, goose.DialectSQLite3, db)
	}
	if _, err := db.ExecContext(ctx, "BEGIN IMMEDIATE;\n"+schema+"COMMIT;\n"); err != nil {
		return fmt.Errorf("create schema: %w", err)
	}
	return nil
}

func migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	p, err := goose.NewProvider(dialect, db, dir)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
