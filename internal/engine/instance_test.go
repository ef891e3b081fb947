package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// publish makes a version of an integration.
func (b *bench) publish(i *flow.Integration) [32]byte {
	b.t.Helper()
	canonical, err := i.Encode()
	if err != nil {
		b.t.Fatal(err)
	}
	v, err := b.e.Publish(b.t.Context(), b.org, canonical)
	if err != nil {
		b.t.Fatal(err)
	}
	return v.Digest
}

func (b *bench) instance(n tenant) *store.Instance {
	b.t.Helper()
	x, err := b.opt.Store.Customer(b.t.Context(), n.customer).Instance(n.instance)
	if err != nil {
		b.t.Fatal(err)
	}
	return x
}

// stateBecomes waits until an instance has a state.
func (b *bench) stateBecomes(n tenant, want store.InstanceState) {
	b.t.Helper()
	for late := time.Now().Add(patience); b.instance(n).State != want; b.settle() {
		if time.Now().After(late) {
			b.t.Fatalf("the instance is %v, want %v", b.instance(n).State, want)
		}
	}
}

// newer is definition with another step, and what a test adds.
func newer(change func(*flow.Integration)) *flow.Integration {
	i := definition()
	i.Flows[0].Steps = []flow.Step{{ID: "b", Set: &flow.Value{Kind: flow.Number, Text: "2"}}}
	if change != nil {
		change(i)
	}
	return i
}

func TestUpgradeAndRollBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	ctx := t.Context()
	r := b.runner()
	r.want(2)
	x := b.accept(n, "main", `{}`)
	u := r.dispatch()[0]
	second := b.publish(newer(nil))
	if _, err := b.e.RollBack(ctx, n.customer, n.instance, 0); !errors.Is(err, ErrConflict) {
		t.Errorf("roll back before any upgrade: %v", err)
	}
	if _, err := b.e.Upgrade(ctx, n.customer, n.instance, second, 7); !errors.Is(err, ErrConflict) {
		t.Errorf("with another revision: %v", err)
	}
	was := b.instance(n)
	got, err := b.e.Upgrade(ctx, n.customer, n.instance, second, was.Revision)
	if err != nil {
		t.Fatal(err)
	}
	if now := b.instance(n); now.Digest != second || now.Previous != n.digest || now.ConfigVersion != was.ConfigVersion || now.Revision != got.Revision || got.Revision != was.Revision+1 {
		t.Errorf("after the upgrade: %+v", now)
	}
	if b.row(n, x).Digest != n.digest {
		t.Error("what has begun changed its version")
	}
	r.finish(u)
	y := b.accept(n, "main", `{}`)
	if d := next(r, &wire.Dispatch{}); d.Definition != second || d.Unit.Executions[0].Execution != y {
		t.Errorf("after the upgrade: %+v", d)
	}
	if err := b.e.SetInstanceState(ctx, n.customer, n.instance, store.InstancePaused); err != nil {
		t.Fatal(err)
	}
	if back, err := b.e.RollBack(ctx, n.customer, n.instance, 0); err != nil || back.Digest != n.digest || back.Previous != second || back.State != store.InstancePaused {
		t.Errorf("roll back: %+v, %v", back, err)
	}
	other := newer(func(i *flow.Integration) { i.Name = "other" })
	if _, err := b.e.Upgrade(ctx, n.customer, n.instance, b.publish(other), 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("to another integration: %v", err)
	}
	err = b.e.ChangeInstanceState(ctx, n.customer, n.instance, store.InstanceEnabled, 1)
	if _, deployed := b.e.Deploy(ctx, &Deployment{Customer: n.customer, Instance: n.instance, Digest: second, Revision: 1}); !errors.Is(err, ErrConflict) || !errors.Is(deployed, ErrConflict) {
		t.Errorf("with an old revision: %v, %v", err, deployed)
	}
}

// An instance that lacks something is saved when that is wanted, says what it lacks, and
// takes events when it has it.
func TestAPartialInstanceTakesNoEvents(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	ctx := t.Context()
	digest := b.publish(newer(func(i *flow.Integration) {
		i.Name = "lacking"
		i.Connections = []flow.Slot{{Name: "shop", Connector: flow.ConnectorHTTP}}
		i.Config = []flow.ConfigVar{{Name: "region", Type: flow.ConfigString, Required: true}, {Name: "free", Type: flow.ConfigString}}
	}))
	c := id.NewConnection(time.Now())
	if err := b.e.PutConnection(ctx, &Credential{Connection: store.Connection{Customer: n.customer, ID: c, Name: "shop"}, Record: &lease.Record{Connector: "http", Kind: lease.KindNone, Binding: lease.Binding{Scheme: "https", Host: "shop.example.com", Port: 443}}}); err != nil {
		t.Fatal(err)
	}
	slots := []store.Slot{{Name: "shop", Connection: c}}
	d := &Deployment{Customer: n.customer, Instance: id.NewInstance(time.Now()), Digest: digest}
	lacking := tenant{n.customer, d.Instance, digest}
	for _, tt := range []struct {
		slots  []store.Slot
		config string
		want   store.InstanceState
	}{
		{nil, `{"region":"eu"}`, store.InstanceNeedsConnection},
		{slots, `{"free":"x"}`, store.InstanceNeedsConfig},
		{slots, `{"region":null}`, store.InstanceNeedsConfig},
		{slots, `{"region":"eu"}`, store.InstanceEnabled},
	} {
		d.Slots, d.Config, d.Partial = tt.slots, []byte(tt.config), false
		if _, err := b.e.Deploy(ctx, d); errors.Is(err, ErrInvalid) != (tt.want != store.InstanceEnabled) {
			t.Errorf("%s with %d slots, not partial: %v", tt.config, len(tt.slots), err)
		}
		d.Partial = true
		x, err := b.e.Deploy(ctx, d)
		if err != nil || x.State != tt.want || b.instance(lacking).State != tt.want {
			t.Fatalf("%s with %d slots: %+v, %v; want %v", tt.config, len(tt.slots), x, err, tt.want)
		}
		_, err = b.e.Accept(ctx, &Event{Customer: n.customer, Instance: d.Instance, Flow: "main", Body: []byte(`{}`)})
		if errors.Is(err, ErrNotEnabled) != (tt.want != store.InstanceEnabled) {
			t.Errorf("an event while it is %v: %v", tt.want, err)
		}
	}
	wider := b.publish(newer(func(i *flow.Integration) {
		i.Name = "lacking"
		i.Connections = []flow.Slot{{Name: "shop", Connector: flow.ConnectorHTTP}}
		i.Config = []flow.ConfigVar{{Name: "region", Type: flow.ConfigString, Required: true}, {Name: "more", Type: flow.ConfigString, Required: true}}
	}))
	if x, err := b.e.Upgrade(ctx, n.customer, d.Instance, wider, 0); err != nil || x.State != store.InstanceNeedsConfig {
		t.Errorf("upgrade to a version that requires more: %+v, %v", x, err)
	}
	// What lacks both needs its config first, and a connection does not hide that.
	d.Instance, d.Slots, d.Config, d.Partial = id.NewInstance(time.Now()), nil, []byte(`{}`), true
	if x, err := b.e.Deploy(ctx, d); err != nil || x.State != store.InstanceNeedsConfig {
		t.Errorf("without both: %+v, %v", x, err)
	}
	if x, err := b.e.Change(ctx, &Change{Customer: n.customer, Instance: d.Instance, Slots: slots, Reconnect: true}); err != nil || x.State != store.InstanceNeedsConfig {
		t.Errorf("without config: %+v, %v", x, err)
	}
}

func TestAnInstanceThatFaultsIsFailingUntilOneCompletes(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		b := newBench(t)
		n := b.tenant("c1")
		r := b.runner()
		r.want(1)
		for k := range failingAfter {
			if got := b.instance(n).State; got != store.InstanceEnabled {
				t.Fatalf("after %d faults it is %v", k, got)
			}
			b.accept(n, "main", `{}`)
			r.faulted(r.untilUnit(t))
		}
		b.stateBecomes(n, store.InstanceFailing)
		if restart {
			b.restart()
			r.want(1)
		}
		b.accept(n, "main", `{}`)
		r.finish(r.untilUnit(t))
		b.stateBecomes(n, store.InstanceEnabled)
	}
}

// removable is an integration with a flow that runs when its instance is removed.
func removable() *flow.Integration {
	return newer(func(i *flow.Integration) {
		i.Name = "removable"
		i.Flows = append(i.Flows, flow.Flow{Name: "goodbye", Trigger: flow.Trigger{Remove: &flow.Empty{}}, Steps: i.Flows[0].Steps})
	})
}

// gone waits until an instance is a tombstone.
func (b *bench) gone(n tenant) {
	b.t.Helper()
	for late := time.Now().Add(patience); ; b.settle() {
		_, err := b.opt.Store.Customer(b.t.Context(), n.customer).Instance(n.instance)
		if errors.Is(err, store.ErrNotFound) {
			return
		}
		if time.Now().After(late) {
			b.t.Fatal("the instance is not removed")
		}
	}
}

// A removed instance takes no events, gives up what has not begun, lets what runs end, runs
// its farewell once and loses its key, also when the server is killed anywhere.
func TestRemoveEndsAnInstance(t *testing.T) {
	t.Parallel()
	for kill := range 4 {
		b := newBench(t)
		n := b.tenantOf("c1", removable())
		ctx := t.Context()
		r := b.runner()
		r.want(1)
		running := b.accept(n, "main", `{}`)
		u := r.dispatch()[0]
		pending := b.accept(n, "main", `{}`)
		if err := b.e.Remove(ctx, n.customer, n.instance, 99); !errors.Is(err, ErrConflict) {
			t.Errorf("with another revision: %v", err)
		}
		if err := b.e.Remove(ctx, n.customer, n.instance, 0); err != nil {
			t.Fatal(err)
		}
		if err := b.e.Remove(ctx, n.customer, n.instance, 0); !errors.Is(err, ErrConflict) {
			t.Errorf("a second time: %v", err)
		}
		at := func(point int) {
			if kill == point {
				b.kill()
				r.want(0, wire.Held{Execution: u.Execution, Fence: u.Fence})
			}
		}
		at(1)
		if kill == 2 {
			r.full(wire.Held{Execution: u.Execution, Fence: u.Fence}) // the farewell is given out behind it
		}
		if err := b.offer(n, []byte(`{}`)); !errors.Is(err, ErrNotEnabled) {
			t.Errorf("an event: %v", err)
		}
		for b.row(n, pending).Status != store.Cancelled {
			b.settle()
		}
		if got := b.row(n, running).Status; got != store.Running {
			t.Errorf("what runs is %v", got)
		}
		r.finish(u)
		at(2)
		r.want(1)
		u = r.untilUnit(t)
		if u.Flow != "goodbye" {
			t.Fatalf("given out: %+v", u)
		}
		at(3)
		r.send(&wire.Append{Execution: u.Execution, Fence: u.Fence, Finish: &wire.Finish{Status: wire.StatusCompleted}})
		b.gone(n)
		b.vault.mu.Lock()
		if _, ok := b.vault.configs[n.instance]; ok {
			t.Error("its key is still there")
		}
		b.vault.mu.Unlock()
		if err := b.offer(n, []byte(`{}`)); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNotEnabled) {
			t.Errorf("an event when it is gone: %v", err)
		}
		if row := b.row(n, running); row.Status != store.Completed {
			t.Errorf("its history: %+v", row)
		}
	}
}

func TestRemoveDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.RemoveGrace = 50 * time.Millisecond })
	n := b.tenantOf("c1", removable())
	r := b.runner()
	r.want(1)
	x := b.accept(n, "main", `{}`)
	r.dispatch()
	if err := b.e.Remove(t.Context(), n.customer, n.instance, 0); err != nil {
		t.Fatal(err)
	}
	b.gone(n)
	if got := b.row(n, x).Status; got != store.Cancelled {
		t.Errorf("what ran is %v", got)
	}
}

// Two organizations publish the same definition: the instances of each are of its own
// integration, and what only one has published the other does not find.
func TestTheSameDefinitionInTwoOrganizations(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := t.Context()
	published := func(org id.Org, i *flow.Integration) *store.Version {
		t.Helper()
		canonical, err := i.Encode()
		if err != nil {
			t.Fatal(err)
		}
		v, err := b.e.Publish(ctx, org, canonical)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	foreign := id.NewOrg(time.Now())
	if err := b.e.PutOrganization(ctx, &store.Organization{ID: foreign, Name: "other"}); err != nil {
		t.Fatal(err)
	}
	customer, err := b.e.PutCustomer(ctx, &store.CustomerRow{Organization: foreign, ExternalID: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	old, newest := definition(), newer(nil)
	own := published(b.org, old)
	if _, err := b.e.Deploy(ctx, &Deployment{Customer: customer, Digest: own.Digest}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a version of another organization: %v", err)
	}
	n := b.tenant("c1")
	published(b.org, newest)
	theirs := published(foreign, old)
	if theirs.Digest != own.Digest || theirs.Integration == own.Integration {
		t.Fatalf("versions %+v and %+v", own, theirs)
	}
	x, err := b.e.Deploy(ctx, &Deployment{Customer: customer, Digest: theirs.Digest})
	if err != nil || x.Integration != theirs.Integration || b.instance(n).Integration != own.Integration {
		t.Fatalf("instances %+v and %+v, %v; integrations %v and %v", b.instance(n), x, err, own.Integration, theirs.Integration)
	}
	digest := b.publish(newest)
	if _, err := b.e.Upgrade(ctx, customer, x.ID, digest, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("upgrade to a version of another organization: %v", err)
	}
	published(foreign, newest)
	for _, i := range []tenant{n, {customer, x.ID, theirs.Digest}} {
		if y, err := b.e.Upgrade(ctx, i.customer, i.instance, digest, 0); err != nil || y.Digest != digest {
			t.Errorf("upgrade: %+v, %v", y, err)
		}
		if y, err := b.e.RollBack(ctx, i.customer, i.instance, 0); err != nil || y.Digest != own.Digest {
			t.Errorf("roll back: %+v, %v", y, err)
		}
	}
}

// The connection of one connector fills no slot of another: not when it is deployed, and not by an upgrade.
func TestSlotsAreForTheirConnector(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := t.Context()
	n := b.tenant("c1")
	version := func(connector string) [32]byte {
		t.Helper()
		i := definition()
		i.Name, i.Connections = "slotted", []flow.Slot{{Name: "crm", Connector: connector}}
		return b.publish(i)
	}
	put := func(connector string) id.Connection {
		t.Helper()
		con := id.NewConnection(time.Now())
		if err := b.e.PutConnection(ctx, &Credential{
			Connection: store.Connection{ID: con, Customer: n.customer, Name: connector},
			Record:     &lease.Record{Connector: connector, Kind: lease.KindNone, Binding: lease.Binding{Scheme: "https", Host: "crm.example.com", Port: 443}},
		}); err != nil {
			t.Fatal(err)
		}
		return con
	}
	acme, other, plain := put("acme"), put("other"), put(flow.ConnectorHTTP)
	for _, c := range []struct {
		slot       string
		connection id.Connection
		ok         bool
	}{{"acme@^1", acme, true}, {"acme@^1", other, false}, {"acme", plain, true}, {"http", acme, true}} {
		_, err := b.e.Deploy(ctx, &Deployment{Customer: n.customer, Digest: version(c.slot), Slots: []store.Slot{{Name: "crm", Connection: c.connection}}})
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("slot %s: %v, want ok %v", c.slot, err, c.ok)
		}
	}
	x, err := b.e.Deploy(ctx, &Deployment{Customer: n.customer, Digest: version("acme"), Slots: []store.Slot{{Name: "crm", Connection: acme}}})
	if err != nil {
		t.Fatal(err)
	}
	if x, err = b.e.Upgrade(ctx, n.customer, x.ID, version("other"), 0); err != nil || x.State != store.InstanceNeedsConnection || len(x.Slots) != 0 {
		t.Errorf("upgraded to a slot for another connector: %+v, %v", x, err)
	}
}
