package keystore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FileName is the name of the keystore's file in its directory.
const FileName = fileName

// Schema is the number of the newest migration that this release knows.
const Schema = schemaVersion

// Image copies the keystore of a directory into a new file as of one moment, while the
// vault may use it, and returns the number of its newest migration. What was destroyed is
// not in the copy, nor are authorizations that have begun: they would be good again when the
// copy is restored. A deletion that comes meanwhile waits for it.
func Image(ctx context.Context, dir, file string) (schema int64, err error) {
	from := filepath.Join(dir, fileName)
	if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("copy keystore: there is none in %s", dir)
	}
	q := url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(10000)", "trusted_schema(0)", "cell_size_check(1)", "temp_store(memory)"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: from}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return 0, fmt.Errorf("copy keystore: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	if err := db.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&schema); err != nil {
		return 0, fmt.Errorf("copy keystore: %w", damaged(err))
	}
	if _, err := db.ExecContext(ctx, `VACUUM INTO $1`, file); err != nil {
		return 0, fmt.Errorf("copy keystore: %w", damaged(err))
	}
	if err := strip(ctx, file); err != nil {
		return 0, fmt.Errorf("copy keystore: %w", damaged(err))
	}
	return schema, nil
}

// strip removes from a copy what must not come back with it. The head does not cover it.
func strip(ctx context.Context, file string) (err error) {
	q := url.Values{"mode": {"rw"}, "_pragma": {"journal_mode(off)", "synchronous(full)", "secure_delete(1)", "trusted_schema(0)"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	n := 0
	if err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_schema WHERE name = 'pending'`).Scan(&n); err != nil || n == 0 {
		return err // of a release before there were any
	}
	_, err = db.ExecContext(ctx, `DELETE FROM pending`)
	return err
}

// InUse reports whether a process has the keystore of a directory open.
func InUse(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at lock of keystore: %w", err)
	}
	defer func() { _ = leave(f) }()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		return false, fmt.Errorf("look at lock of keystore: %w", err)
	}
	return err != nil, nil
}
