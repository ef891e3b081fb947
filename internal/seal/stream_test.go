package seal

import (
	"bytes"
	"testing"
)

func TestStream(t *testing.T) {
	t.Parallel()
	k, err := RandomStreamKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewStreamKey(k.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	ad := []byte("blob 1")
	var chunks [][]byte
	for i := range uint32(4) {
		chunks = append(chunks, k.Seal(nil, ad, []byte{byte(i)}, i, i == 3))
	}
	opened := 0
	for i := range uint32(5) {
		for j, c := range chunks {
			for _, last := range []bool{false, true} {
				got, err := again.Open(nil, ad, c, i, last)
				honest := int(i) == j && last == (j == 3)
				if honest != (err == nil) || honest && !bytes.Equal(got, []byte{byte(i)}) {
					t.Errorf("chunk %d as %d, last=%v: %q, %v", j, i, last, got, err)
				}
				if err == nil {
					opened++
				}
			}
		}
	}
	if opened != 4 {
		t.Errorf("%d chunks opened, want 4", opened)
	}
	if _, err := again.Open(nil, []byte("blob 2"), chunks[0], 0, false); err == nil {
		t.Error("a chunk of another blob opens")
	}
	flips(t, "chunk", chunks[3], func(b []byte) error { _, err := k.Open(nil, ad, b, 3, true); return err })
}
