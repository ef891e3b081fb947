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

// Handle takes one frame of a runner or an egress node, whose identity the bus has
// checked. The engine keeps the frame's bytes: they must not be used again. An error
// means that the frame is malformed or not for the engine; nothing was done then.
//
// From a runner: Want, Append, Released, Progress, View, Reply, ReadPage, State,
// JournalGet, BlobWrite and BlobRead. From egress: FlowRecord,
// ConnectionStatus, BlobWrite and BlobRead.
func (e *Engine) Handle(ctx context.Context, role wire.Role, from id.Node, f wire.Frame) error {
	var err error
	switch {
	case f.Type == wire.TypeBlobWrite && (role == wire.RoleRunner || role == wire.RoleEgress):
		err = handle(f, &wire.BlobWrite{}, func(m *wire.BlobWrite) {
			e.inLane(m.Blob, len(m.Data), func() { e.blobWrite(role, from, m) }, func() {
				e.refuseBlob(role, from, &wire.BlobChunk{Call: m.Call, Blob: m.Blob, Execution: m.Execution, Index: m.Index, Last: m.Last})
			})
		})
	case f.Type == wire.TypeBlobRead && (role == wire.RoleRunner || role == wire.RoleEgress):
		err = handle(f, &wire.BlobRead{}, func(m *wire.BlobRead) {
			e.inLane(m.Blob, 0, func() { e.blobRead(ctx, role, from, m) }, func() {
				e.refuseBlob(role, from, &wire.BlobChunk{Call: m.Call, Blob: m.Blob, Execution: m.Execution, Index: m.Index})
			})
		})
	case f.Type == wire.TypeFlowRecord && role == wire.RoleEgress:
		err = handle(f, &wire.FlowRecord{}, func(m *wire.FlowRecord) { e.flowRecord(from, m) })
	case f.Type == wire.TypeConnectionStatus && role == wire.RoleEgress:
		err = handle(f, &wire.ConnectionStatus{}, func(m *wire.ConnectionStatus) { e.connectionStatus(from, m) })
	case role == wire.RoleRunner:
		err = e.handleRunner(ctx, from, f)
	default:
		err = fmt.Errorf("%w: a %v frame from role %s", ErrInvalid, f.Type, role)
	}
	if err != nil {
		return fmt.Errorf("handle frame: %w", err)
	}
	return nil
}

func (e *Engine) handleRunner(ctx context.Context, from id.Node, f wire.Frame) error {
	now := time.Now()
	switch f.Type {
	case wire.TypeWant:
		return handle(f, &wire.Want{}, func(m *wire.Want) { e.want(from, m, now) })
	case wire.TypeAppend:
		return handle(f, &wire.Append{}, func(m *wire.Append) { e.append(ctx, from, m, now) })
	case wire.TypeReleased:
		return handle(f, &wire.Released{}, func(m *wire.Released) { e.released(from, m) })
	case wire.TypeState:
		return handle(f, &wire.State{}, func(m *wire.State) { e.state(from, m, now) })
	case wire.TypeJournalGet:
		return handle(f, &wire.JournalGet{}, func(m *wire.JournalGet) {
			e.inLane(id.Blob(m.Execution), 0, func() { e.journalGet(ctx, from, m) }, func() {
				e.released(from, &wire.Released{Execution: m.Execution, Fence: m.Fence, Fault: "unanswered"})
			})
		})
	case wire.TypeProgress:
		return handle(f, &wire.Progress{}, func(m *wire.Progress) { e.show(from, m.View, m.Execution, Update{Progress: m}) })
	case wire.TypeView:
		return handle(f, &wire.View{}, func(m *wire.View) { e.show(from, m.View, m.Execution, Update{View: m}) })
	case wire.TypeReply:
		return handle(f, &wire.Reply{}, func(m *wire.Reply) { e.show(from, m.View, m.Execution, Update{Reply: m}) })
	case wire.TypeReadPage:
		return handle(f, &wire.ReadPage{}, func(m *wire.ReadPage) { e.readings.answered(from, m) })
	}
	return fmt.Errorf("%w: a %v frame", ErrInvalid, f.Type)
}

// handle parses a frame and acts on it.
func handle[M wire.Typed](f wire.Frame, m M, act func(M)) error {
	if err := f.Parse(m); err != nil {
		return err
	}
	act(m)
	return nil
}

// Definition is the canonical JSON of a published integration, by its digest: the answer
// to a DefinitionGet.
func (e *Engine) Definition(ctx context.Context, digest [32]byte) ([]byte, error) {
	v, err := e.catalog.version(ctx, digest)
	if err != nil {
		return nil, err
	}
	return v.row.Definition, nil
}

// maxState is the largest value of a state as it comes: 64 KiB of JSON, and what sealing adds.
const maxState = 64<<10 + 1<<10

// state reads or changes a value of an instance for the worker that runs the execution.
func (e *Engine) state(from id.Node, m *wire.State, now time.Time) {
	e.mu.Lock()
	j := e.held(from, m.Execution, m.Fence)
	e.mu.Unlock()
	if j == nil {
		e.o.Link.Send(wire.RoleRunner, from, &wire.Cancel{Execution: m.Execution, Fence: m.Fence})
		return
	}
	if len(m.Value) > maxState {
		e.end(j.customer, j.execution, "limit", "a value of the state is larger than 64 KiB")
		return
	}
	result := &wire.StateResult{Call: m.Call, Execution: m.Execution}
	stale := false
	e.db.Submit(func(tx *store.Tx) error {
		c := tx.Customer(j.customer)
		holds, err := c.Holds(m.Execution, m.Fence)
		if stale = err == nil && !holds; err != nil || stale {
			return err
		}
		var v store.Value
		changed := true
		if m.Op == wire.StatePut || m.Op == wire.StateDelete {
			v, changed, err = c.ChangeState(j.instance, m, now)
		} else {
			v, err = c.State(j.instance, m.Name)
		}
		result.Version, result.Value, result.Conflict = v.Version, v.Sealed, !changed
		return err
	}, func(err error) {
		switch {
		case errors.Is(err, store.ErrTooMany):
			e.end(j.customer, j.execution, "limit", fmt.Sprintf("the state of the instance has %d names, and takes no more", store.MaxStateNames))
		case err != nil:
			e.log.Error("state could not be written", "execution", m.Execution, "error", err)
			e.lose(j, interruptStore)
		case stale:
			e.o.Link.Send(wire.RoleRunner, from, &wire.Cancel{Execution: m.Execution, Fence: m.Fence})
		default:
			e.o.Link.Send(wire.RoleRunner, from, result)
		}
	})
}
