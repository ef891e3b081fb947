package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEventRef(t *testing.T) {
	t.Parallel()
	want := &BlobRef{Blob: [16]byte{1}, Key: []byte("key"), Size: 12 << 20, Chunks: 48, Day: 20_000}
	got, err := ParseEventRef(AppendEventRef(nil, want))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, plain := range []string{`{"body":1}`, ` {}`, ``} {
		if ref, err := ParseEventRef([]byte(plain)); ref != nil || err != nil {
			t.Errorf("%q is taken for a reference: %+v, %v", plain, ref, err)
		}
	}
	for _, plain := range []string{"\x00", "\x01", "\x01short"} {
		if ref, err := ParseEventRef([]byte(plain)); err == nil {
			t.Errorf("%q is taken for %+v", plain, ref)
		}
	}
}
