package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Target says where an archive is put back.
type Target struct {
	Kind Kind
	// Dir is the directory of the role that owns it, which becomes what is in the archive.
	Dir string
	URL string // of the PostgreSQL database that a dump goes to
	// Replace has what is there moved aside, under a name that the result says, or a
	// PostgreSQL database emptied.
	Replace Overwrite
	// Late accepts a keystore archive whose life is over.
	Late bool
	Now  time.Time
}

// Restored is what a restore did.
type Restored struct {
	Manifest
	Aside string // where the directory that was there is now; empty: there was none
	// Parameters is the file, in the restored directory, of a passphrase's parameters;
	// empty: the archive had none.
	Parameters string
}

// Restore checks a whole archive and then puts it in place. The platform must not run:
// who calls it makes sure of that as far as files can tell.
func Restore(ctx context.Context, r io.Reader, with []age.Identity, t Target) (_ *Restored, err error) {
	occupied, err := holdsSomething(t.Dir)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if occupied && t.Replace == Keep {
		return nil, fmt.Errorf("restore: %s %w", t.Dir, ErrExists)
	}
	if err := os.MkdirAll(filepath.Dir(t.Dir), 0o711); err != nil { // #nosec G301 -- roles pass through it
		return nil, fmt.Errorf("restore: %w", err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(t.Dir), ".restore-*") // mode 0700
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(fresh))
		}
	}()
	m, err := extract(r, with, fresh, t.accept)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if m.Engine == Postgres {
		if err := load(ctx, m, filepath.Join(fresh, dumpName), t); err != nil {
			return nil, fmt.Errorf("restore: %w", err)
		}
	}
	out := &Restored{Manifest: *m}
	if _, err := os.Lstat(filepath.Join(fresh, kdfName)); err == nil {
		out.Parameters = filepath.Join(t.Dir, kdfName)
	}
	if out.Aside, err = exchange(fresh, t.Dir, t.Now); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return out, nil
}

// accept decides by an archive's head, before anything of it is read.
func (t *Target) accept(h *Head) error {
	schema, err := int64(keystore.Schema), error(nil)
	if t.Kind == Database {
		schema, err = store.Schema()
	}
	if err != nil {
		return err
	}
	if err := h.check(t.Kind, schema); err != nil {
		return err
	}
	switch {
	case !h.Expires.IsZero() && t.Now.After(h.Expires) && !t.Late:
		return fmt.Errorf("%w since %s: it would bring back what was deleted since %s", ErrExpired, h.Expires.Format(time.RFC3339), h.Created.Format(time.RFC3339))
	case h.Engine == Postgres && t.URL == "":
		return fmt.Errorf("%w: it holds a PostgreSQL database: name one to restore into", ErrKind)
	case h.Engine == SQLite && t.URL != "":
		return fmt.Errorf("%w: it holds a SQLite database, which does not go into PostgreSQL: leave the URL away", ErrKind)
	}
	return nil
}

// holdsSomething reports whether there is something in a directory.
func holdsSomething(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(entries) > 0, err
}

// exchange puts a directory in the place of another, which is moved aside unless it is empty.
func exchange(fresh, dir string, now time.Time) (aside string, err error) {
	occupied, err := holdsSomething(dir)
	if err != nil {
		return "", err
	}
	if occupied {
		aside = dir + ".before-" + now.UTC().Format("20060102T150405.000000Z")
		if err := os.Rename(dir, aside); err != nil {
			return "", err
		}
	} else if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.Rename(fresh, dir); err != nil {
		if aside != "" {
			err = errors.Join(err, os.Rename(aside, dir))
		}
		return "", err
	}
	return aside, syncDir(filepath.Dir(dir))
}
