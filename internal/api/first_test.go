package api

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/store"
)

// The first start leaves one token for an administrator that only the owner of the file can
// read. The next starts leave none, whoever took it away, also when it was revoked.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	w, e := newPlatform(t)
	dir := t.TempDir()
	name := filepath.Join(dir, FirstTokenFile)
	// What was left by a start that was cut short, and that others can read, is replaced.
	if err := os.WriteFile(name, []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	org, err := FirstStart(t.Context(), e, w.db, dir, now)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(name)
	if err != nil || !strings.HasPrefix(string(text), tokenPrefix+"_") {
		t.Fatalf("%q, %v", text, err)
	}
	w.org = org
	w.server = New(Options{Engine: e, Store: w.db, Org: org})
	w.public = w.server.Public()
	get := call{method: "GET", path: Prefix + "/server", token: strings.TrimSpace(string(text))}
	if x := ask[ServerInfo](w, get); x.Role != RoleAdmin || x.Organization != org {
		t.Errorf("server = %+v", x)
	}
	tokens := ask[Page[Token]](w, call{method: "GET", path: Prefix + "/tokens", token: get.token}).Items
	if len(tokens) != 1 || tokens[0].Expires.Sub(now) > firstTokenLife || firstTokenLife > 24*time.Hour {
		t.Fatalf("tokens = %+v", tokens)
	}
	if _, err := w.db.Org(t.Context(), org).CustomerByExternalID(InternalCustomer); err != nil {
		t.Error(err)
	}
	if err := w.db.Write(t.Context(), func(tx *store.Tx) error { return tx.Org(org).RevokeToken(tokens[0].ID, now) }); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	again, err := FirstStart(t.Context(), e, w.db, dir, now.Add(48*time.Hour))
	if err != nil || again != org {
		t.Errorf("next start: %v, %v", again, err)
	}
	if _, err := os.Stat(name); !os.IsNotExist(err) {
		t.Errorf("the next start leaves a token: %v", err)
	}
	w.refused(get, CodeUnauthenticated)
}
