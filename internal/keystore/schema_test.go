package keystore

import (
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write schema.sql from the migrations")

// TestSchemaIsTheDumpOfTheMigrations keeps the fast path equal to the list.
func TestSchemaIsTheDumpOfTheMigrations(t *testing.T) {
	t.Parallel()
	open := func(name string) *sql.DB {
		db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	migrated, dumped := open("migrated.db"), open("dumped.db")
	if err := upgrade(t.Context(), migrated); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("schema.sql", []byte(dump(t, migrated)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := dump(t, migrated)
	if diff := cmp.Diff(want, schema); diff != "" && !*update {
		t.Errorf("schema.sql is not the dump of the migrations: run go test -update (-want +got):\n%s", diff)
	}
	if _, err := dumped.ExecContext(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, dump(t, dumped)); diff != "" {
		t.Errorf("the dump does not make the schema it was made from (-want +got):\n%s", diff)
	}
}

func dump(t *testing.T, db *sql.DB) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("-- The dump of all migrations, written by go test -update.\nBEGIN;\n")
	r, err := db.QueryContext(t.Context(), `SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for r.Next() {
		var q string
		if err := r.Scan(&q); err != nil {
			t.Fatal(err)
		}
		b.WriteString(q + ";\n")
	}
	for v := range schemaVersion + 1 {
		fmt.Fprintf(&b, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (%d, 1);\n", v)
	}
	fmt.Fprintf(&b, "PRAGMA user_version = %d;\nCOMMIT;\n", schemaVersion)
	return b.String()
}
