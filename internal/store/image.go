package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// ErrNoDatabase: the directory holds no database.
var ErrNoDatabase = errors.New("there is no database")

// FileName is the name of the SQLite database in its directory.
const FileName = fileName

// Image is the database as of one moment, for a backup. Close it.
type Image struct {
	// Path is the file with the copy of a SQLite database; empty for PostgreSQL.
	Path string
	// Dump is what a program that dumps the PostgreSQL database needs; nil for SQLite.
	Dump *Dump
	// Schema is the number of the newest migration.
	Schema int64

	db    *sql.DB
	conn  *sql.Conn
	reads *statements
}

// ImageSQLite copies the database of a directory into a new file as of one moment, while
// another process may read and write it. The copy holds no deleted content.
func ImageSQLite(ctx context.Context, dir, file string) (*Image, error) {
	from := filepath.Join(dir, fileName)
	if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("copy database: %w in %s", ErrNoDatabase, dir)
	}
	if err := copySQLite(ctx, from, file); err != nil {
		return nil, fmt.Errorf("copy database: %w", err)
	}
	// The file is nobody else's: nothing needs a lock or a log.
	db, err := sql.Open("sqlite", sqliteURL(file, "mode=ro", "immutable=1"))
	if err != nil {
		return nil, fmt.Errorf("open copy of database: %w", err)
	}
	i := &Image{Path: file, db: db}
	return i.begin(ctx)
}

// copySQLite is one read transaction of the source: what is committed meanwhile is not in it.
func copySQLite(ctx context.Context, from, to string) error {
	db, err := sql.Open("sqlite", sqliteURL(from, "mode=ro", "_pragma=busy_timeout(10000)", "_pragma=trusted_schema(0)", "_pragma=cell_size_check(1)", "_pragma=temp_store(memory)"))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(ctx, `VACUUM INTO $1`, to)
	return errors.Join(err, db.Close())
}

func sqliteURL(path string, parameters ...string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + strings.Join(parameters, "&")
}

// begin reads the schema of an image.
func (i *Image) begin(ctx context.Context) (*Image, error) {
	conn, err := i.db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open copy of database: %w", err), i.db.Close())
	}
	i.conn, i.reads = conn, newStatements(conn)
	if i.Path == "" {
		if err := i.export(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("take snapshot: %w", err), i.Close())
		}
	}
	if err := i.reads.row(ctx, `SELECT MAX(version_id) FROM goose_db_version`, nil, []any{&i.Schema}); err != nil {
		return nil, errors.Join(fmt.Errorf("read schema: %w", err), i.Close())
	}
	return i, nil
}

// Blobs calls each on every blob that the image names, those that expire first in front.
func (i *Image) Blobs(ctx context.Context, each func(day uint32, b id.Blob) error) error {
	err := i.reads.rows(ctx, `SELECT day, blob_id FROM blob ORDER BY day`, nil, func(r scanner) error {
		var day uint32
		var b id.Blob
		if err := r.Scan(&day, fixed{b[:]}); err != nil {
			return err
		}
		return each(day, b)
	})
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	return nil
}

// Totals counts what people look for after a restore: customers, instances, connections and executions.
func (i *Image) Totals(ctx context.Context) (map[string]int64, error) {
	var customers, instances, connections, executions int64
	err := i.reads.row(ctx, `
		SELECT (SELECT COUNT(*) FROM customer WHERE deleted = 0), (SELECT COUNT(*) FROM instance WHERE deleted = 0),
			(SELECT COUNT(*) FROM connection WHERE deleted = 0), (SELECT COUNT(*) FROM execution WHERE deleted = 0)`,
		nil, []any{&customers, &instances, &connections, &executions})
	if err != nil {
		return nil, fmt.Errorf("count rows: %w", err)
	}
	return map[string]int64{"customers": customers, "instances": instances, "connections": connections, "executions": executions}, nil
}

// Close ends the image. The copy of a SQLite database stays the caller's to remove.
func (i *Image) Close() error {
	i.reads.close()
	return errors.Join(i.conn.Close(), i.db.Close())
}

// Schema is the number of the newest migration that this release knows.
func Schema() (int64, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil || len(names) == 0 {
		return 0, errors.Join(errors.New("read migrations: there are none"), err)
	}
	return numberOfMigration(names[len(names)-1])
}

// numberOfMigration reads the number from a name like 00002_service.sql.
func numberOfMigration(name string) (n int64, err error) {
	if _, err := fmt.Sscanf(filepath.Base(name), "%d_", &n); err != nil {
		return 0, fmt.Errorf("read name of migration %s: %w", name, err)
	}
	return n, nil
}
