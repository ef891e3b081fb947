package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"
)

// readers is the number of connections that only read.
const readers = 4

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

// Options say where the database is and how it is kept. One of Dir and URL is required;
// the zero value of each other field is its default.
type Options struct {
	Dir string // directory of the SQLite database file
	// URL of a PostgreSQL database, "postgres://user:password@host/database", with the
	// parameters of libpq. A host that is not this machine needs TLS with a certificate
	// that is verified, unless the URL has an sslmode.
	URL        string
	Durability Durability
	Log        *slog.Logger // default: none
}

//go:embed migrations/*.sql
var migrations embed.FS

// Open opens the database of a directory, creates it when there is none, or the database
// of a URL, which must exist, and brings an older one up to date. Only one Store may have
// a directory open for writing.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	open := openSQLite
	switch {
	case o.Dir != "" && o.URL != "":
		return nil, errors.New("open store: both a directory and a URL")
	case o.URL != "":
		open = openPostgres
	case o.Dir == "":
		return nil, errors.New("open store: no directory and no URL")
	}
	s, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

// engine is what differs between the engines in making their schema.
type engine struct {
	dialect goose.Dialect
	tables  string // counts what is in the schema
	begin   string
	schema  string // makes all of it in an empty database
}

// prepare creates an empty database from the dumped schema in one go, which takes a few
// milliseconds, and migrates any other.
func (e engine) prepare(ctx context.Context, db *sql.DB) error {
	var tables int
	if err := db.QueryRowContext(ctx, e.tables).Scan(&tables); err != nil {
		return fmt.Errorf("read schema: %w", err)
	}
	if tables > 0 {
		return e.migrate(ctx, db)
	}
	if _, err := db.ExecContext(ctx, e.begin+";\n"+e.schema+"COMMIT;\n"); err != nil {
		return fmt.Errorf("create schema: %w", err)
	}
	return nil
}

func (e engine) migrate(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	p, err := goose.NewProvider(e.dialect, db, dir)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
