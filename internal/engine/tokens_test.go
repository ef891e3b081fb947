package engine

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// fakeRefresher answers orders as a test says.
type fakeRefresher struct {
	mu      sync.Mutex
	ordered []uint64 // versions
	answer  *lease.OrderResult
	err     error
	hold    chan struct{} // not nil: each order waits for one
}

// Refresh implements Refresher.
func (f *fakeRefresher) Refresh(ctx context.Context, _ id.Customer, n id.Connection, version uint64) (*lease.OrderResult, error) {
	f.mu.Lock()
	f.ordered = append(f.ordered, version)
	answer, err, hold := f.answer, f.err, f.hold
	f.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
		}
	}
	if err != nil {
		return nil, err
	}
	out := *answer
	out.Status.Connection = n
	return &out, nil
}

// tokened is a bench with one connection whose tokens are due for a refresh at a time.
type tokened struct {
	*bench
	refresher  *fakeRefresher
	egress     *lease.Identity
	sign       *seal.SignKey // of egress
	tenant     tenant
	instance   id.Instance
	connection id.Connection
}

func newTokened(t *testing.T, due time.Time) *tokened {
	t.Helper()
	sign, err := seal.GenerateSignKey()
	if err != nil {
		t.Fatal(err)
	}
	x := &tokened{refresher: &fakeRefresher{answer: &lease.OrderResult{Code: lease.OrderOK}}, sign: sign}
	x.egress = &lease.Identity{Node: id.NewNode(time.Now()), Role: wire.RoleEgress, Sign: sign.Public()}
	x.bench = newBench(t, func(o *Options) {
		o.Refresher, o.RefreshEvery = x.refresher, -1 // the test orders, and not the loop
		o.Live = func(n id.Node) (*lease.Identity, bool) { return x.egress, n == x.egress.Node }
	})
	x.tenant = x.bench.tenant("c1")
	x.instance, x.connection = x.connected(x.tenant, "with tokens")
	x.write(func(rows store.CustomerTx) error {
		return rows.TokenSaved(x.connection, &store.TokenSaved{RecordVersion: 7, Expires: due.Add(time.Hour), RefreshDue: due}, time.Now())
	})
	return x
}

func (x *tokened) write(do func(store.CustomerTx) error) {
	x.t.Helper()
	if err := x.opt.Store.Write(context.Background(), func(tx *store.Tx) error { return do(tx.Customer(x.tenant.customer)) }); err != nil {
		x.t.Fatal(err)
	}
}

// order has what is due ordered and answered.
func (x *tokened) order() {
	x.t.Helper()
	var orders sync.WaitGroup
	if err := x.e.orderRefreshes(context.Background(), time.Now(), &orders); err != nil {
		x.t.Fatal(err)
	}
	orders.Wait()
}

func (x *tokened) row() *store.ConnectionInfo {
	x.t.Helper()
	row, err := x.opt.Store.Customer(context.Background(), x.tenant.customer).Connection(x.connection)
	if err != nil {
		x.t.Fatal(err)
	}
	return row
}

func (x *tokened) state() store.InstanceState {
	x.t.Helper()
	i, err := x.opt.Store.Customer(context.Background(), x.tenant.customer).Instance(x.instance)
	if err != nil {
		x.t.Fatal(err)
	}
	return i.State
}

func TestRefreshesAreOrderedWhenTheyAreDue(t *testing.T) {
	t.Parallel()
	x := newTokened(t, time.Now().Add(time.Hour))
	x.order()
	if n := len(x.refresher.ordered); n != 0 {
		t.Fatalf("%d orders before it is due", n)
	}
	x.write(func(rows store.CustomerTx) error {
		return rows.SetRefreshDue(x.connection, time.Now().Add(-time.Second))
	})
	expires := time.Now().Add(time.Hour).Truncate(time.Microsecond).UTC()
	x.refresher.answer = &lease.OrderResult{Code: lease.OrderOK, Status: wire.ConnectionStatus{Version: 8, Expires: expires}}
	x.order()
	x.order() // it is not due any more
	if got := x.refresher.ordered; len(got) != 1 || got[0] != 7 {
		t.Fatalf("ordered %v, want one for version 7", got)
	}
	row := x.row()
	if row.RecordVersion != 8 || !row.TokenExpires.Equal(expires) || row.Health != store.HealthOK || row.RefreshDue.Before(time.Now().Add(30*time.Minute)) || !row.RefreshDue.Before(expires) {
		t.Errorf("%+v", row)
	}
}

func TestAConnectionIsOrderedOnceAtATime(t *testing.T) {
	t.Parallel()
	x := newTokened(t, time.Now().Add(-time.Second))
	x.refresher.hold = make(chan struct{})
	var orders sync.WaitGroup
	for range 3 {
		if err := x.e.orderRefreshes(context.Background(), time.Now(), &orders); err != nil {
			t.Fatal(err)
		}
	}
	close(x.refresher.hold)
	orders.Wait()
	if n := len(x.refresher.ordered); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
}

func TestFailedRefreshesAreTriedLater(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer *lease.OrderResult
		err    error
		health store.Health
		least  time.Duration
	}{
		"the provider cannot be reached": {&lease.OrderResult{Code: lease.OrderFailed, Retry: time.Hour, Status: wire.ConnectionStatus{Error: "network"}}, nil, store.HealthFailing, 59 * time.Minute},
		"another node is at it":          {&lease.OrderResult{Code: lease.OrderBusy, Retry: time.Second}, nil, store.HealthOK, time.Second},
		"the vault refuses":              {&lease.OrderResult{Code: lease.OrderRefused}, nil, store.HealthFailing, 4 * time.Minute},
		"nobody is there":                {nil, errors.New("absent"), store.HealthOK, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newTokened(t, time.Now().Add(-time.Second))
			x.refresher.answer, x.refresher.err = tt.answer, tt.err
			x.order()
			row := x.row()
			if row.Health != tt.health || row.RefreshDue.Before(time.Now().Add(tt.least)) || row.RecordVersion != 7 {
				t.Errorf("%+v, want %s and another try after %v", row, tt.health, tt.least)
			}
			if got := x.state(); got != store.InstanceEnabled {
				t.Errorf("the instance is %s", got)
			}
		})
	}
}

func TestDeadConnectionsWaitForAPerson(t *testing.T) {
	t.Parallel()
	for state, want := range map[wire.ConnectionState]struct {
		health store.Health
		kind   store.NoticeKind
		reason string
	}{
		wire.ConnectionNeedsReconnect: {store.HealthNeedsReconnect, store.NoticeNeedsReconnect, "invalid_grant"},
		wire.ConnectionLostAnswer:     {store.HealthNeedsReconnect, store.NoticeNeedsReconnect, "lost_answer"},
		wire.ConnectionRevoked:        {store.HealthRevoked, store.NoticeRevoked, "revoked"},
	} {
		t.Run(state.String(), func(t *testing.T) {
			t.Parallel()
			x := newTokened(t, time.Now().Add(-time.Second))
			x.refresher.answer = &lease.OrderResult{Code: lease.OrderDead, Status: wire.ConnectionStatus{Version: 8, State: state, Error: "invalid_grant"}}
			x.order()
			x.order()
			if row := x.row(); row.Health != want.health || !row.RefreshDue.IsZero() {
				t.Errorf("%+v, want %s and no refresh", row, want.health)
			}
			if got := x.state(); got != store.InstanceNeedsConnection {
				t.Errorf("the instance is %s", got)
			}
			notices, err := x.opt.Store.Org(t.Context(), x.org).Notices(&store.NoticeQuery{}, 10)
			if err != nil || len(notices) != 1 || notices[0].Kind != want.kind || notices[0].Reason != want.reason || notices[0].Connection != x.connection {
				t.Errorf("notices %+v, %v", notices, err)
			}
			if n := len(x.refresher.ordered); n != 1 {
				t.Errorf("%d orders, want 1", n)
			}
		})
	}
}

// A status that comes late, of the credential before, does not stop a connection that somebody has connected again.
func TestLateStatusesSayNothingOfAnotherCredential(t *testing.T) {
	t.Parallel()
	x := newTokened(t, time.Now().Add(time.Hour))
	before := x.row()
	for name, m := range map[string]wire.ConnectionStatus{
		"dead":   {State: wire.ConnectionLostAnswer},
		"gone":   {State: wire.ConnectionRevoked},
		"failed": {Error: "network", Retry: time.Now().Add(time.Minute)},
	} {
		m.Customer, m.Connection, m.Version = x.tenant.customer, x.connection, before.RecordVersion-1
		if err := x.e.noteStatus(t.Context(), &m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if row := x.row(); row.Health != before.Health || row.Problem != before.Problem || !row.RefreshDue.Equal(before.RefreshDue) || x.state() != store.InstanceEnabled {
			t.Errorf("%s: %s, problem %q, instance %s", name, row.Health, row.Problem, x.state())
		}
	}
	m := wire.ConnectionStatus{State: wire.ConnectionLostAnswer, Customer: x.tenant.customer, Connection: x.connection, Version: before.RecordVersion}
	if err := x.e.noteStatus(t.Context(), &m); err != nil || x.row().Health != store.HealthNeedsReconnect || x.state() != store.InstanceNeedsConnection {
		t.Errorf("of this credential: %v, %s, instance %s", err, x.row().Health, x.state())
	}
}

// An instance that somebody has paused stays paused when its connection dies, and does not run when that is connected again.
func TestDeadConnectionsWakeNoPausedInstance(t *testing.T) {
	t.Parallel()
	x := newTokened(t, time.Now().Add(-time.Second))
	if err := x.e.SetInstanceState(t.Context(), x.tenant.customer, x.instance, store.InstancePaused); err != nil {
		t.Fatal(err)
	}
	x.refresher.answer = &lease.OrderResult{Code: lease.OrderDead, Status: wire.ConnectionStatus{Version: 8, State: wire.ConnectionNeedsReconnect}}
	x.order()
	if got := x.state(); got != store.InstancePaused {
		t.Errorf("the instance is %s", got)
	}
	if err := x.e.SetInstanceState(t.Context(), x.tenant.customer, x.instance, store.InstanceEnabled); err != nil || x.state() != store.InstanceNeedsConnection {
		t.Errorf("enabled without its connection it is %s, %v", x.state(), err)
	}
	if err := x.e.AwaitConnection(t.Context(), x.tenant.customer, x.instance, id.NewConnection(time.Now())); err != nil {
		t.Error(err)
	}
	if err := x.e.AwaitConnection(t.Context(), x.tenant.customer, id.NewInstance(time.Now()), x.connection); err != nil {
		t.Errorf("an instance that is gone: %v", err)
	}
}

// What egress nodes say unasked is believed when it is signed, and only then.
func TestStatusesOfConnectionsAreSigned(t *testing.T) {
	t.Parallel()
	x := newTokened(t, time.Now().Add(time.Hour))
	sign, egress := x.sign, x.egress
	send := func(from id.Node, m *wire.ConnectionStatus) {
		t.Helper()
		if err := x.e.Handle(t.Context(), wire.RoleEgress, from, wire.Frame{Type: m.FrameType(), Body: wire.AppendBody(nil, m)}); err != nil {
			t.Fatal(err)
		}
	}
	good := wire.ConnectionStatus{Node: egress.Node, At: time.Now(), Customer: x.tenant.customer, Connection: x.connection, Version: 9, Expires: time.Now().Add(time.Hour)}
	forged := good
	forged.Version, forged.State = 11, wire.ConnectionRevoked
	send(egress.Node, &forged)
	lease.SignStatus(sign, &forged)
	forged.Version++
	send(egress.Node, &forged)
	lease.SignStatus(sign, &good)
	send(id.NewNode(time.Now()), &good)
	if n := len(x.e.tokens.statuses); n != 0 {
		t.Fatalf("%d forged statuses are taken", n)
	}
	send(egress.Node, &good)
	x.await(9)
	late := good
	late.Version, late.Expires = 8, time.Now().Add(2*time.Hour)
	lease.SignStatus(sign, &late)
	send(egress.Node, &late)
	next := good
	next.Version, next.Error = 9, "network"
	lease.SignStatus(sign, &next)
	send(egress.Node, &next)
	for x.row().Health != store.HealthFailing {
		x.rest()
	}
	if row := x.row(); row.RecordVersion != 9 || !row.TokenExpires.Equal(good.Expires.UTC().Truncate(time.Microsecond)) {
		t.Errorf("%+v after a status that came late", row)
	}
}

// await waits until a version is noted.
func (x *tokened) await(version uint64) {
	for x.row().RecordVersion != version {
		x.rest()
	}
}

// rest lets others go on; a test that waits for ever fails by its time limit.
func (x *tokened) rest() {
	t := time.NewTimer(5 * time.Millisecond)
	<-t.C
}

func TestRefreshAt(t *testing.T) {
	t.Parallel()
	now := time.Now()
	if at := RefreshAt(time.Time{}, time.Time{}, now); !at.IsZero() {
		t.Errorf("tokens that do not end are refreshed at %v", at)
	}
	if at := RefreshAt(now.Add(-time.Second), time.Time{}, now); !at.Equal(now) {
		t.Errorf("tokens that have ended are refreshed at %v", at)
	}
	spreads := map[time.Duration]bool{}
	for range 200 {
		for life, between := range map[time.Duration][2]time.Duration{
			time.Hour:        {40 * time.Minute, 50 * time.Minute},
			10 * time.Minute: {4 * time.Minute, 6 * time.Minute},
		} {
			wait := RefreshAt(now.Add(life), time.Time{}, now).Sub(now)
			spreads[wait] = true
			if wait < between[0] || wait > between[1] {
				t.Errorf("of %v: after %v, want between %v and %v", life, wait, between[0], between[1])
			}
		}
		if wait := RefreshAt(now.Add(time.Hour), now.Add(time.Hour-time.Second), now).Sub(now); wait > 54*time.Minute {
			t.Errorf("as a recipe asks: after %v, too close to the end", wait)
		}
	}
	if len(spreads) < 100 {
		t.Errorf("%d different waits in 400", len(spreads))
	}
}
