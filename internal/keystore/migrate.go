package keystore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// schemaVersion is the number of the newest migration.
const schemaVersion = 2

//go:embed migration/*.sql
var migrations embed.FS

// schema is the dump of all migrations, which a test keeps up to date: a new
// keystore is made in one step instead of one for each migration.
//
//go:embed schema.sql
var schema string

// migrate brings the file to the newest schema.
func migrate(ctx context.Context, db *sql.DB) error {
	var version, tables int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if version == schemaVersion {
		return nil
	}
	if version > schemaVersion {
		return fmt.Errorf("keystore has schema %d, this release knows %d: run the release that wrote it", version, schemaVersion)
	}
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return fmt.Errorf("read schema: %w", err)
	}
	if tables == 0 {
		if _, err := db.ExecContext(ctx, schema); err != nil {
			return fmt.Errorf("make schema: %w", err)
		}
		return nil
	}
	return upgrade(ctx, db)
}

// upgrade applies the migrations that the file lacks.
func upgrade(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migration")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate keystore: %w", err)
	}
	if _, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)); err != nil {
		return fmt.Errorf("note schema version: %w", err)
	}
	return nil
}
