package engine

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// canaries are what must never be found on disk, one per road into the database.
var canaries = []string{
	"CANARY-event-7f3a91", "CANARY-callback-0b5d22", "CANARY-label-c41e08", "CANARY-delivery-99aa37", "CANARY-order-5e6b10",
	"CANARY-config-d2c7f4", "CANARY-secret-18e0b3", "CANARY-token-a5a5c9",
}

// found counts the canaries in a directory: raw, hex and base64 in its three alignments.
func found(t *testing.T, dir string) (hits []string, bytesRead int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		bytesRead += len(content)
		for _, c := range canaries {
			needles := [][]byte{[]byte(c), []byte(hex.EncodeToString([]byte(c)))}
			for shift := range 3 {
				enc := base64.StdEncoding.EncodeToString(append(make([]byte, shift), c...))
				needles = append(needles, []byte(enc[4:len(enc)-4]))
			}
			for _, n := range needles {
				if bytes.Contains(content, n) {
					hits = append(hits, filepath.Base(path)+": "+c)
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hits, bytesRead
}

func TestTheDatabaseHoldsNoPlaintext(t *testing.T) {
	t.Parallel()
	sqliteOnly(t, "it searches the files of SQLite; what is sealed does not depend on the engine")
	b := newBench(t)
	n := b.tenant("c1")
	ctx := context.Background()
	con := id.NewConnection(time.Now())
	err := b.e.PutConnection(ctx, &Credential{
		Connection: store.Connection{ID: con, Customer: n.customer, Name: "erp"},
		Record: &lease.Record{
			Connector: "http", Kind: lease.KindBearer, Binding: lease.Binding{Scheme: "https", Host: "erp.example.com", Port: 443},
			Fields: []lease.Field{{Name: "token", Secret: []byte(canaries[6])}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := b.vault.records[con]; r == nil || r.Connection != con || string(r.Fields[0].Secret) != canaries[6] {
		t.Errorf("the vault got %+v", r)
	}
	if _, err := b.e.Deploy(ctx, &Deployment{Customer: n.customer, Instance: n.instance, Digest: n.digest, Config: []byte(`{"k":"` + canaries[5] + `"}`)}); err != nil {
		t.Fatal(err)
	}
	r := b.runner()
	r.want(5)
	got, err := b.e.Accept(ctx, &Event{
		Customer: n.customer, Instance: n.instance, Flow: "main", Body: []byte(`{"body":"` + canaries[0] + `"}`),
		Delivery: canaries[3], OrderKey: canaries[4],
	})
	if err != nil {
		t.Fatal(err)
	}
	u := r.dispatch()[0]
	place := lease.LabelPlace(n.customer, u.Execution, "order")
	value, err := seal.NewSealer(b.opt.Key.Public(), lease.PurposeServer).Seal(nil, time.Now(), place, []byte(canaries[2]))
	if err != nil {
		t.Fatal(err)
	}
	r.append(&wire.Append{Execution: u.Execution, Fence: u.Fence, Labels: []wire.Label{{Name: "order", Sealed: []byte("sealed"), Value: value}}})
	r.callback(u, "ask", canaries[7], time.Now().Add(time.Hour))
	if err := b.e.Wake(ctx, canaries[7], []byte(`"`+canaries[1]+`"`)); err != nil {
		t.Fatal(err)
	}
	next(r, &wire.Wake{})
	r.finish(u)
	if hits, size := found(t, b.dir); len(hits) > 0 || size == 0 {
		t.Errorf("found in %d bytes: %v", size, hits)
	}
	// The label can be found by its value, and only by its own customer.
	index, err := b.e.keys.labelIndex(ctx, n.customer, "order", []byte(canaries[2]))
	if err != nil {
		t.Fatal(err)
	}
	list, err := b.opt.Store.Customer(ctx, n.customer).Labelled(index, 10)
	if err != nil || len(list) != 1 || list[0] != got.Execution {
		t.Errorf("labelled = %v, %v", list, err)
	}
	other := b.tenant("c2")
	foreign, err := b.e.keys.labelIndex(ctx, other.customer, "order", []byte(canaries[2]))
	if err != nil || foreign == index {
		t.Errorf("two customers share an index: %v", err)
	}
	b.stop()
	if hits, _ := found(t, b.dir); len(hits) > 0 {
		t.Errorf("found after the end: %v", hits)
	}
}

// The same search finds what was stored without sealing: the test can fail.
func TestTheSearchFindsUnsealedEvents(t *testing.T) {
	t.Parallel()
	sqliteOnly(t, "it searches the files of SQLite; what is sealed does not depend on the engine")
	b := newBench(t)
	n := b.tenant("c1")
	for _, body := range []string{canaries[0], base64.StdEncoding.EncodeToString([]byte("x" + canaries[1])), hex.EncodeToString([]byte(canaries[2]))} {
		err := b.opt.Store.Write(context.Background(), func(tx *store.Tx) error {
			return tx.Customer(n.customer).InsertEvent(id.NewEvent(time.Now()), 1, []byte(body))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if hits, _ := found(t, b.dir); len(hits) < 3 {
		t.Errorf("found only %v", hits)
	}
}

func TestALabelThatWasNotSealedHereFaults(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(5)
	x := b.accept(n, "main", `{}`)
	u := r.dispatch()[0]
	moved, err := seal.NewSealer(b.opt.Key.Public(), lease.PurposeServer).Seal(nil, time.Now(), lease.LabelPlace(n.customer, x, "other"), []byte("v"))
	if err != nil {
		t.Fatal(err)
	}
	r.send(&wire.Append{Execution: x, Fence: u.Fence, Labels: []wire.Label{{Name: "order", Value: moved}}})
	next(r, &wire.Cancel{})
	if row := b.row(n, x); row.Status != store.Faulted {
		t.Errorf("it is %v", row.Status)
	}
}

func TestDuplicatesAreDropped(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n, other := b.tenant("c1"), b.tenant("c2")
	ctx := context.Background()
	deliver := func(n tenant, flow, delivery string) Accepted {
		t.Helper()
		got, err := b.e.Accept(ctx, &Event{Customer: n.customer, Instance: n.instance, Flow: flow, Body: []byte(`{}`), Delivery: delivery})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := deliver(n, "main", "d1")
	if again := deliver(n, "main", "d1"); !again.Duplicate || again.Execution != first.Execution {
		t.Errorf("second delivery = %+v, want a duplicate of %v", again, first.Execution)
	}
	b.restart()
	if again := deliver(n, "main", "d1"); !again.Duplicate || again.Execution != first.Execution {
		t.Errorf("delivery after a restart = %+v", again)
	}
	for name, got := range map[string]Accepted{
		"another id": deliver(n, "main", "d2"), "another flow": deliver(n, "short", "d1"), "another customer": deliver(other, "main", "d1"),
		"no id": deliver(n, "main", ""),
	} {
		if got.Duplicate {
			t.Errorf("%s was dropped", name)
		}
	}
}

func TestAVaultThatIsDownLosesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	x := b.accept(n, "main", `{}`)
	b.vault.mu.Lock()
	b.vault.down = true
	b.vault.mu.Unlock()
	// The public half is known: events of that day are accepted on.
	y := b.accept(n, "main", `{}`)
	if _, err := b.e.Accept(context.Background(), &Event{Customer: n.customer, Instance: n.instance, Flow: "short", Body: []byte(`{}`)}); err == nil {
		t.Error("an event was accepted that could not be sealed")
	}
	r := b.runner()
	r.want(5)
	got := r.dispatch()
	for len(got) < 2 {
		got = append(got, r.dispatch()...)
	}
	for _, u := range got {
		if u.Execution != x && u.Execution != y {
			t.Errorf("%v was given out", u.Execution)
		}
		r.finish(u)
	}
}

func TestForeignIdsAreNotFound(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n, other := b.tenant("c1"), b.tenant("c2")
	ctx := context.Background()
	x := b.accept(n, "main", `{}`)
	if _, err := b.e.Execution(ctx, other.customer, x); !errors.Is(err, ErrNotFound) {
		t.Errorf("execution of another: %v", err)
	}
	if err := b.e.SetInstanceState(ctx, other.customer, n.instance, store.InstancePaused); !errors.Is(err, ErrNotFound) {
		t.Errorf("instance of another: %v", err)
	}
	con := id.NewConnection(time.Now())
	record := &lease.Record{Connector: "http", Kind: lease.KindNone}
	if err := b.e.PutConnection(ctx, &Credential{Connection: store.Connection{ID: con, Customer: n.customer}, Record: record}); err != nil {
		t.Fatal(err)
	}
	if err := b.e.DeleteConnection(ctx, other.customer, con, ""); !errors.Is(err, ErrNotFound) || b.vault.deleted > 0 {
		t.Errorf("connection of another: %v", err)
	}
	if err := b.e.DeleteConnection(ctx, n.customer, con, ""); err != nil || b.vault.deleted != 1 {
		t.Errorf("own connection: %v", err)
	}
	if err := b.e.DeleteConnection(ctx, n.customer, con, ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted connection: %v", err)
	}
	if _, err := b.e.Deploy(ctx, &Deployment{Customer: other.customer, Instance: n.instance, Digest: n.digest}); err == nil {
		t.Error("the instance of another was deployed")
	}
	if _, err := b.e.Accept(ctx, &Event{Customer: n.customer, Instance: n.instance, Flow: "main"}); err != nil {
		t.Errorf("after that its owner cannot use it: %v", err)
	}
	if _, err := b.e.Deploy(ctx, &Deployment{Customer: other.customer, Digest: [32]byte{1}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("deployment of an unknown version: %v", err)
	}
	if _, err := b.e.Deploy(ctx, &Deployment{Customer: other.customer, Digest: n.digest, Slots: []store.Slot{{Name: "erp"}}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("deployment with an unknown slot: %v", err)
	}
}
