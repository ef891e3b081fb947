package store

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

var update = flag.Bool("update", false, "write the golden schema")

// dump is what creates an empty database with the schema of db.
func dump(t *testing.T, db *sql.DB) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("-- Made from the migrations by `go test ./internal/store -update`.\n\n")
	rows, err := db.Query(`SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name <> 'sqlite_sequence' ORDER BY rowid`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		b.WriteString(strings.Replace(text, "IF NOT EXISTS ", "", 1) + ";\n\n")
	}
	versions, err := db.Query(`SELECT version_id FROM goose_db_version ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer versions.Close()
	for versions.Next() {
		var v int64
		if err := versions.Scan(&v); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (%d, TRUE);\n", v)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func openRaw(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db, err := openPool(Options{Dir: dir}, 1, "immediate", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestDumpedSchemaIsThatOfTheMigrations(t *testing.T) {
	t.Parallel()
	db := openRaw(t, t.TempDir())
	if err := migrate(context.Background(), goose.DialectSQLite3, db); err != nil {
		t.Fatal(err)
	}
	got := dump(t, db)
	if *update {
		if err := os.WriteFile("schema.sqlite.sql", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(schema, got); diff != "" {
		t.Errorf("schema.sqlite.sql is not what the migrations make (run with -update):\n%s", diff)
	}
	fresh := openRaw(t, t.TempDir())
	if err := prepareSchema(context.Background(), fresh); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, dump(t, fresh)); diff != "" {
		t.Errorf("a database made from the dump differs:\n%s", diff)
	}
	if err := migrate(context.Background(), goose.DialectSQLite3, fresh); err != nil {
		t.Errorf("a database made from the dump cannot be migrated on: %v", err)
	}
}

func TestEveryColumnHasAClass(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	rows, err := s.readDB.Query(`
		SELECT m.name, c.name
		FROM sqlite_schema AS m
		JOIN pragma_table_info(m.name) AS c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'goose_db_version'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	unused, columns := classes(), 0
	for rows.Next() {
		var table, column string
		if err := rows.Scan(&table, &column); err != nil {
			t.Fatal(err)
		}
		columns++
		if classOf(table, column) == "" {
			t.Errorf("column %s.%s has no class", table, column)
		}
		delete(unused, table+"."+column)
	}
	if err := rows.Err(); err != nil || columns == 0 {
		t.Fatalf("read %d columns: %v", columns, err)
	}
	for c := range unused {
		t.Errorf("a class is declared for %s, which does not exist", c)
	}
	if classOf("execution", "payload") != "" {
		t.Error("an undeclared column has a class")
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Write(t.Context(), insertOrg(id.NewOrg(at()), "o")); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s is %v, %v", f.Name(), info.Mode(), err)
		}
	}
}

func TestDirectoryNamesAreEscaped(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a b?c%41#d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	if _, err := os.Stat(filepath.Join(dir, fileName)); err != nil {
		t.Error(err)
	}
}
