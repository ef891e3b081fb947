package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// connected is an instance with one connection.
func (b *bench) connected(n tenant, name string) (id.Instance, id.Connection) {
	b.t.Helper()
	ctx := context.Background()
	i := definition()
	i.Name, i.Connections = name, []flow.Slot{{Name: "erp", Connector: flow.ConnectorHTTP}}
	canonical, err := i.Encode()
	if err != nil {
		b.t.Fatal(err)
	}
	v, err := b.e.Publish(ctx, b.org, canonical)
	if err != nil {
		b.t.Fatal(err)
	}
	con := id.NewConnection(time.Now())
	err = b.e.PutConnection(ctx, &Credential{
		Connection: store.Connection{ID: con, Customer: n.customer, Name: "erp"},
		Record:     &lease.Record{Connector: "http", Kind: lease.KindNone, Binding: lease.Binding{Scheme: "https", Host: "erp.example.com", Port: 443}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	x, err := b.e.Deploy(ctx, &Deployment{Customer: n.customer, Digest: v.Digest, Slots: []store.Slot{{Name: "erp", Connection: con}}})
	if err != nil {
		b.t.Fatal(err)
	}
	return x.ID, con
}

// A database that was restored knows things that the keystore does not, and the other way
// round. Each gets a state that says what to do.
func TestDatabaseAndKeystoreDisagree(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := context.Background()
	fine, behind, gone := b.tenant("fine"), b.tenant("behind"), b.tenant("gone")
	deletedUser, deleted := b.connected(fine, "deleted")
	unknownUser, unknown := b.connected(fine, "unknown")
	b.stopEngine() // else what is to be removed may be gone before it is looked at
	stateOf := func(c id.Customer, i id.Instance) store.InstanceState {
		t.Helper()
		x, err := b.opt.Store.Customer(ctx, c).Instance(i)
		if err != nil {
			t.Fatal(err)
		}
		return x.State
	}
	if err := b.e.reconcile(ctx); err != nil {
		t.Fatal(err)
	}
	for _, x := range []tenant{fine, behind, gone} {
		if got := stateOf(x.customer, x.instance); got != store.InstanceEnabled {
			t.Errorf("while all agrees: %s", got)
		}
	}
	b.vault.mu.Lock()
	b.vault.versions[behind.instance]++
	b.vault.gone[gone.instance], b.vault.gone[deleted] = true, true
	delete(b.vault.records, unknown)
	b.vault.mu.Unlock()
	if err := b.e.reconcile(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		customer id.Customer
		instance id.Instance
		want     store.InstanceState
	}{
		{fine.customer, fine.instance, store.InstanceEnabled},
		{behind.customer, behind.instance, store.InstanceNeedsConfig},
		{gone.customer, gone.instance, store.InstanceRemoving},
		{fine.customer, deletedUser, store.InstanceNeedsConnection},
		{fine.customer, unknownUser, store.InstanceNeedsConnection},
	} {
		if got := stateOf(c.customer, c.instance); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
	rows := b.opt.Store.Customer(ctx, fine.customer)
	if _, err := rows.Connection(deleted); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the deleted connection: %v", err)
	}
	if _, err := rows.Connection(unknown); err != nil {
		t.Errorf("the unknown connection: %v", err)
	}
	_, err := b.e.Accept(ctx, &Event{Customer: behind.customer, Instance: behind.instance, Flow: "main", Body: []byte(`{}`)})
	if !errors.Is(err, ErrNotEnabled) {
		t.Errorf("an event for an instance that needs config: %v", err)
	}
	// Config that is entered again ends it.
	if _, err := b.e.Deploy(ctx, &Deployment{Customer: behind.customer, Instance: behind.instance, Digest: behind.digest}); err != nil {
		t.Fatal(err)
	}
	if err := b.e.reconcile(ctx); err != nil {
		t.Fatal(err)
	}
	if got := stateOf(behind.customer, behind.instance); got != store.InstanceEnabled {
		t.Errorf("with new config: %s", got)
	}
}

// lateVault does something before an answer of the vault arrives.
type lateVault struct {
	Vault
	late func(op string)
}

// Call implements Vault.
func (v *lateVault) Call(ctx context.Context, op string, body []byte) ([]byte, error) {
	answer, err := v.Vault.Call(ctx, op, body)
	v.late(op)
	return answer, err
}

// A deployment has the vault count before the row says so. Who compares the two meanwhile
// changes nothing.
func TestADeploymentIsNoDisagreement(t *testing.T) {
	t.Parallel()
	asked, done := make(chan struct{}, 1), make(chan error, 1)
	var deploying atomic.Bool
	var b *bench
	late := func(op string) {
		switch {
		case op == lease.OpVersions && deploying.Load():
			select {
			case asked <- struct{}{}:
			default:
			}
		case op == lease.OpInstance && deploying.Load():
			go func() { done <- b.e.reconcile(context.Background()) }()
			<-asked
			select { // without a turn it comes to its end in the middle of this deployment
			case err := <-done:
				done <- err
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	b = newBench(t, func(o *Options) { o.Vault = &lateVault{o.Vault, late} })
	n := b.tenant("c1")
	deploying.Store(true)
	x, err := b.e.Deploy(t.Context(), &Deployment{Customer: n.customer, Instance: n.instance, Digest: n.digest, InFlightCap: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := b.instance(n); got.State != store.InstanceEnabled || got.Revision != x.Revision || got.Revision != 2 {
		t.Errorf("after it the instance is %s of revision %d, want it enabled and changed by nobody else", got.State, got.Revision)
	}
}

// What holds an instance is its newest state, in whatever order two changes become known.
func TestAnOlderChangeHoldsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	older := b.instance(n)
	older.State = store.InstanceNeedsConfig
	newer := *older
	newer.State, newer.Revision, newer.InFlightCap = store.InstanceEnabled, older.Revision+1, 2
	b.e.changed(&newer)
	b.e.changed(older)
	b.e.mu.Lock()
	defer b.e.mu.Unlock()
	if b.e.queue.held[n.instance] || b.e.queue.caps[n.instance] != 2 {
		t.Errorf("held: %v, cap %d; want the newer state", b.e.queue.held[n.instance], b.e.queue.caps[n.instance])
	}
}

// What was pending for an instance that lacks config waits until it has some, also
// after a restart.
func TestPendingExecutionsWaitForConfig(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	x := b.accept(n, "main", `{}`)
	b.vault.mu.Lock()
	b.vault.versions[n.instance]++
	b.vault.mu.Unlock()
	if err := b.e.reconcile(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.restart()
	r := b.runner()
	r.want(5)
	other := b.tenant("c2")
	y := b.accept(other, "main", `{}`)
	if got := r.dispatch(); len(got) != 1 || got[0].Execution != y {
		t.Errorf("dispatched %+v", got)
	}
	if _, err := b.e.Deploy(context.Background(), &Deployment{Customer: n.customer, Instance: n.instance, Digest: n.digest}); err != nil {
		t.Fatal(err)
	}
	if got := r.dispatch(); len(got) != 1 || got[0].Execution != x {
		t.Errorf("dispatched %+v", got)
	}
}
