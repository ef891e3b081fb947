package worker

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"reflect"
	"sync/atomic"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// frame is one running list of steps: the outputs of those that have finished, and the names that are bound around them.
// A frame belongs to one goroutine; the frames around it do not change while it runs.
type frame struct {
	x      *execution
	parent *frame
	prefix string // of the paths of its steps
	once   bool   // a step around it has once
	// hold says whether the step around it holds a fault that leaves it, and else as which fault it goes on.
	hold  func(context.Context, *fault) (bool, *fault)
	names []binding
	ids   []string
	outs  []expr.Value
	wrote atomic.Bool // a journal entry was written in it or in a frame inside it
}

// binding is a name and its value.
type binding struct {
	name  string
	value expr.Value
}

// inner makes the frame of a nested list.
func (f *frame) inner(prefix string, names ...binding) *frame {
	return &frame{x: f.x, parent: f, prefix: prefix, once: f.once, names: names}
}

// holds says whether a fault that leaves a step of the frame is held by a step around it.
func (f *frame) holds(ctx context.Context, flt *fault) bool {
	for held := false; f != nil; f = f.parent {
		if f.hold == nil {
			continue
		}
		if held, flt = f.hold(ctx, flt); held {
			return true
		}
	}
	return false
}

// finish records the output of a step.
func (f *frame) finish(id string, out expr.Value) {
	f.ids, f.outs = append(f.ids, id), append(f.outs, out)
}

// step finds the output of a finished step that is in scope.
func (f *frame) step(id string) (expr.Value, bool) {
	for ; f != nil; f = f.parent {
		for i := len(f.ids) - 1; i >= 0; i-- {
			if f.ids[i] == id {
				return f.outs[i], true
			}
		}
	}
	return nil, false
}

func (f *frame) bound(name string) (expr.Value, bool) {
	for ; f != nil; f = f.parent {
		for i := range f.names {
			if f.names[i].name == name {
				return f.names[i].value, true
			}
		}
	}
	return nil, false
}

// write notes that a journal entry belongs to this frame.
func (f *frame) write() {
	for ; f != nil && !f.wrote.Swap(true); f = f.parent {
	}
}

// outputs is the value of the name steps: it looks a step up when it is asked for, and is made whole only for the few
// operations that need all of them.
type outputs struct{ f *frame }

var _ traits.Mapper = (*outputs)(nil)

// Type implements ref.Val.
func (o *outputs) Type() ref.Type { return types.MapType }

// ConvertToNative implements ref.Val.
func (o *outputs) ConvertToNative(t reflect.Type) (any, error) { return o.whole().ConvertToNative(t) }

// ConvertToType implements ref.Val.
func (o *outputs) ConvertToType(t ref.Type) ref.Val { return o.whole().ConvertToType(t) }

// Find implements traits.Mapper.
func (o *outputs) Find(key expr.Value) (expr.Value, bool) {
	id, ok := expr.Str(key)
	if !ok {
		return nil, false
	}
	return o.f.step(id)
}

// Get implements traits.Indexer.
func (o *outputs) Get(key expr.Value) expr.Value {
	if v, ok := o.Find(key); ok {
		return v
	}
	return o.whole().Get(key)
}

// Contains implements traits.Container.
func (o *outputs) Contains(key expr.Value) expr.Value {
	_, ok := o.Find(key)
	return expr.Bool(ok)
}

// Size implements traits.Sizer.
func (o *outputs) Size() expr.Value { return o.whole().Size() }

// Iterator implements traits.Iterable.
func (o *outputs) Iterator() traits.Iterator { return o.whole().Iterator() }

// Equal implements ref.Val.
func (o *outputs) Equal(other expr.Value) expr.Value { return o.whole().Equal(other) }

// Value implements ref.Val.
func (o *outputs) Value() any { return o.whole().Value() }

func (o *outputs) whole() traits.Mapper {
	var keys []string
	var vals []expr.Value
	seen := map[string]bool{}
	for f := o.f; f != nil; f = f.parent {
		for i := len(f.ids) - 1; i >= 0; i-- {
			if !seen[f.ids[i]] {
				seen[f.ids[i]] = true
				keys, vals = append(keys, f.ids[i]), append(vals, f.outs[i])
			}
		}
	}
	m, _ := expr.NewObject(keys, vals).(traits.Mapper)
	return m
}

// env is what the expressions of one step see. It is for one goroutine.
type env struct {
	f     *frame
	path  string
	names []binding          // of this step only: error in when, result in for
	uuids uint32             // how many uuid() this step has made
	clock time.Time          // what now() says, once it was asked
	hash  [16]byte           // of the resolved input, once there is one
	took  time.Duration      // of the effect of the last try
	page  *pageAt            // of an action that is read page by page
	built *connector.Request // that the action of a connector made
	once  bool               // the step's effect must not be repeated when nobody knows whether it happened
	told  bool               // it may be, and the flow is told
}

// Resolve implements expr.Vars.
func (e *env) Resolve(name string) (expr.Value, bool) {
	for i := range e.names {
		if e.names[i].name == name {
			return e.names[i].value, true
		}
	}
	x := e.f.x
	switch name {
	case "steps":
		return &outputs{f: e.f}, true
	case "trigger":
		return x.trigger, true
	case "config":
		return x.in.config, true
	}
	if v, ok := e.f.bound(name); ok {
		return v, true
	}
	switch name {
	case "execution":
		return x.executionValue(), true
	case "customer":
		return x.customerValue(), true
	case "subscription":
		return x.subscriptionValue()
	case "error":
		if x.cause == nil {
			return expr.Null(), true
		}
		return x.cause, true
	}
	return nil, false
}

// Now implements expr.Host: the time at which this step first asked, the same again on resume.
func (e *env) Now() time.Time {
	if !e.clock.IsZero() {
		return e.clock
	}
	x := e.f.x
	if rec := x.journal.past(e.path); rec != nil && rec.clock != nil {
		if b, err := x.openEntry(rec.clock); err == nil && len(b) == 8 {
			e.clock = time.UnixMicro(int64(binary.BigEndian.Uint64(b))).UTC()
			return e.clock
		}
	}
	e.clock = x.clock()
	b := binary.BigEndian.AppendUint64(nil, uint64(e.clock.UnixMicro()))
	x.record(e.f, wire.Entry{Kind: wire.EntryClock, Path: e.path}, b)
	return e.clock
}

// UUID implements expr.Host: the next of the ids that belong to this step of this execution (RFC 9562, version 4 in form).
func (e *env) UUID() string {
	e.uuids++
	b := derive(&e.f.x.unit.Seed, "uuid", e.path, e.uuids)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// derive makes 16 bytes that are a function of an execution's seed and of what they are for.
func derive(seed *[16]byte, use, path string, n uint32) (out [16]byte) {
	h := hmac.New(sha256.New, seed[:])
	h.Write([]byte(use))
	h.Write([]byte{0})
	h.Write([]byte(path))
	h.Write(binary.BigEndian.AppendUint32([]byte{0}, n))
	copy(out[:], h.Sum(nil))
	return out
}

// eval evaluates one expression for this step.
func (e *env) eval(ctx context.Context, p *expr.Program) (expr.Value, error) {
	v, err := p.Eval(ctx, e)
	if err != nil {
		return nil, expressionFault(ctx, err)
	}
	return v, nil
}
