package egress

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/dial"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// desk is a node with the rest of the world played: bus, blob server, flow records.
type desk struct {
	*Node
	t         testing.TB
	authority *seal.SignKey
	runner    id.Node
	server    id.Node

	mu      sync.Mutex
	answers []*wire.Answer
	flows   []*wire.FlowRecord
	chunks  map[id.Blob][][]byte
	blobs   func(wire.Typed) *wire.BlobChunk // instead of the store; nil: no answer
	asked   []id.Node                        // whom blob frames were for
	came    chan struct{}                    // one token for each answer
}

// Send implements Bus.
func (d *desk) Send(to wire.Role, node id.Node, topic wire.Topic, m wire.Typed) {
	if !wire.Allowed(wire.RoleEgress, to, topic) {
		panic("a subject that the bus forbids")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch m := m.(type) {
	case *wire.Answer:
		if node != d.runner && m.Error == "" {
			panic("an answer for another runner")
		}
		d.answers = append(d.answers, m)
		select {
		case d.came <- struct{}{}:
		default:
		}
	case *wire.FlowRecord:
		d.flows = append(d.flows, m)
	default:
		d.asked = append(d.asked, node)
		answer := d.store(m)
		if d.blobs != nil {
			answer = d.blobs(m)
		}
		if answer != nil {
			go d.Handle(d.server, wire.TopicBlob, frameOf(answer), nil)
		}
	}
}

// store is an honest blob server.
func (d *desk) store(m wire.Typed) *wire.BlobChunk {
	switch m := m.(type) {
	case *wire.BlobWrite:
		if int(m.Index) != len(d.chunks[m.Blob]) {
			return &wire.BlobChunk{Call: m.Call, Blob: m.Blob, Error: "order"}
		}
		d.chunks[m.Blob] = append(d.chunks[m.Blob], m.Data)
		return &wire.BlobChunk{Call: m.Call, Blob: m.Blob, Index: m.Index, Last: m.Last}
	case *wire.BlobRead:
		if int(m.Index) >= len(d.chunks[m.Blob]) {
			return &wire.BlobChunk{Call: m.Call, Blob: m.Blob, Error: "not-found"}
		}
		return &wire.BlobChunk{Call: m.Call, Blob: m.Blob, Index: m.Index, Data: d.chunks[m.Blob][m.Index]}
	}
	return nil
}

func newDesk(t testing.TB, dialer Dialer) *desk {
	t.Helper()
	k, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	authority, err := seal.GenerateSignKey()
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{
		t: t, authority: authority, runner: id.NewNode(time.Now()), server: id.NewNode(time.Now()),
		chunks: map[id.Blob][][]byte{}, came: make(chan struct{}, 100_000),
	}
	at := id.NewNode(time.Now())
	client, err := New(Options{Dialer: dialer, Recorder: RecordTo(d, at), Roots: x509.NewCertPool()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	d.Node = NewNode(NodeConfig{
		Node: at, Seal: k, Authority: authority.Public(), Client: client, Bus: d, Log: slog.New(slog.DiscardHandler),
	})
	return d
}

func localDesk(t testing.TB) *desk { return newDesk(t, dial.New(dial.Policy{Allow: loopback()})) }

// worker is the other end of a lease.
type worker struct {
	*lease.Egress
	d       *desk
	channel *seal.Channel
	give    wire.Frame
	last    uint64
}

// slotAt is a slot bound to a URL, with a bearer token.
func slotAt(t testing.TB, name, base string) lease.SlotRecord {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return lease.SlotRecord{Slot: name, Record: lease.Record{
		Connection: id.NewConnection(time.Now()), Kind: lease.KindBearer, Connector: "http",
		Binding: lease.Binding{Scheme: u.Scheme, Host: u.Hostname(), Port: uint32(port), BasePath: u.Path},
		Fields:  []lease.Field{{Name: "token", Secret: []byte(canary)}},
	}}
}

// lend gives the node a lease for a new worker.
func (d *desk) lend(change func(*lease.Egress), slots ...lease.SlotRecord) *worker {
	d.t.Helper()
	key, err := seal.RandomKey()
	if err != nil {
		d.t.Fatal(err)
	}
	now := time.Now()
	w := &worker{d: d, Egress: &lease.Egress{
		Lease: id.NewLease(now), Customer: id.NewCustomer(now), Instance: id.NewInstance(now), Runner: d.runner,
		Expires: now.Add(lease.MaxLife), Channel: key.Bytes(), Slots: slots,
	}}
	if change != nil {
		change(w.Egress)
	}
	sealed, err := lease.SealEgress(d.authority, d.cfg.Seal.Public(), w.Egress)
	if err != nil {
		d.t.Fatal(err)
	}
	if w.channel, err = seal.NewChannel(w.Channel, seal.Caller); err != nil {
		d.t.Fatal(err)
	}
	w.give = frameOf(&wire.LeaseGive{Lease: w.Lease, Sealed: sealed})
	d.Handle(d.runner, wire.TopicCall, w.give, nil)
	return w
}

// frame seals a request as the worker.
func (w *worker) frame(r *wire.Request) wire.Frame {
	w.last++
	m := &wire.Call{Lease: w.Lease, Worker: 7, Call: w.last}
	m.Sealed = w.channel.Seal(nil, m.Place(), wire.AppendBody(nil, r))
	return frameOf(m)
}

// say gives the node a frame of the runner.
func (w *worker) say(f wire.Frame) { w.d.Handle(w.d.runner, wire.TopicCall, f, nil) }

// ask makes a call and waits for its response.
func (w *worker) ask(r *wire.Request) *wire.Response {
	w.d.t.Helper()
	w.say(w.frame(r))
	<-w.d.came
	return w.response(w.last)
}

// response opens the answer to a call.
func (w *worker) response(call uint64) *wire.Response {
	w.d.t.Helper()
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	for _, a := range w.d.answers {
		if a.Lease != w.Lease || a.Call != call {
			continue
		}
		if a.Worker != 7 || a.Error != "" {
			w.d.t.Fatalf("answer %+v", a)
		}
		plain, err := w.channel.Open(nil, a.Place(), a.Sealed)
		if err != nil {
			w.d.t.Fatalf("open answer: %v", err)
		}
		r := &wire.Response{}
		if err := wire.ParseBody(plain, r); err != nil {
			w.d.t.Fatal(err)
		}
		return r
	}
	w.d.t.Fatalf("call %d has no answer", call)
	return nil
}

func (d *desk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.answers)
}

func TestNodeRefusesLeases(t *testing.T) {
	t.Parallel()
	d, other := localDesk(t), localDesk(t)
	cases := map[string]func() (from id.Node, f wire.Frame){
		"another runner's": func() (id.Node, wire.Frame) {
			return d.runner, d.lend(func(l *lease.Egress) { l.Runner = id.NewNode(time.Now()) }).give
		},
		"carried by another": func() (id.Node, wire.Frame) { return id.NewNode(time.Now()), other.lend(nil).give },
		"ended": func() (id.Node, wire.Frame) {
			return d.runner, d.lend(func(l *lease.Egress) { l.Expires = time.Now() }).give
		},
		"too long": func() (id.Node, wire.Frame) {
			return d.runner, d.lend(func(l *lease.Egress) { l.Expires = time.Now().Add(time.Hour) }).give
		},
		"another node's": func() (id.Node, wire.Frame) {
			return d.runner, other.lend(func(l *lease.Egress) { l.Runner = d.runner }).give
		},
		"a short channel key": func() (id.Node, wire.Frame) {
			return d.runner, frameOf(&wire.LeaseGive{Lease: id.NewLease(time.Now()), Sealed: make([]byte, 100)})
		},
		"cut":   func() (id.Node, wire.Frame) { return d.runner, wire.Frame{Type: wire.TypeLeaseGive, Body: []byte{1}} },
		"again": func() (id.Node, wire.Frame) { return d.runner, d.lend(nil).give },
		"under another id": func() (id.Node, wire.Frame) {
			w := other.lend(nil)
			var m wire.LeaseGive
			_ = w.give.Parse(&m)
			m.Lease = id.NewLease(time.Now())
			return d.runner, frameOf(&m)
		},
	}
	for name, c := range cases {
		from, f := c()
		if err := d.give(from, f); err == nil {
			t.Errorf("%s: the lease was taken", name)
		}
	}
	if len(d.leases) != 1 { // the one that was given again
		t.Errorf("%d leases are held", len(d.leases))
	}
}

func TestNodeTakesEachCallOfItsWorkerOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	served := 0
	s := serve(t, func(http.ResponseWriter, *http.Request) { mu.Lock(); served++; mu.Unlock() })
	d := localDesk(t)
	w := d.lend(nil, slotAt(t, "s", s.URL))
	other := d.lend(nil, slotAt(t, "s", s.URL))
	request := &wire.Request{Slot: "s", Method: "POST", Path: "/"}
	frames := []wire.Frame{w.frame(request), w.frame(request), w.frame(request)}
	for _, i := range []int{2, 0, 1} { // reordered
		w.say(frames[i])
		<-d.came
	}
	tried := 0
	bad := func(what string, from id.Node, change func(*wire.Call)) {
		t.Helper()
		tried++
		var m wire.Call
		if err := w.frame(request).Parse(&m); err != nil {
			t.Fatal(err)
		}
		change(&m)
		before := d.count()
		err := d.call(from, frameOf(&m))
		answered := d.count() > before
		if answered {
			d.mu.Lock()
			if a := d.answers[before]; a.Error != "lease" || len(a.Sealed) > 0 {
				t.Errorf("%s: answer %+v", what, a)
			}
			d.mu.Unlock()
			<-d.came
		}
		if err == nil && !answered {
			t.Errorf("%s: the call was taken", what)
		}
	}
	for i, f := range frames {
		bad("replayed "+strconv.Itoa(i), d.runner, func(m *wire.Call) { _ = f.Parse(m) })
	}
	bad("another number", d.runner, func(m *wire.Call) { m.Call++ })
	bad("another lease", d.runner, func(m *wire.Call) { m.Lease = other.Lease })
	bad("an unknown lease", d.runner, func(m *wire.Call) { m.Lease = id.NewLease(time.Now()) })
	bad("another runner", id.NewNode(time.Now()), func(*wire.Call) {})
	bad("a changed byte", d.runner, func(m *wire.Call) { m.Sealed[len(m.Sealed)-20] ^= 1 })
	bad("cut", d.runner, func(m *wire.Call) { m.Sealed = m.Sealed[:8] })
	bad("empty", d.runner, func(m *wire.Call) { m.Sealed = nil })
	bad("in clear", d.runner, func(m *wire.Call) { m.Sealed = wire.AppendBody(nil, request) })
	bad("sealed by this side", d.runner, func(m *wire.Call) {
		c, _ := seal.NewChannel(w.Channel, seal.Callee)
		m.Sealed = c.Seal(nil, m.Place(), wire.AppendBody(nil, request))
	})
	bad("sealed noise", d.runner, func(m *wire.Call) { m.Sealed = w.channel.Seal(nil, m.Place(), []byte("noise")) })
	mu.Lock()
	defer mu.Unlock()
	if served != 3 {
		t.Errorf("%d requests were made, want 3", served)
	}
	t.Logf("calls that are not a worker's, or not for the first time: %d tried, %d made", tried, served-3)
}

func TestNodeBindsSlots(t *testing.T) {
	t.Parallel()
	got := map[string]int{}
	var mu sync.Mutex
	site := func(name string) *httptest.Server {
		return serve(t, func(_ http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if r.Header.Get("Authorization") != "Bearer "+canary {
				name += " without its credential"
			}
			got[name+" "+r.Method+" "+r.URL.Path]++
		})
	}
	one, two := site("one"), site("two")
	d := localDesk(t)
	limited := slotAt(t, "limited", two.URL+"/v1")
	limited.Record.Binding.Methods, limited.Record.Binding.Paths = []string{"GET"}, []string{"/orders/{id}"}
	broken := slotAt(t, "broken", one.URL)
	broken.Record.Binding.Host = "not a host"
	wide := slotAt(t, "wide", one.URL)
	wide.Record.Binding.Port = 1 << 16
	w := d.lend(nil, slotAt(t, "one", one.URL), limited, broken, wide)
	cases := []struct {
		slot, method, path string
		want               string
	}{
		{"one", "POST", "/a", ""},
		{"limited", "GET", "/orders/7", ""},
		{"limited", "POST", "/orders/7", "egress-denied"},
		{"limited", "GET", "/users/7", "egress-denied"},
		{"limited", "GET", "/../x", "egress-denied"},
		{"broken", "GET", "/", "egress-denied"},
		{"wide", "GET", "/", "egress-denied"},
		{"none", "GET", "/", "egress-denied"},
		{"", "GET", "/", "egress-denied"},
	}
	for _, c := range cases {
		r := w.ask(&wire.Request{Slot: c.slot, Method: c.method, Path: c.path})
		if r.ErrorType != c.want || c.want != "" && (r.Message == "" || r.Definite || strings.Contains(r.Message, canary)) {
			t.Errorf("%s %s in slot %q: %+v", c.method, c.path, c.slot, r)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if d := cmp.Diff(map[string]int{"one POST /a": 1, "two GET /v1/orders/7": 1}, got); d != "" {
		t.Errorf("requests differ (-want +got):\n%s", d)
	}
}

func TestNodeSealsResponses(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Echo", r.Header.Get("Authorization"))
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte("payload-marker " + r.Header.Get("Authorization")))
	})
	d := localDesk(t)
	w := d.lend(nil, slotAt(t, "s", s.URL))
	e := id.NewExecution(time.Now())
	r := w.ask(&wire.Request{Execution: e, Slot: "s", Path: "/secret-path", Query: []wire.Pair{{Name: "q", Value: "secret-query"}}})
	if r.ErrorType != "invalid-input" || r.Status != 418 || !r.Definite || r.Scrubbed < 2 || !strings.Contains(string(r.Body), "payload-marker") || !r.Text {
		t.Errorf("response %+v", r)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []byte
	for _, a := range d.answers {
		all = wire.AppendFrame(all, a)
	}
	for _, f := range d.flows {
		all = wire.AppendFrame(all, f)
	}
	for _, word := range []string{canary, "payload-marker", "secret-path", "secret-query"} {
		if bytes.Contains(all, []byte(word)) || bytes.Contains(r.Body, []byte(canary)) {
			t.Errorf("%q is on the bus or was not scrubbed", word)
		}
	}
	if len(d.flows) != 2 || d.flows[0].Request != d.flows[1].Request || d.flows[0].Request.IsZero() {
		t.Fatalf("flow records %+v", d.flows)
	}
	before, after := d.flows[0], d.flows[1]
	if before.Done || !after.Done || after.Status != 418 || before.Verdict != "ok" || after.Verdict != "ok" || after.Received == 0 ||
		after.Customer != w.Customer || after.Instance != w.Instance || after.Execution != e || after.Node != d.cfg.Node || after.Scrubbed != r.Scrubbed {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
}

func TestFlowRecordsOfEachRequest(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/move" {
			http.Redirect(w, r, "/here", http.StatusFound)
		}
	})
	d := localDesk(t)
	closed := slotAt(t, "closed", s.URL)
	closed.Record.Binding.Methods = []string{"PUT"}
	dead, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	w := d.lend(func(l *lease.Egress) { l.Requests = 4 }, slotAt(t, "s", s.URL), closed, slotAt(t, "dead", "http://"+dead.Addr().String()))
	for _, r := range []*wire.Request{
		{Slot: "s", Path: "/"}, {Slot: "s", Path: "/move"}, {Slot: "closed", Path: "/"}, {Slot: "dead", Path: "/"}, {Slot: "s", Path: "/over"},
	} {
		w.ask(r)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var got []string
	seen := map[id.Event]int{}
	for _, f := range d.flows {
		got = append(got, strconv.FormatBool(f.Done)+" "+f.Verdict)
		seen[f.Request]++
	}
	want := []string{
		"false ok", "true ok",
		"false ok", "true ok", "false ok", "true ok", // a redirect is a request of its own
		"false denied",
		"false ok", "true failed",
		"false limit",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("flow records differ (-want +got):\n%s", d)
	}
	if len(seen) != 6 {
		t.Errorf("%d requests are told apart, want 6", len(seen))
	}
}

// TestBudgetIsOneForAllSlots charges the requests of every connection to the one lease.
func TestBudgetIsOneForAllSlots(t *testing.T) {
	t.Parallel()
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	d := localDesk(t)
	w := d.lend(func(l *lease.Egress) { l.Requests, l.Bytes = 3, 100 }, slotAt(t, "a", s.URL), slotAt(t, "b", s.URL))
	for i, slot := range []string{"a", "b", "a", "b", "a"} {
		want := ""
		if i >= 3 {
			want = "limit"
		}
		if r := w.ask(&wire.Request{Slot: slot}); r.ErrorType != want {
			t.Errorf("request %d: %+v", i, r)
		}
	}
	w = d.lend(func(l *lease.Egress) { l.Bytes = 100 }, slotAt(t, "a", s.URL), slotAt(t, "b", s.URL))
	for i, want := range []string{"", "limit"} {
		r := w.ask(&wire.Request{Slot: []string{"a", "b"}[i], Method: "POST", Body: make([]byte, 60), HasBody: true})
		if r.ErrorType != want {
			t.Errorf("60 of 100 bytes, time %d: %+v", i, r)
		}
	}
}

// holdingDialer holds every dial until it is let go, and then refuses it.
type holdingDialer struct {
	let chan struct{}

	mu           sync.Mutex
	now, highest int
	total        int
}

func (h *holdingDialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	h.mu.Lock()
	h.now++
	h.total++
	h.highest = max(h.highest, h.now)
	h.mu.Unlock()
	defer func() { h.mu.Lock(); h.now--; h.mu.Unlock() }()
	select {
	case <-h.let:
		return nil, errors.New("let go")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// begun is how many dials there were.
func (h *holdingDialer) begun() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}

// state is how many leases, remembered leases and callers a node has.
func (d *desk) state() (leases, dropped, callers int) {
	synctest.Wait()
	d.Node.mu.Lock()
	defer d.Node.mu.Unlock()
	return len(d.leases), len(d.dropped), d.running
}

// errors are how many answers have which error.
func (d *desk) errors(w *worker) map[string]int {
	synctest.Wait()
	d.mu.Lock()
	all := slices.Clone(d.answers)
	d.mu.Unlock()
	got := map[string]int{}
	for _, a := range all {
		if a.Error != "" {
			got[a.Error]++
			continue
		}
		got[w.response(a.Call).ErrorType]++
	}
	return got
}

func (h *holdingDialer) held() int {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// quietly plays a node in a bubble of its own time and checks that nothing is left.
func quietly(t *testing.T, f func(d *desk, h *holdingDialer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &holdingDialer{let: make(chan struct{})}
		d := newDesk(t, h)
		f(d, h)
		synctest.Wait()
		<-time.After(2 * idleCaller)
		synctest.Wait()
		d.Node.mu.Lock()
		defer d.Node.mu.Unlock()
		if d.running != 0 || d.idle != 0 || len(d.shares) != 0 || len(d.lines) > len(d.leases) || d.bytes != 0 || len(d.queue) != 0 || len(d.tasks) != 0 || len(d.Node.blobs.calls) != 0 {
			t.Errorf("left: %d callers (%d idle), %d shares, %d bytes, %d queued", d.running, d.idle, len(d.shares), d.bytes, len(d.queue))
		}
	})
}

func slow(slot string) *wire.Request { return &wire.Request{Slot: slot, Timeout: MaxTimeout} }

func TestNoCustomerKeepsTheNodeFromOthers(t *testing.T) {
	t.Parallel()
	quietly(t, func(d *desk, h *holdingDialer) {
		greedy := id.NewCustomer(time.Now())
		for range 4 { // one customer, many leases
			w := d.lend(func(l *lease.Egress) { l.Customer = greedy }, slotAt(d.t, "s", "http://127.0.0.1:9"))
			for range 500 {
				w.say(w.frame(slow("s")))
			}
		}
		if n := h.held(); n != MaxInFlightOfCustomer {
			t.Errorf("%d calls of one customer run", n)
		}
		modest := d.lend(nil, slotAt(d.t, "s", "http://127.0.0.1:9"))
		modest.say(modest.frame(slow("s")))
		if n := h.held(); n != MaxInFlightOfCustomer+1 {
			t.Errorf("%d calls run: another customer waits", n)
		}
		close(h.let)
		synctest.Wait()
		if n := d.count(); n != 2001 {
			t.Errorf("%d answers, want 2001", n)
		}
	})
}

func TestTheNodeIsFull(t *testing.T) {
	t.Parallel()
	quietly(t, func(d *desk, h *holdingDialer) {
		const customers = 12
		for range customers {
			w := d.lend(nil, slotAt(d.t, "s", "http://127.0.0.1:9"))
			for range MaxInFlightOfCustomer {
				w.say(w.frame(slow("s")))
			}
		}
		if n := h.held(); n != MaxInFlight {
			t.Errorf("%d calls run", n)
		}
		close(h.let)
		synctest.Wait()
		if n := d.count(); n != customers*MaxInFlightOfCustomer {
			t.Errorf("%d answers, want %d", n, customers*MaxInFlightOfCustomer)
		}
		// Callers that are idle take what comes next, the queue is not forgotten.
		w := d.lend(nil, slotAt(d.t, "s", "http://127.0.0.1:9"))
		_, _, before := d.state()
		for range 3 {
			w.say(w.frame(slow("s")))
			synctest.Wait()
		}
		if _, _, callers := d.state(); callers != before || d.count() != customers*MaxInFlightOfCustomer+3 {
			t.Errorf("%d callers after %d, %d answers", callers, before, d.count())
		}
	})
}

func TestTooManyWait(t *testing.T) {
	t.Parallel()
	quietly(t, func(d *desk, h *holdingDialer) {
		w := d.lend(nil, slotAt(d.t, "s", "http://127.0.0.1:9"))
		all := ofOne + maxWaitingOfCustomer*leaveFree/(leaveFree+1)
		for range all + 10 {
			w.say(w.frame(slow("s")))
		}
		synctest.Wait()
		if n := d.count(); n != 10 {
			t.Errorf("%d were refused, want 10", n)
		}
		if r := w.response(uint64(all + 1)); r.ErrorType != "limit" || r.Definite {
			t.Errorf("response %+v", r)
		}
		big := d.lend(nil, slotAt(d.t, "s", "http://127.0.0.1:9"))
		for range 100 {
			big.say(big.frame(&wire.Request{Slot: "s", Body: make([]byte, 1<<20), HasBody: true}))
		}
		synctest.Wait()
		if n := d.count() - 10; n < 52 || n > 56 { // of the 64 that its customer has
			t.Errorf("%d of 100 MB were refused", n)
		}
		close(h.let)
	})
}

func TestDropGivesUpCalls(t *testing.T) {
	t.Parallel()
	quietly(t, func(d *desk, h *holdingDialer) {
		w := d.lend(nil, slotAt(d.t, "s", "http://127.0.0.1:9"))
		for range ofOne + 50 {
			w.say(w.frame(slow("s")))
		}
		if h.held() != ofOne {
			t.Fatal("nothing runs")
		}
		w.say(frameOf(&wire.LeaseDrop{Lease: w.Lease}))
		if diff := cmp.Diff(map[string]int{"interrupted": ofOne, "lease": 50}, d.errors(w)); diff != "" {
			t.Errorf("answers differ (-want +got):\n%s", diff)
		}
		if n := h.begun(); n != ofOne {
			t.Errorf("%d calls were begun", n)
		}
		close(h.let) // net/http finishes dials for others
	})
}

func TestRunForgetsLeases(t *testing.T) {
	t.Parallel()
	quietly(t, func(d *desk, h *holdingDialer) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		w := d.lend(nil, slotAt(d.t, "s", "http://127.0.0.1:9"))
		w.say(w.frame(slow("s")))
		dropped := d.lend(nil)
		dropped.say(frameOf(&wire.LeaseDrop{Lease: dropped.Lease}))
		<-time.After(lease.MaxLife - time.Second)
		if leases, dropped, _ := d.state(); leases != 1 || dropped != 1 {
			t.Errorf("%d leases, %d dropped", leases, dropped)
		}
		<-time.After(3 * time.Second)
		if leases, dropped, _ := d.state(); leases+dropped != 0 {
			t.Errorf("%d leases, %d dropped after their end", leases, dropped)
		}
		w.say(w.frame(slow("s")))
		if got := d.errors(w); got["lease"] != 1 {
			t.Errorf("a call under a lease that has ended: %v", got)
		}
		if h.held() != 1 {
			t.Error("what ran under it was given up")
		}
		later := d.lend(nil, slotAt(d.t, "s", "http://127.0.0.1:9"))
		later.say(later.frame(slow("s")))
		synctest.Wait()
		close(h.let)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
