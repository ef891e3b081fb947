package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// world is two customers, of whom the first has one of everything.
type world struct {
	s            *Store
	org          id.Org
	owner, other id.Customer
	integration  id.Integration
	instance     id.Instance
	connection   id.Connection
	execution    *Execution
	blob         id.Blob
}

func (w *world) write(t *testing.T, fn func(CustomerTx) error) {
	t.Helper()
	if err := w.s.Write(context.Background(), func(tx *Tx) error { return fn(tx.Customer(w.owner)) }); err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T, o Options) *world {
	t.Helper()
	return fill(t, open(t, o))
}

func fill(t *testing.T, s *Store) *world {
	t.Helper()
	w := &world{
		s: s, org: id.NewOrg(at()), owner: id.NewCustomer(at()), other: id.NewCustomer(at()), instance: id.NewInstance(at()),
		connection: id.NewConnection(at()), blob: id.NewBlob(at()),
	}
	org := w.org
	v := &Version{Integration: id.NewIntegration(at()), Digest: [32]byte{1}, Profile: 1, Definition: []byte("{}")}
	err := w.s.Write(context.Background(), func(tx *Tx) error {
		system := tx.System()
		if err := system.PutOrganization(&Organization{ID: org, Name: "acme"}, at()); err != nil {
			return err
		}
		for i, c := range []id.Customer{w.owner, w.other} {
			if kept, err := system.PutCustomer(&CustomerRow{ID: c, Organization: org, ExternalID: fmt.Sprint(i)}, at()); err != nil || kept != c {
				return fmt.Errorf("kept %v: %w", kept, err)
			}
		}
		return system.Publish(org, "sample", v, at())
	})
	if err != nil {
		t.Fatal(err)
	}
	w.integration = v.Integration
	w.execution = &Execution{
		Customer: w.owner, ID: id.NewExecution(at()), Instance: w.instance, Digest: v.Digest, Flow: "main", Trigger: "manual",
		Event: id.NewEvent(at()), EventSource: "source", EventType: "type", Status: Running, Fence: 3, Runner: id.NewNode(at()),
		LeaseUntil: at().Add(time.Second), Priority: 5, OrderKey: [32]byte{9}, Seed: [16]byte{8}, Test: true, Accepted: at(),
		Started: at().Add(time.Millisecond), Expires: at().Add(time.Hour), Day: 20_000, Retention: time.Hour,
		Cause: CauseTrigger, EgressPool: "eu", RunnerPool: "big", Account: [32]byte{7}, Batch: id.NewEvent(at()),
	}
	w.execution.Root = w.execution.ID
	x := w.execution.ID
	w.write(t, func(c CustomerTx) error {
		return errors.Join(
			c.PutConnection(&Connection{ID: w.connection, Name: "erp", Connector: "http", Kind: "none", Host: "h", RecordVersion: 2}, at()),
			c.PutInstance(&Instance{
				ID: w.instance, Integration: w.integration, Digest: v.Digest, State: InstanceEnabled, Config: []byte("c"), ConfigVersion: 4,
				Slots: []Slot{{"erp", w.owner, w.connection}},
			}, at()),
			c.InsertEvent(w.execution.Event, 20_000, []byte("event")),
			c.InsertExecution(w.execution),
			c.PutWait(x, &wire.Wait{Path: "w", Kind: wire.WaitCallback, Key: [32]byte{1}, At: at().Add(time.Minute)}),
			c.PutWait(x, &wire.Wait{Path: "c", Kind: wire.WaitChild, Child: id.Execution{7}}),
			c.PutLabel(x, "order", [32]byte{2}, 20_000, []byte("label")),
			c.PutBlob(&Blob{ID: w.blob, Execution: x, Day: 20_000, Size: 1, Chunks: 1}, at()),
			c.InsertEntries(x, []wire.Entry{{Kind: wire.EntryClock, Path: "a"}}, 1, 20_000, at()),
		)
	})
	w.write(t, func(c CustomerTx) error {
		_, err := c.PutWake(x, &wire.Entry{Path: "w", Epoch: uint32(wire.WakeTimer)}, at())
		if err != nil {
			return err
		}
		_, _, err = c.ChangeState(w.instance, &wire.State{Op: wire.StatePut, Name: [32]byte{3}, Value: []byte("state")}, at())
		return err
	})
	return w
}

func TestExecutionRoundTrip(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		got, err := w.s.Customer(context.Background(), w.owner).Execution(w.execution.ID)
		if err != nil {
			t.Fatal(err)
		}
		want := *w.execution
		want.Wakes, want.Size = 1, 1 // the wake that was put first
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("execution differs:\n%s", diff)
		}
		i, err := w.s.Customer(context.Background(), w.owner).Instance(w.instance)
		if err != nil || i.ConfigVersion != 4 || len(i.Slots) != 1 || i.Slots[0].Connection != w.connection || i.Revision != 1 {
			t.Errorf("instance = %+v, %v", i, err)
		}
	})
}

// Whatever a customer's handle is asked about another's ids, it finds and changes nothing.
func TestAHandleSeesItsOwnCustomerOnly(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		checkHandles(t, newWorld(t, o))
	})
}

func checkHandles(t *testing.T, w *world) {
	t.Helper()
	x, finish := w.execution.ID, &wire.Finish{Status: wire.StatusCompleted}
	reads := map[string]func(c Customer) (found bool, err error){
		"Execution":  func(c Customer) (bool, error) { _, err := c.Execution(x); return err == nil, err },
		"Event":      func(c Customer) (bool, error) { _, err := c.Event(w.execution.Event); return err == nil, err },
		"Instance":   func(c Customer) (bool, error) { _, err := c.Instance(w.instance); return err == nil, err },
		"Connection": func(c Customer) (bool, error) { _, err := c.Connection(w.connection); return err == nil, err },
		"Blob":       func(c Customer) (bool, error) { _, err := c.Blob(w.blob); return err == nil, err },
		"Journal":    func(c Customer) (bool, error) { l, err := c.Journal(x); return len(l) > 0, err },
		"Wakes":      func(c Customer) (bool, error) { l, err := c.Wakes(x); return len(l) > 0, err },
		"JournalAfter": func(c Customer) (found bool, err error) {
			err = c.JournalAfter(x, 0, 9, 999, func(e *wire.Entry, leftOut bool) error { found = !leftOut && e.Path == "a"; return nil })
			return found, err
		},
		"JournalEntries": func(c Customer) (found bool, err error) {
			err = c.JournalEntries(x, []uint32{1, 7}, func(e *wire.Entry) error { found = e.Seq == 1; return nil })
			return found, err
		},
		"WakeHeads": func(c Customer) (bool, error) { l, _, err := c.WakeHeads(x); return len(l) == 1 && l[0].Seq == 1, err },
		"WakesByNumber": func(c Customer) (found bool, err error) {
			err = c.WakesByNumber(x, []uint32{1, 7}, func(e *wire.Entry) error { found = e.Seq == 1 && e.Path == "w"; return nil })
			return found, err
		},
		"Labelled": func(c Customer) (bool, error) { l, err := c.Labelled([32]byte{2}, 9); return len(l) > 0, err },
		"State":    func(c Customer) (bool, error) { v, err := c.State(w.instance, [32]byte{3}); return v.Version > 0, err },
		"Holds":    func(c Customer) (bool, error) { return c.Holds(x, 3) },
	}
	for name, read := range reads {
		if found, err := read(w.s.Customer(context.Background(), w.owner)); !found || err != nil {
			t.Errorf("%s by the owner: %v, %v", name, found, err)
		}
		if found, err := read(w.s.Customer(context.Background(), w.other)); found || err != nil && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s by another: %v, %v", name, found, err)
		}
	}
	writes := map[string]func(c CustomerTx) error{
		"Lease":            func(c CustomerTx) error { return c.Lease(x, 3, id.NewNode(at()), at(), at()) },
		"Interrupt":        func(c CustomerTx) error { _, err := c.Interrupt(x, 3, "crash", true); return err },
		"End":              func(c CustomerTx) error { _, err := c.End(x, finish, at()); return err },
		"Advance":          func(c CustomerTx) error { _, _, err := c.Advance(x, 3, make([]wire.Entry, 1)); return err },
		"Finish":           func(c CustomerTx) error { _, err := c.Finish(x, 3, make([]wire.Entry, 1), finish, at()); return err },
		"PutWake":          func(c CustomerTx) error { _, err := c.PutWake(x, &wire.Entry{}, at()); return err },
		"CloseWaitChild":   func(c CustomerTx) error { return mustClose(c.CloseWaitChild(x, "c", id.Execution{7})) },
		"CloseWaitKey":     func(c CustomerTx) error { return mustClose(c.CloseWaitKey(x, "w", [32]byte{1})) },
		"CloseWaitAt":      func(c CustomerTx) error { return mustClose(c.CloseWaitAt(x, "w", at().Add(time.Minute))) },
		"SetInstanceState": func(c CustomerTx) error { return c.SetInstanceState(w.instance, InstancePaused, at()) },
		"DeleteConnection": func(c CustomerTx) error { return c.DeleteConnection(w.connection, "deleted", at()) },
	}
	for name, write := range writes {
		err := w.s.Write(context.Background(), func(tx *Tx) error { return write(tx.Customer(w.other)) })
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s by another: %v, want ErrNotFound", name, err)
		}
	}
	got, err := w.s.Customer(context.Background(), w.owner).Execution(x)
	want := *w.execution
	want.Wakes, want.Size = 1, 1 // the wake that was put first
	if diff := cmp.Diff(&want, got); diff != "" || err != nil {
		t.Errorf("another customer changed it: %v\n%s", err, diff)
	}
}

// mustClose makes a wait that was not open an ErrNotFound.
func mustClose(open bool, err error) error {
	if err == nil && !open {
		return ErrNotFound
	}
	return err
}

func TestPutCustomerKeepsTheFirstId(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		s := open(t, o)
		org := id.NewOrg(at())
		first, second := id.NewCustomer(at()), id.NewCustomer(at())
		put := func(c id.Customer, weight uint32) (kept id.Customer) {
			err := s.Write(context.Background(), func(tx *Tx) (err error) {
				if err := tx.System().PutOrganization(&Organization{ID: org}, at()); err != nil {
					return err
				}
				kept, err = tx.System().PutCustomer(&CustomerRow{ID: c, Organization: org, ExternalID: "acme", Weight: weight}, at())
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return kept
		}
		if put(first, 1) != first || put(second, 7) != first {
			t.Error("the same external id got two ids")
		}
		weights, err := s.System(context.Background()).Weights()
		if err != nil || weights[first] != 7 {
			t.Errorf("weights = %v, %v", weights, err)
		}
	})
}

func TestShardClaims(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		s := open(t, o)
		a, b := id.NewNode(at()), id.NewNode(at())
		claim := func(server id.Node, now time.Time) (fence uint64, err error) {
			err = s.Write(context.Background(), func(tx *Tx) (err error) {
				if err := tx.System().PrepareShards(); err != nil {
					return err
				}
				list, err := tx.System().ClaimShards(server, now, now.Add(time.Minute))
				switch {
				case err != nil:
				case len(list) == 0:
					err = ErrNotFound
				case len(list) != Shards:
					err = errors.New("some of the shards")
				default:
					fence = list[5].Fence
				}
				return err
			})
			return fence, err
		}
		steps := []struct {
			server id.Node
			after  time.Duration
			fence  uint64
			want   error
		}{
			{a, 0, 1, nil},
			{b, time.Second, 0, ErrNotFound},
			{a, 30 * time.Second, 1, nil}, // renewed
			{b, 80 * time.Second, 0, ErrNotFound},
			{b, 91 * time.Second, 2, nil}, // lapsed
			{a, 92 * time.Second, 0, ErrNotFound},
		}
		ctx := context.Background()
		for i, step := range steps {
			if fence, err := claim(step.server, at().Add(step.after)); !errors.Is(err, step.want) || fence != step.fence {
				t.Errorf("claim %d: fence %d, %v, want %d, %v", i, fence, err, step.fence, step.want)
			}
		}
		if list, err := s.System(ctx).ShardHolders(); err != nil || len(list) != 1 || list[0] != b {
			t.Errorf("holders = %v, %v, want %v", list, err, b)
		}
		if err := s.Write(ctx, func(tx *Tx) error { return tx.System().EndClaims(b) }); err != nil {
			t.Fatal(err)
		}
		if fence, err := claim(a, at().Add(93*time.Second)); err != nil || fence != 3 {
			t.Errorf("claim of what was given up: fence %d, %v", fence, err)
		}
	})
}

func TestWhatOtherServersChanged(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		system, x := w.s.System(t.Context()), w.execution.ID
		got, err := system.OpenExecution(w.owner, x)
		if err != nil || got.Execution != x || got.Customer != w.owner || got.Fence != w.execution.Fence {
			t.Errorf("execution = %+v, %v", got, err)
		}
		if _, err := system.OpenExecution(w.other, x); !errors.Is(err, ErrNotFound) {
			t.Errorf("execution of another customer: %v", err)
		}
		list, err := system.ChangedInstances(time.Time{})
		if err != nil || !slices.ContainsFunc(list, func(c ChangedInstance) bool { return c.Instance == w.instance && c.Revision == 1 && !c.Removed }) {
			t.Errorf("changed = %+v, %v", list, err)
		}
		if list, err = system.ChangedInstances(time.Now().Add(1000 * time.Hour)); err != nil || len(list) != 0 {
			t.Errorf("changed in the future = %+v, %v", list, err)
		}
	})
}

func TestStateHasABoundOfNames(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		put := func(tx *Tx, n int, version uint64) error {
			m := &wire.State{Op: wire.StatePut, Name: [32]byte{31: 1, 0: byte(n >> 8), 1: byte(n)}, Version: version, Value: []byte("v")}
			_, _, err := tx.Customer(w.owner).ChangeState(w.instance, m, at())
			return err
		}
		count := 0
		if err := w.s.System(t.Context()).q.row(`SELECT COUNT(*) FROM state WHERE instance_id = $1`, []any{w.instance[:]}, &count); err != nil {
			t.Fatal(err)
		}
		err := w.s.Write(t.Context(), func(tx *Tx) error {
			for n := range MaxStateNames - count {
				if err := tx.Customer(w.owner).tx.send(`
					INSERT INTO state (customer_id, instance_id, name_hash, version, present, body, changed)
					VALUES ($1, $2, $3, 1, TRUE, $3, 1)`, w.owner[:], w.instance[:], slices.Concat([]byte{byte(n >> 8), byte(n)}, make([]byte, 29), []byte{1})); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.s.Write(t.Context(), func(tx *Tx) error { return put(tx, MaxStateNames, 0) }); !errors.Is(err, ErrTooMany) {
			t.Errorf("one name more: %v", err)
		}
		if err := w.s.Write(t.Context(), func(tx *Tx) error { return put(tx, 7, 1) }); err != nil {
			t.Errorf("a change of one that there is: %v", err)
		}
	})
}
