package worker

import (
	"syscall"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// BenchmarkExecution is the hot path in one process: a webhook's event is opened, mapped and posted, the result is journaled
// and the execution finished. What the fake runner and egress cost is included.
func BenchmarkExecution(b *testing.B) {
	h := newHost(b, steps(b, `      - {id: shape, set: {order: "${{ trigger.body.id }}", total: "${{ trigger.body.qty * trigger.body.price }}", memo: "Order ${{ trigger.body.id }}"}}
      - {id: sent, if: "${{ steps.shape.total > 10 }}", uses: api.request, with: {method: POST, path: "/orders/${{ trigger.body.id }}", body: "${{ steps.shape }}"}}
      - {id: out, return: {id: "${{ steps.sent.body.id }}"}}
`))
	h.egress = func(*wire.Request) *wire.Response { return jsonAnswer(201, `{"id":"inv-1","state":"open"}`) }
	l := h.start()
	event := `{"body":{"id":4711,"qty":3,"price":19.90,"customer":{"name":"ACME","mail":"a@b.example"}},"headers":{"content-type":"application/json","user-agent":"shop/1.0"},"query":{},"method":"POST","time":"2026-01-01T00:00:00Z"}`
	const unit = 32
	var before, after syscall.Rusage
	b.ReportAllocs()
	b.ResetTimer()
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	for n := 0; n < b.N; n += unit {
		var list []id.Execution
		m := &wire.Unit{}
		for range min(unit, b.N-n) {
			e := h.add("main", event)
			r := h.run(e)
			r.unit.Fence, r.holder = 1, l
			list, m.Executions = append(list, e), append(m.Executions, r.unit)
		}
		_ = l.out.Write(m)
		for _, e := range list {
			h.released(e)
		}
		h.mu.Lock()
		for _, e := range list {
			if f := h.runs[e].finish; f == nil || f.Status != wire.StatusCompleted {
				b.Fatalf("it ended with %+v", f)
			}
			delete(h.runs, e)
		}
		h.requests = h.requests[:0]
		h.mu.Unlock()
	}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	b.ReportMetric(float64(cpu.Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
	_ = l.stop()
}
