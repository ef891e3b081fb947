package vault

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// A record that is shared for an action says what the requests of that action are: a name alone would mean whatever somebody says later.
func TestSharedActionsHaveTemplates(t *testing.T) {
	t.Parallel()
	customer, connection := id.NewCustomer(time.Now()), id.NewConnection(time.Now())
	for name, c := range map[string]struct {
		action lease.SharedAction
		good   bool
	}{
		"whole":        {lease.SharedAction{Name: "list", Method: "GET", Path: "/orders/{id}"}, true},
		"the base":     {lease.SharedAction{Name: "list", Method: "POST"}, true},
		"any request":  {lease.AnyRequest([]string{"request"})[0], true},
		"a name alone": {lease.SharedAction{Name: "list"}, false},
		"no name":      {lease.SharedAction{Method: "GET", Path: "/orders"}, false},
		"no path":      {lease.SharedAction{Name: "list", Method: "GET", Path: "orders"}, false},
		"a long path":  {lease.SharedAction{Name: "list", Method: "GET", Path: "/" + strings.Repeat("x", maxPath)}, false},
	} {
		r := bearer(customer, connection, "token", lease.SharedWithAll)
		r.SharedFor = []lease.SharedAction{c.action}
		if err := checkRecord(r, &lease.ConnectionCall{Customer: customer, Connection: connection}); (err == nil) != c.good || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestReconnectKeepsTheSharing connects again what is shared with one customer for one action, with records that say that it is shared with
// all for all: as a server makes them of a database that was edited.
func TestReconnectKeepsTheSharing(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	one, list := []string{a.owner.String()}, []lease.SharedAction{{Name: "list", Method: "GET", Path: "/items"}}
	check := func(n id.Connection, how string) {
		t.Helper()
		r, err := a.vault.openRecord(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(r.SharedWith, one) || !slices.Equal(r.SharedFor, list) {
			t.Errorf("%s: shared with %v for %v", how, r.SharedWith, r.SharedFor)
		}
	}
	n := id.NewConnection(a.clock.now())
	key := bearer(a.owner, n, "token", one...)
	key.SharedFor = list
	a.saveConnection(key)
	wide := a.connectionCall(bearer(a.owner, n, "another", lease.SharedWithAll))
	wide.KeepSharing = true
	a.call(lease.OpConnection, wide, &lease.ConnectionAnswer{})
	check(n, "entered again")
	lost := id.NewConnection(a.clock.now()) // which an older keystore does not have: it can be connected again
	none := a.connectionCall(bearer(a.owner, lost, "token", one...))
	none.KeepSharing = true
	a.call(lease.OpConnection, none, &lease.ConnectionAnswer{})
	if r, err := a.vault.openRecord(t.Context(), lost); err != nil || len(r.SharedWith) != 0 {
		t.Errorf("the sharing of nothing is kept: %v", err)
	}

	signed := a.draft(id.NewConnection(a.clock.now()))
	signed.SharedWith, signed.SharedFor = one, list
	connect := func(r *lease.Record, again bool) {
		t.Helper()
		m, s := a.startCall(r), &lease.StartAnswer{}
		m.Reconnect = again
		a.call(lease.OpOAuthStart, m, s)
		w := a.mustWork(a.egress, a.exchanged(a.order(lease.OrderExchange, r.Connection, a.egress), s.State))
		if _, err := a.save(a.egress, r.Connection, w.Fence, lease.OutcomeSaved, tokens(w.Record, "first", "acme")); err != nil {
			t.Fatal(err)
		}
	}
	connect(signed, false)
	check(signed.Connection, "signed in")
	free := a.draft(signed.Connection)
	free.SharedWith, free.SharedFor = []string{lease.SharedWithAll}, nil
	connect(free, true)
	check(signed.Connection, "signed in again")
	forgotten := a.draft(id.NewConnection(a.clock.now()))
	forgotten.SharedWith, forgotten.SharedFor = one, list
	connect(forgotten, true)
	if r, err := a.vault.openRecord(t.Context(), forgotten.Connection); err != nil || len(r.SharedWith) != 0 || r.Version != 1 {
		t.Errorf("signed in again to what the keystore does not have: %v", err)
	}
}
