package engine

import (
	"context"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Whatever a runner or an egress node sends, the engine lives, and an execution that
// another runner holds is untouched.
func FuzzHandle(f *testing.F) {
	x, ev := id.NewExecution(time.Now()), id.NewEvent(time.Now())
	for _, m := range []wire.Typed{
		&wire.Want{Free: 3, Held: []wire.Held{{Execution: x, Fence: 1}}, Bound: []wire.BoundInstance{{Renew: true}}, Draining: true},
		&wire.Append{
			Execution: x, Fence: 1, Entries: []wire.Entry{{Kind: wire.EntryResult, Path: "a"}}, Labels: []wire.Label{{Name: "l"}},
			Waits: []wire.Wait{{Path: "w", Kind: wire.WaitCallback, Key: sha256.Sum256(nil)}}, Children: []wire.Child{{Execution: x}},
			Finish: &wire.Finish{Status: wire.StatusWaiting},
		},
		&wire.Released{Execution: x, Fence: 1, Fault: "crash"}, &wire.State{Execution: x, Fence: 1, Op: wire.StatePut},
		&wire.Progress{Execution: x}, &wire.View{Execution: x}, &wire.Reply{Execution: x},
		&wire.BlobWrite{Execution: x, Last: true}, &wire.BlobRead{Execution: x}, &wire.FlowRecord{Request: ev},
		&wire.JournalGet{Execution: x, Fence: 1}, &wire.JournalGet{Execution: x, Fence: 1, Seqs: []uint32{1}},
	} {
		f.Add(byte(m.FrameType()), wire.AppendBody(nil, m), true)
		f.Add(byte(m.FrameType()), wire.AppendBody(nil, m), false)
	}
	b := newBench(f)
	n := b.tenant("c1")
	holder := b.runner()
	holder.want(1)
	held := b.accept(n, "main", `{}`)
	u := holder.dispatch()[0]
	stranger := id.NewNode(time.Now())
	f.Cleanup(func() { b.t = f })
	f.Fuzz(func(t *testing.T, typ byte, body []byte, egress bool) {
		b.t = t
		role := wire.RoleRunner
		if egress {
			role = wire.RoleEgress
		}
		// The worst case is the id of an execution that runs, with its fence.
		for _, from := range []id.Execution{x, held} {
			body := replace(body, x, from)
			if err := b.e.Handle(context.Background(), role, stranger, wire.Frame{Type: wire.Type(typ), Body: body}); err != nil {
				continue
			}
			b.settle()
		}
		holder.want(0, wire.Held{Execution: held, Fence: u.Fence})
		row := b.row(n, held)
		if row.Status != store.Running || row.Fence != u.Fence || row.LastSeq != 0 || row.Wakes != 0 {
			t.Errorf("a stranger changed an execution: %+v", row)
		}
	})
}

// replace puts one id where another is.
func replace(b []byte, old, with id.Execution) []byte {
	out := append([]byte(nil), b...)
	for i := 0; i+len(old) <= len(out); i++ {
		if [16]byte(out[i:i+16]) == [16]byte(old) {
			copy(out[i:], with[:])
		}
	}
	return out
}
