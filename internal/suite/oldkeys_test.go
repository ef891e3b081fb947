package suite

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// TestOldKeystoreBringsNothingBack puts yesterday's keystore beside today's database. What was deleted since is in it, and is
// destroyed again when a server has seen it.
func TestOldKeystoreBringsNothingBack(t *testing.T) {
	t.Parallel()
	needSystem(t)
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{"n": 1})
	}))
	defer shop.Close()
	p := newPlatform(t, "")
	p.up(p.state())
	c, err := p.PutCustomer(t.Context(), api.CustomerRequest{ExternalID: "local", CustomerFields: api.CustomerFields{Name: "This machine"}})
	if err != nil {
		t.Fatal(err)
	}
	p.customer = c.ID
	deploy := func(name string) (id.Instance, id.Connection) {
		_, i := p.deploy(keptFlow(name, ""), map[string]string{"greeting": "hello"}, map[string]account{"shop": bearer(shop.URL, "token-of-the-shop")})
		p.completes("before", i)
		return i, p.instance(i).Slots["shop"]
	}
	kept, live := deploy("kept")
	lost, gone := deploy("lost")
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity, keys := filepath.Join(p.dir, "identity"), filepath.Join(p.dir, "keys.age")
	if err := os.WriteFile(identity, []byte(key.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.must("backup", "--state", p.state(), "--to", keys, "--recipient", key.Recipient().String(), "--keystore")
	if _, err := p.DeleteConnection(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	p.stop()
	if p.remembers(gone) != (lease.Version{Number: 1, Gone: true}) {
		t.Errorf("after the deletion the keystore says %+v", p.remembers(gone))
	}

	p.must("restore", "--state", p.state(), "--from", keys, "--identity", identity, "--keystore", "--replace")
	// Red twin: with the keystore alone the deleted credential is there again.
	if got := p.remembers(gone); got.Gone || got.Number == 0 {
		t.Errorf("red twin: the old keystore says %+v of what was deleted since: nothing is shown below", got)
	}
	p.up(p.state())
	p.eventually("a word about the old keystore", func() bool { return strings.Contains(p.logged(), "the keystore is older than the database") })
	p.completes("with the old keystore", kept)
	if got := p.instance(lost).State; got != "needs_connection" {
		t.Errorf("the instance of the deleted connection is %s", got)
	}
	p.stop()
	if got := p.remembers(gone); !got.Gone {
		t.Errorf("after a server has seen it the keystore says %+v of what was deleted", got)
	}
	if got := p.remembers(live); got.Gone || got.Number == 0 {
		t.Errorf("of what was not deleted it says %+v", got)
	}
}

// remembers is what the keystore of a stopped platform says of a connection.
func (p *platform) remembers(n id.Connection) lease.Version {
	p.t.Helper()
	v := p.vaultAt(p.state(), time.Now())
	defer v.Close()
	server := enroll(p.t, v, wire.RoleServer)
	b, err := v.Call(p.t.Context(), server.Node, lease.OpVersions, wire.AppendBody(nil, &lease.VersionsCall{Connections: []id.Connection{n}}))
	if err != nil {
		p.t.Fatal(err)
	}
	var a lease.VersionsAnswer
	if err := wire.ParseBody(b, &a); err != nil || len(a.Connections) != 1 {
		p.t.Fatalf("%+v, %v", a, err)
	}
	return a.Connections[0]
}
