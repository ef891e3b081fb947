package egress

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/dial"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// answersTo is a bus on which a node's answers arrive.
type answersTo chan *wire.Answer

func (b answersTo) Send(_ wire.Role, _ id.Node, _ wire.Topic, m wire.Typed) {
	if a, ok := m.(*wire.Answer); ok {
		b <- a
	}
}

// nodeRig is a node in front of a server, and what it takes to make it calls.
type nodeRig struct {
	*Node
	t         *testing.T
	authority *seal.SignKey
	runner    id.Node
	answers   answersTo
	url       *url.URL
}

func newNodeRig(t *testing.T, h http.HandlerFunc) *nodeRig {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	k, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	authority, err := seal.GenerateSignKey()
	if err != nil {
		t.Fatal(err)
	}
	r := &nodeRig{t: t, authority: authority, runner: id.NewNode(time.Now()), answers: make(answersTo, 1024), url: u}
	r.Node = NewNode(NodeConfig{
		Node: id.NewNode(time.Now()), Seal: k, Authority: authority.Public(), Bus: r.answers, Log: slog.New(slog.DiscardHandler),
		Client: newRig(t, dial.Policy{Allow: loopback()}).Client,
	})
	return r
}

// lease makes a lease for the rig's server, the caller's end of its channel, and its frame.
func (r *nodeRig) lease(signer *seal.SignKey, life time.Duration) (*lease.Egress, *seal.Channel, wire.Frame) {
	r.t.Helper()
	port, err := strconv.ParseUint(r.url.Port(), 10, 16)
	if err != nil {
		r.t.Fatal(err)
	}
	key, err := seal.RandomKey()
	if err != nil {
		r.t.Fatal(err)
	}
	l := &lease.Egress{
		Lease: id.NewLease(time.Now()), Customer: id.NewCustomer(time.Now()), Runner: r.runner, Expires: time.Now().Add(life), Channel: key.Bytes(),
		Slots: []lease.SlotRecord{{Slot: "s", Record: lease.Record{
			Connection: id.NewConnection(time.Now()), Kind: lease.KindNone, Connector: "http",
			Binding: lease.Binding{Scheme: "http", Host: r.url.Hostname(), Port: uint32(port)},
		}}},
	}
	sealed, err := lease.SealEgress(signer, r.cfg.Seal.Public(), l)
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := seal.NewChannel(l.Channel, seal.Caller)
	if err != nil {
		r.t.Fatal(err)
	}
	return l, c, frameOf(&wire.LeaseGive{Lease: l.Lease, Sealed: sealed})
}

func frameOf(m wire.Typed) wire.Frame {
	return wire.Frame{Type: m.FrameType(), Body: wire.AppendBody(nil, m)}
}

func callOf(l *lease.Egress, c *seal.Channel, n uint64) wire.Frame {
	m := &wire.Call{Lease: l.Lease, Call: n}
	m.Sealed = c.Seal(nil, m.Place(), wire.AppendBody(nil, &wire.Request{Slot: "s", Method: "POST", Path: "/pay"}))
	return frameOf(m)
}

func TestLeasesAreTheAuthoritysOnly(t *testing.T) {
	t.Parallel()
	var served atomic.Int32
	r := newNodeRig(t, func(http.ResponseWriter, *http.Request) { served.Add(1) })
	runner, err := seal.GenerateSignKey()
	if err != nil {
		t.Fatal(err)
	}
	l, c, forged := r.lease(runner, time.Minute)
	if err := r.give(r.runner, forged); !errors.Is(err, lease.ErrRefused) {
		t.Errorf("a lease that a runner made: %v, want ErrRefused", err)
	}
	if err := r.call(r.runner, callOf(l, c, 1)); err != nil {
		t.Error(err)
	}
	if a := <-r.answers; a.Error != "lease" || served.Load() != 0 {
		t.Errorf("answer %+v, requests %d; want none", a, served.Load())
	}
	l, c, given := r.lease(r.authority, time.Minute)
	if err := r.give(r.runner, given); err != nil {
		t.Fatal(err)
	}
	if err := r.call(r.runner, callOf(l, c, 1)); err != nil {
		t.Error(err)
	}
	if a := <-r.answers; a.Error != "" || served.Load() != 1 {
		t.Errorf("answer %+v, requests %d; want one", a, served.Load())
	}
}

// A runner that drops a lease and gives it again would have its recorded calls done again.
func TestADroppedLeaseDoesNotComeBack(t *testing.T) {
	t.Parallel()
	var served atomic.Int32
	r := newNodeRig(t, func(http.ResponseWriter, *http.Request) { served.Add(1) })
	l, c, given := r.lease(r.authority, time.Minute)
	recorded := callOf(l, c, 1)
	if err := r.give(r.runner, given); err != nil {
		t.Fatal(err)
	}
	if err := r.call(r.runner, recorded); err != nil {
		t.Fatal(err)
	}
	<-r.answers
	if err := r.call(r.runner, recorded); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("the same call again: %v, want ErrOpen", err)
	}
	if err := r.drop(id.NewNode(time.Now()), frameOf(&wire.LeaseDrop{Lease: l.Lease})); err != nil || r.leases[l.Lease] == nil {
		t.Errorf("another runner drops it: %v", err)
	}
	if err := r.drop(r.runner, frameOf(&wire.LeaseDrop{Lease: l.Lease})); err != nil {
		t.Fatal(err)
	}
	if err := r.give(r.runner, given); !errors.Is(err, lease.ErrRefused) {
		t.Errorf("given again: %v, want ErrRefused", err)
	}
	if err := r.call(r.runner, recorded); err != nil {
		t.Fatal(err)
	}
	if a := <-r.answers; a.Error != "lease" || served.Load() != 1 {
		t.Errorf("answer %+v, requests %d; want the first only", a, served.Load())
	}
}

// Calls that wait for others of their lease are not made after it has ended.
func TestWaitingCallsEndWithTheirLease(t *testing.T) {
	t.Parallel()
	var served atomic.Int32
	hold, arrived := make(chan struct{}), make(chan struct{}, 1024)
	r := newNodeRig(t, func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		served.Add(1)
		arrived <- struct{}{}
		<-hold
	})
	l, c, given := r.lease(r.authority, time.Minute)
	if err := r.give(r.runner, given); err != nil {
		t.Fatal(err)
	}
	const waiting = 10
	for n := range uint64(ofOne + waiting) {
		if err := r.call(r.runner, callOf(l, c, n+1)); err != nil {
			t.Fatal(err)
		}
	}
	for range ofOne {
		<-arrived
	}
	if err := r.drop(r.runner, frameOf(&wire.LeaseDrop{Lease: l.Lease})); err != nil {
		t.Fatal(err)
	}
	close(hold)
	refused := 0
	for range ofOne + waiting {
		if a := <-r.answers; a.Error == "lease" {
			refused++
		}
	}
	if refused < waiting || int(served.Load())+refused != ofOne+waiting {
		t.Errorf("%d refused, %d served; want at least %d refused", refused, served.Load(), waiting)
	}
}
