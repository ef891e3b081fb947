package keystore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

const (
	fileName = "keystore.db"
	lockName = "keystore.lock"
	// dirMode and fileMode let the owner in and nobody else.
	dirMode  = 0o700
	fileMode = 0o600
)

var (
	// ErrNotFound is wrapped when a row does not exist.
	ErrNotFound = errors.New("not in the keystore")
	// ErrDamaged is wrapped when the store contradicts itself: it was cut, changed,
	// put back to an older state, or is no keystore.
	ErrDamaged = errors.New("keystore is damaged")
	// ErrInUse is wrapped when another process has the keystore open.
	ErrInUse = errors.New("keystore is in use by another process")
	// ErrClosed is wrapped by writes after Close.
	ErrClosed = errors.New("keystore is closed")
)

// Config says where the keystore is.
type Config struct {
	// Dir is the directory, made with mode 0700 when it does not exist and refused
	// when others may enter it.
	Dir string
	// Temporary gives up durability against a power failure, not atomicity: for a
	// directory that is deleted at the end of the process.
	Temporary bool
}

// Store is an open keystore. See the package documentation.
type Store struct {
	lock  *os.File
	write *sql.DB   // of one connection
	conn  *sql.Conn // that connection, owned by the writer
	read  *sql.DB
	in    rows // of the writer
	rows       // past the writer

	jobs    chan *job     // closed by nobody
	done    chan struct{} // closed by Close, ends the writer
	stopped chan struct{} // closed by the writer when it has ended
	ends    func() error  // Close, once

	mu     sync.RWMutex // guards what follows; the writer alone changes it
	open   bool
	ledger ledger
	seq    uint64
	hash   [32]byte
	sign   Signer
}

// Signer makes the MAC over the head, with a key that the store does not have.
type Signer func(state []byte) []byte

// Open opens the keystore, and makes it when the directory holds none.
// Nothing but [Store.Root] is of use before [Store.Unlock].
func Open(ctx context.Context, cfg Config) (*Store, error) {
	lock, err := enter(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open keystore: %w", err)
	}
	s := &Store{lock: lock, jobs: make(chan *job, maxBatch), done: make(chan struct{}), stopped: make(chan struct{})}
	s.ends = sync.OnceValue(s.end)
	if err := s.connect(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("open keystore: %w", damaged(err)), s.release())
	}
	return s, nil
}

// enter makes or checks the directory and takes its lock.
func enter(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, err
	}
	st, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&^dirMode != 0 {
		return nil, fmt.Errorf("others may enter %s (mode %o): run chmod 700 on it", dir, st.Mode().Perm())
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(ErrInUse, f.Close())
	}
	return f, nil
}

// leave gives a lock back, also when a process that is being started has inherited the file for a moment: closing ends the
// lock with the last of its descriptors only.
func leave(lock *os.File) error {
	return errors.Join(unix.Flock(int(lock.Fd()), unix.LOCK_UN), lock.Close())
}

func (s *Store) connect(ctx context.Context, cfg Config) error {
	path := filepath.Join(cfg.Dir, fileName)
	// SQLite gives its other files the mode of this one.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(fileMode), f.Close()); err != nil {
		return err
	}
	if s.write, err = sql.Open("sqlite", dsn(path, cfg)); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	if err := migrate(ctx, s.write); err != nil {
		return err
	}
	if s.conn, err = s.write.Conn(ctx); err != nil {
		return err
	}
	if s.read, err = sql.Open("sqlite", dsn(path, cfg)+"&_pragma=query_only(1)"); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	s.in, s.rows = newRows(s.conn), newRows(s.read)
	return nil
}

// readers is the number of connections that read.
const readers = 2

// dsn names the file and how each connection treats it. Deleted content is
// overwritten with zeros (secure_delete); a commit is on the disk when it returns.
func dsn(path string, cfg Config) string {
	synchronous := "full"
	if cfg.Temporary {
		synchronous = "off"
	}
	q := url.Values{"_pragma": {
		"busy_timeout(5000)", "journal_mode(wal)", "synchronous(" + synchronous + ")", "secure_delete(1)", "foreign_keys(1)",
		"temp_store(memory)", "cell_size_check(1)", "trusted_schema(0)", "wal_autocheckpoint(2000)",
	}}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// Close waits for the writes under way and closes the files. It may be called again.
func (s *Store) Close() error { return s.ends() }

func (s *Store) end() error {
	close(s.done)
	s.mu.RLock()
	open := s.open
	s.mu.RUnlock()
	if open {
		<-s.stopped
	}
	return s.release()
}

func (s *Store) release() error {
	errs := []error{s.rows.close(), s.in.close()}
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if s.write != nil {
		errs = append(errs, s.write.Close())
	}
	return errors.Join(append(errs, leave(s.lock))...)
}
