package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/store"
)

// dump writes a PostgreSQL database into a file in pg_dump's custom format, as of the
// image's snapshot.
func dump(ctx context.Context, d *store.Dump, file string) error {
	program, err := findProgram(ctx, "pg_dump", d.Server)
	if err != nil {
		return err
	}
	return runProgram(ctx, d, program, "--format=custom", "--no-owner", "--no-privileges", "--no-password",
		"--snapshot="+d.Snapshot, "--schema="+quote(d.Schema), "--file="+file, "--dbname="+d.Connection)
}

// load restores a dump into a database, in one transaction.
func load(ctx context.Context, m *Manifest, file string, t Target) error {
	d, err := store.Target(ctx, t.URL)
	if err != nil {
		return err
	}
	switch {
	case d.Clients > 0:
		return fmt.Errorf("%w: its connections to the database: %d", ErrRunning, d.Clients)
	case d.Tables > 0 && t.Replace == Keep:
		return fmt.Errorf("the schema %s of the database %w; its tables: %d", d.Schema, ErrExists, d.Tables)
	case d.Schema != m.Schemas:
		return fmt.Errorf("the archive's tables are in the schema %s and the database would use %s: create the schema, and set search_path to it", m.Schemas, d.Schema)
	}
	program, err := findProgram(ctx, "pg_restore", d.Server)
	if err != nil {
		return err
	}
	args := []string{"--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--no-password", "--schema=" + m.Schemas, "--dbname=" + d.Connection}
	if d.Tables > 0 {
		args = append(args, "--clean", "--if-exists")
	}
	if err := runProgram(ctx, d, program, append(args, file)...); err != nil {
		return err
	}
	return os.Remove(file)
}

// quote makes a schema's name the pattern that means it alone.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// findProgram finds the newest of PostgreSQL's programs of a name; it must not be older
// than the server.
func findProgram(ctx context.Context, name string, server int) (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	if path, err := exec.LookPath(name); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		return "", fmt.Errorf("%s is not installed: install PostgreSQL's client programs, version %d or later", name, server/10000)
	}
	best, path := -1, ""
	for _, p := range slices.Backward(found) {
		out, err := exec.CommandContext(ctx, p, "--version").Output() // #nosec G204 -- of the host's own programs
		if err != nil {
			return "", fmt.Errorf("run %s: %w", p, err)
		}
		if v := majorVersion(string(out)); v > best {
			best, path = v, p
		}
	}
	if best < server/10000 {
		return "", fmt.Errorf("%s is version %d and the server %d: install PostgreSQL's client programs, version %d or later", path, best, server/10000, server/10000)
	}
	return path, nil
}

// majorVersion reads "pg_dump (PostgreSQL) 15.4 (Debian …)". 0 means that it cannot.
func majorVersion(text string) (v int) {
	_, rest, _ := strings.Cut(text, ") ")
	if _, err := fmt.Sscanf(rest, "%d", &v); err != nil {
		return 0
	}
	return v
}

// maxMessage bounds what is repeated of a program's messages, in bytes.
const maxMessage = 2 << 10

func runProgram(ctx context.Context, d *store.Dump, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...) // #nosec G204 -- of the host's own programs
	cmd.Env = append(environment(), d.Environment...)
	var said bytes.Buffer
	cmd.Stderr = &said
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text := strings.TrimSpace(said.String())
	if len(text) > maxMessage {
		text = text[:maxMessage] + " …"
	}
	return errors.Join(fmt.Errorf("run %s: %w", filepath.Base(program), err), errors.New(text))
}

// environment is what PostgreSQL's programs need of ours: nothing else of it is theirs.
func environment() []string {
	var out []string
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); name == "PATH" || name == "HOME" || strings.HasPrefix(name, "PG") {
			out = append(out, v)
		}
	}
	return append(out, "LC_ALL=C")
}
