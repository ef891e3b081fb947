package connect

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// A link makes a shared connection of the organization, by a form as by signing in: it says so, and the sealed record has what
// the link was made for. Whoever changes the row of the link gets nothing connected.
func TestLinksShareAsTheyWereMadeTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifest.Actions = []connector.Action{{Name: "listOrders", Method: "GET", Path: "/orders"}}
	if _, err := w.templateFor(lease.SharedWithAll); err != nil {
		t.Fatal(err)
	}
	with := store.Shared{Customers: []string{w.customer.String()}, Actions: []string{"listOrders"}}
	share := func(x store.Shared) func(*LinkEntry) {
		return func(e *LinkEntry) { e.Customer, e.Shared = w.own, x }
	}
	_, byForm := w.link(share(with))
	b := w.browser()
	if a := b.get(byForm); !strings.Contains(a.Body.String(), "flows of <b>one customer</b> of Northwind can use it, for <code>listOrders</code> only") {
		t.Errorf("the page does not say with whom it is shared: %s", a.Body)
	}
	if a := b.post(byForm+"?method=key", "method", "key", "var.shop", "bakery", "field.key_id", "abcdefgh", "field.api_key", canary); !connectedPage(a) {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	_, bySignIn := w.link(share(with))
	if a := b.get("/oauth/callback?code=abc&state=" + b.authorize(bySignIn)); !connectedPage(a) {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	list := w.connections(w.own)
	list = slices.DeleteFunc(list, func(x store.ConnectionInfo) bool { return x.Kind == store.KindClient })
	if len(list) != 2 {
		t.Fatalf("%d connections", len(list))
	}
	for _, x := range list {
		r := w.vault.records[x.ID]
		if !slices.Equal(x.Shared.Customers, with.Customers) || !slices.Equal(r.SharedWith, with.Customers) || !slices.Equal(r.Actions(), with.Actions) {
			t.Errorf("%s: shared with %+v, the record with %v for %v", x.Method, x.Shared, r.SharedWith, r.SharedFor)
		}
	}

	for name, other := range map[string]store.Shared{
		"all customers": {Customers: []string{"*"}, Actions: with.Actions}, "all actions": {Customers: with.Customers},
		"another split": {Customers: append(slices.Clone(with.Customers), with.Actions...)}, "nobody": {},
	} {
		changed, _ := w.link(share(with))
		secret := makeSecret()
		changed.ID, changed.Hash, changed.Shared, changed.SharedProof = id.NewLink(time.Now()), sha256.Sum256([]byte(secret)), other, sharedProof(secret, &with)
		if err := w.db.Write(t.Context(), func(tx *store.Tx) error { return tx.Org(w.org).PutLink(changed) }); err != nil {
			t.Fatal(err)
		}
		if a := b.get(Path + secret); a.Code != http.StatusGone {
			t.Errorf("a link whose row was changed to %s: %d", name, a.Code)
		}
	}

	for name, e := range map[string]*LinkEntry{
		"of a customer":           {Customer: w.customer, Shared: with},
		"with nobody":             {Customer: w.own, Shared: store.Shared{Actions: with.Actions}},
		"with no such customer":   {Customer: w.own, Shared: store.Shared{Customers: []string{"c-1"}}},
		"for no such action":      {Customer: w.own, Shared: store.Shared{Customers: []string{"*"}, Actions: []string{"other"}}},
		"of what is there":        {Customer: w.own, Shared: with, Connection: list[0].ID},
		"of what is not there":    {Customer: w.own, Connector: "none", Shared: with},
		"with too many customers": {Customer: w.own, Shared: store.Shared{Customers: slices.Repeat([]string{"*"}, MaxShared+1)}},
	} {
		e.Org, e.By = w.org, "ann"
		if e.Connector == "" {
			e.Connector = "acme"
		}
		var wrong InvalidError
		if _, _, err := w.MakeLink(t.Context(), e); !errors.As(err, &wrong) && !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What replaces a connection that was revoked is shared as it was, and not at all where that cannot be said any more.
func TestBrokenGlassKeepsTheSharing(t *testing.T) {
	t.Parallel()
	for name, with := range map[string]store.Shared{
		"as it was":               {Customers: []string{"*"}},
		"with a customer no more": {Customers: []string{id.NewCustomer(time.Now()).String()}},
	} {
		w := newWorld(t)
		gone := name != "as it was"
		_, path := w.link(func(e *LinkEntry) { e.Customer, e.Shared = w.own, store.Shared{Customers: []string{"*"}} })
		b := w.browser()
		if a := b.get("/oauth/callback?code=abc&state=" + b.authorize(path)); !connectedPage(a) {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
		n := w.connections(w.own)[0].Connection
		n.Shared = with
		if err := w.db.Write(t.Context(), func(tx *store.Tx) error { return tx.Customer(w.own).PutConnection(&n, time.Now()) }); err != nil {
			t.Fatal(err)
		}
		broken, err := w.Break(t.Context(), &Scope{Org: w.org, Connector: "acme", Customer: w.own}, "ann")
		if err != nil || len(broken.Broken) != 1 || broken.Broken[0].Link == "" {
			t.Fatalf("%s: %+v, %v", name, broken, err)
		}
		again := strings.TrimPrefix(broken.Broken[0].Link, "https://bulkhead.example")
		if a := b.get("/oauth/callback?code=abc&state=" + b.authorize(again)); !connectedPage(a) {
			t.Fatalf("%s: %d %s", name, a.Code, a.Body)
		}
		made := w.connections(w.own)[0]
		if r := w.vault.records[made.ID]; gone == slices.Equal(r.SharedWith, with.Customers) || gone && len(r.SharedWith) > 0 {
			t.Errorf("%s: the record is shared with %v", name, r.SharedWith)
		}
	}
}
