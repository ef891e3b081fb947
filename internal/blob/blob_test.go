package blob

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

const day = 20_000

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newBlob() id.Blob { return id.NewBlob(time.Unix(1_700_000_000, 0)) }

func write(t *testing.T, s *Store, d uint32, b id.Blob, chunks ...string) {
	t.Helper()
	for i, c := range chunks {
		size, err := s.Append(d, b, uint32(i), i == len(chunks)-1, []byte(c))
		if err != nil {
			t.Fatalf("chunk %d: %v", i, err)
		}
		if i == len(chunks)-1 && int(size.Chunks) != len(chunks) {
			t.Errorf("size %+v, want %d chunks", size, len(chunks))
		}
	}
}

func TestWriteThenRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	b := newBlob()
	chunks := []string{"first", "", "second chunk", "x"}
	write(t, s, day, b, chunks...)
	for _, s := range []*Store{s, open(t, dir)} { // also after a restart
		for i, want := range chunks {
			got, last, err := s.Read(day, b, uint32(i))
			if err != nil || string(got) != want || last != (i == len(chunks)-1) {
				t.Errorf("chunk %d = %q, %v, %v, want %q", i, got, last, err, want)
			}
		}
		if _, _, err := s.Read(day, b, uint32(len(chunks))); !errors.Is(err, ErrNotFound) {
			t.Errorf("chunk after the last: %v", err)
		}
		if _, _, err := s.Read(day+1, b, 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("chunk of another day: %v", err)
		}
	}
}

func TestABlobIsWrittenOnce(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	b := newBlob()
	write(t, s, day, b, "content")
	if _, err := s.Append(day, b, 0, true, []byte("other")); !errors.Is(err, ErrOrder) {
		t.Errorf("second writer: %v, want ErrOrder", err)
	}
	if got, _, err := s.Read(day, b, 0); err != nil || string(got) != "content" {
		t.Errorf("content = %q, %v", got, err)
	}
}

func TestPartialBlobsCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	b := newBlob()
	if _, err := s.Append(day, b, 0, false, []byte("a")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Read(day, b, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("read of a partial blob: %v", err)
	}
	if _, err := s.Append(day, b, 2, true, []byte("c")); !errors.Is(err, ErrOrder) {
		t.Errorf("skipped chunk: %v", err)
	}
	if _, err := s.Append(day, b, 1, true, []byte("b")); !errors.Is(err, ErrOrder) {
		t.Errorf("chunk after a refusal: %v", err)
	}
	if _, err := open(t, dir).Append(day, b, 0, true, []byte("b")); !errors.Is(err, ErrOrder) {
		t.Errorf("a blob begun before: %v", err)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	if _, err := s.Append(day, newBlob(), 0, true, make([]byte, MaxChunk+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("chunk over the limit: %v", err)
	}
	w := &writer{size: MaxSize}
	if _, err := w.append(0, false, []byte("x")); !errors.Is(err, ErrTooLarge) {
		t.Errorf("blob over the limit: %v", err)
	}
	w = &writer{lengths: make([]uint32, MaxChunks)}
	if _, err := w.append(MaxChunks, false, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too many chunks: %v", err)
	}
	if _, err := s.Append(day, id.Blob{}, 0, true, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("blob without a name: %v", err)
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := newBlob()
	write(t, open(t, dir), day, b, "one", "two")
	path := filepath.Join(dir, name{day, b}.path())
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := open(t, dir).Read(day, b, 0); err == nil {
			t.Fatalf("a file cut at %d of %d bytes was read", cut, len(whole))
		}
	}
	for i := len(whole) - footerSize - 8; i < len(whole); i++ {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x55
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := open(t, dir).Read(day, b, 0); err == nil {
			t.Fatalf("a file with byte %d flipped was read", i)
		}
	}
}

func TestExpireRemovesWholeDays(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	old, kept, partial := newBlob(), newBlob(), newBlob()
	write(t, s, day-1, old, "old")
	write(t, s, day, kept, "kept")
	if _, err := s.Append(day-2, partial, 0, false, []byte("p")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Read(day-1, old, 0); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Expire(day); err != nil || n != 2 {
		t.Errorf("Expire = %d, %v, want 2", n, err)
	}
	if _, _, err := s.Read(day-1, old, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("expired blob: %v", err)
	}
	if _, _, err := s.Read(day, kept, 0); err != nil {
		t.Errorf("kept blob: %v", err)
	}
}

func TestOpenFilesAreBounded(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	var first id.Blob
	for i := range maxReading + 20 {
		b := newBlob()
		if i == 0 {
			first = b
		}
		write(t, s, day, b, "x")
		if _, _, err := s.Read(day, b, 0); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.reading) != maxReading || s.readers.Len() != maxReading {
		t.Errorf("%d files are open, want %d", len(s.reading), maxReading)
	}
	if _, _, err := s.Read(day, first, 0); err != nil {
		t.Errorf("a blob whose file was closed: %v", err)
	}
	for range maxWriting + 5 {
		if _, err := s.Append(day, newBlob(), 0, false, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.writing) != maxWriting {
		t.Errorf("%d blobs are being written, want %d", len(s.writing), maxWriting)
	}
}
