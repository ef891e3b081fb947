package store

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// BenchmarkExecution measures what the writer does for one execution with one call, in
// processor time, with 64 of them under way.
func BenchmarkExecution(b *testing.B) {
	s, err := Open(context.Background(), Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	customer, instance, node := id.Customer{1}, id.NewInstance(time.Now()), id.Node{2}
	body, answer := make([]byte, 900), make([]byte, 300)
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	free := make(chan struct{}, 64)
	var all sync.WaitGroup
	for range b.N {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			now := time.Now()
			x := &Execution{
				Customer: customer, ID: id.NewExecution(now), Instance: instance, Flow: "order", Trigger: "webhook", Event: id.NewEvent(now), EventSource: "webhook",
				Status: Running, Fence: 1, Runner: node, LeaseUntil: now, Accepted: now, Started: now, Expires: now.Add(time.Hour), Day: 20_000, Cause: CauseTrigger,
				EgressPool: "default", RunnerPool: "default",
			}
			x.Root = x.ID
			write := func(f func(CustomerTx) error) {
				if err := s.Write(context.Background(), func(tx *Tx) error { return f(tx.Customer(customer)) }); err != nil {
					b.Error(err)
				}
			}
			write(func(c CustomerTx) error {
				if err := c.InsertEvent(x.Event, x.Day, body); err != nil {
					return err
				}
				return c.InsertExecution(x)
			})
			{
				write(func(c CustomerTx) error {
					return c.PutFlowRecord(&wire.FlowRecord{Request: x.Event, Done: true, Instance: instance, Execution: x.ID, Node: node, Time: now, Method: "POST", Host: "shop.example", Address: "192.0.2.1:443", Verdict: "allowed"})
				})
			}
			write(func(c CustomerTx) error {
				entries := []wire.Entry{{Kind: wire.EntryResult, Path: "sent", Body: answer}}
				ended, err := c.FinishKnown(x.ID, 1, &Known{}, entries, &wire.Finish{Status: wire.StatusCompleted}, now)
				if err != nil {
					return err
				}
				return c.InsertEntries(x.ID, entries, ended.LastSeq, x.Day, now)
			})
		})
	}
	all.Wait()
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	b.ReportMetric(float64(cpu.Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
}
