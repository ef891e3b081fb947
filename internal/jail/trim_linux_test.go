//go:build amd64 || arm64

package jail

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOwnPages takes what is read from the executable only: nothing that was written to,
// nothing of another file.
func TestOwnPages(t *testing.T) {
	t.Parallel()
	maps := `00400000-00401000 r-xp 00000000 fe:00 12 /usr/bin/bulkhead (deleted)
00401000-00403000 r--p 00001000 fe:00 12 /usr/bin/bulkhead (deleted)
00403000-00404000 rw-p 00003000 fe:00 12 /usr/bin/bulkhead (deleted)
00404000-00405000 rw-p 00000000 00:00 0
c000000000-c000400000 rw-p 00000000 00:00 0 [anon: Go: heap]
7f0000000000-7f0000001000 r--p 00000000 fe:00 13 /etc/other
7ffe00000000-7ffe00001000 r-xp 00000000 00:00 0 [vdso]
`
	want := []pages{{0x400000, 0x401000}, {0x401000, 0x403000}}
	if diff := cmp.Diff(want, ownPages([]byte(maps)), cmp.AllowUnexported(pages{})); diff != "" {
		t.Error(diff)
	}
}

// TestTrim goes on running, with everything where it was.
func TestTrim(t *testing.T) {
	if err := Trim(); err != nil {
		t.Fatal(err)
	}
	if got := KindWorker.String(); got != "worker" {
		t.Errorf("got %q", got)
	}
}
