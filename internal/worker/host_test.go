package worker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// host is everything around a worker, in one process: runner, server, egress, sandboxes and blobs. What it keeps survives
// the workers that it starts.
type host struct {
	t          testing.TB
	definition *flow.Integration
	config     string
	customer   id.Customer
	instance   id.Instance
	day        lease.Day
	payload    *seal.PrivateKey
	key        *seal.Key
	server     *seal.PrivateKey
	viewerKey  *seal.PrivateKey
	view       id.View
	secret     []byte // of idempotency keys
	events     *seal.Sealer

	// What the world does. Nil fields answer with an error.
	egress func(r *wire.Request) *wire.Response
	code   func(c *wire.CodeCall) *wire.CodeResult
	// cut is asked at each append, counted from 1 over the life of the host.
	cut func(n int, a *wire.Append) cutting
	// noAnswer makes egress silent when it returns true.
	noAnswer func(r *wire.Request) bool
	grow     func(l *lease.Worker) // changes the lease of the next worker
	hostile  bool                  // frames that nobody sent come between: what follows from them is no mistake

	mu       sync.Mutex
	runs     map[id.Execution]*run
	order    []id.Execution
	state    map[[32]byte]stateCell
	blobs    map[id.Blob][][]byte
	requests []wire.Request
	appends  int
	codes    []wire.CodeCall
	views    []wire.View
	progress []wire.Progress
	replies  []wire.ReplyBody
	boxes    int
	paged    int // entries of a page of the journal; 0: it comes with the unit
	got      int // entries that came in pages
	link     *link
}

type stateCell struct {
	version uint64
	value   []byte
}

// run is one execution as the server knows it.
type run struct {
	unit     wire.UnitExecution
	waits    []wire.Wait
	children []wire.Child
	labels   []wire.Label
	logs     []wire.LogLines
	finish   *wire.Finish
	holder   *link              // the worker that has it
	released chan wire.Released // one per stay
}

// cutting says what happens at an append.
type cutting int

const (
	goOn      cutting = iota
	lose              // the append is lost, and the worker dies
	loseAck           // the append is committed, and the worker dies before it hears of it
	answerOld         // the append is refused as stale
)

func newHost(t testing.TB, i *flow.Integration) *host {
	t.Helper()
	now := time.Now()
	h := &host{
		t: t, definition: i, config: "{}", customer: id.NewCustomer(now), instance: id.NewInstance(now), day: lease.DayOf(now) + 30,
		view: id.NewView(now), secret: make([]byte, 32), runs: map[id.Execution]*run{}, state: map[[32]byte]stateCell{}, blobs: map[id.Blob][][]byte{},
	}
	h.payload, h.server, h.viewerKey = newKey(t), newKey(t), newKey(t)
	h.events = seal.NewSealer(h.payload.Public(), lease.PurposePayload)
	var err error
	if h.key, err = seal.RandomKey(); err != nil {
		t.Fatal(err)
	}
	return h
}

func newKey(t testing.TB) *seal.PrivateKey {
	t.Helper()
	k, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// parse reads an integration as people write it.
func parse(t testing.TB, text string) *flow.Integration {
	t.Helper()
	doc, problems := flowfile.Decode("test.yaml", []byte(text))
	if doc == nil {
		t.Fatalf("the integration is not valid:\n%v\n%s", problems, text)
	}
	return doc.Integration
}

func parseFile(t testing.TB, name string) *flow.Integration {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(b))
}

// steps makes an integration of one flow with the given steps, indented as they stand.
func steps(t testing.TB, list string) *flow.Integration {
	t.Helper()
	return parse(t, "bulkhead: 1\nintegration: test\nconnections:\n  api: {connector: http}\nflows:\n  main:\n    trigger: {manual: {}}\n    steps:\n"+list)
}

// link is one worker and its connection.
type link struct {
	h       *host
	conn    net.Conn
	out     *wire.Writer
	lease   *lease.Worker
	channel *seal.Channel
	worker  seal.PublicKey
	served  chan error // what Serve returned
	dead    bool
	box     map[id.Execution]*seal.Channel
	boxKey  map[id.Execution]*seal.PrivateKey
	bound   chan wire.Bound
	pages   map[id.View]chan *wire.ReadPage
}

// start starts a worker and binds it.
func (h *host) start() *link {
	h.t.Helper()
	l := h.connect()
	if m := <-l.bound; m.Error != "" {
		h.t.Fatalf("worker does not bind: %s", m.Error)
	}
	return l
}

func (h *host) connect() *link {
	mine, theirs := net.Pipe()
	l := &link{
		h: h, conn: mine, out: wire.NewWriter(mine), served: make(chan error, 1), bound: make(chan wire.Bound, 1),
		box: map[id.Execution]*seal.Channel{}, boxKey: map[id.Execution]*seal.PrivateKey{},
	}
	go func() {
		err := Serve(context.Background(), theirs, Options{})
		_ = theirs.Close()
		l.served <- err
	}()
	h.mu.Lock()
	h.link = l
	h.mu.Unlock()
	in := wire.NewReader(mine)
	f, err := in.Read()
	if err != nil {
		h.t.Fatal(err)
	}
	var hello wire.WorkerHello
	if err := f.Parse(&hello); err != nil {
		h.t.Fatal(err)
	}
	l.worker = hello.Key
	if err := l.out.Write(h.bind(l)); err != nil {
		h.t.Fatal(err)
	}
	go l.read(in)
	return l
}

func (h *host) newLease() *lease.Worker {
	channel := make([]byte, 32)
	copy(channel, id.NewLease(time.Now()).String())
	l := &lease.Worker{
		Lease: id.NewLease(time.Now()), Customer: h.customer, Instance: h.instance, Definition: h.definition.Digest(), ConfigVersion: 3,
		Expires: time.Now().Add(time.Hour), Payload: []lease.PayloadKey{{Day: h.day, Private: h.payload.Bytes()}},
		InstanceKey: h.key.Bytes(), IdempotencyKey: h.secret, Channel: channel, Egress: id.NewNode(time.Now()), ServerKey: h.server.Public(),
		Viewers:      []lease.Viewer{{View: h.view, Key: h.viewerKey.Public()}},
		CallbackBase: "https://hooks.example/c/",
	}
	if h.grow != nil {
		h.grow(l)
	}
	return l
}

func (h *host) bind(l *link) *wire.Bind {
	l.lease = h.newLease()
	var err error
	if l.lease.Read == nil {
		if l.channel, err = seal.NewChannel(l.lease.Channel, seal.Callee); err != nil {
			h.t.Fatal(err)
		}
	}
	sealed, err := lease.SealWorker(l.worker, l.lease)
	if err != nil {
		h.t.Fatal(err)
	}
	definition, err := h.definition.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	return &wire.Bind{
		Lease: sealed, Definition: definition, ConfigVersion: 3,
		Config: h.key.Seal(nil, lease.ConfigPlace(h.customer, h.instance, 3), []byte(h.config)),
	}
}

// stop ends a worker and reports how Serve ended.
func (l *link) stop() error {
	_ = l.conn.Close()
	err := <-l.served
	_ = l.out.Close()
	if errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

// add registers a new execution.
func (h *host) add(flowName, event string) id.Execution {
	h.t.Helper()
	now := time.Now()
	e, ev := id.NewExecution(now), id.NewEvent(now)
	h.enroll(e, ev, flowName, h.sealEvent(ev, event))
	return e
}

func (h *host) sealEvent(ev id.Event, plain string) []byte {
	sealed, err := h.events.Seal(nil, time.Now(), lease.EventPlace(h.customer, ev, h.day), []byte(plain))
	if err != nil {
		h.t.Fatal(err)
	}
	return sealed
}

func (h *host) enroll(e id.Execution, ev id.Event, flowName string, sealed []byte) *run {
	r := &run{released: make(chan wire.Released, 16), unit: wire.UnitExecution{
		Execution: e, Flow: flowName, Started: time.Unix(1_800_000_000, 0).UTC(), Seed: sha16(e[:]), Expires: time.Now().Add(time.Hour),
		Day: uint32(h.day), EventID: ev, Event: sealed,
	}}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs[e] = r
	h.order = append(h.order, e)
	return r
}

func sha16(b []byte) (out [16]byte) {
	s := sha256.Sum256(b)
	copy(out[:], s[:])
	return out
}

func (h *host) run(e id.Execution) *run {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runs[e]
}

// give hands an execution to a worker with the next fence.
func (l *link) give(e id.Execution) {
	h := l.h
	h.mu.Lock()
	r := h.runs[e]
	r.unit.Fence++
	r.finish, r.holder = nil, l
	if l.dead {
		r.holder = nil
		r.released <- wire.Released{Fault: "crash"}
	}
	u := r.unit
	u.Journal = append([]wire.Entry(nil), r.unit.Journal...)
	u.Wakes = append([]wire.Entry(nil), r.unit.Wakes...)
	u.Entries = uint32(len(u.Journal))
	if h.paged > 0 {
		u.Journal, u.WakesAway = nil, true
		for i := range u.Wakes {
			u.Wakes[i].Body = nil
		}
	}
	h.mu.Unlock()
	_ = l.out.Write(&wire.Unit{Executions: []wire.UnitExecution{u}})
}

// read serves what the worker asks until the link ends.
func (l *link) read(in *wire.Reader) {
	for {
		f, err := in.Read()
		if err != nil {
			l.lost()
			return
		}
		if err := l.frame(f); err != nil {
			if !errors.Is(err, errCut) && !errors.Is(err, io.ErrClosedPipe) && !l.h.hostile {
				l.h.t.Errorf("frame of the worker: %v", err)
			}
			_ = l.conn.Close()
			l.lost()
			return
		}
	}
}

// lost tells whoever waits for an execution of this worker that it is gone.
func (l *link) lost() {
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	if l.dead {
		return
	}
	l.dead = true
	for _, r := range l.h.runs {
		if r.holder == l {
			r.holder = nil
			r.released <- wire.Released{Fault: "crash"}
		}
	}
}

var errCut = errors.New("cut")

func get[T any, P interface {
	*T
	wire.Typed
}](f wire.Frame) (*T, error) {
	m := new(T)
	return m, f.Parse(P(m))
}

func (l *link) frame(f wire.Frame) error {
	h := l.h
	switch f.Type {
	case wire.TypeBound:
		m, err := get[wire.Bound](f)
		l.bound <- *m
		return err
	case wire.TypeAppend:
		m, err := get[wire.Append](f)
		if err != nil {
			return err
		}
		return l.commit(m)
	case wire.TypeReleased:
		m, err := get[wire.Released](f)
		if err != nil {
			return err
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		r := h.runs[m.Execution]
		if r.holder == l && m.Fence == r.unit.Fence {
			r.holder = nil
			r.released <- *m
		}
		return nil
	case wire.TypeCall:
		m, err := get[wire.Call](f)
		if err != nil {
			return err
		}
		return l.call(m)
	case wire.TypeState:
		m, err := get[wire.State](f)
		if err != nil {
			return err
		}
		return l.out.Write(h.stateOp(m))
	case wire.TypeJournalGet:
		m, err := get[wire.JournalGet](f)
		if err != nil {
			return err
		}
		return l.out.Write(h.journalPage(m))
	case wire.TypeBlobWrite, wire.TypeBlobRead:
		return l.blob(f)
	case wire.TypeSandboxWant, wire.TypeSandboxOpen, wire.TypeSandboxRun, wire.TypeSandboxClose:
		return l.sandbox(f)
	case wire.TypeView:
		m, err := get[wire.View](f)
		h.mu.Lock()
		h.views = append(h.views, *m)
		h.mu.Unlock()
		return err
	case wire.TypeProgress:
		m, err := get[wire.Progress](f)
		h.mu.Lock()
		h.progress = append(h.progress, *m)
		h.mu.Unlock()
		return err
	case wire.TypeReply:
		return l.reply(f)
	case wire.TypeReadPage:
		m, err := get[wire.ReadPage](f)
		h.mu.Lock()
		c := l.pages[m.View]
		h.mu.Unlock()
		c <- m
		return err
	}
	return fmt.Errorf("a %v frame", f.Type)
}

func (l *link) reply(f wire.Frame) error {
	m, err := get[wire.Reply](f)
	if err != nil {
		return err
	}
	plain, err := l.h.viewerKey.Open(lease.PurposeView, m.Place(), m.Sealed)
	if err != nil {
		return err
	}
	var body wire.ReplyBody
	if err := wire.ParseBody(plain, &body); err != nil {
		return err
	}
	l.h.mu.Lock()
	l.h.replies = append(l.h.replies, body)
	l.h.mu.Unlock()
	return nil
}

// commit is the server's part of an append.
func (l *link) commit(a *wire.Append) error {
	h := l.h
	h.mu.Lock()
	h.appends++
	n, cut := h.appends, h.cut
	r := h.runs[a.Execution]
	h.mu.Unlock()
	how := goOn
	if cut != nil {
		how = cut(n, a)
	}
	if how == lose {
		return errCut
	}
	if how == answerOld || a.Fence != r.unit.Fence {
		return l.out.Write(&wire.Appended{Execution: a.Execution, Fence: a.Fence, Stale: true})
	}
	h.mu.Lock()
	for _, e := range a.Entries {
		if want := uint32(len(r.unit.Journal) + 1); e.Seq != want {
			h.t.Errorf("entry %s has number %d, want %d", e.Path, e.Seq, want)
		}
		r.unit.Journal = append(r.unit.Journal, e)
	}
	r.waits = append(r.waits, a.Waits...)
	r.children = append(r.children, a.Children...)
	r.labels = append(r.labels, a.Labels...)
	r.logs = append(r.logs, a.Logs...)
	for _, g := range a.Logs {
		r.unit.LogLines = max(r.unit.LogLines, g.Number+g.Lines-1)
		r.unit.LogBytes += uint32(len(g.Body))
	}
	r.finish = a.Finish
	seq := uint32(len(r.unit.Journal))
	h.mu.Unlock()
	for _, c := range a.Children {
		h.enroll(c.Execution, id.Event(c.Execution), c.Flow, c.Event)
	}
	if how == loseAck {
		return errCut
	}
	return l.out.Write(&wire.Appended{Execution: a.Execution, Fence: a.Fence, Seq: seq})
}

// call is egress.
func (l *link) call(m *wire.Call) error {
	h := l.h
	plain, err := l.channel.Open(nil, m.Place(), m.Sealed)
	if err != nil {
		return fmt.Errorf("open call: %w", err)
	}
	var r wire.Request
	if err := wire.ParseBody(plain, &r); err != nil {
		return err
	}
	h.mu.Lock()
	h.requests = append(h.requests, r)
	h.mu.Unlock()
	if h.noAnswer != nil && h.noAnswer(&r) {
		return nil
	}
	go func() {
		out := &wire.Answer{Lease: m.Lease, Worker: m.Worker, Call: m.Call}
		answer := &wire.Response{ErrorType: "upstream", Message: "the world is silent"}
		if h.egress != nil {
			answer = h.egress(&r)
		}
		out.Sealed = l.channel.Seal(nil, out.Place(), wire.AppendBody(nil, answer))
		_ = l.out.Write(out)
	}()
	return nil
}

func (h *host) stateOp(m *wire.State) *wire.StateResult {
	h.mu.Lock()
	defer h.mu.Unlock()
	have := h.state[m.Name]
	out := &wire.StateResult{Call: m.Call, Execution: m.Execution, Version: have.version, Value: have.value}
	switch {
	case m.Op == wire.StateGet:
	case m.Version != have.version:
		out.Conflict = true
	case m.Op == wire.StatePut:
		h.state[m.Name] = stateCell{have.version + 1, append([]byte(nil), m.Value...)}
		out.Version, out.Value = have.version+1, nil
	case m.Op == wire.StateDelete:
		delete(h.state, m.Name)
		out.Version, out.Value = 0, nil
	}
	return out
}

func (l *link) blob(f wire.Frame) error {
	h := l.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.Type == wire.TypeBlobWrite {
		m, err := get[wire.BlobWrite](f)
		if err != nil {
			return err
		}
		h.blobs[m.Blob] = append(h.blobs[m.Blob], m.Data)
		if !m.Last {
			return nil
		}
		return l.out.Write(&wire.BlobChunk{Call: m.Call, Blob: m.Blob, Execution: m.Execution, Index: m.Index, Last: true})
	}
	m, err := get[wire.BlobRead](f)
	if err != nil {
		return err
	}
	out := &wire.BlobChunk{Call: m.Call, Blob: m.Blob, Execution: m.Execution, Index: m.Index}
	if chunks := h.blobs[m.Blob]; int(m.Index) < len(chunks) {
		out.Data, out.Last = chunks[m.Index], int(m.Index) == len(chunks)-1
	} else {
		out.Error = "not-found"
	}
	return l.out.Write(out)
}

// putBlob stores what egress would have stored.
func (h *host) putBlob(data []byte, contentType string) *wire.BlobRef {
	key, err := seal.RandomStreamKey()
	if err != nil {
		h.t.Fatal(err)
	}
	ref := &wire.BlobRef{Blob: id.NewBlob(time.Now()), Key: key.Bytes(), Size: uint64(len(data)), ContentType: contentType, Name: "data", Day: uint32(h.day)}
	h.mu.Lock()
	defer h.mu.Unlock()
	for last := false; !last; ref.Chunks++ {
		n := min(len(data), seal.ChunkSize)
		last = n == len(data)
		h.blobs[ref.Blob] = append(h.blobs[ref.Blob], key.Seal(nil, lease.BlobPlace(ref.Blob), data[:n], ref.Chunks, last))
		data = data[n:]
	}
	return ref
}

func (l *link) sandbox(f wire.Frame) error {
	h := l.h
	switch f.Type {
	case wire.TypeSandboxWant:
		m, err := get[wire.SandboxWant](f)
		if err != nil {
			return err
		}
		if l.boxKey[m.Execution] != nil {
			return errors.New("a second sandbox for an execution")
		}
		h.mu.Lock()
		h.boxes++
		h.mu.Unlock()
		k := newKey(h.t)
		l.boxKey[m.Execution] = k
		return l.out.Write(&wire.SandboxReady{Execution: m.Execution, Fence: m.Fence, Key: k.Public()})
	case wire.TypeSandboxOpen:
		m, err := get[wire.SandboxOpen](f)
		if err != nil {
			return err
		}
		if l.boxKey[m.Execution] == nil {
			return errors.New("a sandbox that was not asked for is opened")
		}
		l.box[m.Execution], err = seal.Accept(l.boxKey[m.Execution], lease.PurposeSandbox, m.Encapsulation)
		return err
	case wire.TypeSandboxClose:
		m, err := get[wire.SandboxClose](f)
		delete(l.box, m.Execution)
		delete(l.boxKey, m.Execution)
		return err
	}
	m, err := get[wire.SandboxRun](f)
	if err != nil {
		return err
	}
	channel := l.box[m.Execution]
	if channel == nil {
		return errors.New("code for a sandbox that is not open")
	}
	plain, err := channel.Open(nil, m.Place(), m.Sealed)
	if err != nil {
		return err
	}
	var call wire.CodeCall
	if err := wire.ParseBody(plain, &call); err != nil {
		return err
	}
	h.mu.Lock()
	h.codes = append(h.codes, call)
	h.mu.Unlock()
	result := h.code(&call)
	if result == nil {
		delete(l.box, m.Execution)
		delete(l.boxKey, m.Execution)
		return l.out.Write(&wire.SandboxGone{Execution: m.Execution, Fence: m.Fence, Exit: "memory"})
	}
	out := &wire.SandboxResult{Execution: m.Execution, Fence: m.Fence, Call: m.Call}
	out.Sealed = channel.Seal(nil, out.Place(), wire.AppendBody(nil, result))
	return l.out.Write(out)
}

// wake adds the answer to a wait, and delivers it if the execution is in a worker.
func (h *host) wake(e id.Execution, path string, reason wire.WakeReason, hash [16]byte, plain string) wire.Entry {
	r := h.run(e)
	w := wire.Entry{Kind: wire.EntryWake, Path: path, Epoch: uint32(reason), Hash: hash}
	if plain != "" {
		body, err := seal.NewSealer(h.payload.Public(), lease.PurposePayload).Seal(nil, time.Now(), lease.EntryPlace(h.customer, e, &w), []byte(plain))
		if err != nil {
			h.t.Fatal(err)
		}
		w.Body = body
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	w.Seq = uint32(len(r.unit.Wakes) + 1)
	r.unit.Wakes = append(r.unit.Wakes, w)
	return w
}

// ended is how an execution ended, opened.
type outcomeOf struct {
	Status wire.Status
	Type   string
	Step   string
	Output string
}

// result opens the finish of an execution.
func (h *host) result(e id.Execution) outcomeOf {
	h.t.Helper()
	h.mu.Lock()
	fin := h.runs[e].finish
	h.mu.Unlock()
	if fin == nil {
		return outcomeOf{}
	}
	out := outcomeOf{Status: fin.Status, Type: fin.ErrorType, Step: fin.ErrorStep}
	if len(fin.Output) > 0 {
		plain, err := seal.NewOpener(h.payload, lease.PurposePayload).Open(nil, lease.OutputPlace(h.customer, e, fin.Status), fin.Output)
		if err != nil {
			h.t.Fatalf("open output: %v", err)
		}
		out.Output = string(plain)
	}
	return out
}

// finish runs an execution in one worker until it is released, and returns how it ended.
func (h *host) finish(l *link, e id.Execution) outcomeOf {
	h.t.Helper()
	l.give(e)
	h.released(e)
	return h.result(e)
}

func (h *host) released(e id.Execution) wire.Released {
	h.t.Helper()
	select {
	case r := <-h.run(e).released:
		return r
	case <-time.After(20 * time.Second):
		h.t.Fatal("the execution is not released")
		return wire.Released{}
	}
}

// once runs one event through a flow in a fresh worker.
func (h *host) once(flowName, event string) outcomeOf {
	h.t.Helper()
	l := h.start()
	defer func() {
		if err := l.stop(); err != nil {
			h.t.Errorf("Serve: %v", err)
		}
	}()
	return h.finish(l, h.add(flowName, event))
}

// sent lists the requests that reached egress, in order.
func (h *host) sent() []wire.Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]wire.Request(nil), h.requests...)
}

// jsonAnswer is a response with a JSON body.
func jsonAnswer(status uint32, body string) *wire.Response {
	return &wire.Response{
		Status: status, Headers: []wire.Pair{{Name: "content-type", Value: "application/json"}}, Body: []byte(body), Text: true,
	}
}

// refusal is an answer that was not expected.
func refusal(kind string, status uint32) *wire.Response {
	return &wire.Response{Status: status, ErrorType: kind, Message: fmt.Sprintf("the service answered %d", status), Definite: true}
}
