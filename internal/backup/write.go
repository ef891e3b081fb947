package backup

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/blob"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Source says what is written into an archive.
type Source struct {
	Kind Kind
	// Dir is the directory of the role that owns it: the server's, with the database and
	// blobs/, or the vault's. Copies are made there for a while.
	Dir     string
	URL     string        // of a PostgreSQL database; empty: SQLite in Dir
	Version string        // of this program
	Life    time.Duration // of a keystore archive; 0: KeystoreLife
	// Parameters are what turns a passphrase into the root key, of a keystore archive;
	// empty: the root key comes from elsewhere.
	Parameters []byte
	Now        time.Time
}

// scratchPattern names the directory of copies; what a killed backup left goes with the next.
const scratchPattern = "backup-*"

// Write writes an archive's tar stream, which [Create] encrypts.
func Write(ctx context.Context, w io.Writer, s Source) (_ *Manifest, err error) {
	scratch, err := makeScratch(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	a, err := newArchive(w, scratch)
	if err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	defer a.sums.Close()
	a.Head = Head{Format: Format, Kind: s.Kind, Version: s.Version, Engine: SQLite, Created: s.Now.UTC().Truncate(time.Second)}
	switch {
	case s.Kind == Keystore:
		err = a.keystore(ctx, &s, scratch)
	case s.Kind == Database:
		err = a.database(ctx, &s, scratch)
	default:
		err = fmt.Errorf("unknown kind %q", s.Kind)
	}
	if err == nil {
		err = a.end()
	}
	if err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	return &a.Manifest, nil
}

func makeScratch(dir string) (string, error) {
	old, err := filepath.Glob(filepath.Join(dir, scratchPattern))
	if err != nil {
		return "", err
	}
	for _, o := range old {
		if info, err := os.Lstat(o); err != nil || time.Since(info.ModTime()) < 24*time.Hour {
			continue // another backup may be at it
		}
		if err := os.RemoveAll(o); err != nil {
			return "", err
		}
	}
	return os.MkdirTemp(dir, scratchPattern) // mode 0700
}

// archive writes members and sums them up.
type archive struct {
	Manifest
	tar  *tar.Writer
	sums *os.File // SHA256SUMS, as far as it is written
	text *bufio.Writer
	all  hash.Hash // of it
}

func newArchive(w io.Writer, scratch string) (*archive, error) {
	f, err := os.OpenFile(filepath.Join(scratch, sumsName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &archive{tar: tar.NewWriter(w), sums: f, text: bufio.NewWriter(f), all: sha256.New()}, nil
}

func (a *archive) member(name string, size int64, content io.Reader) error {
	h := &tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: a.Created, Format: tar.FormatPAX}
	if size < 8<<30 {
		h.Format = tar.FormatUSTAR
	}
	if err := a.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if _, err := io.CopyN(a.tar, content, size); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// part writes a member with its line in the sums.
func (a *archive) part(name string, size int64, content io.Reader) error {
	h := sha256.New()
	if err := a.member(name, size, io.TeeReader(content, h)); err != nil {
		return err
	}
	a.Bytes += size
	_, err := io.MultiWriter(a.text, a.all).Write(sumLine(h, name))
	return err
}

func sumLine(h hash.Hash, name string) []byte {
	return fmt.Appendf(nil, "%x  %s\n", h.Sum(nil), name)
}

// file writes a regular file as a part.
func (a *archive) file(name string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("read %s: it is no file", name)
	}
	return a.part(name, info.Size(), f)
}

func (a *archive) head() error {
	a.describe()
	b := marshal(&a.Head)
	return a.member(headName, int64(len(b)), bytes.NewReader(b))
}

// end writes the sums and the manifest.
func (a *archive) end() error {
	if err := a.text.Flush(); err != nil {
		return err
	}
	size, err := a.sums.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := a.sums.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := a.member(sumsName, size, a.sums); err != nil {
		return err
	}
	a.Sums = hex.EncodeToString(a.all.Sum(nil))
	b := marshal(&a.Manifest)
	if err := a.member(manifestName, int64(len(b)), bytes.NewReader(b)); err != nil {
		return err
	}
	return a.tar.Close()
}

func (a *archive) keystore(ctx context.Context, s *Source, scratch string) error {
	copied := filepath.Join(scratch, keystore.FileName)
	var err error
	if a.Schema, err = keystore.Image(ctx, s.Dir, copied); err != nil {
		return err
	}
	life := s.Life
	if life == 0 {
		life = KeystoreLife
	}
	a.Expires = a.Created.Add(life)
	f, err := os.Open(copied)
	if err != nil {
		return fmt.Errorf("read copy of keystore: %w", err)
	}
	defer f.Close()
	if err := errors.Join(os.Remove(copied), a.head()); err != nil { // no trace of the keys, whatever ends this process
		return err
	}
	if err := a.file(keystore.FileName, f); err != nil || len(s.Parameters) == 0 {
		return err
	}
	return a.part(kdfName, int64(len(s.Parameters)), bytes.NewReader(s.Parameters))
}

func (a *archive) database(ctx context.Context, s *Source, scratch string) (err error) {
	var i *store.Image
	name, copied := store.FileName, filepath.Join(scratch, store.FileName)
	if s.URL == "" {
		i, err = store.ImageSQLite(ctx, s.Dir, copied)
	} else {
		i, err = store.ImagePostgres(ctx, s.URL)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	a.Schema = i.Schema
	if i.Dump != nil {
		a.Engine, a.Schemas = Postgres, i.Dump.Schema
		name, copied = dumpName, filepath.Join(scratch, dumpName)
		if err := dump(ctx, i.Dump, copied); err != nil {
			return err
		}
	}
	if a.Totals, err = i.Totals(ctx); err != nil {
		return err
	}
	f, err := os.Open(copied)
	if err != nil {
		return fmt.Errorf("read copy of database: %w", err)
	}
	defer f.Close()
	if err := errors.Join(a.head(), a.file(name, f)); err != nil {
		return err
	}
	return a.blobs(ctx, i, filepath.Join(s.Dir, blobsName), lease.DayOf(s.Now))
}

// blobs writes every blob that the image names.
func (a *archive) blobs(ctx context.Context, i *store.Image, dir string, today lease.Day) error {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		root, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("open blobs: %w", err)
	}
	if root != nil {
		defer root.Close()
	}
	return i.Blobs(ctx, func(day uint32, b id.Blob) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		gone := root == nil
		var f *os.File
		if !gone {
			f, err = root.Open(blob.Path(day, b))
			gone = errors.Is(err, fs.ErrNotExist)
		}
		switch {
		case gone && lease.Day(day) < today:
			a.Expired++
			return nil
		case gone:
			a.Missing++
			return nil
		case err != nil:
			return fmt.Errorf("read blob: %w", err)
		}
		defer f.Close()
		a.Blobs++
		return a.file(blobsName+"/"+blob.Path(day, b), f)
	})
}
