package connect

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// signedIn connects a customer by signing in, and returns the connection.
func (w *world) signedIn(c id.Customer) store.ConnectionInfo {
	w.t.Helper()
	_, path := w.link(func(e *LinkEntry) { e.Customer = c })
	b := w.browser()
	if a := b.get("/oauth/callback?code=abc&state=" + b.authorize(path)); a.Code != 200 {
		w.t.Fatalf("%d %s", a.Code, a.Body)
	}
	list := w.connections(c)
	return list[len(list)-1]
}

// deployed is an instance that uses a connection of the built-in slot type.
func (w *world) deployed(c id.Customer, n id.Connection) id.Instance {
	w.t.Helper()
	const source = "bulkhead: 1\nintegration: hello\nconnections:\n  shop: {connector: http, title: The shop}\nflows:\n  main:\n    trigger: {manual: {}}\n    steps:\n      - id: a\n        set: {x: 1}\n"
	doc, problems := flowfile.Decode("hello.yaml", []byte(source))
	if problems.Invalid() {
		w.t.Fatal(problems)
	}
	definition := must(doc.Integration.Encode())
	v := must(w.engine.Publish(w.t.Context(), w.org, definition))
	i := id.NewInstance(time.Now())
	if _, err := w.engine.Deploy(w.t.Context(), &engine.Deployment{
		Customer: c, Instance: i, Digest: v.Digest, Slots: []store.Slot{{Name: "shop", Owner: c, Connection: n}},
	}); err != nil {
		w.t.Fatal(err)
	}
	return i
}

func (w *world) state(c id.Customer, i id.Instance) store.InstanceState {
	return must(w.db.Customer(w.t.Context(), c).Instance(i)).State
}

// revocable lets the provider end grants.
func (w *world) revocable() {
	w.manifest.Auth[0].Recipe.Revoke = &credential.Request{URL: "https://{shop}.acme.example/revoke"}
}

// Deleting a connection revokes the grant, destroys the record, and lets what used it wait.
func TestEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.signedIn(w.customer)
	i := w.deployed(w.customer, n.ID)
	if _, err := w.End(t.Context(), id.NewOrg(time.Now()), n.ID, ReasonDeleted); err == nil {
		t.Error("ended by another organization")
	}
	ended, err := w.End(t.Context(), w.org, n.ID, ReasonDeleted)
	if err != nil || ended.Revoked != RevokedNotOffered || len(ended.Instances) != 1 {
		t.Fatalf("%+v, %v", ended, err)
	}
	if w.vault.records[n.ID] != nil || len(w.connections(w.customer)) != 0 || w.state(w.customer, i) != store.InstanceNeedsConnection {
		t.Error("something is left of it")
	}
	// A change of something else does not wake what has no connection.
	if x, err := w.engine.Change(t.Context(), &engine.Change{Customer: w.customer, Instance: i}); err != nil || x.State != store.InstanceNeedsConnection {
		t.Errorf("after a change: %+v, %v", x, err)
	}
	w.revocable()
	w.template = must(w.PutTemplate(t.Context(), &TemplateEntry{
		Org: w.org, Customers: []string{lease.SharedWithAll}, ID: w.template.ID, Connector: "acme", Fields: map[string]string{"client_id": "our-client", "client_secret": canary},
	}))
	for code, want := range map[string]Revoked{lease.OrderOK: RevokedYes, lease.OrderFailed: RevokedFailed} {
		n := w.signedIn(w.customer)
		w.vault.code = code
		ended, err := w.End(t.Context(), w.org, n.ID, ReasonDeleted)
		if err != nil || ended.Revoked != want || w.vault.records[n.ID] != nil {
			t.Errorf("%s: %+v, %v", code, ended, err)
		}
		w.vault.code = lease.OrderOK
	}
	if !slices.Contains(w.vault.orders, lease.OrderRevoke) {
		t.Error("the provider was not asked")
	}
}

// What could not be destroyed is there still, and is destroyed by asking again: no secret stays behind with nobody who knows
// of it.
func TestDeletionsThatFailAreAskedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.signedIn(w.customer)
	i := w.deployed(w.customer, n.ID)
	w.vault.sealed = true
	if _, err := w.End(t.Context(), w.org, n.ID, ReasonDeleted); err == nil {
		t.Error("a connection ends while the vault is sealed")
	}
	if err := w.DeleteTemplate(t.Context(), w.org, w.template.ID); err == nil {
		t.Error("a template is deleted while the vault is sealed")
	}
	w.vault.sealed = false
	if _, err := w.End(t.Context(), w.org, n.ID, ReasonDeleted); err != nil || w.vault.records[n.ID] != nil || w.state(w.customer, i) != store.InstanceNeedsConnection {
		t.Errorf("the connection: %v", err)
	}
	if err := w.DeleteTemplate(t.Context(), w.org, w.template.ID); err != nil || w.vault.records[w.template.Client] != nil {
		t.Errorf("the template: %v", err)
	}
}

// A connection that dies holds what runs with it. What somebody has paused, or what is being removed, stays so.
func TestDeadConnectionsHoldWhatRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.signedIn(w.customer)
	paused, removing, running := w.deployed(w.customer, n.ID), w.deployed(w.customer, n.ID), w.deployed(w.customer, n.ID)
	for i, state := range map[id.Instance]store.InstanceState{paused: store.InstancePaused, removing: store.InstanceRemoving} {
		if err := w.engine.SetInstanceState(t.Context(), w.customer, i, state); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.SetHealth(t.Context(), w.customer, n.ID, store.HealthNeedsReconnect, "invalid_grant"); err != nil {
		t.Error(err)
	}
	if p, r := w.state(w.customer, paused), w.state(w.customer, running); p != store.InstancePaused || r != store.InstanceNeedsConnection {
		t.Errorf("paused: %s, running: %s", p, r)
	}
	_, path := w.link(func(e *LinkEntry) { e.Connection = n.ID })
	b := w.browser()
	if a := b.get("/oauth/callback?code=abc&state=" + b.authorize(path)); a.Code != 200 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if p, r := w.state(w.customer, paused), w.state(w.customer, running); p != store.InstancePaused || r != store.InstanceEnabled {
		t.Errorf("connected again: paused: %s, running: %s", p, r)
	}
}

// Breaking the glass ends every connection of its scope and none else, pauses what uses
// them, tells what was done with them, and makes links by which all goes on.
func TestBreakGlass(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n, other := w.signedIn(w.customer), w.signedIn(w.other)
	i, untouched := w.deployed(w.customer, n.ID), w.deployed(w.other, other.ID)
	_, open := w.link(nil)
	x := id.NewExecution(time.Now())
	if err := w.db.Write(t.Context(), func(tx *store.Tx) error {
		return tx.Customer(w.customer).PutFlowRecord(&wire.FlowRecord{
			Customer: w.customer, Request: id.NewEvent(time.Now()), Done: true, Instance: i, Execution: x, Connection: n.ID, Time: time.Now(), Method: "GET",
			Host: "bakery.acme.example", Verdict: "allowed", Received: 7,
		})
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Scope{{Org: w.org}, {Org: w.org, All: true, Connector: "acme"}} {
		if _, err := w.Plan(t.Context(), &c, time.Time{}); err == nil {
			t.Errorf("planned %+v", c)
		}
		if _, err := w.Break(t.Context(), &c, "ann"); err == nil {
			t.Errorf("did %+v", c)
		}
	}
	scope := &Scope{Org: w.org, Customer: w.customer}
	p, err := w.Plan(t.Context(), scope, time.Time{})
	if err != nil || len(p.Connections) != 1 || len(p.Uses) != 1 || p.Uses[0].Execution != x || p.Uses[0].Host != "bakery.acme.example" || w.vault.records[n.ID] == nil {
		t.Fatalf("plan: %+v, %v", p, err)
	}
	b, err := w.Break(t.Context(), scope, "ann")
	if err != nil || len(b.Broken) != 1 || b.Broken[0].Err != nil || len(b.Paused) != 1 || b.Links != 1 || b.Remaining != 0 || b.Broken[0].Link == "" {
		t.Fatalf("broken: %+v, %v", b, err)
	}
	if w.vault.records[n.ID] != nil || w.state(w.customer, i) != store.InstancePaused || w.browser().get(open).Code == 200 {
		t.Error("something goes on")
	}
	if w.vault.records[other.ID] == nil || w.state(w.other, untouched) != store.InstanceEnabled {
		t.Error("another customer's connection was ended")
	}
	if err := w.engine.SetInstanceState(t.Context(), w.customer, i, store.InstanceEnabled); err != nil || w.state(w.customer, i) != store.InstanceNeedsConnection {
		t.Errorf("resumed without a connection: %v, %v", w.state(w.customer, i), err)
	}
	browser := w.browser()
	path := strings.TrimPrefix(b.Broken[0].Link, "https://bulkhead.example")
	if a := browser.get("/oauth/callback?code=abc&state=" + browser.authorize(path)); a.Code != 200 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	again := w.connections(w.customer)
	x2 := must(w.db.Customer(t.Context(), w.customer).Instance(i))
	if len(again) != 1 || again[0].ID == n.ID || x2.Slots[0].Connection != again[0].ID || x2.State != store.InstanceEnabled {
		t.Errorf("connected again: %+v, %+v", again, x2)
	}
	if b, err := w.Break(t.Context(), &Scope{Org: w.org, Connector: "acme"}, "ann"); err != nil || len(b.Broken) != 2 {
		t.Errorf("by connector: %+v, %v", b, err)
	}
	if p, err := w.Plan(t.Context(), &Scope{Org: w.org, All: true}, time.Time{}); err != nil || len(p.Connections) != 0 {
		t.Errorf("left: %+v, %v", p, err)
	}
}
