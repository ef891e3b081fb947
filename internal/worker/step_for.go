package worker

import (
	"context"
	"sync"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// source yields the items of a loop one after the other. ok is false after the last one.
type source interface {
	next(ctx context.Context) (item expr.Value, ok bool, err error)
}

// looping is one run of a loop.
type looping struct {
	x    *execution
	e    *env
	s    *flow.Step
	in   place
	each source

	paged  *pages     // the source, when it is pages
	filled *batches   // the source, when it gathers
	list   expr.Value // what a source without pages goes through
	marks  bool       // the loop writes marks

	take   sync.Mutex // guards each: rounds begin one at a time
	source error      // why no more rounds can begin

	marking sync.Mutex // marks are written one at a time; taken before mu

	mu      sync.Mutex
	begun   int
	stopped bool // no more rounds may begin
	count   int
	failed  int
	results []expr.Value
	errors  []roundError // the first ones by index
	first   *fault       // of the lowest round
	at      int          // its index
	control error

	low        int               // every round before it is finished
	lowFailed  int               // of these, how many faulted
	done       map[int]bool      // finished rounds from low on, and whether they faulted
	starts     map[int]*position // where the item after a round is, of rounds from low on
	next0      *position         // where the item of round low is; nil: at the beginning, or there are no pages
	dirty      bool              // something was journaled since the last mark
	marked     int               // low at the last mark
	markedPage int
}

// keeps says whether the rounds' checkpoints hold results.
func (l *looping) keeps() bool { return !l.s.For.Result.IsZero() }

type roundError struct {
	index int
	fault *fault
}

func (r *roundError) value() expr.Value {
	f := r.fault
	return native([]string{"index", "type", "message", "status", "step", "attempts"}, expr.Int(int64(r.index)), expr.String(f.Type),
		expr.String(f.Message), expr.Int(int64(f.Status)), expr.String(f.Step), expr.Int(int64(f.Attempts)))
}

// loop runs the steps of a for for each item or batch.
func (x *execution) loop(ctx context.Context, e *env, s *flow.Step, in place) (expr.Value, error) {
	l := &looping{x: x, e: e, s: s, in: in, done: map[int]bool{}, starts: map[int]*position{}}
	if err := l.open(ctx); err != nil {
		return nil, err
	}
	if err := l.resume(ctx); err != nil {
		return nil, err
	}
	extra := x.borrow(int64(max(s.For.Parallel, 1) - 1))
	defer x.branches.Add(-extra)
	x.parallel(int(extra)+1, func(int) { l.lane(ctx) })
	return l.output()
}

// borrow takes up to n of the branches that the execution may have beyond its own, and says how many it got.
func (x *execution) borrow(n int64) int64 {
	over := x.branches.Add(n) - MaxBranches
	if over <= 0 {
		return n
	}
	give := min(over, n)
	x.branches.Add(-give)
	return n - give
}

// lane runs rounds until there are none left.
func (l *looping) lane(ctx context.Context) {
	for {
		i, item, ok := l.begin(ctx)
		if !ok {
			return
		}
		v, err := l.round(ctx, i, item)
		l.end(i, v, err)
		if err := l.mark(ctx, nil); err != nil {
			l.fail(err)
			return
		}
		if err := l.x.journal.kick(); err != nil {
			l.x.cancel(err)
			return
		}
	}
}

// begin takes the next item.
func (l *looping) begin(ctx context.Context) (int, expr.Value, bool) {
	l.take.Lock()
	defer l.take.Unlock()
	l.mu.Lock()
	stopped := l.stopped
	l.mu.Unlock()
	if stopped || l.source != nil {
		return 0, nil, false
	}
	item, ok, err := l.next(ctx)
	if err != nil {
		l.source = err
		return 0, nil, false
	}
	if !ok {
		l.mu.Lock()
		l.stopped = true
		l.mu.Unlock()
		return 0, nil, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun++
	if l.paged != nil {
		l.starts[l.begun-1] = l.paged.position()
	}
	return l.begun - 1, item, true
}

// fail ends the loop with an error.
func (l *looping) fail(err error) {
	if _, ok := caught(err); ok {
		l.take.Lock()
		defer l.take.Unlock()
		l.source = err
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.control = first([]error{l.control, err})
}

func (l *looping) next(ctx context.Context) (item expr.Value, ok bool, err error) {
	defer func() { l.x.recovered(recover(), l.e.path, &err) }()
	if err := cause(ctx); err != nil {
		return nil, false, err
	}
	if most := l.s.For.Max; most > 0 && l.begun >= most {
		return nil, false, nil
	}
	if l.begun >= MaxRounds {
		return nil, false, faultf(typeLimit, "a loop makes at most %d rounds", MaxRounds)
	}
	if l.keeps() && l.begun >= flow.MaxResults {
		return nil, false, faultf(typeLimit, "a loop with result makes at most %d rounds", flow.MaxResults)
	}
	return l.each.next(ctx)
}

// round runs the steps for one item, unless an earlier stay finished it.
func (l *looping) round(ctx context.Context, i int, item expr.Value) (v expr.Value, err error) {
	path := roundPath(l.in.round, i)
	defer func() { l.x.recovered(recover(), path, &err) }()
	if rec := l.x.journal.past(path); rec != nil && rec.checkpoint != nil {
		l.dirtied()
		return l.x.pastRound(ctx, rec.checkpoint)
	}
	f := l.e.f.inner(path+".", binding{l.s.For.Variable(), item}, binding{"index", expr.Int(int64(i))})
	f.once = l.in.once
	f.hold = func(_ context.Context, f *fault) (bool, *fault) { return l.s.For.OnError == flow.OnErrorContinue, f }
	_, err = l.x.steps(ctx, f, l.s.For.Steps)
	if err == nil && !l.s.For.Result.IsZero() {
		v, err = (&env{f: f, path: path}).value(ctx, &l.s.For.Result)
	}
	flt, isFault := caught(err)
	if err != nil && !isFault || !f.wrote.Load() && !(l.marks && l.keeps()) {
		return v, err
	}
	l.dirtied()
	if isFault && l.s.For.OnError != flow.OnErrorContinue {
		return v, err // the loop ends with it, and its own entries say so
	}
	return l.x.checkpoint(ctx, f, path, v, flt)
}

// dirtied notes that the journal holds something about a round.
func (l *looping) dirtied() {
	l.mu.Lock()
	l.dirty = true
	l.mu.Unlock()
}

// checkpoint records that a round is finished, and returns it as a resume would see it.
func (x *execution) checkpoint(ctx context.Context, f *frame, path string, v expr.Value, flt *fault) (expr.Value, error) {
	c := content{Version: contentVersion}
	var err error
	switch {
	case flt != nil:
		c.Text, c.JSON = true, flt.appendJSON()
	case v == nil:
		c.JSON = []byte("null")
	default:
		var plain []byte
		if plain, err = x.pack(ctx, outcome{value: v}); err != nil {
			return nil, err
		}
		x.record(f, wire.Entry{Kind: wire.EntryCheckpoint, Path: path}, plain)
		return x.unpack(ctx, path, plain)
	}
	x.record(f, wire.Entry{Kind: wire.EntryCheckpoint, Path: path}, wire.AppendBody(nil, &c))
	if flt != nil {
		return nil, flt
	}
	return v, nil
}

// pastRound returns how a round ended in an earlier stay.
func (x *execution) pastRound(ctx context.Context, entry *wire.Entry) (expr.Value, error) {
	plain, err := x.openEntry(entry)
	if err != nil {
		return nil, err
	}
	var c content
	if err := wire.ParseBody(plain, &c); err != nil {
		return nil, faultf(typeMismatch, "a journal entry cannot be read").atStep(entry.Path)
	}
	if c.Text && c.Load == nil {
		f, err := parseFault(c.JSON)
		if err != nil {
			return nil, faultf(typeMismatch, "a journal entry cannot be read").atStep(entry.Path)
		}
		return nil, f
	}
	return x.unpack(ctx, entry.Path, plain)
}

// end takes how a round ended.
func (l *looping) end(i int, v expr.Value, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	f, isFault := caught(err)
	if err != nil && !isFault {
		l.stopped = true
		l.control = first([]error{l.control, err})
		return
	}
	if isFault {
		l.failed++
		if l.first == nil || i < l.at {
			l.first, l.at = f, i
		}
		l.keepError(roundError{i, f})
		if l.s.For.OnError != flow.OnErrorContinue {
			l.stopped = true
		}
		v = expr.Null()
	}
	if !isFault || l.s.For.OnError == flow.OnErrorContinue {
		l.ended(i, isFault)
	}
	if !l.keeps() {
		return
	}
	for len(l.results) <= i {
		l.results = append(l.results, expr.Null())
	}
	l.results[i] = v
}

// keepError keeps the errors of the lowest rounds, in order.
func (l *looping) keepError(r roundError) {
	at := len(l.errors)
	for at > 0 && l.errors[at-1].index > r.index {
		at--
	}
	if at >= flow.MaxErrors {
		return
	}
	l.errors = append(l.errors, roundError{})
	copy(l.errors[at+1:], l.errors[at:])
	l.errors[at] = r
	l.errors = l.errors[:min(len(l.errors), flow.MaxErrors)]
}

// output is the list of results, or how many rounds there were and how many faulted.
func (l *looping) output() (expr.Value, error) {
	if l.control != nil {
		return nil, l.control
	}
	if l.first != nil && l.s.For.OnError != flow.OnErrorContinue {
		return nil, l.first
	}
	if l.source != nil {
		return nil, l.source
	}
	if l.keeps() {
		return expr.NewList(l.results), nil
	}
	list := make([]expr.Value, len(l.errors))
	for i, r := range l.errors {
		list[i] = r.value()
	}
	return native([]string{"count", "failed", "errors"}, expr.Int(int64(l.count)), expr.Int(int64(l.failed)), expr.NewList(list)), nil
}

// open finds what the loop goes through.
func (l *looping) open(ctx context.Context) error {
	x, spec := l.x, l.s.For
	var err error
	switch each := &spec.Each; {
	case each.Pages != nil:
		l.paged = x.pages(l.e, l.s, l.in)
		l.paged.idle = l.idle
		l.each = l.paged
	case each.Rows != nil:
		l.each, l.list, err = x.rows(ctx, l.e, each.Rows)
	default:
		if l.list, err = l.e.value(ctx, &each.List); err == nil {
			x.view.input(l.e.path, l.list)
			l.each, err = newItems(l.list)
		}
	}
	if err != nil {
		return err
	}
	if spec.Batch > 0 {
		l.filled = &batches{of: l.each, size: spec.Batch}
		l.each = l.filled
	}
	l.marks = l.paged != nil || !l.keeps()
	return nil
}

// idle is told before each page but the first. The caller holds take.
func (l *looping) idle(ctx context.Context, at *position) error {
	if l.filled != nil && l.filled.gathered > 0 {
		return nil
	}
	l.dirtied()
	return l.mark(ctx, at)
}

// items are the items of a list.
type items struct {
	list expr.Value
	at   int
}

func newItems(v expr.Value) (*items, error) {
	switch k := expr.Kind(v); k {
	case expr.KindList:
		return &items{list: v}, nil
	case expr.KindNull:
		return &items{list: expr.NewList(nil)}, nil
	default:
		return nil, faultf(typeInvalidInput, "a loop goes through a list, not %s", k)
	}
}

func (i *items) next(context.Context) (expr.Value, bool, error) {
	v, ok := expr.Index(i.list, i.at)
	i.at++
	return v, ok, nil
}

// batches gathers items into lists.
type batches struct {
	of       source
	size     int
	gathered int // of the list that is being gathered
}

func (b *batches) next(ctx context.Context) (expr.Value, bool, error) {
	var list []expr.Value
	defer func() { b.gathered = 0 }()
	for len(list) < b.size {
		b.gathered = len(list)
		v, ok, err := b.of.next(ctx)
		if err != nil {
			return nil, false, err
		}
		if !ok {
			break
		}
		list = append(list, v)
	}
	return expr.NewList(list), len(list) > 0, nil
}
