package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/seal"
)

func TestTheAuthorityOfAPlatformIsPinned(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config", "authorities.json")
	var said bytes.Buffer
	c := &console{Streams: Streams{Out: &bytes.Buffer{}, Err: &said}}
	at := func(server, given string) *pins { return &pins{file: file, server: server, given: given, c: c} }
	one, other := seal.VerifyKey{1}, seal.VerifyKey{2}
	if err := at("https://a.example", "").check(one); err != nil || !strings.Contains(said.String(), fingerprint(one)) {
		t.Fatalf("the first: %v, said %q", err, said.String())
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	said.Reset()
	if err := at("https://a.example", "").check(one); err != nil || said.Len() > 0 {
		t.Errorf("the same again: %v, said %q", err, said.String())
	}
	err := at("https://a.example", "").check(other)
	if err == nil || !strings.Contains(err.Error(), fingerprint(one)) || !strings.Contains(err.Error(), fingerprint(other)) || !strings.Contains(err.Error(), file) {
		t.Errorf("another one: %v", err)
	}
	if err := at("https://b.example", "").check(other); err != nil {
		t.Errorf("another platform: %v", err)
	}
	if err := at("https://a.example", "").check(one); err != nil {
		t.Errorf("the first after another platform: %v", err)
	}
	if err := at("https://a.example", fingerprint(other)).check(one); err == nil {
		t.Error("another than the one that was given is taken")
	}
	if err := at("https://c.example", fingerprint(one)).check(one); err != nil {
		t.Errorf("the one that was given: %v", err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := at("https://a.example", "").check(one); err == nil {
		t.Error("a damaged file lets anything through")
	}
}
