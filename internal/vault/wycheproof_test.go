package vault

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/bulkheadhq/bulkhead/internal/seal"
)

// TestWycheproofRows opens Wycheproof's vectors of AES-256-GCM as stored rows.
func TestWycheproofRows(t *testing.T) {
	t.Parallel()
	f, err := wycheproof.TestVectors.Open("aes_gcm_test.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var all struct {
		TestGroups []struct {
			KeySize, IVSize, TagSize int
			Tests                    []struct {
				TcID                               int
				Key, IV, AAD, Msg, CT, Tag, Result string
			}
		}
	}
	if err := json.NewDecoder(f).Decode(&all); err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	valid, invalid := 0, 0
	for _, g := range all.TestGroups {
		if g.KeySize != 8*seal.KeySize || g.TagSize != 128 {
			continue
		}
		for _, v := range g.Tests {
			a, err := newAEAD(unhex(v.Key))
			if err != nil {
				t.Fatal(err)
			}
			got, err := openRow(a, unhex(v.IV+v.CT+v.Tag), unhex(v.AAD))
			if g.IVSize != 96 || v.Result == "invalid" {
				invalid++
				if err == nil {
					t.Errorf("vector %d opens", v.TcID)
				}
				continue
			}
			valid++
			if err != nil || !bytes.Equal(got, unhex(v.Msg)) {
				t.Errorf("vector %d: %x, %v", v.TcID, got, err)
			}
		}
	}
	t.Logf("AES-256-GCM rows: %d valid and %d invalid vectors", valid, invalid)
	if valid+invalid < 80 {
		t.Errorf("%d vectors ran, want at least 80", valid+invalid)
	}
}
