package connect

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/testkit/quirk"
)

// A client certificate ends on its day: its connection expires before, and needs another one then, which lets what uses it wait.
func TestWatchCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifest.Auth = append(w.manifest.Auth, credential.Method{ID: "mutual", Type: credential.MTLS})
	cert, leaf := quirk.NewCertificate("bakery.example.net")
	key := must(x509.MarshalPKCS8PrivateKey(cert.PrivateKey))
	enter := func() store.ConnectionInfo {
		t.Helper()
		e := &Entry{
			Org: w.org, Customer: w.customer, Connector: "acme", Method: "mutual", Vars: map[string]string{"shop": "bakery"},
			Fields: map[string]string{
				"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})),
				"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
			},
		}
		if list := w.connections(w.customer); len(list) > 0 {
			e.Connection = list[0].ID
		}
		must(w.Save(t.Context(), e))
		return w.connections(w.customer)[0]
	}
	if n := enter(); !n.TokenExpires.Equal(leaf.NotAfter) || n.Health != store.HealthUnknown {
		t.Errorf("entered: %s until %v, want %v", n.Health, n.TokenExpires, leaf.NotAfter)
	}
	for _, c := range []struct {
		at   time.Time
		want store.Health
	}{
		{leaf.NotAfter.Add(-ExpiresSoon - time.Minute), store.HealthUnknown},
		{leaf.NotAfter.Add(-ExpiresSoon + time.Minute), store.HealthExpiring},
		{leaf.NotAfter.Add(time.Minute), store.HealthNeedsReconnect},
		{leaf.NotAfter.Add(time.Hour), store.HealthNeedsReconnect},
	} {
		if err := w.Watch(t.Context(), c.at); err != nil {
			t.Fatal(err)
		}
		if n := w.connections(w.customer)[0]; n.Health != c.want {
			t.Errorf("%v before the end it is %s, want %s", leaf.NotAfter.Sub(c.at), n.Health, c.want)
		}
	}
	var kinds []store.NoticeKind
	for _, x := range must(w.db.Org(t.Context(), w.org).Notices(&store.NoticeQuery{}, 9)) {
		kinds = append(kinds, x.Kind)
	}
	slices.Sort(kinds)
	if want := []store.NoticeKind{store.NoticeExpiring, store.NoticeNeedsReconnect}; !slices.Equal(kinds, want) {
		t.Errorf("notices %v, want %v", kinds, want)
	}
	if n := enter(); n.Health != store.HealthUnknown || n.Problem != "" {
		t.Errorf("entered again: %s, %s", n.Health, n.Problem)
	}
}

// A connection that ends soon and that nothing renews is told of, and one that nothing has
// used for long, each once.
func TestWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := must(w.Save(t.Context(), &Entry{
		Org: w.org, Customer: w.customer, Connector: "acme", Method: "key", Vars: map[string]string{"shop": "bakery"},
		Fields: map[string]string{"key_id": "abcdefgh", "api_key": canary},
	}))
	now := time.Now()
	notices := func(now time.Time) (kinds []store.NoticeKind) {
		t.Helper()
		if err := w.Watch(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		for _, x := range must(w.db.Org(t.Context(), w.org).Notices(&store.NoticeQuery{}, 9)) {
			kinds = append(kinds, x.Kind)
		}
		slices.Sort(kinds) // those of one millisecond are in no order
		return kinds
	}
	if got := notices(now); len(got) != 0 {
		t.Errorf("at first: %v", got)
	}
	err := w.db.Write(t.Context(), func(tx *store.Tx) error {
		return tx.Customer(w.customer).TokenSaved(n, &store.TokenSaved{RecordVersion: 9, Expires: now.Add(30 * 24 * time.Hour)}, now)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := notices(now); len(got) != 0 {
		t.Errorf("a month before its end: %v", got)
	}
	for range 2 {
		if got := notices(now.Add(25 * 24 * time.Hour)); len(got) != 1 || got[0] != store.NoticeExpiring || w.connections(w.customer)[0].Health != store.HealthExpiring {
			t.Errorf("some days before its end: %v", got)
		}
	}
	for range 2 {
		if got := notices(now.Add(UnusedAfter + time.Hour)); len(got) != 2 || got[1] != store.NoticeUnused {
			t.Errorf("unused: %v", got)
		}
	}
}
