package backup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/age"
)

// Overwrite says whether an archive may take another file's place.
type Overwrite bool

// The values of [Overwrite].
const (
	Keep    Overwrite = false
	Replace Overwrite = true
)

// Create encrypts what write writes to the recipients, in a new file that only its owner
// can read. The file has its name when it is complete and on disk, or not at all.
// [ErrExists] means that there is a file of that name.
func Create(path string, to []age.Recipient, o Overwrite, write func(io.Writer) error) (err error) {
	if len(to) == 0 {
		return errors.New("create archive: no recipient")
	}
	if _, err := os.Lstat(path); o == Keep && err == nil {
		return fmt.Errorf("create archive: %s %w", path, ErrExists)
	}
	dir, name := filepath.Split(filepath.Clean(path))
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+name+".part-*") // mode 0600
	if err != nil {
		return fmt.Errorf("create archive: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(encrypt(f, to, write), f.Close()); err != nil {
		return fmt.Errorf("create archive: %w", err)
	}
	if err := give(f.Name(), path, o); err != nil {
		return fmt.Errorf("create archive: %w", err)
	}
	return nil
}

func encrypt(f *os.File, to []age.Recipient, write func(io.Writer) error) error {
	w, err := age.Encrypt(f, to...)
	if err != nil {
		return err
	}
	if err := write(w); err != nil {
		return err // the archive has no end: nothing would open it
	}
	return errors.Join(w.Close(), f.Sync())
}

// give gives a complete file its name.
func give(temporary, path string, o Overwrite) error {
	if o == Keep {
		switch err := os.Link(temporary, path); {
		case err == nil:
			return errors.Join(os.Remove(temporary), syncDir(filepath.Dir(path)))
		case errors.Is(err, fs.ErrExist):
			return fmt.Errorf("%s %w", path, ErrExists)
		}
		// The file system has no links.
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s %w", path, ErrExists)
		}
	}
	return errors.Join(os.Rename(temporary, path), syncDir(filepath.Dir(path)))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
