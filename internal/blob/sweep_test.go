package blob

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

func TestSweepRemovesWhatNothingNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	old, fresh, now := time.Now().Add(-3*time.Hour), time.Now(), time.Now()
	named, orphan, recent, half, writing := newBlob(), newBlob(), newBlob(), newBlob(), newBlob()
	at := func(when time.Time, b id.Blob, suffix string) {
		t.Helper()
		if err := os.Chtimes(filepath.Join(dir, dirOf(day), b.String()+suffix), when, when); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range []id.Blob{named, orphan, recent} {
		write(t, s, day, b, "sealed")
	}
	lost := open(t, dir) // a process that ended in the middle of a blob
	if _, err := lost.Append(day, half, 0, false, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := lost.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(day, writing, 0, false, []byte("x")); err != nil {
		t.Fatal(err)
	}
	at(old, named, "")
	at(old, orphan, "")
	at(fresh, recent, "")
	at(old, half, partialSuffix)
	at(old, writing, partialSuffix)
	asked := map[id.Blob]bool{}
	sweep := func(from time.Time) int {
		t.Helper()
		n, err := s.Sweep(from, now.Add(-time.Hour), func(d uint32, b id.Blob) (bool, error) {
			asked[b] = d == day
			return b == named, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := sweep(now.Add(-2 * time.Hour)); n != 0 || len(asked) != 0 {
		t.Errorf("%d blobs of another time were removed, %d asked for", n, len(asked))
	}
	if n := sweep(time.Time{}); n != 2 || len(asked) != 2 || !asked[named] || !asked[orphan] {
		t.Errorf("%d files were removed, want the orphan and the half one; asked for %v", n, asked)
	}
	for b, want := range map[id.Blob]bool{named: true, orphan: false, recent: true} {
		if _, _, err := s.Read(day, b, 0); (err == nil) != want {
			t.Errorf("blob %v: %v, want it there: %v", b, err, want)
		}
	}
	if _, err := s.Append(day, writing, 1, true, []byte("y")); err != nil {
		t.Errorf("a blob that is being written was swept: %v", err)
	}
	if err := s.Remove(day, named); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Read(day, named, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("a removed blob: %v", err)
	}
	if err := s.Remove(day, named); err != nil {
		t.Errorf("removed twice: %v", err)
	}
}
