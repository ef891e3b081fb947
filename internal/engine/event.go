package engine

import (
	"bytes"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits of events.
const (
	// MaxBody is the largest body that may arrive, in bytes.
	MaxBody = 10 << 20
	// MaxEvent is the largest event in bytes: a body as JSON, and what is said about it.
	MaxEvent = 12 << 20
	// MaxInlineEvent is the largest event in bytes that is stored in its row. A larger
	// one is a blob, and its row holds a sealed reference.
	MaxInlineEvent = 256 << 10
	// MaxCallback is the largest answer to a callback in bytes.
	MaxCallback = 1 << 20
)

// size is how many bytes the trigger's JSON has.
func (ev *Event) size() int {
	n := len(ev.Body)
	for _, p := range ev.Rest {
		n += len(p)
	}
	return n
}

// sealedEvent is an event on its way into the database.
type sealedEvent struct {
	row  []byte      // of the table event
	blob *store.Blob // holds the JSON; nil when the row does
}

// sealEvent seals an event to the payload key of its day. The blob of a large one is on
// disk when this returns, and is named by nothing before its row is committed: what is
// between the two when the server ends is removed by the sweep.
func (e *Engine) sealEvent(sealer *seal.Sealer, ev *Event, x *store.Execution, now time.Time) (sealedEvent, error) {
	place := lease.EventPlace(x.Customer, x.Event, lease.Day(x.Day))
	plain := ev.Body
	var out sealedEvent
	if x.Size > MaxInlineEvent {
		ref, size, err := e.writeEvent(ev, x, now)
		if err != nil {
			return out, fmt.Errorf("store event: %w", err)
		}
		plain = wire.AppendEventRef(nil, ref)
		out.blob = &store.Blob{ID: ref.Blob, Execution: x.ID, Day: x.Day, Size: size, Chunks: ref.Chunks}
	} else if len(ev.Rest) > 0 {
		plain = bytes.Join(append([][]byte{ev.Body}, ev.Rest...), nil)
	}
	var err error
	if out.row, err = sealer.Seal(nil, now, place, plain); err != nil {
		e.dropEvent(&out)
		return out, fmt.Errorf("seal event: %w", err)
	}
	return out, nil
}

// writeEvent seals the JSON of an event into a blob, a chunk at a time: no second copy of
// it is in memory. It returns the sealed size too.
func (e *Engine) writeEvent(ev *Event, x *store.Execution, now time.Time) (*wire.BlobRef, uint64, error) {
	key, err := seal.RandomStreamKey()
	if err != nil {
		return nil, 0, err
	}
	ref := &wire.BlobRef{Blob: id.NewBlob(now), Key: key.Bytes(), Size: uint64(x.Size), Day: x.Day, ContentType: "application/json"}
	place := lease.BlobPlace(ref.Blob)
	plain, sealed := make([]byte, 0, seal.ChunkSize), make([]byte, 0, seal.ChunkSize+64)
	rest := append([][]byte{ev.Body}, ev.Rest...)
	for {
		plain = plain[:0]
		for len(rest) > 0 && len(plain) < seal.ChunkSize {
			n := min(len(rest[0]), seal.ChunkSize-len(plain))
			plain = append(plain, rest[0][:n]...)
			if rest[0] = rest[0][n:]; len(rest[0]) == 0 {
				rest = rest[1:]
			}
		}
		last := len(rest) == 0
		sealed = key.Seal(sealed[:0], place, plain, ref.Chunks, last)
		size, err := e.blobs.Append(x.Day, ref.Blob, ref.Chunks, last, sealed)
		if err != nil {
			return nil, 0, err
		}
		ref.Chunks++
		if last {
			return ref, size.Bytes, nil
		}
	}
}

// dropEvent removes the blob of an event that was not stored after all.
func (e *Engine) dropEvent(s *sealedEvent) {
	if s.blob == nil {
		return
	}
	if err := e.blobs.Remove(s.blob.Day, s.blob.ID); err != nil {
		e.log.Warn("blob of an event could not be removed; the sweep will", "error", err)
	}
}

// insert writes an event and its execution.
func (s *sealedEvent) insert(c store.CustomerTx, x *store.Execution) error {
	if s.blob != nil {
		if err := c.PutBlob(s.blob, x.Accepted); err != nil {
			return err
		}
	}
	if err := c.InsertEvent(x.Event, x.Day, s.row); err != nil {
		return err
	}
	return c.InsertExecution(x)
}
