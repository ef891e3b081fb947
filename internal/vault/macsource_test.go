package vault

import (
	"bytes"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// subscribed is a state value with the secret of a flow's subscription, sealed as a worker does.
func (w *world) subscribed(c *checked, flow, secret string) lease.MacCheck {
	w.tb.Helper()
	s, err := w.vault.store.Instance(w.tb.Context(), c.instance)
	if err != nil {
		w.tb.Fatal(err)
	}
	k, err := w.vault.readInstance(w.tb.Context(), s, c.customer, c.instance)
	if err != nil {
		w.tb.Fatal(err)
	}
	name := lease.SubscriptionSecret(c.instance, flow)
	sealed := k.Seal(nil, lease.StatePlace(c.customer, c.instance, name), []byte(`{"v":"`+secret+`","w":"x"}`))
	m := c.check(lease.MacHMAC, "sha256", "subscription", "data", hmacOf(secret, "data"))
	m.State, m.StateName, m.StateHash = sealed, name, sha256.Sum256(sealed)
	return m
}

func TestMacTakesTheSecretOfASubscriptionFromTheState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.checked(map[string]string{"subscription": "the config's own"})
	first := w.subscribed(c, "main", "alpha")
	want := func(what string, m lease.MacCheck, verdict lease.MacVerdict) {
		t.Helper()
		if got := w.mac(m)[0].Verdict; got != verdict {
			t.Errorf("%s: verdict %d, want %d", what, got, verdict)
		}
	}
	asked := first
	asked.State = nil
	want("before it is open", asked, lease.MacUnopened)
	want("with the state", first, lease.MacMatch)
	want("when it is open", asked, lease.MacMatch)
	wrong := asked
	wrong.Candidates = [][]byte{hmacOf("the config's own", "data")}
	want("the config's value", wrong, lease.MacMismatch)
	// A newer secret counts at once.
	second := w.subscribed(c, "main", "beta")
	want("the newer one", second, lease.MacMatch)
	old := second
	old.State, old.Candidates = nil, first.Candidates
	want("the older one", old, lease.MacMismatch)
	// A value of another flow, of another instance, or with another hash does not open.
	moved := first
	moved.StateName = lease.SubscriptionSecret(c.instance, "other")
	moved.StateHash[0] ^= 1
	want("another hash", moved, lease.MacRefused)
	moved = w.subscribed(c, "main", "gamma")
	moved.StateName = lease.SubscriptionSecret(c.instance, "other")
	want("moved to another flow", moved, lease.MacRefused)
	empty := w.subscribed(c, "main", "")
	want("an empty secret", empty, lease.MacMissing)
}

func TestMacTakesTheSecretOfAnApp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token")
	client := id.NewConnection(time.Now())
	w.saveConnection(&lease.Record{
		Connection: client, Customer: a.customer, Connector: "chat", Kind: lease.KindOAuth2Client, Binding: lease.Binding{Scheme: "https", Host: "chat.example"},
		Hosts: []string{"chat.example"}, Fields: []lease.Field{
			{Name: lease.FieldClientID, Secret: []byte("app")}, {Name: lease.FieldClientSecret, Secret: []byte("deep")}, {Name: lease.FieldSigningSecret, Secret: []byte("alpha")},
		},
	})
	check := func(secret, key string) lease.MacCheck {
		return lease.MacCheck{
			Customer: a.customer, Client: client, Kind: lease.MacHMAC, Algorithm: "sha256", Secrets: []string{secret}, Data: []byte("data"), Candidates: [][]byte{hmacOf(key, "data")},
		}
	}
	other := check(lease.FieldSigningSecret, "alpha")
	other.Customer = w.tenant("token").customer
	slot := check(lease.FieldSigningSecret, "alpha")
	slot.Client = a.connection
	for what, c := range map[string]struct {
		m    lease.MacCheck
		want lease.MacVerdict
	}{
		"signing secret":     {check(lease.FieldSigningSecret, "alpha"), lease.MacMatch},
		"wrong secret":       {check(lease.FieldSigningSecret, "beta"), lease.MacMismatch},
		"client secret":      {check(lease.FieldClientSecret, "deep"), lease.MacMatch},
		"another field":      {check(lease.FieldClientID, "app"), lease.MacMissing},
		"another customer's": {other, lease.MacRefused},
		"no client":          {slot, lease.MacRefused},
	} {
		if got := w.mac(c.m)[0].Verdict; got != c.want {
			t.Errorf("%s: verdict %d, want %d", what, got, c.want)
		}
	}
}

func TestMacSignsNothingButTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.checked(map[string]string{"key": "alpha"})
	m := c.check(lease.MacSign, "sha256", "key", "abc-DEF_123")
	if got := w.mac(m)[0]; got.Verdict != lease.MacMatch || !bytes.Equal(got.Sum, hmacOf("alpha", "abc-DEF_123")) {
		t.Errorf("%+v", got)
	}
	for _, data := range []string{"", `{"a":1}`, "v0:1:x", "a.b", string(make([]byte, lease.MaxMacToken+1))} {
		m.Data = []byte(data)
		if got := w.mac(m)[0]; got.Verdict != lease.MacRefused || len(got.Sum) > 0 {
			t.Errorf("%q: %+v", data, got)
		}
	}
}
