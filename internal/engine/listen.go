package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits of what waits for events.
const (
	// maxShapes is how many different lists of places the waits for one trigger of one instance may
	// have at a time, as far as an event is compared with them.
	maxShapes = 64
	// maxResumed is how many waits one event answers.
	maxResumed = 1000
)

// resumedFlow stands in the place of a flow's name where the events are remembered that resumed an
// execution. No flow of a document is called so.
const resumedFlow = "$resumed"

// Arrived is an event of a connector, as far as waits are concerned.
type Arrived struct {
	Customer id.Customer
	Instance id.Instance
	// Connection is whose event it is: every slot counts that has it. Zero: Slot says it.
	Connection id.Connection
	Slot       string
	Trigger    string // of the connector
	Delivery   string // tells repetitions of the event; empty: nothing does
	// Text is what stands at a place of the event.
	Text func(place string) (string, bool)
	// Payload is the answer to a wait: JSON, of at most [MaxCallback] bytes. It is asked for when
	// somebody waits.
	Payload func() ([]byte, error)
}

// Resume answers the waits that an event is for, and says how many. Each answer is sealed to the
// customer and durable when Resume returns without an error. Called again with the same event, it
// answers the waits that were not: an execution that an event resumed before is not resumed by it
// again, whatever it waits for by then.
//
// Errors: ErrTooLarge, or one of the vault or the store.
func (e *Engine) Resume(ctx context.Context, a *Arrived) (int, error) {
	slots := []string{a.Slot}
	if !a.Connection.IsZero() {
		i, err := e.catalog.instance(ctx, a.Customer, a.Instance)
		if err != nil {
			return 0, err
		}
		slots = nil
		for _, s := range i.Slots {
			if s.Connection == a.Connection {
				slots = append(slots, s.Name)
			}
		}
	}
	var list []store.Wait
	for _, slot := range slots {
		found, err := e.listening(ctx, a, slot)
		if err != nil {
			return 0, fmt.Errorf("find waits: %w", err)
		}
		list = append(list, found...)
	}
	if len(list) == 0 {
		return 0, nil
	}
	payload, err := a.Payload()
	if err != nil {
		return 0, err
	}
	if len(payload) > MaxCallback {
		return 0, fmt.Errorf("resume: %w", ErrTooLarge)
	}
	slices.SortStableFunc(list, func(a, b store.Wait) int { return bytes.Compare(a.Execution[:], b.Execution[:]) })
	count := 0
	for len(list) > 0 {
		n := slices.IndexFunc(list, func(w store.Wait) bool { return w.Execution != list[0].Execution })
		if n < 0 {
			n = len(list)
		}
		answered, err := e.resume(ctx, a, list[:n], payload)
		if err != nil {
			return count, fmt.Errorf("resume: %w", err)
		}
		count, list = count+answered, list[n:]
	}
	return count, nil
}

// listening are the open waits that an event of a slot's connection is for.
func (e *Engine) listening(ctx context.Context, a *Arrived, slot string) ([]store.Wait, error) {
	scope, err := e.keys.listenScope(ctx, a.Customer, a.Instance, slot, a.Trigger)
	if err != nil {
		return nil, err
	}
	rows := e.db.Customer(ctx, a.Customer)
	shapes, err := rows.Shapes(scope, maxShapes)
	if err != nil {
		return nil, err
	}
	var list []store.Wait
	for _, shape := range shapes {
		var places []string
		if err := json.Unmarshal([]byte(shape), &places); err != nil {
			return nil, fmt.Errorf("read places: %w", err)
		}
		texts := make([]string, 0, len(places))
		for _, place := range places {
			text, ok := a.Text(place)
			if !ok {
				break
			}
			texts = append(texts, text)
		}
		if len(texts) < len(places) {
			continue
		}
		key, err := e.keys.listenKey(ctx, scope, shape, texts)
		if err != nil {
			return nil, err
		}
		found, err := rows.Listening(key, maxResumed)
		if err != nil {
			return nil, err
		}
		for i := range found {
			found[i].Key = key
		}
		list = append(list, found...)
	}
	return list, nil
}

// resume answers waits of one execution in one transaction.
func (e *Engine) resume(ctx context.Context, a *Arrived, waits []store.Wait, payload []byte) (int, error) {
	x, now := waits[0].Execution, time.Now()
	sealer, err := e.keys.sealer(ctx, a.Customer, lease.Day(waits[0].Day))
	if err != nil {
		return 0, err
	}
	entries := make([]wire.Entry, len(waits))
	for i := range waits {
		entries[i] = wire.Entry{Kind: wire.EntryWake, Path: waits[i].Path, Epoch: uint32(wire.WakeAnswer)}
		if entries[i].Body, err = sealer.Seal(nil, now, lease.EntryPlace(a.Customer, x, &entries[i]), payload); err != nil {
			return 0, err
		}
	}
	var delivery [32]byte
	if a.Delivery != "" {
		if delivery, err = e.keys.resumedIndex(ctx, a.Customer, x, a.Trigger, a.Delivery); err != nil {
			return 0, err
		}
	}
	var got []*woken
	err = e.submit(ctx, func(tx *store.Tx) error {
		got = got[:0]
		rows := tx.Customer(a.Customer)
		if delivery != [32]byte{} {
			_, seen, err := rows.Deduplicate(a.Instance, resumedFlow, delivery, x, now, now.Add(dedupeFor))
			if err != nil || seen {
				return err
			}
		}
		for i := range waits {
			w := &waits[i]
			one, err := e.wake(rows, x, entries[i], now, func(c store.CustomerTx) (bool, error) {
				return c.CloseWaitKey(x, w.Path, w.Key)
			})
			if err != nil {
				return err
			}
			if one != nil {
				got = append(got, one)
			}
		}
		return nil
	}, func() {
		for _, w := range got {
			e.woke(w)
		}
	})
	return len(got), err
}

// prepareListens makes the blind indexes of the waits of an append. False means that the append
// cannot be committed and the execution was dealt with.
func (e *Engine) prepareListens(ctx context.Context, c *commit, j *job) bool {
	for i := range c.m.Waits {
		w := &c.m.Waits[i]
		if w.Kind != wire.WaitEvent {
			continue
		}
		if !e.keys.indexes() {
			e.lose(j, interruptStore) // the vault has not given the key yet
			return false
		}
		body, err := e.keys.labels.Open(nil, lease.ListenPlace(j.customer, j.execution, w.Path), w.Listen)
		var m wire.Listen
		if err == nil {
			err = wire.ParseBody(body, &m)
		}
		if err != nil || !sound(&m) {
			e.end(j.customer, j.execution, "limit", "what it waits for was not sealed to this server, or is no event")
			return false
		}
		l, err := e.keys.listener(ctx, j.customer, j.instance, &m)
		if err != nil {
			e.log.WarnContext(ctx, "wait cannot be indexed", "execution", j.execution, "error", err)
			e.lose(j, interruptStore)
			return false
		}
		if c.listens == nil {
			c.listens = make([]*store.Listener, len(c.m.Waits))
		}
		c.listens[i] = l
	}
	return true
}

// sound reports whether what a wait listens for is within the limits, with each place once and in order.
func sound(m *wire.Listen) bool {
	if m.Slot == "" || m.Trigger == "" || len(m.Terms) > wire.MaxTerms {
		return false
	}
	for i, t := range m.Terms {
		if len(t.Place) > wire.MaxTermText || len(t.Text) > wire.MaxTermText || i > 0 && m.Terms[i-1].Place >= t.Place {
			return false
		}
	}
	return true
}

// putWaits registers the waits of an append.
func (c *commit) putWaits(rows store.CustomerTx) error {
	for i := range c.m.Waits {
		var err error
		if c.listens != nil && c.listens[i] != nil {
			err = rows.PutListener(c.m.Execution, &c.m.Waits[i], c.listens[i])
		} else {
			err = rows.PutWait(c.m.Execution, &c.m.Waits[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// listener is how a wait for an event is stored.
func (k *keys) listener(ctx context.Context, c id.Customer, i id.Instance, m *wire.Listen) (*store.Listener, error) {
	places, texts := make([]string, 0, len(m.Terms)), make([]string, 0, len(m.Terms))
	for _, t := range m.Terms {
		places, texts = append(places, t.Place), append(texts, t.Text)
	}
	shape, err := json.Marshal(places)
	if err != nil {
		return nil, err
	}
	l := &store.Listener{Shape: string(shape)}
	if l.Scope, err = k.listenScope(ctx, c, i, m.Slot, m.Trigger); err != nil {
		return nil, err
	}
	l.Key, err = k.listenKey(ctx, l.Scope, l.Shape, texts)
	return l, err
}

// listenScope is the blind index of a trigger through a slot of an instance of a customer: no
// event of another is found by it.
func (k *keys) listenScope(ctx context.Context, c id.Customer, i id.Instance, slot, trigger string) ([32]byte, error) {
	return k.index(ctx, []byte("listen/1"), c[:], i[:], []byte(slot), []byte(trigger))
}

// listenKey is the blind index of what stands at the places of an event.
func (k *keys) listenKey(ctx context.Context, scope [32]byte, shape string, texts []string) ([32]byte, error) {
	parts := [][]byte{[]byte("listen-key/1"), scope[:], []byte(shape)}
	for _, t := range texts {
		parts = append(parts, []byte(t))
	}
	return k.index(ctx, slices.Clip(parts)...)
}

// resumedIndex is how it is remembered that an event resumed an execution.
func (k *keys) resumedIndex(ctx context.Context, c id.Customer, x id.Execution, trigger, delivery string) ([32]byte, error) {
	return k.index(ctx, []byte("resumed/1"), c[:], x[:], []byte(trigger), []byte(delivery))
}
