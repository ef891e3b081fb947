package egress

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// ofOne is how many calls of one connection run at a time, when its customer has no others.
const ofOne = MaxInFlightOfCustomer * leaveFree / (leaveFree + 1)

// However many calls of connections hang whose other side does not answer, there is room for the next connection of the same
// customer; and what hangs loses nothing but its turn.
func TestNoConnectionKeepsItsCustomerFromOthers(t *testing.T) {
	t.Parallel()
	quietly(t, func(d *desk, h *holdingDialer) {
		customer := id.NewCustomer(time.Now())
		lend := func() *worker {
			return d.lend(func(l *lease.Egress) { l.Customer = customer }, slotAt(d.t, "s", "http://127.0.0.1:9"))
		}
		said := 0
		var last int
		for n, want := range []int{ofOne, 24, 6} {
			w := lend()
			for range 500 {
				w.say(w.frame(slow("s")))
				said++
			}
			if got := h.held() - last; got != want {
				t.Errorf("connection %d has %d calls, want %d", n, got, want)
			}
			last = h.held()
		}
		w := lend()
		w.say(w.frame(slow("s")))
		if said++; h.held() != last+1 {
			t.Error("the call of another connection waits")
		}
		close(h.let)
		synctest.Wait()
		if n := d.count(); n != said {
			t.Errorf("%d answers, want %d", n, said)
		}
	})
}

// Calls that wait for a token of a provider that never answers are calls of their connection: the others go on.
func TestWaitingForATokenKeepsNoOtherConnection(t *testing.T) {
	t.Parallel()
	quietly(t, func(d *desk, h *holdingDialer) {
		k, err := seal.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		d.cfg.Renewer = NewRenewer(RenewerConfig{Node: d.cfg.Node, Sign: d.authority, Seal: k, Log: d.cfg.Log, Vault: NewTokenVault(TokenVaultConfig{
			Node: d.cfg.Node, Sign: d.authority, Seal: k, Authority: d.authority.Public(), Key: func() (seal.PublicKey, bool) { return k.Public(), true },
			Ask: func(ctx context.Context, _ *wire.VaultCall) (*wire.VaultAnswer, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
		})})
		customer := id.NewCustomer(time.Now())
		mine := func(l *lease.Egress) { l.Customer = customer }
		dead := slotAt(d.t, "s", "http://127.0.0.1:9")
		dead.Record.Kind, dead.Record.Fields, dead.Ticket = lease.KindOAuth2, nil, []byte("ticket")
		waits, other := d.lend(mine, dead), d.lend(mine, slotAt(d.t, "s", "http://127.0.0.1:9"))
		for range 500 {
			waits.say(waits.frame(slow("s")))
		}
		other.say(other.frame(slow("s")))
		if h.held() != 1 {
			t.Error("the call of another connection waits for a token that is not its own")
		}
		close(h.let)
		<-time.After(10 * lease.WorkTime)
		synctest.Wait()
		if n := d.count(); n != 501 {
			t.Errorf("%d answers, want 501", n)
		}
	})
}

// One connection has one share, however many leases name it.
func TestLeasesOfAConnectionShare(t *testing.T) {
	t.Parallel()
	quietly(t, func(d *desk, h *holdingDialer) {
		customer, slot := id.NewCustomer(time.Now()), slotAt(d.t, "s", "http://127.0.0.1:9")
		for range 3 {
			w := d.lend(func(l *lease.Egress) { l.Customer = customer }, slot)
			for range 100 {
				w.say(w.frame(slow("s")))
			}
			w.say(frameOf(&wire.LeaseDrop{Lease: d.lend(nil).Lease}))
		}
		if n := h.held(); n != ofOne {
			t.Errorf("%d calls of one connection run", n)
		}
		close(h.let)
	})
}

// A call that came as its lease ended has a line of its own: its end takes none away that another lease has made since.
func TestTheEndOfALateCallLeavesTheLineOfOthers(t *testing.T) {
	t.Parallel()
	key := lineKey{id.NewCustomer(time.Now()), id.NewConnection(time.Now())}
	late, present := &line{key: key}, &line{key: key, leases: 1}
	n := &Node{lines: map[lineKey]*line{key: present}}
	n.unused(late)
	if n.lines[key] != present {
		t.Error("the line of a lease is gone")
	}
	present.leases = 0
	if n.unused(present); len(n.lines) != 0 {
		t.Error("a line that nobody needs stays")
	}
}

// What waits is begun in turns.
func TestConnectionsTakeTurns(t *testing.T) {
	t.Parallel()
	s := &share{flying: MaxInFlightOfCustomer}
	lines := []*line{{}, {}, {}}
	for n := range 9 {
		s.park(&task{share: s, line: lines[n/3], size: n})
	}
	var order []int
	for s.waiting > 0 {
		s.flying--
		task := s.pick()
		if task == nil {
			t.Fatalf("nothing is begun after %v", order)
		}
		s.flying++
		order = append(order, task.size)
	}
	if got, want := fmt.Sprint(order), "[0 3 6 1 4 7 2 5 8]"; got != want || len(s.lines) != 0 {
		t.Errorf("begun in the order %s, want %s; %d lines are left", got, want, len(s.lines))
	}
}

// BenchmarkAdmit is what a call pays for its share: no allocation, while its customer has another one.
func BenchmarkAdmit(b *testing.B) {
	d := localDesk(b)
	w := d.lend(nil, slotAt(b, "s", "http://127.0.0.1:9"))
	g := d.Node.leases[w.Lease]
	one, two := &task{lease: g, line: g.lines["s"], size: 100}, &task{lease: g, line: g.lines["s"], size: 100}
	d.Node.idle = 2
	d.admit(one)
	<-d.tasks
	b.ReportAllocs()
	for b.Loop() {
		if !d.admit(two) {
			b.Fatal("it waits")
		}
		d.next(<-d.tasks)
	}
}
