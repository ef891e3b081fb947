package store

import (
	"context"
	_ "embed" // the dumped schema
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// connectLimit is the longest that one attempt to reach the server may take.
const connectLimit = 5 * time.Second

// migrateLock is the advisory lock of who prepares the schema: "bulkhead" in ASCII.
const migrateLock = 0x62756c6b68656164

// Limits that the server keeps for the writer.
const (
	// lockLimit is how long a statement waits for a row that another server writes.
	lockLimit = "10s"
	// idleLimit ends the transaction of a writer that was cut off, so that its rows are free.
	idleLimit = "60s"
)

//go:embed schema.postgres.sql
var schemaPostgres string

func enginePostgres() engine {
	return engine{
		goose.DialectPostgres, `SELECT COUNT(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'`,
		"BEGIN", schemaPostgres,
	}
}

func openPostgres(ctx context.Context, o Options) (*Store, error) {
	cfg, err := postgresConfig(o)
	if err != nil {
		return nil, err
	}
	return connectPostgres(ctx, cfg, o.Log)
}

func connectPostgres(ctx context.Context, cfg *pgx.ConnConfig, log *slog.Logger) (*Store, error) {
	if err := preparePostgres(ctx, cfg); err != nil {
		return nil, err
	}
	reading := cfg.Copy()
	reading.RuntimeParams["default_transaction_read_only"] = "on"
	read := stdlib.OpenDB(*reading)
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	w := newWriterPostgres(cfg, log)
	if err := w.connect(); err != nil {
		return nil, errors.Join(err, read.Close())
	}
	return newStore(w, read, w.closing), nil
}

// postgresConfig reads the URL. Nothing of it is logged: it may hold a password.
func postgresConfig(o Options) (*pgx.ConnConfig, error) {
	if !strings.HasPrefix(o.URL, "postgres://") && !strings.HasPrefix(o.URL, "postgresql://") {
		return nil, errors.New("the database is not a postgres:// URL")
	}
	cfg, err := pgx.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("read database URL: %w", err)
	}
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, errors.New("read database URL: it is malformed") // the cause repeats the password
	}
	if q := u.Query(); !isLocal(cfg.Host) && !q.Has("sslmode") && os.Getenv("PGSSLMODE") == "" {
		q.Set("sslmode", "verify-full")
		u.RawQuery = q.Encode()
		if cfg, err = pgx.ParseConfig(u.String()); err != nil {
			return nil, fmt.Errorf("read database URL: %w", err)
		}
	}
	cfg.ConnectTimeout = min(max(cfg.ConnectTimeout, time.Second), connectLimit)
	for name, value := range map[string]string{
		"application_name": "bulkhead", "lock_timeout": lockLimit, "idle_in_transaction_session_timeout": idleLimit,
		"default_transaction_isolation": "read committed",
	} {
		cfg.RuntimeParams[name] = value
	}
	rememberNames(cfg)
	if o.Durability == Temporary {
		cfg.RuntimeParams["synchronous_commit"] = "off"
	}
	return cfg, nil
}

// isLocal reports whether a host is reached without a network: a socket's directory or
// the loopback interface.
func isLocal(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// preparePostgres brings the schema up to date; of several servers that start together
// one does and the others wait.
func preparePostgres(ctx context.Context, cfg *pgx.ConnConfig) (err error) {
	c := cfg.Copy()
	delete(c.RuntimeParams, "lock_timeout")
	delete(c.RuntimeParams, "idle_in_transaction_session_timeout")
	c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // the dump is many statements
	lock, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close(ctx)) }()
	var encoding string
	if err := lock.QueryRow(ctx, `SELECT current_setting('server_encoding')`).Scan(&encoding); err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database has the encoding %s; create it with ENCODING 'UTF8'", encoding)
	}
	if _, err := lock.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(migrateLock)); err != nil {
		return fmt.Errorf("lock schema: %w", err)
	}
	db := stdlib.OpenDB(*c)
	return errors.Join(enginePostgres().prepare(ctx, db), db.Close())
}
