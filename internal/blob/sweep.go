package blob

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// partialSuffix ends the name of a blob that is being written.
const partialSuffix = ".part"

// Remove removes a complete blob. One that does not exist is no error.
func (s *Store) Remove(day uint32, b id.Blob) error {
	n := name{day, b}
	s.mu.Lock()
	if r := s.reading[n]; r != nil {
		s.removeReader(r)
	}
	s.mu.Unlock()
	if err := s.root.Remove(n.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}

// Sweep removes what nothing will ever name: of the files that were last written to in
// the half-open interval from–before, partial ones that nobody writes, and complete ones
// for which named says no. It returns how many went. A file that goes meanwhile by itself
// is no error; an error of named ends the sweep.
func (s *Store) Sweep(from, before time.Time, named func(day uint32, b id.Blob) (bool, error)) (int, error) {
	removed := 0
	err := s.eachName(".", func(e fs.DirEntry) error {
		day, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil || !e.IsDir() {
			return nil //nolint:nilerr // not a directory of ours
		}
		return s.eachName(e.Name(), func(e fs.DirEntry) error {
			n, err := s.sweepFile(uint32(day), e, from, before, named)
			removed += n
			return err
		})
	})
	if err != nil {
		return removed, fmt.Errorf("sweep blobs: %w", err)
	}
	return removed, nil
}

func (s *Store) sweepFile(day uint32, e fs.DirEntry, from, before time.Time, named func(uint32, id.Blob) (bool, error)) (int, error) {
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	text, partial := strings.CutSuffix(e.Name(), partialSuffix)
	n := name{day: day}
	if at := info.ModTime(); at.Before(from) || !at.Before(before) || n.blob.UnmarshalText([]byte(text)) != nil {
		return 0, nil
	}
	if partial {
		s.mu.Lock()
		writes := s.writing[n] != nil
		s.mu.Unlock()
		if writes {
			return 0, nil
		}
		return 1, s.root.Remove(n.partial())
	}
	if ok, err := named(day, n.blob); ok || err != nil {
		return 0, err
	}
	return 1, s.Remove(day, n.blob)
}

// eachName calls each for the entries of a directory, a few at a time.
func (s *Store) eachName(dir string, each func(fs.DirEntry) error) error {
	d, err := s.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(readNames(d, each), d.Close())
}

func readNames(d *os.File, each func(fs.DirEntry) error) error {
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			if err := each(e); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
