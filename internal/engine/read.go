package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits of reads.
const (
	// MaxReads is how many reads are under way at once.
	MaxReads = 256
	// MaxRange is the most bytes of one range of a value.
	MaxRange = 160 << 10
	// readTimeout bounds one page: the start of a worker and its lease are part of it.
	readTimeout = 20 * time.Second
	// readerWait is how long a read waits for a runner to be heard, looking every readerPause.
	readerWait  = time.Second
	readerPause = 20 * time.Millisecond
	// readRows and readBytes bound the rows that are sent for one page.
	readRows  = 128
	readBytes = 3 << 20
)

// Errors of reads, beside ErrNotFound and ErrInvalid.
var (
	// ErrExpired: the expiry day is over, and with it the key that opened the payloads.
	ErrExpired = errors.New("expired")
	// ErrUnavailable: there is no runner, or it has no room or did not answer in time.
	ErrUnavailable = errors.New("no runner is available")
	// ErrUnreadable: what is stored does not open or may not be read, which is worth an alarm.
	ErrUnreadable = errors.New("what is stored cannot be read")
)

// ReadRequest asks for one page of what is stored. To read on, ask again with the same
// viewer and the page's Next as Cursor: one leaf in the vault's log covers a viewer's pages
// of one kind.
type ReadRequest struct {
	Customer  id.Customer
	Instance  id.Instance  // of what is the instance's; else it may be zero
	Execution id.Execution // zero for ReadConfig
	Kind      wire.ReadKind
	Path      string // of ReadStep, with the indices of loops: lines[3].sent
	Seq       uint32 // of ReadStep: one entry; 0: all
	Cursor    uint64 // where the page before ended; of logs: the last line that was seen
	// Offset and Length ask for a range of one value (an event, an output, or the entry
	// Seq) as JSON, for values that are larger than a page. Length 0: the value itself.
	Offset, Length uint64

	Viewer lease.Viewer // a fresh view, and the key to which pages are sealed
	Class  wire.Class   // what the viewer may see
	Who    string       // who asks, for the vault's log: a token or a user, at most lease.MaxWho bytes

	digest [32]byte // of a ReadResolve against another version than the instance's
}

// Page is one page, a wire.Content as JSON, sealed to the viewer with lease.PurposeView at
// lease.ReadPlace of the view, Instance, Execution, Kind and Cursor. Without Sealed there
// is nothing to show, and nothing was opened.
type Page struct {
	Instance id.Instance
	Cursor   uint64 // as asked
	Sealed   []byte
	Next     uint64 // cursor of the next page; of logs also when there is none yet
	More     bool   // there is a next page now
}

// readings are the reads under way, by view.
type readings struct {
	mu   sync.Mutex
	open map[id.View]*reading
}

// reading is a read that waits for its page.
type reading struct {
	node      id.Node // the runner that was asked
	customer  id.Customer
	execution id.Execution
	answer    chan *wire.ReadPage // has room for one; never closed
}

// Read shows one page of what is stored: it picks a runner, signs the permission, sends it
// with the sealed rows, and waits for the page that a worker sealed. The vault's leaf comes
// before anything is opened.
//
// Errors: ErrNotFound, ErrInvalid, ErrExpired, ErrUnavailable, ErrUnreadable, or one of
// the store.
func (e *Engine) Read(ctx context.Context, q *ReadRequest) (*Page, error) {
	if q.Class == wire.ClassServer || q.Kind == wire.ReadReply || q.Kind == wire.ReadResolve {
		return nil, fmt.Errorf("read %s: %w: only the server itself may", q.Kind, ErrInvalid)
	}
	p, err := e.read(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", q.Kind, err)
	}
	return p, nil
}

func (e *Engine) read(ctx context.Context, q *ReadRequest) (*Page, error) {
	if q.Viewer.View.IsZero() || q.Viewer.Key == (seal.PublicKey{}) || q.Who == "" || len(q.Who) > lease.MaxWho || q.Kind.String() == "" || q.Length > MaxRange {
		return nil, fmt.Errorf("%w: it lacks a viewer, or is over a limit", ErrInvalid)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readTimeout, ErrUnavailable)
	defer cancel()
	m := &wire.Read{
		View: q.Viewer.View, Customer: q.Customer, Instance: q.Instance, Execution: q.Execution, Kind: q.Kind, Cursor: q.Cursor,
		Seq: q.Seq, Offset: q.Offset, Length: q.Length,
	}
	more, err := e.fillRead(ctx, q, m)
	if err != nil {
		return nil, err
	}
	p := &Page{Instance: m.Instance, Cursor: q.Cursor}
	if m.Execution != (id.Execution{}) && len(m.Rows) == 0 {
		if q.Kind == wire.ReadLogs {
			p.Next = q.Cursor
		}
		return p, nil
	}
	got, err := e.ask(ctx, q, m)
	if errors.Is(err, ErrUnavailable) && ctx.Err() == nil {
		got, err = e.ask(ctx, q, m) // its worker may just have made room for another
	}
	if err != nil {
		return nil, err
	}
	p.Sealed, p.Next, p.More = got.Sealed, got.Next, got.Next != 0
	if last := len(m.Rows) - 1; p.Next == 0 && (more || q.Kind == wire.ReadLogs) && last >= 0 {
		p.Next, p.More = uint64(m.Rows[last].Seq), more
	}
	return p, nil
}

// fillRead reads the sealed rows. more says that there are others behind them.
func (e *Engine) fillRead(ctx context.Context, q *ReadRequest, m *wire.Read) (more bool, err error) {
	rows := e.db.Customer(ctx, q.Customer)
	if q.Kind == wire.ReadConfig || q.Kind == wire.ReadResolve {
		if !q.Execution.IsZero() {
			return false, fmt.Errorf("%w: a config is the instance's", ErrInvalid)
		}
	} else {
		x, err := rows.Execution(q.Execution)
		if err != nil {
			return false, notFound(err)
		}
		if !q.Instance.IsZero() && q.Instance != x.Instance {
			return false, ErrNotFound
		}
		if lease.Day(x.Day) < lease.DayOf(time.Now()) {
			return false, ErrExpired
		}
		m.Instance, m.Definition, m.Day, m.EventID, m.Flow = x.Instance, x.Digest, x.Day, x.Event, x.Flow
		if more, err = fillRows(rows, q, m, x); err != nil {
			return false, err
		}
	}
	i, err := e.catalog.instance(ctx, q.Customer, m.Instance)
	if err != nil {
		return false, err
	}
	m.Config, m.ConfigVersion = i.Config, i.ConfigVersion
	if q.digest != ([32]byte{}) {
		m.Definition = q.digest
	}
	if m.Definition == ([32]byte{}) {
		m.Definition = i.Digest
	}
	if q.Kind == wire.ReadResolve {
		return false, e.fillProfile(ctx, m)
	}
	return more, nil
}

// fillProfile seals the customer's description to a payload key that lives till tomorrow:
// expressions of schedules see it, the runner does not.
func (e *Engine) fillProfile(ctx context.Context, m *wire.Read) error {
	row, err := e.db.Customer(ctx, m.Customer).Profile()
	if err != nil {
		return notFound(err)
	}
	plain := AppendCustomer(nil, row)
	now := time.Now()
	m.Day = uint32(lease.DayOf(now)) + 1
	sealer, err := e.keys.sealer(ctx, m.Customer, lease.Day(m.Day))
	if err != nil {
		return err
	}
	m.Profile, err = sealer.Seal(nil, now, lease.ProfilePlace(m.Customer, m.Instance), plain)
	return err
}

// fillRows reads the rows of an execution that are asked for.
func fillRows(rows store.Customer, q *ReadRequest, m *wire.Read, x *store.Execution) (more bool, err error) {
	var list []wire.Entry
	var status wire.Status
	limit := readRows
	switch q.Kind {
	case wire.ReadEvent:
		body, eventErr := rows.Event(x.Event)
		if err = eventErr; errors.Is(err, store.ErrNotFound) {
			return false, ErrExpired
		}
		list = []wire.Entry{{Body: body}}
	case wire.ReadOutput:
		if status = x.Status.Wire(); len(x.Output) > 0 && status != 0 {
			list = []wire.Entry{{Body: x.Output}}
		}
	case wire.ReadStep:
		after := q.Cursor
		if q.Seq > 0 {
			after, limit = uint64(q.Seq)-1, 1
		}
		list, err = rows.EntriesAt(x.ID, q.Path, after, limit+1)
		if q.Seq > 0 && (len(list) == 0 || list[0].Seq != q.Seq) {
			return false, ErrNotFound
		}
	case wire.ReadLabels:
		list, err = rows.Labels(x.ID)
	case wire.ReadLogs:
		list, err = rows.Logs(x.ID, q.Cursor, limit+1)
	case wire.ReadReply:
		list, err = rows.Replies(x.ID, 1)
	default:
		return false, ErrInvalid
	}
	if err != nil {
		return false, err
	}
	size := 0
	for i := range list {
		if size += len(list[i].Body) + len(list[i].Path) + entryOverhead; i == limit || i > 0 && size > readBytes {
			return q.Seq == 0, nil
		}
		m.Rows = append(m.Rows, wire.Sealed{Entry: list[i], Status: status})
	}
	return false, nil
}

// ask has a runner's worker make the page.
func (e *Engine) ask(ctx context.Context, q *ReadRequest, m *wire.Read) (*wire.ReadPage, error) {
	to, err := e.awaitReader(ctx, boundKey{m.Instance, m.Definition})
	if err != nil {
		return nil, err
	}
	permit := lease.Dispatch{
		Server: e.o.Node, Runner: to, Customer: m.Customer, Instance: m.Instance, Definition: m.Definition,
		ConfigVersion: m.ConfigVersion, CallbackBase: e.o.CallbackBase, Issued: time.Now(),
		Read: &lease.Read{Viewer: q.Viewer, Who: q.Who, Execution: m.Execution, Kind: m.Kind, Class: q.Class},
	}
	if m.Day != 0 {
		permit.Days = []lease.Day{lease.Day(m.Day)}
	}
	m.Signed = lease.SignDispatch(e.o.Sign, &permit)
	w := &reading{node: to, customer: m.Customer, execution: m.Execution, answer: make(chan *wire.ReadPage, 1)}
	if err := e.readings.begin(m.View, w); err != nil {
		return nil, err
	}
	defer e.readings.end(m.View)
	e.o.Link.Send(wire.RoleRunner, to, m)
	select {
	case p := <-w.answer:
		return p, pageError(p)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// pageError is the error of a page that is none.
func pageError(p *wire.ReadPage) error {
	switch p.Error {
	case "":
		return nil
	case wire.ReadUnavailable:
		return ErrUnavailable
	case wire.ReadInvalid:
		return ErrInvalid
	}
	return ErrUnreadable
}

// awaitReader is the node of the runner for a read. A runner that has not been heard yet,
// because this server or it has just started, is given a moment.
func (e *Engine) awaitReader(ctx context.Context, key boundKey) (id.Node, error) {
	tick := time.NewTicker(readerPause)
	defer tick.Stop()
	for until := time.Now().Add(readerWait); ; {
		now := time.Now()
		e.mu.Lock()
		r := e.chooseReader(key, now)
		e.mu.Unlock()
		if r != nil {
			return r.node, nil
		}
		if now.After(until) {
			return id.Node{}, ErrUnavailable
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return id.Node{}, context.Cause(ctx)
		}
	}
}

// chooseReader is the runner for a read: one with a warm worker, else the one with the most
// room. Executions in flight do not keep a runner from it. Callers hold the mutex.
func (e *Engine) chooseReader(key boundKey, now time.Time) *runner {
	var best *runner
	warm := false
	for _, r := range e.runners {
		if r.capacity <= 0 || now.Sub(r.seen) > e.o.LeaseTTL {
			continue
		}
		_, bound := r.bound[key]
		if best == nil || bound && !warm || bound == warm && r.room() > best.room() {
			best, warm = r, bound
		}
	}
	return best
}

func (l *readings) begin(v id.View, w *reading) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[v] != nil {
		return fmt.Errorf("%w: the view is reading already", ErrInvalid)
	}
	if len(l.open) >= MaxReads {
		return fmt.Errorf("%w: too many reads at once", ErrUnavailable)
	}
	if l.open == nil {
		l.open = map[id.View]*reading{}
	}
	l.open[v] = w
	return nil
}

func (l *readings) end(v id.View) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, v)
}

// answered takes a page from the runner that was asked for it.
func (l *readings) answered(from id.Node, m *wire.ReadPage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.open[m.View]; w != nil && w.node == from {
		select {
		case w.answer <- m:
		default: // a second page for one question
		}
	}
}

// reads reports whose execution a runner reads now.
func (l *readings) reads(from id.Node, x id.Execution) (id.Customer, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.open {
		if w.node == from && w.execution == x && !x.IsZero() {
			return w.customer, true
		}
	}
	return id.Customer{}, false
}

// readOwn reads something for the server itself, and opens it.
func (e *Engine) readOwn(ctx context.Context, q *ReadRequest) ([]byte, error) {
	q.Viewer = lease.Viewer{View: id.NewView(time.Now()), Key: e.o.Key.Public()}
	q.Class, q.Who = wire.ClassServer, "server"
	p, err := e.read(ctx, q)
	if err != nil {
		return nil, err
	}
	if p.Sealed == nil {
		return nil, ErrNotFound
	}
	plain, err := e.o.Key.Open(lease.PurposeView, lease.ReadPlace(q.Viewer.View, p.Instance, q.Execution, q.Kind, q.Cursor), p.Sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return plain, nil
}

// Reply reads what the respond step of an execution answered, so that a repeated delivery
// is answered as the first was. ErrNotFound: it has not answered, or not to a synchronous
// webhook.
func (e *Engine) Reply(ctx context.Context, c id.Customer, x id.Execution) (*wire.ReplyBody, error) {
	plain, err := e.readOwn(ctx, &ReadRequest{Customer: c, Execution: x, Kind: wire.ReadReply})
	if err != nil {
		return nil, fmt.Errorf("read reply: %w", err)
	}
	m := &wire.ReplyBody{}
	if err := wire.ParseBody(plain, m); err != nil {
		return nil, fmt.Errorf("read reply: %w: %w", ErrUnreadable, err)
	}
	return m, nil
}

// Resolve has a worker evaluate what the server needs of an instance's config but cannot
// read: when its flows with a schedule or a poll start, and what is wrong with the config.
// It needs a runner, and takes milliseconds when the instance's worker is warm. The config
// is the instance's present one, and so is the version unless digest names another, such as
// the one to upgrade to. Errors are those of Read.
func (e *Engine) Resolve(ctx context.Context, c id.Customer, i id.Instance, digest [32]byte) (*wire.Resolved, error) {
	plain, err := e.readOwn(ctx, &ReadRequest{Customer: c, Instance: i, Kind: wire.ReadResolve, digest: digest})
	if err != nil {
		return nil, fmt.Errorf("resolve instance: %w", err)
	}
	r := &wire.Resolved{}
	if err := json.Unmarshal(plain, r); err != nil {
		return nil, fmt.Errorf("resolve instance: %w: %w", ErrUnreadable, err)
	}
	return r, nil
}
