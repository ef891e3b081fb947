// Package blob keeps large sealed values in a directory.
//
// A blob is a list of chunks that were sealed where they appeared, by egress or by a
// worker; this package sees ciphertext only and has no key. Blobs are written once, in
// order, by one writer each, and can be read only when they are complete: a blob is
// one file that gets its name with its last chunk. Files lie in one directory per
// expiry day, so that expiry is the removal of a directory.
//
// Authority: the directory is this package's alone; an [os.Root] confines every path to
// it, and names are made from ids and numbers only. Which customer a blob belongs to
// is a row in SQL.
//
// Concurrency: all methods of [Store] are safe for concurrent use. Chunks of one blob
// come one after the other; of two writers of one blob the second is refused.
//
// Failure: a blob whose writer stopped is a partial file that nobody can read; it goes
// with its day. [Store.Append] returns for the last chunk only when the file is on disk.
package blob

import (
	"container/list"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strconv"
	"sync"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Limits of blobs.
const (
	// MaxChunk is the most bytes of one sealed chunk.
	MaxChunk = 1 << 20
	// MaxSize is the most bytes of one blob, all chunks together.
	MaxSize = 2 << 30
	// MaxChunks is the most chunks of one blob.
	MaxChunks = 1 << 16
	// maxWriting is how many blobs may be written at once. The one that was written
	// to longest ago is given up for another.
	maxWriting = 1024
	// maxReading is how many files are kept open for reading.
	maxReading = 256
)

// Errors of this package, to be compared with errors.Is.
var (
	// ErrNotFound: there is no complete blob of that name, or no such chunk.
	ErrNotFound = errors.New("no such blob")
	// ErrOrder: the chunk is not the next one, or the blob exists.
	ErrOrder = errors.New("chunk out of order")
	// ErrTooLarge: the chunk or the blob is over a limit.
	ErrTooLarge = errors.New("blob is too large")
)

// A file is the chunks, then the length of each (4 bytes), then the number of chunks (4)
// and the magic (8).
const (
	magic      = "bhblob/1"
	footerSize = 4 + len(magic)
)

// Size says how large a complete blob is.
type Size struct {
	Chunks uint32
	Bytes  uint64 // sealed
}

type name struct {
	day  uint32
	blob id.Blob
}

// Store is a directory of blobs.
type Store struct {
	root *os.Root

	mu      sync.Mutex
	writing map[name]*writer
	writers *list.List // of *writer, the one written to last in front
	reading map[name]*reader
	readers *list.List // of *reader, the one read last in front
}

type writer struct {
	name    name
	at      *list.Element
	mu      sync.Mutex // held while a chunk is written
	file    *os.File
	lengths []uint32
	size    uint64
}

// reader is an open file. It is closed when it was given up and nobody uses it.
type reader struct {
	name    name
	at      *list.Element
	file    *os.File
	offsets []int64 // of each chunk, and the end of the last
	users   int
	gone    bool
}

// Open opens the directory of a store, which must exist.
func Open(dir string) (*Store, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	return &Store{
		root: root, writing: map[name]*writer{}, writers: list.New(), reading: map[name]*reader{}, readers: list.New(),
	}, nil
}

// Close closes every file. Blobs that were being written are given up.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, w := range s.writing {
		errs = append(errs, w.file.Close())
	}
	for _, r := range s.reading {
		errs = append(errs, r.file.Close())
	}
	clear(s.writing)
	clear(s.reading)
	return errors.Join(append(errs, s.root.Close())...)
}

func dirOf(day uint32) string        { return strconv.FormatUint(uint64(day), 10) }
func (n name) path() string          { return dirOf(n.day) + "/" + n.blob.String() }
func (n name) partial() string       { return n.path() + partialSuffix }
func refuse(what error, s any) error { return fmt.Errorf("%w: %v", what, s) }

// Append adds the next chunk to a blob of an expiry day; the first has index 0. With the
// last chunk the blob is complete and on disk, and its size is returned.
func (s *Store) Append(day uint32, b id.Blob, index uint32, last bool, chunk []byte) (Size, error) {
	if len(chunk) > MaxChunk {
		return Size{}, refuse(ErrTooLarge, "chunk of more than 1 MiB")
	}
	if b.IsZero() {
		return Size{}, refuse(ErrNotFound, "no name")
	}
	w, err := s.writer(name{day, b}, index)
	if err != nil {
		return Size{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	size, err := w.append(index, last, chunk)
	if err == nil && last {
		err = s.complete(w)
	}
	if err != nil {
		s.giveUp(w)
		return Size{}, fmt.Errorf("write blob: %w", err)
	}
	return size, nil
}

// writer finds the writer of a blob, or makes one for its first chunk.
func (s *Store) writer(n name, index uint32) (*writer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.writing[n]; w != nil {
		s.writers.MoveToFront(w.at)
		return w, nil
	}
	if index != 0 {
		return nil, refuse(ErrOrder, "the first chunk is missing")
	}
	if err := s.root.Mkdir(dirOf(n.day), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("write blob: %w", err)
	}
	if _, err := s.root.Lstat(n.path()); err == nil {
		return nil, refuse(ErrOrder, "the blob exists")
	}
	f, err := s.root.OpenFile(n.partial(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = refuse(ErrOrder, "the blob was begun before")
		}
		return nil, fmt.Errorf("write blob: %w", err)
	}
	w := &writer{name: n, file: f}
	w.at = s.writers.PushFront(w)
	s.writing[n] = w
	if len(s.writing) > maxWriting {
		oldest := s.writers.Back().Value.(*writer)
		s.removeWriter(oldest)
		_ = oldest.file.Close() // a chunk that is being written fails
	}
	return w, nil
}

func (w *writer) append(index uint32, last bool, chunk []byte) (Size, error) {
	if uint64(index) != uint64(len(w.lengths)) {
		return Size{}, ErrOrder
	}
	w.size += uint64(len(chunk))
	if w.size > MaxSize || len(w.lengths) >= MaxChunks {
		return Size{}, ErrTooLarge
	}
	if _, err := w.file.Write(chunk); err != nil {
		return Size{}, err
	}
	w.lengths = append(w.lengths, uint32(len(chunk)))
	if !last {
		return Size{}, nil
	}
	tail := make([]byte, 0, 4*len(w.lengths)+footerSize)
	for _, n := range w.lengths {
		tail = binary.BigEndian.AppendUint32(tail, n)
	}
	tail = binary.BigEndian.AppendUint32(tail, uint32(len(w.lengths)))
	if _, err := w.file.Write(append(tail, magic...)); err != nil {
		return Size{}, err
	}
	return Size{uint32(len(w.lengths)), w.size}, w.file.Sync()
}

// complete gives a blob its name: Link refuses one that exists.
func (s *Store) complete(w *writer) error {
	s.mu.Lock()
	s.removeWriter(w)
	s.mu.Unlock()
	if err := w.file.Close(); err != nil {
		return err
	}
	if err := s.root.Link(w.name.partial(), w.name.path()); err != nil {
		return err
	}
	if err := s.root.Remove(w.name.partial()); err != nil {
		return err
	}
	return s.syncDir(dirOf(w.name.day))
}

func (s *Store) syncDir(dir string) error {
	d, err := s.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *Store) giveUp(w *writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing[w.name] == w {
		s.removeWriter(w)
		_ = w.file.Close() // it is given up
	}
}

// removeWriter forgets a writer. Callers hold the mutex.
func (s *Store) removeWriter(w *writer) {
	if s.writing[w.name] == w {
		delete(s.writing, w.name)
		s.writers.Remove(w.at)
	}
}

// Read reads one chunk of a complete blob and says whether it is the last.
func (s *Store) Read(day uint32, b id.Blob, index uint32) (chunk []byte, last bool, err error) {
	r, err := s.reader(name{day, b})
	if err != nil {
		return nil, false, err
	}
	defer s.release(r)
	if uint64(index)+1 >= uint64(len(r.offsets)) {
		return nil, false, refuse(ErrNotFound, "no such chunk")
	}
	chunk = make([]byte, r.offsets[index+1]-r.offsets[index])
	if _, err := r.file.ReadAt(chunk, r.offsets[index]); err != nil {
		return nil, false, fmt.Errorf("read blob: %w", err)
	}
	return chunk, int(index)+2 == len(r.offsets), nil
}

func (s *Store) reader(n name) (*reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.reading[n]; r != nil {
		s.readers.MoveToFront(r.at)
		r.users++
		return r, nil
	}
	f, err := s.root.Open(n.path())
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, ErrNotFound
		}
		return nil, fmt.Errorf("read blob: %w", err)
	}
	offsets, err := readFooter(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read blob: %w", err), f.Close())
	}
	r := &reader{name: n, file: f, offsets: offsets, users: 1}
	r.at = s.readers.PushFront(r)
	s.reading[n] = r
	if len(s.reading) > maxReading {
		s.removeReader(s.readers.Back().Value.(*reader))
	}
	return r, nil
}

func (s *Store) release(r *reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.users--
	if r.gone && r.users == 0 {
		_ = r.file.Close() // it was only read
	}
}

// removeReader closes a file, or leaves that to its last user. Callers hold the mutex.
func (s *Store) removeReader(r *reader) {
	delete(s.reading, r.name)
	s.readers.Remove(r.at)
	r.gone = true
	if r.users == 0 {
		_ = r.file.Close() // it was only read
	}
}

// errDamaged is a file that this package did not write like this.
var errDamaged = errors.New("file is damaged")

func readFooter(f *os.File) ([]int64, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	end := info.Size() - int64(footerSize)
	foot := make([]byte, footerSize)
	if end < 0 {
		return nil, errDamaged
	}
	if _, err := f.ReadAt(foot, end); err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(foot))
	if string(foot[4:]) != magic || n == 0 || n > MaxChunks || 4*n > end {
		return nil, errDamaged
	}
	table := make([]byte, 4*n)
	if _, err := f.ReadAt(table, end-4*n); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	offsets := make([]int64, 1, n+1)
	for i := range n {
		length := int64(binary.BigEndian.Uint32(table[4*i:]))
		offsets = append(offsets, offsets[i]+length)
	}
	if offsets[n] != end-4*n {
		return nil, errDamaged
	}
	return offsets, nil
}

// Expire removes every blob whose expiry day is before a day. It returns how many
// directories went.
func (s *Store) Expire(before uint32) (int, error) {
	d, err := s.root.Open(".")
	if err != nil {
		return 0, fmt.Errorf("expire blobs: %w", err)
	}
	entries, err := d.ReadDir(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return 0, fmt.Errorf("expire blobs: %w", err)
	}
	removed := 0
	for _, entry := range entries {
		day, err := strconv.ParseUint(entry.Name(), 10, 32)
		if err != nil || day >= uint64(before) || day > math.MaxUint32 {
			continue
		}
		s.closeDay(uint32(day))
		if err := s.root.RemoveAll(entry.Name()); err != nil {
			return removed, fmt.Errorf("expire blobs: %w", err)
		}
		removed++
	}
	return removed, nil
}

func (s *Store) closeDay(day uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, w := range s.writing {
		if n.day == day {
			s.removeWriter(w)
			_ = w.file.Close() // its directory goes
		}
	}
	for n, r := range s.reading {
		if n.day == day {
			s.removeReader(r)
		}
	}
}
