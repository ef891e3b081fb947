package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Status is the status of an execution.
type Status string

// The values of [Status]. The last three are ends.
const (
	Pending   Status = "pending"
	Running   Status = "running"
	Waiting   Status = "waiting"
	Completed Status = "completed"
	Faulted   Status = "faulted"
	Cancelled Status = "cancelled"
)

// Ended reports whether nothing follows.
func (s Status) Ended() bool { return s == Completed || s == Faulted || s == Cancelled }

// StatusOf is the status that a worker's finish leads to. ok is false for unknown ones.
func StatusOf(s wire.Status) (status Status, ok bool) {
	switch s {
	case wire.StatusCompleted:
		return Completed, true
	case wire.StatusFaulted:
		return Faulted, true
	case wire.StatusCancelled:
		return Cancelled, true
	case wire.StatusWaiting:
		return Waiting, true
	}
	return "", false
}

// Wire is the end as workers say it, or 0 for a status that is no end.
func (s Status) Wire() wire.Status {
	switch s {
	case Completed:
		return wire.StatusCompleted
	case Faulted:
		return wire.StatusFaulted
	case Cancelled:
		return wire.StatusCancelled
	default:
		return 0
	}
}

// Cause says why an execution exists.
type Cause string

// The values of [Cause].
const (
	CauseTrigger Cause = "trigger"
	CauseCall    Cause = "call"
	CauseReplay  Cause = "replay"
	CauseOnFault Cause = "on_fault"
	CauseTest    Cause = "test"
)

// Execution is a row of the execution table.
type Execution struct {
	Customer      id.Customer
	ID            id.Execution
	Instance      id.Instance
	Digest        [32]byte // the version it began on and ends on
	Flow          string
	Trigger       string // kind of trigger
	Event         id.Event
	EventSource   string // CloudEvents source
	EventType     string // CloudEvents type
	Status        Status
	Fence         uint64
	Runner        id.Node // who runs it, or ran it last
	LeaseUntil    time.Time
	Interruptions uint32 // leases lost since the last append
	Interruption  string // why the last was lost
	LastSeq       uint32
	Wakes         uint32
	Priority      int64
	OrderKey      [32]byte // HMAC of the FIFO key, or zero
	Seed          [16]byte
	Retries       uint32 // how often it was retried after a fault
	Test          bool
	Accepted      time.Time
	Started       time.Time
	Finished      time.Time
	Expires       time.Time
	Day           uint32
	Retention     time.Duration
	ErrorType     string
	ErrorStep     string
	Output        []byte // sealed
	Root          id.Execution
	Parent        id.Execution
	ParentPath    string
	Awaited       bool // the parent waits for the output
	Cause         Cause
	CauseID       id.Execution
	Batch         id.Event // joins executions that were started together, or zero
	EgressPool    string
	RunnerPool    string
	Account       [32]byte // HMAC of the connected account it is for, or zero
	Size          int64    // bytes of its event in clear, and of its journal and its wakes as stored
}

// InsertEvent stores a sealed event.
func (c CustomerTx) InsertEvent(e id.Event, day uint32, sealed []byte) error {
	err := c.tx.send(`
		INSERT INTO event (customer_id, event_id, day, body)
		VALUES ($1, $2, $3, $4)`,
		c.id[:], e[:], int64(day), blob(sealed))
	return err
}

// Event reads a sealed event.
func (c Customer) Event(e id.Event) ([]byte, error) {
	var body []byte
	err := c.q.row(`SELECT body FROM event WHERE customer_id = $1 AND event_id = $2`, []any{c.id[:], e[:]}, &body)
	return body, err
}

// InsertExecution stores a new execution.
func (c CustomerTx) InsertExecution(x *Execution) error {
	err := c.tx.send(`
		INSERT INTO execution (customer_id, execution_id, instance_id, digest, flow, trigger_kind, event_id, event_source,
			event_type, status, fence, runner_id, lease_until, shard, priority, order_key, seed, test, accepted,
			first_started, expires, day, retention, root_id, parent_id, parent_path, awaited, cause, cause_id, batch_id,
			egress_pool, runner_pool, account, size)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
			$24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34)`,
		c.id[:], x.ID[:], x.Instance[:], x.Digest[:], x.Flow, x.Trigger, x.Event[:], x.EventSource,
		x.EventType, string(x.Status), int64(x.Fence), optional(x.Runner[:]), micros(x.LeaseUntil), int64(ShardOf(c.id)),
		x.Priority, optional(x.OrderKey[:]), x.Seed[:], x.Test, micros(x.Accepted),
		micros(x.Started), micros(x.Expires), int64(x.Day), x.Retention.Microseconds(), x.Root[:], optional(x.Parent[:]),
		x.ParentPath, x.Awaited, string(x.Cause), optional(x.CauseID[:]), optional(x.Batch[:]),
		x.EgressPool, x.RunnerPool, optional(x.Account[:]), x.Size)
	return err
}

// executionColumns are the columns in the order of [Execution.dest].
const executionColumns = `customer_id, execution_id, instance_id, digest, flow, trigger_kind, event_id, event_source,
	event_type, status, fence, runner_id, lease_until, interruptions, interruption, last_seq, wakes, priority,
	order_key, seed, test, accepted, first_started, finished, expires, day, retention, error_type, error_step, output,
	root_id, parent_id, parent_path, awaited, cause, cause_id, batch_id, egress_pool, runner_pool, account,
	size, retries`

func (x *Execution) dest(retention *int64) []any {
	return []any{
		fixed{x.Customer[:]},
		fixed{x.ID[:]},
		fixed{x.Instance[:]},
		fixed{x.Digest[:]},
		&x.Flow, &x.Trigger,
		fixed{x.Event[:]},
		&x.EventSource, &x.EventType, &x.Status, &x.Fence,
		fixed{x.Runner[:]},
		moment{&x.LeaseUntil},
		&x.Interruptions, &x.Interruption, &x.LastSeq, &x.Wakes, &x.Priority,
		fixed{x.OrderKey[:]},
		fixed{x.Seed[:]},
		&x.Test,
		moment{&x.Accepted},
		moment{&x.Started},
		moment{&x.Finished},
		moment{&x.Expires},
		&x.Day, retention,
		&x.ErrorType, &x.ErrorStep, &x.Output,
		fixed{x.Root[:]},
		fixed{x.Parent[:]},
		&x.ParentPath, &x.Awaited, &x.Cause,
		fixed{x.CauseID[:]},
		fixed{x.Batch[:]},
		&x.EgressPool, &x.RunnerPool,
		fixed{x.Account[:]},
		&x.Size, &x.Retries,
	}
}

// Execution reads an execution.
func (c Customer) Execution(e id.Execution) (*Execution, error) {
	x := &Execution{}
	var retention int64
	err := c.q.row(`
		SELECT `+executionColumns+`
		FROM execution
		WHERE customer_id = $1 AND execution_id = $2 AND deleted = 0`,
		[]any{c.id[:], e[:]}, x.dest(&retention)...)
	if err != nil {
		return nil, err
	}
	x.Retention = time.Duration(retention) * time.Microsecond
	return x, nil
}

// Lease gives a pending execution to a runner and counts its fence up. [ErrNotFound]
// means that it is not pending with that fence any more.
func (c CustomerTx) Lease(e id.Execution, fence uint64, runner id.Node, until, now time.Time) error {
	n, err := c.tx.exec(`
		UPDATE execution
		SET status = 'running', fence = fence + 1, runner_id = $4, lease_until = $5,
			first_started = CASE WHEN first_started = 0 THEN $6 ELSE first_started END
		WHERE customer_id = $1 AND execution_id = $2 AND fence = $3 AND status = 'pending'`,
		c.id[:], e[:], int64(fence), runner[:], micros(until), micros(now))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// Interrupt takes a running execution from its runner: it is pending again. It returns
// how many times in a row that happened. Counted says whether this time counts.
func (c CustomerTx) Interrupt(e id.Execution, fence uint64, why string, counted Counted) (uint32, error) {
	by := int64(0)
	if counted {
		by = 1
	}
	var interruptions uint32
	err := c.tx.returning(`
		UPDATE execution
		SET status = 'pending', lease_until = 0, interruptions = interruptions + $4, interruption = $5
		WHERE customer_id = $1 AND execution_id = $2 AND fence = $3 AND status = 'running'
		RETURNING interruptions`,
		[]any{c.id[:], e[:], int64(fence), by, why}, &interruptions)
	return interruptions, err
}

// Counted says whether an interruption is held against the execution.
type Counted bool

// End ends an execution that has not ended, from the server's side, and counts its fence
// up, so that who runs it can append no more. It returns what it was before.
func (c CustomerTx) End(e id.Execution, f *wire.Finish, now time.Time) (*Ended, error) {
	status, ok := StatusOf(f.Status)
	if !ok || !status.Ended() {
		return nil, ErrNotFound
	}
	x := &Ended{Status: status}
	err := c.tx.returning(`
		UPDATE execution
		SET status = $3, fence = fence + 1, finished = $4, error_type = $5, error_step = $6, output = $7, lease_until = 0
		WHERE customer_id = $1 AND execution_id = $2 AND finished = 0
		RETURNING last_seq, fence, day, runner_id, parent_id, parent_path, awaited`,
		[]any{c.id[:], e[:], string(status), micros(now), f.ErrorType, f.ErrorStep, f.Output},
		&x.LastSeq, &x.Fence, &x.Day, fixed{x.Runner[:]}, fixed{x.Parent[:]}, &x.ParentPath, &x.Awaited)
	if err != nil {
		return nil, err
	}
	return x, nil
}

// Ended is what follows the end of an execution, or of its stay in a worker.
type Ended struct {
	Status     Status // after it
	Fence      uint64 // after it
	LastSeq    uint32
	Day        uint32
	Runner     id.Node
	Parent     id.Execution
	ParentPath string
	Awaited    bool
}
