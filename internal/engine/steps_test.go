package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const stepsFlow = `bulkhead: 1
integration: tree
flows:
  main:
    trigger: {manual: {}}
    steps:
      - {id: pure, title: Count, set: 1}
      - {id: get, code: "export default (i) => i"}
      - id: lines
        for: {each: "${{ trigger.body.lines }}", as: line}
        steps: [{id: map, set: 1}, {id: sent, code: "export default (i) => i"}]
      - id: safe
        try: [{id: risky, code: "export default (i) => i"}]
        catch: {steps: [{id: told, code: "export default (i) => i"}]}
      - {id: pause, wait: {for: PT1H}}
      - {id: last, set: 2}
`

// treeOf starts an execution of stepsFlow.
func treeOf(t *testing.T, b *bench) (tenant, *fakeRunner, wire.UnitExecution) {
	t.Helper()
	doc, problems := flowfile.Decode("test.yaml", []byte(stepsFlow))
	if doc == nil {
		t.Fatal(problems)
	}
	canonical, err := doc.Integration.Encode()
	if err != nil {
		t.Fatal(err)
	}
	n := b.tenant("c1")
	v, err := b.e.Publish(context.Background(), b.org, canonical)
	if err != nil {
		t.Fatal(err)
	}
	i, err := b.e.Deploy(context.Background(), &Deployment{Customer: n.customer, Digest: v.Digest})
	if err != nil {
		t.Fatal(err)
	}
	n.instance, n.digest = i.ID, v.Digest
	r := b.runner()
	r.want(10)
	b.accept(n, "main", `{}`)
	return n, r, r.dispatch()[0]
}

// tree prints the steps with what is in the journal.
func (b *bench) tree(n tenant, x id.Execution) (out []string) {
	b.t.Helper()
	list, err := b.e.Steps(context.Background(), n.customer, x)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range list {
		line := fmt.Sprintf("%s/%s %s %q rounds=%d done=%d failed=%d tries=%d", s.Parent, s.ID, s.Kind, s.Status, s.Rounds, s.Done, s.Failed, s.Tries)
		for _, r := range []*StepRun{s.First, s.Last} {
			if r != nil {
				line += fmt.Sprintf(" [%s %s %s %v]", r.Path, r.Status, r.ErrorType, r.Took)
			}
		}
		out = append(out, line)
	}
	return out
}

func TestStepTree(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n, r, u := treeOf(t, b)
	entries := []wire.Entry{
		{Kind: wire.EntryAttempt, Path: "get", ErrorType: "upstream", Took: 5 * time.Millisecond},
		{Kind: wire.EntryResult, Path: "get", Took: 7 * time.Millisecond},
	}
	for i := range 100 {
		path := fmt.Sprintf("lines[%d]", i)
		kind, errorType := wire.EntryResult, ""
		if i%4 == 3 {
			kind, errorType = wire.EntryFault, "limit"
		}
		entries = append(entries,
			wire.Entry{Kind: kind, Path: path + ".sent", ErrorType: errorType, Took: time.Second},
			wire.Entry{Kind: wire.EntryCheckpoint, Path: path})
	}
	entries = append(entries, wire.Entry{Kind: wire.EntryFault, Path: "risky", ErrorType: "auth", Took: time.Second})
	r.append(&wire.Append{Execution: u.Execution, Fence: u.Fence, Entries: entries})
	want := []string{
		`/pure set "passed" rounds=0 done=0 failed=0 tries=0`,
		`/get code "done" rounds=1 done=1 failed=0 tries=1 [get done  7ms]`,
		`/lines for "passed" rounds=0 done=0 failed=0 tries=0`,
		`lines/map set "passed" rounds=0 done=0 failed=0 tries=0`,
		`lines/sent code "failed" rounds=100 done=75 failed=25 tries=0 [lines[0].sent done  1s] [lines[99].sent failed limit 1s]`,
		`/safe try "begun" rounds=0 done=0 failed=0 tries=0`,
		`safe/risky code "failed" rounds=1 done=0 failed=1 tries=0 [risky failed auth 1s]`,
		`safe/told code "" rounds=0 done=0 failed=0 tries=0`,
		`/pause wait "" rounds=0 done=0 failed=0 tries=0`,
		`/last set "" rounds=0 done=0 failed=0 tries=0`,
	}
	if diff := cmp.Diff(want, b.tree(n, u.Execution)); diff != "" {
		t.Errorf("running (-want +got):\n%s", diff)
	}
	list, err := b.e.Steps(context.Background(), n.customer, u.Execution)
	if err != nil {
		t.Fatal(err)
	}
	if f := list[4].Failures; len(f) != MaxFailures || f[0].Path != "lines[3].sent" || f[0].ErrorType != "limit" || list[0].Title != "Count" {
		t.Errorf("%d failures %+v", len(f), f)
	}
	r.append(&wire.Append{Execution: u.Execution, Fence: u.Fence, Entries: []wire.Entry{
		{Kind: wire.EntryRetry, Path: "risky"}, {Kind: wire.EntryResult, Path: "risky", Took: 2 * time.Second},
	}})
	if got := b.tree(n, u.Execution)[6]; got != `safe/risky code "done" rounds=1 done=1 failed=0 tries=1 [risky done  2s]` {
		t.Errorf("after a retry: %s", got)
	}
	at := time.Now().Add(time.Hour)
	r.append(&wire.Append{
		Execution: u.Execution, Fence: u.Fence, Entries: []wire.Entry{
			{Kind: wire.EntryResult, Path: "told", Took: time.Second}, {Kind: wire.EntryIntent, Path: "pause"},
		},
		Waits: []wire.Wait{{Path: "pause", Kind: wire.WaitTimer, At: at}}, Finish: &wire.Finish{Status: wire.StatusWaiting},
	})
	if list, err = b.e.Steps(context.Background(), n.customer, u.Execution); err != nil {
		t.Fatal(err)
	}
	if p := list[8]; p.Status != StepWaiting || p.First == nil || p.First.Until.Unix() != at.Unix() || p.First.Started.IsZero() || list[5].Status != StepPassed {
		t.Errorf("a step that waits: %+v %+v", p, p.First)
	}
}

func TestStepTreeOfEnds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		finish      wire.Finish
		first, last string
	}{
		"completed": {wire.Finish{Status: wire.StatusCompleted}, `/pure set "passed" rounds=0 done=0 failed=0 tries=0`, `/last set "passed" rounds=0 done=0 failed=0 tries=0`},
		"faulted": {
			wire.Finish{Status: wire.StatusFaulted, ErrorType: "expression", ErrorStep: "pure"},
			`/pure set "failed" rounds=1 done=0 failed=1 tries=0 [pure failed expression 0s]`, `/last set "" rounds=0 done=0 failed=0 tries=0`,
		},
	} {
		b := newBench(t)
		n, r, u := treeOf(t, b)
		r.append(&wire.Append{Execution: u.Execution, Fence: u.Fence, Finish: &tt.finish})
		got := b.tree(n, u.Execution)
		if got[0] != tt.first || got[len(got)-1] != tt.last {
			t.Errorf("%s: %q … %q", name, got[0], got[len(got)-1])
		}
	}
}

func TestStepTreeIsTheCustomers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, _, u := treeOf(t, b)
	other := b.tenant("c2")
	if list, err := b.e.Steps(context.Background(), other.customer, u.Execution); !errors.Is(err, ErrNotFound) {
		t.Errorf("another customer's steps: %v, %v", list, err)
	}
}

func TestLogsAreStoredAndBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n, r, u := treeOf(t, b)
	rows := b.opt.Store.Customer(context.Background(), n.customer)
	for i := range 25 {
		m := &wire.Append{Execution: u.Execution, Fence: u.Fence, Entries: []wire.Entry{{Kind: wire.EntryResult, Path: "get"}}}
		m.Logs = []wire.LogLines{{Number: uint32(i*100 + 1), Path: "get", Lines: 100, Body: []byte("sealed lines")}}
		if a := r.append(m); a.Stale {
			t.Fatal("stale")
		}
	}
	lines, size, err := rows.Logged(u.Execution)
	if err != nil || lines > wire.MaxLogLines+logLineSlack+100 || lines < wire.MaxLogLines || size == 0 {
		t.Errorf("%d lines with %d bytes are stored, %v", lines, size, err)
	}
	list, err := rows.Logs(u.Execution, 101, 3)
	if err != nil || len(list) != 3 || list[0].Seq != 201 || list[0].Epoch != 201 || list[0].Kind != wire.EntryLog || string(list[0].Body) != "sealed lines" {
		t.Errorf("logs %+v, %v", list, err)
	}
	r.send(&wire.Released{Execution: u.Execution, Fence: u.Fence, Fault: "crash"})
	next(r, &wire.Cancel{})
	if again := r.dispatch()[0]; again.LogLines != lines || again.LogBytes != size {
		t.Errorf("it comes back with %d lines and %d bytes, want %d and %d", again.LogLines, again.LogBytes, lines, size)
	}
}

// TestStepTreeCompletes: a switch around the return that ended the flow has no entry of its
// own, and is not shown as going on.
func TestStepTreeCompletes(t *testing.T) {
	t.Parallel()
	tree := &stepTree{list: []*Step{{Status: StepBegun}, {Status: StepBegun, Rounds: 1}, {Status: StepUnknown}, {Status: StepDone}}}
	tree.complete()
	var got []StepStatus
	for _, s := range tree.list {
		got = append(got, s.Status)
	}
	if diff := cmp.Diff([]StepStatus{StepPassed, StepBegun, StepUnknown, StepDone}, got); diff != "" {
		t.Errorf("steps of a completed flow (-want +got):\n%s", diff)
	}
}
