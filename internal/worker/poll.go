package worker

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits of one poll.
const (
	// MaxPollItems is the most items that one poll looks at.
	MaxPollItems = 10_000
	// pollChunk is how many items are committed together.
	pollChunk = 256
)

// pollSteps are the steps that are the same for every poll of a flow: what the last one kept,
// the call, and what the next one sees.
type pollSteps struct{ kept, list, all, keep flow.Step }

// pollSteps makes the steps of a flow's polls once, since programs are kept by expression.
func (in *instance) pollSteps(f *flow.Flow) *pollSteps {
	if p, ok := in.polls.Load(f.Name); ok {
		return p.(*pollSteps) //nolint:forcetypeassert // nothing else is in it
	}
	slot, action, _ := strings.Cut(f.Trigger.Poll.Uses, ".")
	name := flow.Value{Kind: flow.String, Text: "\x00poll\x00" + f.Name} // a name that a document cannot hold
	next, _ := flow.ParseString("${{ cursor }}")                         // it parses
	list := flow.Action{Slot: slot, Action: action, With: f.Trigger.Poll.With}
	p, _ := in.polls.LoadOrStore(f.Name, &pollSteps{
		kept: flow.Step{ID: "kept", State: &flow.State{Get: name, Default: flow.NullValue()}},
		list: flow.Step{ID: "list", Action: &list},
		all:  flow.Step{ID: "list", For: &flow.For{Each: flow.Each{Pages: &flow.Pages{Action: list}}}},
		keep: flow.Step{ID: "keep", State: &flow.State{Put: name, Value: next}},
	})
	return p.(*pollSteps) //nolint:forcetypeassert // nothing else is in it
}

// poll looks for new items and starts the flow for each. The server knows which keys are new,
// in the same commit that starts them: an item starts one execution, however often it is seen.
// What the next poll sees as cursor is kept when all that are new have been started; a poll
// that ends before is made up for by the next.
func (x *execution) poll(ctx context.Context, f *frame) (expr.Value, error) {
	p, steps := x.flow.Trigger.Poll, x.in.pollSteps(x.flow)
	f.ids, f.outs = nil, nil
	was, err := x.step(ctx, f, &steps.kept)
	if err != nil {
		return nil, err
	}
	cursor := expr.Null()
	if v, ok := expr.Lookup(was, "cursor"); ok {
		cursor = v
	}
	first := expr.Kind(was) == expr.KindNull
	asked := f.inner("", binding{"cursor", cursor})
	seen, items, err := x.pollList(ctx, asked, p, steps)
	if err != nil {
		return nil, err
	}
	n := expr.Len(items)
	switch {
	case expr.Kind(items) == expr.KindNull:
		n = 0
	case expr.Kind(items) != expr.KindList:
		return nil, atItems(faultf(typeInvalidInput, "items is not a list"))
	case n > MaxPollItems:
		return nil, atItems(faultf(typeLimit, "a poll looks at %d items at most, these are %d: ask for fewer by cursor", MaxPollItems, n))
	}
	next, err := x.pollItems(ctx, seen, p, items, n, first && p.Start != flow.StartBeginning, cursor)
	if err != nil {
		return nil, atItems(err)
	}
	kept := f.inner("", binding{"cursor", native([]string{"cursor"}, next)})
	if _, err := x.step(ctx, kept, &steps.keep); err != nil {
		return nil, err
	}
	return native([]string{"items", "cursor"}, expr.Int(int64(n)), next), nil
}

// pollList asks for the items: those that the flow finds in the answer or, where it does not say, those of every page by
// the connector's recipe. The frame sees the answer as result, when there is one.
func (x *execution) pollList(ctx context.Context, asked *frame, p *flow.Poll, steps *pollSteps) (*frame, expr.Value, error) {
	if p.Items.IsZero() {
		items, err := x.pollPages(ctx, asked, &steps.all)
		return asked.inner("", binding{"result", expr.Null()}), items, err
	}
	result, err := x.step(ctx, asked, &steps.list)
	if err != nil {
		return nil, nil, err
	}
	seen := asked.inner("", binding{"result", result})
	items, err := (&env{f: seen, path: "items"}).value(ctx, &p.Items)
	return seen, items, atItems(err)
}

// pollPages reads the items of every page.
func (x *execution) pollPages(ctx context.Context, asked *frame, s *flow.Step) (expr.Value, error) {
	all := x.pages(&env{f: asked, path: s.ID}, s, place{round: s.ID})
	all.idle = func(context.Context, *position) error { return nil }
	all.named = false // cursor is the poll's own
	var list []expr.Value
	for {
		item, ok, err := all.next(ctx)
		if err != nil {
			return nil, err
		}
		if !ok || len(list) > MaxPollItems { // what is too many, the caller says
			return expr.NewList(list), nil
		}
		list = append(list, item)
	}
}

// atItems says where a fault of a poll's own expressions is.
func atItems(err error) error {
	if flt, ok := err.(*fault); ok && flt.Step == "" { //nolint:errorlint // never wrapped
		flt.Step = "items"
	}
	return err
}

// pollItems starts what is new of the items, or only notes them, and returns the next cursor.
func (x *execution) pollItems(ctx context.Context, seen *frame, p *flow.Poll, items expr.Value, n int, note bool, cursor expr.Value) (expr.Value, error) {
	next := expr.Value(nil)
	for from := 0; from < n; from += pollChunk {
		var g group
		for i := from; i < min(n, from+pollChunk); i++ {
			item, _ := expr.Index(items, i)
			e := &env{f: seen.inner("", binding{"item", item}, binding{"index", expr.Int(int64(i))}), path: "items"}
			child, err := x.pollChild(ctx, e, p, item, note)
			if err != nil {
				return nil, err
			}
			g.children = append(g.children, child)
			if p.Cursor.IsZero() {
				continue
			}
			c, err := e.value(ctx, &p.Cursor)
			if err != nil {
				return nil, err
			}
			if expr.Kind(c) != expr.KindNull { // an item without one says nothing of the next poll
				next = later(next, c)
			}
		}
		path := fmt.Sprintf("items[%d]", from/pollChunk)
		if rec := x.journal.past(path); rec != nil && rec.result != nil {
			continue
		}
		plain, err := x.pack(ctx, outcome{value: expr.Int(int64(len(g.children)))})
		if err != nil {
			return nil, err
		}
		entry, err := x.entry(wire.Entry{Kind: wire.EntryResult, Path: path}, plain)
		if err != nil {
			return nil, err
		}
		g.entries = []wire.Entry{entry}
		seen.write()
		x.journal.add(g)
		if err := x.journal.barrier(ctx); err != nil {
			return nil, err
		}
	}
	if next != nil {
		return next, nil
	}
	if n == 0 && !p.Cursor.IsZero() {
		// A cursor of the answer itself is there without items; one of an item is not.
		e := &env{f: seen, path: "items"}
		if v, err := e.value(ctx, &p.Cursor); err == nil && expr.Kind(v) != expr.KindNull {
			return v, nil
		}
	}
	return cursor, nil
}

// pollChild starts the flow for an item, or has its key noted.
func (x *execution) pollChild(ctx context.Context, e *env, p *flow.Poll, item expr.Value, note bool) (wire.Child, error) {
	key, err := e.text(ctx, &p.Key)
	if err != nil {
		return wire.Child{}, err
	}
	if key == "" {
		return wire.Child{}, faultf(typeInvalidInput, "an item has no key")
	}
	child := wire.Child{Flow: x.flow.Name, Path: "items", Noted: note}
	if !note {
		if child, err = x.child(x.flow.Name, "items", item, nil); err != nil {
			return wire.Child{}, err
		}
	}
	child.Key = x.in.itemKey(x.flow.Name, key)
	return child, nil
}

// itemKey is the name under which the server remembers an item: it tells nothing of the key.
func (in *instance) itemKey(flow, key string) [32]byte {
	h := hmac.New(sha256.New, in.hmacKey)
	h.Write(seal.Tuple(nil, []byte("item/1"), in.instance[:], []byte(flow), []byte(key)))
	return [32]byte(h.Sum(nil))
}

// later is the greater of two cursors, where they are two numbers or two texts, else the one
// that came last.
func later(a, b expr.Value) expr.Value {
	if a == nil {
		return b
	}
	kind := expr.Kind(a)
	if kind != expr.Kind(b) || kind != expr.KindNumber && kind != expr.KindString {
		return b
	}
	if kind == expr.KindString {
		s, _ := expr.Str(a)
		t, _ := expr.Str(b)
		if s > t {
			return a
		}
		return b
	}
	if c, ok := expr.CompareNumbers(a, b); ok && c > 0 {
		return a
	}
	return b
}
