package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Dump is what pg_dump and pg_restore need to reach a database.
type Dump struct {
	// Connection is the URL without the password, and Environment holds the password:
	// arguments of a process are seen by everybody.
	Connection  string
	Environment []string
	Snapshot    string // what the image sees; empty in a target
	Schema      string // the schema of the tables
	Server      int    // version of the server, such as 150004
	Tables      int    // how many the schema holds
	Clients     int    // other connections of Bulkhead to this database
}

// ImagePostgres takes a snapshot of the database of a URL, which lasts until Close.
func ImagePostgres(ctx context.Context, databaseURL string) (*Image, error) {
	i, err := openImage(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	return i.begin(ctx)
}

// Target reads what is in the database of a URL that something is to be restored into.
func Target(ctx context.Context, databaseURL string) (*Dump, error) {
	i, err := openImage(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	defer i.db.Close()
	if i.conn, err = i.db.Conn(ctx); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	defer i.conn.Close()
	if err := i.describe(ctx); err != nil {
		return nil, fmt.Errorf("read database: %w", err)
	}
	return i.Dump, nil
}

func openImage(databaseURL string) (*Image, error) {
	cfg, err := postgresConfig(Options{URL: databaseURL})
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(databaseURL)
	if err != nil {
		return nil, errors.New("the database URL is malformed") // the cause repeats the password
	}
	d := &Dump{}
	if password, ok := u.User.Password(); ok {
		d.Environment = []string{"PGPASSWORD=" + password}
		u.User = url.User(u.User.Username())
	}
	q := u.Query()
	if q.Has("password") {
		d.Environment = []string{"PGPASSWORD=" + q.Get("password")}
		q.Del("password")
	}
	if !q.Has("sslmode") && !isLocal(cfg.Host) {
		q.Set("sslmode", "verify-full") // as the store asks for
	}
	u.RawQuery = q.Encode()
	d.Connection = u.String()
	cfg.RuntimeParams["application_name"] = "bulkhead-backup"
	delete(cfg.RuntimeParams, "idle_in_transaction_session_timeout") // the dump reads for as long as it takes
	return &Image{Dump: d, db: openDB(cfg)}, nil
}

func openDB(cfg *pgx.ConnConfig) *sql.DB {
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(1)
	return db
}

// export begins the transaction whose snapshot the dump uses too.
func (i *Image) export(ctx context.Context) error {
	if err := i.describe(ctx); err != nil {
		return err
	}
	if i.Dump.Tables == 0 {
		return fmt.Errorf("%w in schema %s", ErrNoDatabase, i.Dump.Schema)
	}
	if _, err := i.conn.ExecContext(ctx, `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`); err != nil {
		return err
	}
	return i.conn.QueryRowContext(ctx, `SELECT pg_export_snapshot()`).Scan(&i.Dump.Snapshot)
}

func (i *Image) describe(ctx context.Context) error {
	for query, to := range map[string]any{
		`SELECT COALESCE(current_schema(), '')`:             &i.Dump.Schema,
		`SELECT current_setting('server_version_num')::int`: &i.Dump.Server,
		enginePostgres().tables:                             &i.Dump.Tables,
		`SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user AND application_name = 'bulkhead'`: &i.Dump.Clients,
	} {
		if err := i.conn.QueryRowContext(ctx, query).Scan(to); err != nil {
			return err
		}
	}
	if i.Dump.Schema == "" {
		return errors.New("no schema of its search path exists")
	}
	return nil
}
