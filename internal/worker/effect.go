package worker

import (
	"context"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// outcome is what an effect gave: a value, and where a part of it is that is not kept in the journal itself.
type outcome struct {
	value expr.Value
	load  *wire.BlobRef // the field body of value, when it came by blob
	head  expr.Value    // value without that field
	text  bool          // load is a text
}

// effect runs something that reaches outside of the worker. What the journal holds under the step's path is returned instead,
// after its hash was compared. Otherwise it begins when everything before it is committed, and its result is queued.
func (x *execution) effect(ctx context.Context, e *env, s *flow.Step, t *tries, hash [16]byte, safe bool, do func(context.Context) (outcome, error)) (expr.Value, error) {
	hash = x.in.mark(x.unit.Execution, e.path, hash)
	e.hash = hash
	once := s != nil && s.Once || e.f.once || e.once
	if e.told {
		x.noteRepeated(x.journal.past(e.path), t)
	}
	if rec := x.journal.past(e.path); rec != nil {
		if err := rec.check(e.path, hash); err != nil {
			return nil, err
		}
		if rec.result != nil {
			return x.pastResult(ctx, rec.result)
		}
		if rec.fault != nil {
			return nil, x.pastFault(rec)
		}
		if once && rec.past+len(rec.intents) > t.done {
			f := faultf(typeInterrupted, "the step was interrupted and may run only once")
			f.final = true
			return nil, f
		}
	}
	if x.journal.full() {
		return nil, faultf(typeLimit, "the execution has written %d journal entries; use larger batches", MaxEntries)
	}
	if once || e.told {
		x.record(e.f, wire.Entry{Kind: wire.EntryIntent, Path: e.path, Epoch: t.epoch, Hash: hash}, nil)
	}
	if err := x.before(ctx, once || !safe); err != nil {
		return nil, err
	}
	began := time.Now()
	out, err := do(ctx)
	e.took = time.Since(began).Truncate(time.Microsecond)
	if err != nil {
		if f, ok := caught(err); ok && once && !f.definite {
			f.final = true // nobody knows whether it had its effect
		}
		return nil, err
	}
	return x.recordResult(ctx, e, t.epoch, out)
}

// before makes what was recorded so far durable before an effect begins. A safe request (RFC 9110 section 9.2.1) has none, and
// may be repeated: it begins as soon as what was recorded is on its way, with little of it.
func (x *execution) before(ctx context.Context, effect bool) error {
	if effect || x.journal.behind() > MaxBehind {
		return x.journal.barrier(ctx)
	}
	return x.journal.kick()
}

// check compares the hash of a step's input with that of every earlier stay.
func (r *record) check(path string, hash [16]byte) error {
	for _, e := range r.hashed() {
		if e.Hash != hash {
			return faultf(typeMismatch, "the step's input is not what it was before the execution was interrupted").atStep(path)
		}
	}
	return nil
}

// recordResult queues the result of a step and returns it as a resume would see it.
func (x *execution) recordResult(ctx context.Context, e *env, epoch uint32, out outcome) (expr.Value, error) {
	entry := wire.Entry{Kind: wire.EntryResult, Path: e.path, Epoch: epoch, Hash: e.hash, Took: e.took}
	plain, err := x.pack(ctx, out)
	if err != nil {
		return nil, err
	}
	x.record(e.f, entry, plain)
	return out.value, nil
}

// pack encodes a value for the journal. What is large goes to a blob.
func (x *execution) pack(ctx context.Context, out outcome) ([]byte, error) {
	c := content{Version: contentVersion, Load: out.load, Text: out.text}
	v := out.value
	if out.load != nil {
		v = out.head
	}
	if x.files.Load() && holdsFile(v) {
		v = packFiles(v, &c.Files)
	}
	var err error
	if c.JSON, err = appendJSON(nil, v); err != nil {
		return nil, err
	}
	if len(c.JSON) > MaxInline {
		ref, err := x.writeBlob(ctx, c.JSON)
		if err != nil {
			return nil, err
		}
		c.JSON, c.Spill = nil, ref
	}
	return wire.AppendBody(make([]byte, 0, len(c.JSON)+32), &c), nil
}

// pastResult returns what an earlier stay recorded.
func (x *execution) pastResult(ctx context.Context, entry *wire.Entry) (expr.Value, error) {
	plain, err := x.openEntry(entry)
	if err != nil {
		return nil, err
	}
	return x.unpack(ctx, entry.Path, plain)
}

func (x *execution) unpack(ctx context.Context, path string, plain []byte) (expr.Value, error) {
	var c content
	if err := wire.ParseBody(plain, &c); err != nil {
		return nil, faultf(typeMismatch, "a journal entry cannot be read").atStep(path)
	}
	if c.Spill != nil {
		var err error
		if c.JSON, err = x.loadBlob(ctx, c.Spill); err != nil {
			return nil, err
		}
	}
	v, err := expr.ParseJSON(c.JSON)
	if err != nil {
		return nil, faultf(typeMismatch, "a journal entry cannot be read").atStep(path)
	}
	if len(c.Files) > 0 {
		x.files.Store(true)
		v = unpackFiles(v, c.Files)
	}
	if c.Load == nil {
		return v, nil
	}
	body, err := x.loadBody(ctx, c.Load, c.Text)
	if err != nil {
		return nil, err
	}
	return withBody(v, body), nil
}

// withBody adds the field body to an answer.
func withBody(head, body expr.Value) expr.Value {
	keys := append([]string(nil), expr.Keys(head)...)
	vals := make([]expr.Value, 0, len(keys)+1)
	for _, k := range keys {
		v, _ := expr.Lookup(head, k)
		vals = append(vals, v)
	}
	return expr.NewObject(append(keys, "body"), append(vals, body))
}

// wait for an answer of the host, for at most d.
func receive[T any](ctx context.Context, ch chan *T, d time.Duration) (*T, error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case m := <-ch:
		return m, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timer.C:
		return nil, errLate
	}
}
