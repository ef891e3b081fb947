package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// ending is an execution that the engine itself is about to fault.
type ending struct {
	customer  id.Customer
	execution id.Execution
	errorType string
	message   string
	attempts  uint32
}

// fault is the output of an execution that the engine faulted.
type fault struct {
	Type     string `json:"type"`
	Message  string `json:"message"`
	Attempts uint32 `json:"attempts,omitempty"`
}

// end faults an execution, soon. Nothing else happens to it if that fails: it is tried again.
func (e *Engine) end(c id.Customer, x id.Execution, errorType, message string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.addEnding(ending{customer: c, execution: x, errorType: errorType, message: message})
}

// addEnding queues a fault. Callers hold the mutex.
func (e *Engine) addEnding(x ending) {
	e.ending = append(e.ending, x)
	select {
	case e.endKick <- struct{}{}:
	default:
	}
}

// endLoop faults executions: apart from the scheduler, because sealing the fault may need
// the vault.
func (e *Engine) endLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.endKick:
		}
		e.mu.Lock()
		list, verdicts := e.ending, e.verdicts
		e.ending, e.verdicts = nil, nil
		e.mu.Unlock()
		e.execute(ctx, verdicts)
		var failed []ending
		for _, x := range list {
			err := e.faultNow(ctx, x)
			if err != nil && !errors.Is(err, ErrNotFound) && ctx.Err() == nil {
				e.log.ErrorContext(ctx, "execution cannot be faulted", "execution", x.execution, "error", err)
				failed = append(failed, x)
			}
		}
		if len(failed) > 0 {
			e.retryEndings(ctx, failed)
		}
	}
}

func (e *Engine) retryEndings(ctx context.Context, list []ending) {
	rest := time.NewTimer(retryDelay)
	defer rest.Stop()
	select {
	case <-ctx.Done():
	case <-rest.C:
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range list {
		e.addEnding(x)
	}
}

// faultNow ends an execution with a fault that the engine made.
func (e *Engine) faultNow(ctx context.Context, x ending) error {
	row, err := e.Execution(ctx, x.customer, x.execution)
	if err != nil {
		return err
	}
	if row.Status.Ended() {
		return ErrNotFound
	}
	now := time.Now()
	f, told, err := e.faultFinish(ctx, row, &x, now)
	if err != nil {
		return err
	}
	return e.endNow(ctx, x.customer, x.execution, f, told, now)
}

// Cancel ends an execution that has not ended, and those that it waits for. Who runs it
// is told, and can append no more. ErrNotFound means that there is no such execution,
// or that it has ended.
func (e *Engine) Cancel(ctx context.Context, c id.Customer, x id.Execution) error {
	f := &wire.Finish{Status: wire.StatusCancelled}
	if err := e.endNow(ctx, c, x, f, nil, time.Now()); err != nil {
		return fmt.Errorf("cancel execution: %w", err)
	}
	return nil
}

// endNow ends an execution from the server's side and begins the one that is told of it, if
// any; then it ends the children that it waits for.
func (e *Engine) endNow(ctx context.Context, c id.Customer, x id.Execution, f *wire.Finish, told *child, now time.Time) error {
	var ended *store.Ended
	var parent *woken
	err := e.submit(ctx, func(tx *store.Tx) error {
		parent = nil
		rows := tx.Customer(c)
		var err error
		if ended, err = rows.End(x, f, now); err != nil {
			return err
		}
		if ended.Status == store.Cancelled { // nothing makes it go on, as a retry does one that faulted
			if err := rows.CloseWaits(x); err != nil {
				return err
			}
		}
		if _, err := e.note(rows, x); err != nil {
			return err
		}
		if err := e.insertTold(rows, told); err != nil {
			return err
		}
		parent, err = e.wakeParent(rows, x, ended, f.Output, now)
		return err
	}, func() {
		e.ended(x, ended, f, parent)
		if told != nil {
			e.begin(told)
		}
	})
	if err != nil {
		return err
	}
	children, err := e.db.Customer(ctx, c).OpenChildren(x)
	if err != nil {
		return fmt.Errorf("find children: %w", err)
	}
	var errs []error
	for _, child := range children {
		err := e.endNow(ctx, c, child, &wire.Finish{Status: wire.StatusCancelled}, nil, now)
		if !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// callBack tells the runner of a job that it has it no more. Callers hold the mutex.
func (e *Engine) callBack(j *job) {
	if j.runner != nil && j.state == running && j.sent {
		e.o.Link.Send(wire.RoleRunner, j.runner.node, &wire.Cancel{Execution: j.execution, Fence: j.fence})
	}
}

// ended follows the commit of an end from the server's side. Callers hold the mutex.
func (e *Engine) ended(x id.Execution, row *store.Ended, f *wire.Finish, parent *woken) {
	if j := e.jobs[x]; j != nil {
		e.callBack(j)
		if row.Parent.IsZero() {
			e.judge(j, row.Status)
		}
		e.forget(j)
	}
	e.admitted(e.gates.ended(x))
	e.watchEnded(x, row.Status, f)
	e.counters.ended(x, row.Status, f.ErrorType)
	if parent != nil {
		e.woke(parent)
	}
}
