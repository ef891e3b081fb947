package engine

import (
	"context"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits of one append.
const (
	maxChildren = 1024
	maxLabels   = 8
	maxWaits    = 1024
)

// commit is one append on its way through the writer.
type commit struct {
	e        *Engine
	m        *wire.Append
	from     id.Node
	customer id.Customer
	now      time.Time
	known    *store.Known // or nil
	labels   [][32]byte
	children []child
	listens  []*store.Listener // of waits for events, by index; nil: there is none

	// Results, set anew by each run of write.
	stale    bool
	repeated bool // it was committed before: nothing was written, and nothing follows
	ended    *store.Ended
	seq      uint32
	woken    *woken // the parent, when an awaited child ended
}

// child is a child with the row that was made for it.
type child struct {
	row   *store.Execution
	event []byte
	limit *flow.Concurrency // of its flow
	key   [32]byte          // of the item that a poll found, or zero
	noted bool              // the key is remembered, and nothing begins
	known bool              // a result of write: it was begun before
}

// woken is a wake that was committed.
type woken struct {
	customer  id.Customer
	execution id.Execution
	entry     wire.Entry
	row       *store.Woken
}

// append queues the commit of what a worker did.
func (e *Engine) append(ctx context.Context, from id.Node, m *wire.Append, now time.Time) {
	e.mu.Lock()
	j := e.held(from, m.Execution, m.Fence)
	if off(fencesChecked) {
		j = e.jobs[m.Execution]
	}
	e.mu.Unlock()
	if j == nil {
		e.o.Link.Send(wire.RoleRunner, from, &wire.Appended{Execution: m.Execution, Fence: m.Fence, Stale: true})
		return
	}
	c := &commit{e: e, m: m, from: from, customer: j.customer, now: now}
	if !e.prepare(ctx, c, j) {
		return
	}
	e.mu.Lock()
	c.known = j.advance(m)
	e.mu.Unlock()
	e.db.Submit(c.write, func(err error) { e.committed(j, c, err) })
}

// prepare does what needs more than the database. False means that the append cannot
// be committed and the execution was dealt with.
func (e *Engine) prepare(ctx context.Context, c *commit, j *job) bool {
	m := c.m
	if len(m.Children) > maxChildren || len(m.Labels) > maxLabels || len(m.Waits) > maxWaits || len(m.Logs) > wire.MaxLogLines+1 {
		e.end(j.customer, j.execution, "limit", "too many calls, waits or labels at once")
		return false
	}
	if m.Finish != nil {
		if _, ok := store.StatusOf(m.Finish.Status); !ok {
			e.end(j.customer, j.execution, "limit", "the worker ended it in an unknown way")
			return false
		}
	}
	if len(m.Labels) > 0 && !e.keys.indexes() {
		e.lose(j, interruptStore) // the vault has not given the key yet
		return false
	}
	for i := range m.Labels {
		l := &m.Labels[i]
		value, err := e.keys.labels.Open(nil, lease.LabelPlace(j.customer, m.Execution, l.Name), l.Value)
		if err != nil {
			e.end(j.customer, j.execution, "limit", "a label was not sealed to this server")
			return false
		}
		index, err := e.keys.labelIndex(ctx, j.customer, l.Name, value)
		if err != nil {
			e.log.WarnContext(ctx, "label cannot be indexed", "execution", j.execution, "error", err)
			e.lose(j, interruptStore)
			return false
		}
		c.labels = append(c.labels, index)
	}
	for i := range m.Children {
		if !e.prepareChild(ctx, c, j, &m.Children[i]) {
			return false
		}
	}
	return len(m.Waits) == 0 || e.prepareListens(ctx, c, j)
}

// prepareChild makes the row of a child. Its flow is one of the parent's version.
func (e *Engine) prepareChild(ctx context.Context, c *commit, j *job, m *wire.Child) bool {
	f, err := e.catalog.flow(ctx, j.digest, m.Flow)
	item := m.Key != [32]byte{}
	if err != nil || item != (f.Trigger.Poll != nil) || !item && f.Trigger.Call == nil || m.Execution.IsZero() != m.Noted || m.Noted && !item || m.Path == "" {
		e.end(j.customer, j.execution, "limit", "it called a flow that cannot be called")
		return false
	}
	x := &store.Execution{
		Customer: j.customer, ID: m.Execution, Instance: j.instance, Digest: j.digest, Flow: f.Name,
		Trigger: string(f.Trigger.Kind()), Event: id.Event(m.Execution), Status: store.Pending, Accepted: c.now,
		Parent: c.m.Execution, ParentPath: m.Path, Awaited: m.Await, Cause: store.CauseCall, CauseID: c.m.Execution,
		Size: int64(len(m.Event)),
	}
	newSeed(x)
	setLife(x, f)
	if f.Concurrency != nil {
		x.OrderKey = flowKey(x) // the values of its key are sealed to workers
	}
	if item {
		x.Cause = store.CauseTrigger
	}
	c.children = append(c.children, child{row: x, event: m.Event, limit: f.Concurrency, key: m.Key, noted: m.Noted})
	return true
}

// unfenced is an append with the fence that its execution has now, whoever sent it.
func unfenced(rows store.CustomerTx, m *wire.Append) (*wire.Append, error) {
	x, err := rows.Execution(m.Execution)
	if err != nil {
		return nil, err
	}
	other := *m
	other.Fence = x.Fence
	return &other, nil
}

// write is the transaction of an append. It may run twice.
func (c *commit) write(tx *store.Tx) error {
	c.stale, c.repeated, c.ended, c.seq, c.woken = false, false, nil, 0, nil
	m, rows := c.m, tx.Customer(c.customer)
	var day uint32
	var err error
	if off(fencesChecked) {
		if m, err = unfenced(rows, m); err != nil {
			return err
		}
	}
	if m.Finish != nil {
		if c.ended, err = rows.FinishKnown(m.Execution, m.Fence, c.known, m.Entries, m.Finish, c.now); err == nil {
			c.seq, day = c.ended.LastSeq, c.ended.Day
		}
	} else {
		c.seq, day, err = rows.AdvanceKnown(m.Execution, m.Fence, c.known, m.Entries)
	}
	if isStale(err) {
		return c.again(rows)
	}
	if err != nil {
		return err
	}
	if err := rows.InsertEntries(m.Execution, m.Entries, c.seq, day, c.now); err != nil {
		return err
	}
	if err := c.putWaits(rows); err != nil {
		return err
	}
	if len(m.Logs) > 0 {
		if err := c.writeLogs(rows, day); err != nil {
			return err
		}
	}
	for i := range m.Labels {
		if err := rows.PutLabel(m.Execution, m.Labels[i].Name, c.labels[i], day, m.Labels[i].Sealed); err != nil {
			return err
		}
	}
	if err := c.writeChildren(rows); err != nil {
		return err
	}
	if c.ended != nil && c.ended.Status.Ended() {
		c.woken, err = c.e.wakeParent(rows, m.Execution, c.ended, m.Finish.Output, c.now)
	}
	return err
}

// again tells an append that is sent a second time, because its answer was lost or is
// late, from a stale one. It is answered with the number of its own last entry: the answer
// must not be taken for that to a later append. The end of an execution needs no repeating:
// that it is stale tells its worker as much.
func (c *commit) again(rows store.CustomerTx) (err error) {
	if c.m.Finish == nil {
		c.repeated, err = rows.Repeats(c.m.Execution, c.m.Fence, c.m.Entries)
	}
	if c.stale = !c.repeated; c.repeated {
		c.seq = c.m.Entries[len(c.m.Entries)-1].Seq
	}
	return err
}

// logSlack is how many lines and bytes beyond its limits an execution may store: the lines
// that say what was left out, one for each stay in a worker, and what sealing adds.
const (
	logLineSlack = 1000
	logByteSlack = 256 << 10
)

// writeLogs stores log lines, unless the execution has more than a worker would send.
func (c *commit) writeLogs(rows store.CustomerTx, day uint32) error {
	lines, size, err := rows.Logged(c.m.Execution)
	if err != nil || lines > wire.MaxLogLines+logLineSlack || size > wire.MaxLogBytes+logByteSlack {
		return err
	}
	return rows.InsertLogs(c.m.Execution, c.m.Logs, day, c.now)
}

func (c *commit) writeChildren(rows store.CustomerTx) error {
	if len(c.children) == 0 {
		return nil
	}
	parent, err := rows.Execution(c.m.Execution)
	if err != nil {
		return err
	}
	for i := range c.children {
		x := c.children[i].row
		if known, err := c.knows(rows, &c.children[i]); err != nil || known {
			if err != nil {
				return err
			}
			continue
		}
		inherit(x, parent)
		if c.ended != nil && c.ended.Status == store.Faulted {
			x.Cause = store.CauseOnFault // a worker starts nothing else when it faults
		}
		if err := reenter(rows, x, parent); err != nil {
			return err
		}
		if err := rows.InsertEvent(x.Event, x.Day, c.children[i].event); err != nil {
			return err
		}
		if err := rows.InsertExecution(x); err != nil {
			return err
		}
		if _, err := c.e.note(rows, x.ID); err != nil {
			return err
		}
	}
	return nil
}

// itemFor is how long an item is remembered that a poll does not see any more.
const itemFor = 30 * 24 * time.Hour

// knows reports whether a child begins nothing: its item was seen before, or is only noted.
func (c *commit) knows(rows store.CustomerTx, x *child) (bool, error) {
	x.known = false
	if x.key == [32]byte{} {
		return false, nil
	}
	seen, err := rows.SeeItem(x.row.Instance, x.row.Flow, x.key, x.row.ID, c.now, c.now.Add(itemFor))
	x.known = err == nil && (seen || x.noted)
	return x.known, err
}

// inherit gives a child what it has from its parent: its lineage, its pools, and the
// expiry day, whose end also bounds its life.
func inherit(x, parent *store.Execution) {
	x.Root, x.Batch, x.Test = parent.Root, parent.Batch, parent.Test
	x.EgressPool, x.RunnerPool, x.Account = parent.EgressPool, parent.RunnerPool, parent.Account
	x.Day = parent.Day
	if end := time.Unix(int64(parent.Day)*86400, 0); x.Expires.After(end) {
		x.Expires = end
	}
}

// wakeParent wakes the parent of an execution that has ended, when it waits for it and
// nobody, such as a time limit, answered before.
func (e *Engine) wakeParent(rows store.CustomerTx, x id.Execution, ended *store.Ended, output []byte, now time.Time) (*woken, error) {
	if !ended.Awaited || ended.Parent.IsZero() {
		return nil, nil //nolint:nilnil // nobody waits
	}
	answered, err := rows.WaitAnswered(ended.Parent, ended.ParentPath, x)
	if err != nil || answered {
		return nil, err
	}
	if _, err := rows.CloseWaitChild(ended.Parent, ended.ParentPath, x); err != nil {
		return nil, err
	}
	entry := wire.Entry{
		Kind: wire.EntryWake, Path: ended.ParentPath, Epoch: uint32(wire.WakeOf(ended.Status.Wire())), Hash: x, Body: output,
	}
	row, err := e.putWake(rows, ended.Parent, &entry, now)
	if isStale(err) {
		return nil, nil //nolint:nilnil // the parent has ended
	}
	if err != nil {
		return nil, err
	}
	entry.Seq = row.Number
	return &woken{rows.ID(), ended.Parent, entry, row}, nil
}

// committed follows the commit of an append: it acknowledges it and acts on what it said.
func (e *Engine) committed(j *job, c *commit, err error) {
	if err != nil {
		e.log.Error("append could not be committed", "execution", j.execution, "error", err)
		e.lose(j, interruptStore)
		return
	}
	e.o.Link.Send(wire.RoleRunner, c.from, &wire.Appended{
		Execution: c.m.Execution, Fence: c.m.Fence, Seq: c.seq, Stale: c.stale,
	})
	if c.stale || c.repeated {
		return
	}
	e.counters.commits.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.grow(j, store.SizeOf(c.m.Entries))
	for i := range c.m.Waits {
		w := &c.m.Waits[i]
		e.addTimer(timer{
			at: w.At, kind: waitTimer, customer: j.customer, execution: j.execution, path: w.Path, wait: w.Kind,
		})
	}
	for i := range c.children {
		if !c.children[i].known {
			e.begin(&c.children[i])
		}
	}
	if c.ended != nil {
		j.left = c.m.Fence
		e.left(j, c.ended, c.m.Finish)
	}
	if c.woken != nil {
		e.woke(c.woken)
	}
}

func newChildJob(x child) *job {
	j := &job{
		customer: x.row.Customer, execution: x.row.ID, instance: x.row.Instance, digest: x.row.Digest,
		day: lease.Day(x.row.Day), row: x.row, event: x.event, size: x.row.Size,
	}
	if x.row.OrderKey != [32]byte{} {
		j.order, j.concurrency = x.row.OrderKey, x.limit
	}
	return j
}

// reenter lets a child through the gate of its flow when one that waits for it, directly
// or not, has its place there: it would wait for its own end otherwise.
func reenter(rows store.CustomerTx, x, parent *store.Execution) error {
	if x.OrderKey == [32]byte{} {
		return nil
	}
	for up, awaited := parent, x.Awaited; awaited; awaited = up.Awaited {
		if up.OrderKey == x.OrderKey {
			x.OrderKey = [32]byte{}
			return nil
		}
		if up.Parent.IsZero() {
			return nil
		}
		var err error
		if up, err = rows.Execution(up.Parent); err != nil {
			return err
		}
	}
	return nil
}

// left follows the end of an execution's stay in a worker. Callers hold the mutex.
func (e *Engine) left(j *job, ended *store.Ended, f *wire.Finish) {
	if ended.Status.Ended() {
		e.watchEnded(j.execution, ended.Status, f)
		e.counters.ended(j.execution, ended.Status, f.ErrorType)
	}
	if e.jobs[j.execution] != j {
		return
	}
	if ended.Status == store.Pending {
		e.enqueue(j, front)
		return
	}
	if ended.Parent.IsZero() {
		e.judge(j, ended.Status)
	}
	if ended.Status == store.Waiting {
		e.admitted(e.gates.suspend(j))
	}
	e.forget(j)
}

// woke follows the commit of a wake. Callers hold the mutex.
func (e *Engine) woke(w *woken) {
	j := e.jobs[w.execution]
	switch {
	case j == nil && w.row.Status == store.Pending:
		j = &job{
			customer: w.customer, execution: w.execution, instance: w.row.Instance, digest: w.row.Digest, fence: w.row.Fence,
			day: lease.Day(w.row.Day), viewer: e.viewerOf(w.execution), size: min(w.row.Size, maxJob),
		}
		e.gates.resume(j)
		e.enqueue(j, front)
	case j == nil:
		// It has ended meanwhile.
	case w.row.Status != store.Running:
		e.grow(j, len(w.entry.Body)) // it is pending and will be read with its wakes
	case !j.sent:
		e.grow(j, len(w.entry.Body))
		j.wakes = append(j.wakes, w.entry)
	case j.runner != nil:
		e.grow(j, len(w.entry.Body))
		e.o.Link.Send(wire.RoleRunner, j.runner.node, &wire.Wake{Execution: w.execution, Fence: w.row.Fence, Entry: w.entry})
	}
}
