package engine

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// benchBody is a webhook of a common size.
var benchBody = make([]byte, 600)

// clients runs b.N operations from a number of goroutines, each waiting for its answer.
func clients(b *testing.B, n int, do func(client int)) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	todo := make(chan struct{}, b.N)
	for range b.N {
		todo <- struct{}{}
	}
	close(todo)
	for c := range n {
		all.Go(func() {
			for range todo {
				do(c)
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// BenchmarkAccept measures durable accepts that nobody runs.
func BenchmarkAccept(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newBench(b)
			t := s.tenant("c1")
			clients(b, n, func(int) {
				if _, err := s.e.Accept(context.Background(), &Event{Customer: t.customer, Instance: t.instance, Flow: "main", Body: benchBody}); err != nil {
					b.Error(err)
				}
			})
		})
	}
}

// BenchmarkAppend measures appends of one entry to executions that run.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newBench(b)
			t := s.tenant("c1")
			runners := make([]*fakeRunner, n)
			units := make([]wire.UnitExecution, n)
			for i := range n {
				runners[i] = s.runner()
				runners[i].want(1)
				s.accept(t, "main", `{}`)
				units[i] = runners[i].dispatch()[0]
			}
			body := make([]byte, 300)
			clients(b, n, func(c int) {
				u := units[c]
				runners[c].append(&wire.Append{Execution: u.Execution, Fence: u.Fence, Entries: []wire.Entry{{Kind: wire.EntryResult, Path: "send", Body: body}}})
			})
		})
	}
}

// BenchmarkExecution measures whole executions: accepted, dispatched, one entry appended
// with the finish, from a number of clients that wait for the 202 only, until all are done.
func BenchmarkExecution(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newBench(b)
			t := s.tenant("c1")
			r := s.runner()
			stop := make(chan struct{})
			finished := make(chan struct{}, 1<<20)
			var all sync.WaitGroup
			all.Go(func() { r.serve(stop, finished) })
			for s.e.ready() == 0 {
				runtime.Gosched()
			}
			clients(b, n, func(int) {
				if _, err := s.e.Accept(context.Background(), &Event{Customer: t.customer, Instance: t.instance, Flow: "main", Body: benchBody}); err != nil {
					b.Error(err)
				}
				if n == 1 {
					<-finished
				}
			})
			if n > 1 {
				for range b.N {
					<-finished
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
			close(stop)
			all.Wait()
		})
	}
}

// ready is how many runners have room.
func (e *Engine) ready() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.runners)
}

// serve finishes whatever is dispatched, at once.
func (r *fakeRunner) serve(stop <-chan struct{}, finished chan<- struct{}) {
	body := make([]byte, 300)
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	held := map[id.Execution]uint64{}
	want := func() {
		m := &wire.Want{Free: uint32(256 - len(held))}
		for x, f := range held {
			m.Held = append(m.Held, wire.Held{Execution: x, Fence: f})
		}
		r.send(m)
	}
	want()
	for {
		select {
		case <-stop:
			return
		case <-beat.C:
			want()
		case f := <-r.frames:
			if f.Type == wire.TypeAppended {
				var a wire.Appended
				if err := f.Parse(&a); err != nil || a.Stale {
					r.b.t.Error("append was refused", err)
				}
				delete(held, a.Execution)
				finished <- struct{}{}
				continue
			}
			if f.Type == wire.TypeCancel {
				continue // a heartbeat named what had just ended
			}
			var d wire.Dispatch
			if err := f.Parse(&d); err != nil {
				r.b.t.Error(err)
			}
			for i := range d.Unit.Executions {
				u := &d.Unit.Executions[i]
				held[u.Execution] = u.Fence
				r.send(&wire.Append{
					Execution: u.Execution, Fence: u.Fence, Entries: []wire.Entry{{Kind: wire.EntryResult, Path: "send", Body: body}},
					Finish: &wire.Finish{Status: wire.StatusCompleted, Output: body[:100]},
				})
			}
		}
	}
}
