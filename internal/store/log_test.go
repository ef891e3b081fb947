package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Log lines come back in order from any line on, a number twice keeps its first lines, and
// they are nobody else's.
func TestLogs(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		x := w.execution.ID
		mine, other := w.s.Customer(t.Context(), w.owner), w.s.Customer(t.Context(), w.other)
		if lines, size, err := mine.Logged(x); lines != 0 || size != 0 || err != nil {
			t.Errorf("before the first line: %d lines, %d bytes, %v", lines, size, err)
		}
		w.write(t, func(c CustomerTx) error {
			return errors.Join(
				c.InsertLogs(x, []wire.LogLines{
					{Number: 4, Path: "b[1]/c", Lines: 2, Body: []byte("four")},
					{Number: 1, Path: "a", Lines: 3, Body: []byte("ones")},
				}, 20_000, at()),
				c.InsertLogs(x, []wire.LogLines{{Number: 4, Path: "again", Lines: 9, Body: []byte("other lines")}, {Number: 6, Lines: 1, Body: []byte("6")}}, 20_000, at()),
			)
		})
		if lines, size, err := mine.Logged(x); lines != 6 || size != 9 || err != nil {
			t.Errorf("%d lines, %d bytes, %v, want 6 and 9", lines, size, err)
		}
		all := []wire.Entry{
			{Seq: 1, Kind: wire.EntryLog, Path: "a", Epoch: 1, Body: []byte("ones")},
			{Seq: 4, Kind: wire.EntryLog, Path: "b[1]/c", Epoch: 4, Body: []byte("four")},
			{Seq: 6, Kind: wire.EntryLog, Epoch: 6, Body: []byte("6")},
		}
		for _, page := range []struct {
			after uint64
			limit int
			want  []wire.Entry
		}{{0, 10, all}, {0, 2, all[:2]}, {1, 10, all[1:]}, {4, 10, all[2:]}, {6, 10, nil}} {
			got, err := mine.Logs(x, page.after, page.limit)
			if diff := cmp.Diff(page.want, got); diff != "" || err != nil {
				t.Errorf("%d after line %d: %v\n%s", page.limit, page.after, err, diff)
			}
		}
		if list, err := other.Logs(x, 0, 10); len(list) > 0 || err != nil {
			t.Errorf("another customer reads %+v, %v", list, err)
		}
		if lines, size, err := other.Logged(x); lines != 0 || size != 0 || err != nil {
			t.Errorf("another customer counts %d lines, %d bytes, %v", lines, size, err)
		}
	})
}

// What the journal says in clear comes back in order from any entry on, and only to the
// customer.
func TestStepEntries(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		x := w.execution.ID
		later := at().Add(time.Second)
		w.write(t, func(c CustomerTx) error {
			return c.InsertEntries(x, []wire.Entry{
				{Kind: wire.EntryAttempt, Path: "send", ErrorType: "timeout", Took: 1500 * time.Microsecond, Body: []byte("sealed")},
				{Kind: wire.EntryResult, Path: "send", Took: 20 * time.Millisecond},
				{Kind: wire.EntryLog, Path: "send"},
				{Kind: wire.EntryReply, Path: "answer"},
			}, 5, 20_000, later)
		})
		read := func(c Customer, after uint32, limit int) (list []StepEntry) {
			t.Helper()
			if err := c.StepEntries(x, after, limit, func(e *StepEntry) error { list = append(list, *e); return nil }); err != nil {
				t.Error(err)
			}
			return list
		}
		mine, other := w.s.Customer(t.Context(), w.owner), w.s.Customer(t.Context(), w.other)
		all := []StepEntry{
			{Seq: 1, Kind: wire.EntryClock, Path: "a", Committed: at()},
			{Seq: 2, Kind: wire.EntryAttempt, Path: "send", Committed: later, Took: 1500 * time.Microsecond, ErrorType: "timeout"},
			{Seq: 3, Kind: wire.EntryResult, Path: "send", Committed: later, Took: 20 * time.Millisecond},
			{Seq: 4, Kind: wire.EntryLog, Path: "send", Committed: later},
			{Seq: 5, Kind: wire.EntryReply, Path: "answer", Committed: later},
		}
		if diff := cmp.Diff(all, read(mine, 0, 10)); diff != "" {
			t.Errorf("all:\n%s", diff)
		}
		if diff := cmp.Diff(all[2:4], read(mine, 2, 2)); diff != "" {
			t.Errorf("a page:\n%s", diff)
		}
		if list := read(other, 0, 10); len(list) > 0 {
			t.Errorf("another customer reads %+v", list)
		}
		wrong := errors.New("wrong")
		if err := mine.StepEntries(x, 0, 10, func(*StepEntry) error { return wrong }); !errors.Is(err, wrong) {
			t.Errorf("a reader's error: %v", err)
		}
		entries, err := mine.EntriesAt(x, "send", 2, 10)
		if err != nil || len(entries) != 2 || entries[0].Seq != 3 || entries[1].Seq != 4 {
			t.Errorf("entries of a step after the second: %+v, %v", entries, err)
		}
		replies, err := mine.Replies(x, 10)
		if err != nil || len(replies) != 1 || replies[0].Path != "answer" {
			t.Errorf("replies: %+v, %v", replies, err)
		}
		labels, err := mine.Labels(x)
		if err != nil || len(labels) != 1 || labels[0].Path != "order" || string(labels[0].Body) != "label" {
			t.Errorf("labels: %+v, %v", labels, err)
		}
		entries, err1 := other.EntriesAt(x, "send", 0, 10)
		replies, err2 := other.Replies(x, 10)
		labels, err3 := other.Labels(x)
		if err := errors.Join(err1, err2, err3); len(entries)+len(replies)+len(labels) > 0 || err != nil {
			t.Errorf("another customer reads %+v, %+v, %+v, %v", entries, replies, labels, err)
		}
	})
}

// Waits are listed while nobody has answered them.
func TestOpenWaits(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		x := w.execution.ID
		mine, other := w.s.Customer(t.Context(), w.owner), w.s.Customer(t.Context(), w.other)
		all := []wire.Wait{
			{Path: "c", Kind: wire.WaitChild},
			{Path: "w", Kind: wire.WaitCallback, At: at().Add(time.Minute)},
		}
		for _, limit := range []int{1, 10} {
			got, err := mine.OpenWaits(x, limit)
			if diff := cmp.Diff(all[:min(limit, 2)], got); diff != "" || err != nil {
				t.Errorf("%d: %v\n%s", limit, err, diff)
			}
		}
		if list, err := other.OpenWaits(x, 10); len(list) > 0 || err != nil {
			t.Errorf("another customer reads %+v, %v", list, err)
		}
		w.write(t, func(c CustomerTx) error {
			return errors.Join(mustClose(c.CloseWaitKey(x, "w", [32]byte{1})), c.PutWait(x, &wire.Wait{Path: "a", Kind: wire.WaitTimer, At: at()}))
		})
		got, err := mine.OpenWaits(x, 10)
		want := []wire.Wait{{Path: "a", Kind: wire.WaitTimer, At: at()}, all[0]}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("after an answer: %v\n%s", err, diff)
		}
	})
}

// Timers of executions that one has called are found, while both are open.
func TestCalledWaits(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		child := *w.execution
		child.ID[15]++
		child.Parent, child.ParentPath, child.Cause = w.execution.ID, "c", CauseCall
		w.write(t, func(c CustomerTx) error {
			return errors.Join(
				c.InsertExecution(&child),
				c.PutWait(child.ID, &wire.Wait{Path: "rest", Kind: wire.WaitTimer, At: at().Add(time.Hour)}),
				c.PutWait(child.ID, &wire.Wait{Path: "back", Kind: wire.WaitCallback, Key: [32]byte{4}, At: at().Add(time.Hour)}),
				c.PutWait(w.execution.ID, &wire.Wait{Path: "own", Kind: wire.WaitTimer, At: at().Add(time.Hour)}),
			)
		})
		mine, other := w.s.Customer(t.Context(), w.owner), w.s.Customer(t.Context(), w.other)
		got, err := mine.CalledWaits(w.execution.ID)
		want := []Wait{{Customer: w.owner, Execution: child.ID, Path: "rest", Kind: wire.WaitTimer}}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
		if list, err := other.CalledWaits(w.execution.ID); len(list) > 0 || err != nil {
			t.Errorf("another customer reads %+v, %v", list, err)
		}
		w.write(t, func(c CustomerTx) error {
			_, err := c.End(child.ID, &wire.Finish{Status: wire.StatusCancelled}, at())
			return err
		})
		if list, err := mine.CalledWaits(w.execution.ID); len(list) > 0 || err != nil {
			t.Errorf("after its end: %+v, %v", list, err)
		}
	})
}
