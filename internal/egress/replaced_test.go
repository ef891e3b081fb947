package egress

import (
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// post asks for one request by a slot and returns why it was not made; nothing when it was.
func (w *worker) post(slot string) string {
	w.d.t.Helper()
	w.say(w.frame(&wire.Request{Slot: slot, Method: "POST", Path: "/"}))
	return w.refusal()
}

// refusal waits for an answer, and says why the last call was not made.
func (w *worker) refusal() string {
	w.d.t.Helper()
	<-w.d.came
	w.d.mu.Lock()
	a := w.d.answers[len(w.d.answers)-1]
	w.d.mu.Unlock()
	if a.Call != w.last {
		w.d.t.Fatalf("an answer to call %d, want %d", a.Call, w.last)
	}
	if a.Error == "" {
		w.response(w.last)
	}
	return a.Error
}

// Of a credential that was replaced only leases that were granted since are used, whenever they come.
func TestAReplacedCredentialIsLeft(t *testing.T) {
	t.Parallel()
	var served atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	t.Cleanup(s.Close)
	d := localDesk(t)
	at := func(name string, version uint64) lease.SlotRecord {
		r := slotAt(t, name, s.URL)
		r.Record.Version = version
		return r
	}
	one, other := at("one", 3), at("other", 3)
	warm := d.lend(nil, one, other)
	calls := func(what string, w *worker, slot, want string) {
		t.Helper()
		before, made := served.Load(), int32(1)
		if want != "" {
			made = 0
		}
		if got := w.post(slot); got != want || served.Load()-before != made {
			t.Errorf("%s: answered %q after %d requests, want %q after %d", what, got, served.Load()-before, want, made)
		}
	}
	calls("before", warm, "one", "")
	now := time.Now()
	if !d.replaced.note(one.Record.Connection, 4, now) || !d.replaced.note(one.Record.Connection, 2, now) { // the second came late
		t.Fatal("no room for one credential")
	}
	calls("another connection of the lease from before", warm, "other", "")
	calls("the lease from before", warm, "one", wire.ErrorReplaced)
	warm.ends()
	calls("after that lease", warm, "other", wire.ErrorLease)
	calls("a lease from before that comes late", d.lend(nil, one), "one", wire.ErrorReplaced)
	one.Record.SharedFor = []lease.SharedAction{{Name: "another", Method: lease.AnyMethod, Path: lease.AnyPath}}
	calls("a lease from before that was shared for less", d.lend(nil, one), "one", wire.ErrorReplaced)
	one.Record.SharedFor, one.Record.Version = nil, 4
	calls("a lease of the new record", d.lend(nil, one), "one", "")
	d.replaced.note(one.Record.Connection, math.MaxUint64, now)
	calls("after it was deleted", d.lend(nil, one), "one", wire.ErrorReplaced)

	d.replaced.forget(now.Add(replacedLife - time.Second))
	calls("while leases from before may live", d.lend(nil, one), "one", wire.ErrorReplaced)
	d.replaced.forget(now.Add(replacedLife))
	if d.replaced.some.Load() || len(d.replaced.oldest) != 0 {
		t.Error("a replaced credential is remembered for ever")
	}
}

// ends waits until the node has forgotten the lease.
func (w *worker) ends() {
	w.d.t.Helper()
	for late := time.Now().Add(time.Minute); time.Now().Before(late); runtime.Gosched() {
		w.d.Node.mu.Lock()
		_, there := w.d.leases[w.Lease]
		w.d.Node.mu.Unlock()
		if !there {
			return
		}
	}
	w.d.t.Fatal("the lease stays")
}

// A call under way is answered when its credential is replaced, and the lease stays until then and no longer: who replaces a
// credential again and again does not fill the node with leases.
func TestALeaseOfAReplacedCredentialEndsWithItsLastCall(t *testing.T) {
	t.Parallel()
	came, free := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			came <- struct{}{}
			<-free
		}
	}))
	t.Cleanup(s.Close)
	d := localDesk(t)
	slot := slotAt(t, "one", s.URL)
	w := d.lend(nil, slot)
	w.say(w.frame(&wire.Request{Slot: "one", Method: "POST", Path: "/held"}))
	held := w.last
	<-came
	d.replaced.note(slot.Record.Connection, slot.Record.Version+1, time.Now())
	for range 3 {
		if got := w.post("one"); got != wire.ErrorReplaced {
			t.Errorf("a call that begins is answered %q", got)
		}
	}
	d.Node.mu.Lock()
	if d.leases[w.Lease] == nil {
		t.Error("the lease has ended while a call is under way")
	}
	d.Node.mu.Unlock()
	close(free)
	<-d.came
	if r := w.response(held); r.Status != http.StatusOK {
		t.Errorf("the call under way ends with %+v", r)
	}
	w.ends()
	d.Node.mu.Lock()
	defer d.Node.mu.Unlock()
	if len(d.leases) != 0 || len(d.lines) != 0 || len(d.shares) != 0 {
		t.Errorf("%d leases, %d lines and %d shares are left", len(d.leases), len(d.lines), len(d.shares))
	}
}

// A call that waits for its provider's limit has not begun.
func TestACallThatWaitsIsMadeWithTheNewCredential(t *testing.T) {
	t.Parallel()
	came, free := make(chan struct{}, 2), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		came <- struct{}{}
		<-free
	}))
	t.Cleanup(s.Close)
	d := localDesk(t)
	slot := slotAt(t, "one", s.URL)
	slot.Record.Version = 1
	spec, err := (&credential.Spec{Method: credential.Method{ID: "token", Type: credential.Bearer}, Rate: &credential.Rate{Concurrent: 1}}).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	slot.Record.Spec = spec
	w := d.lend(nil, slot)
	w.say(w.frame(&wire.Request{Slot: "one", Method: "POST", Path: "/"}))
	<-came
	w.say(w.frame(&wire.Request{Slot: "one", Method: "POST", Path: "/"})) // waits for the first
	d.replaced.note(slot.Record.Connection, 2, time.Now())
	close(free)
	answers := map[uint64]string{}
	for range 2 {
		<-d.came
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.answers {
		answers[a.Call] = a.Error
	}
	if answers[1] != "" || answers[2] != wire.ErrorReplaced {
		t.Errorf("answers %v: want the call under way to end, and the one that waits not to be made", answers)
	}
}

// The word of a server waits for nothing, and is taken from none but a live server.
func TestServersSayWhatWasReplaced(t *testing.T) {
	t.Parallel()
	d, c := newTokenDesk(t), id.NewConnection(time.Now())
	var noted replacements
	d.renewer.replaced = noted.note
	for range maxOrders { // all are served
		d.renewer.orders <- struct{}{}
	}
	order := func(sign *seal.SignKey, version uint64) *wire.Order {
		return lease.SignOrder(sign, &lease.Order{Server: d.server.Node, Egress: d.node, Op: lease.OrderReplaced, Connection: c, Version: version, Issued: time.Now()})
	}
	for name, m := range map[string]*wire.Order{"signed by another": order(d.sign, 5), "without a version": order(d.signs, 0)} {
		if e, ok := d.renewer.Order(t.Context(), d.server.Node, m).(*wire.Error); !ok || e.Code != "refused" || noted.some.Load() {
			t.Errorf("an order %s is served", name)
		}
	}
	serve := func() *lease.OrderResult {
		t.Helper()
		m := order(d.signs, 5)
		a, ok := d.renewer.Order(t.Context(), d.server.Node, m).(*wire.OrderAnswer)
		if !ok {
			t.Fatal("the order is refused")
		}
		r, err := lease.CheckOrderResult(&lease.Identity{Role: wire.RoleEgress, Sign: d.sign.Public()}, m, a)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := serve(); r.Code != lease.OrderOK || !noted.after(c, 4) || noted.after(c, 5) || len(d.asked) != 0 {
		t.Errorf("%+v; the vault was asked for %v", r, d.asked)
	}
	for n := range maxReplaced {
		noted.note(id.Connection{1, byte(n >> 16), byte(n >> 8), byte(n)}, 1, time.Now())
	}
	if r := serve(); r.Code != lease.OrderOK {
		t.Errorf("what is known is not taken again: %+v", r)
	}
	c = id.Connection{2}
	if r := serve(); r.Code != lease.OrderBusy || len(noted.oldest) != maxReplaced {
		t.Errorf("%+v with %d credentials that were replaced", r, len(noted.oldest))
	}
}

// Tokens that were renewed under a lease do not make the record newer that it was granted for.
func TestRenewedTokensOfAReplacedRecordAreLeft(t *testing.T) {
	t.Parallel()
	n := &Node{}
	c := id.NewConnection(time.Now())
	l := &granted{Egress: &lease.Egress{Slots: []lease.SlotRecord{{Slot: "s", Record: lease.Record{Connection: c, Version: 2}}}}, tokens: map[string]*tokenSlot{
		"s": {record: lease.Record{Connection: c, Version: 9}},
	}}
	n.replaced.note(c, 5, time.Now())
	if !n.outdated(&task{lease: l, request: wire.Request{Slot: "s"}}) {
		t.Error("a lease is used that was granted before the record was replaced")
	}
}

// BenchmarkOutdated is what a call pays for the question whether its credential was replaced, while none was and after one was.
func BenchmarkOutdated(b *testing.B) {
	now := time.Now()
	slots := []lease.SlotRecord{{Slot: "a", Record: lease.Record{Connection: id.NewConnection(now), Version: 1}}, {Slot: "s", Record: lease.Record{Connection: id.NewConnection(now), Version: 1}}}
	call := &task{lease: &granted{Egress: &lease.Egress{Slots: slots}}, request: wire.Request{Slot: "s"}}
	n := &Node{}
	for _, name := range []string{"none", "another"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if n.outdated(call) {
					b.Fatal("it was not replaced")
				}
			}
		})
		n.replaced.note(id.NewConnection(now), 2, now)
	}
}
