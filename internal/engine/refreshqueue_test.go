package engine

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// dues are so many refreshes of a customer.
func dues(c id.Customer, n int) []store.RefreshDue {
	list := make([]store.RefreshDue, n)
	for i := range list {
		list[i] = store.RefreshDue{Customer: c, Connection: id.NewConnection(time.Now())}
	}
	return list
}

// look has the queue find refreshes in SQL: the customers' firsts before their seconds.
func look(q *refreshQueue, lists ...[]store.RefreshDue) {
	q.clear()
	for place, some := 0, true; some; place++ {
		some = false
		for _, l := range lists {
			if place < len(l) {
				some = q.put(&l[place]) || some
			}
		}
	}
	q.filled()
}

// run takes what may be ordered now, and says whose they are: "a", "b" and so on.
func run(q *refreshQueue, customers ...id.Customer) (whose string, taken []*store.RefreshDue) {
	var s strings.Builder
	for {
		x, _ := q.next()
		if x == nil {
			return s.String(), taken
		}
		taken = append(taken, x)
		for i, c := range customers {
			if c == x.Customer {
				s.WriteByte('a' + byte(i))
			}
		}
	}
}

func customers(n int) []id.Customer {
	list := make([]id.Customer, n)
	for i := range list {
		list[i] = id.NewCustomer(time.Now())
	}
	return list
}

// A customer alone has half of the slots, several have equal parts, and whoever comes finds a
// slot at once, whatever the others' orders do.
func TestRefreshesTakeTurns(t *testing.T) {
	t.Parallel()
	c := customers(4)
	q := newRefreshQueue(8, 1000)
	a, b, x, y := dues(c[0], 100), dues(c[1], 100), dues(c[2], 1), dues(c[3], 2)
	look(&q, a)
	whose, first := run(&q, c...)
	if whose != "aaaa" {
		t.Fatalf("alone: %s", whose)
	}
	look(&q, a, b)
	if whose, _ = run(&q, c...); whose != "bb" {
		t.Errorf("beside one that has half: %s", whose)
	}
	look(&q, a, b, x)
	if whose, _ = run(&q, c...); whose != "c" {
		t.Errorf("one that comes: %s", whose)
	}
	look(&q, a, b, x, y)
	if whose, _ = run(&q, c...); whose != "d" {
		t.Errorf("another: %s, want one, and none that was ordered again", whose)
	}
	for _, r := range first[:3] {
		q.done(r)
	}
	if whose, _ = run(&q, c...); whose != "ad" {
		t.Errorf("when three of the first are answered: %s, want two for everybody who wants more than one", whose)
	}
}

// A turn is kept from one look to the next, although the same customer's are always due longest.
func TestTurnsOutlastALook(t *testing.T) {
	t.Parallel()
	c := customers(3)
	q := newRefreshQueue(1, 1000)
	lists := [][]store.RefreshDue{dues(c[0], 9), dues(c[1], 3), dues(c[2], 3)}
	got := ""
	for range 9 {
		look(&q, lists...)
		whose, taken := run(&q, c...)
		got += whose
		for _, x := range taken {
			q.done(x)
			for i, l := range lists { // it is not due any more
				if len(l) > 0 && l[0].Connection == x.Connection {
					lists[i] = l[1:]
				}
			}
		}
	}
	if got != "abcabcabc" {
		t.Errorf("ordered: %s", got)
	}
}

// What finds no room is not forgotten: when a customer has none left, there is to be another look.
func TestRefreshesWithoutRoomAreLookedForAgain(t *testing.T) {
	t.Parallel()
	c := customers(2)
	q := newRefreshQueue(100, 4)
	a, b := dues(c[0], 10), dues(c[1], 2)
	look(&q, a, b)
	want := []bool{false, false, true, true} // a b a b
	for i, w := range want {
		if x, more := q.next(); x == nil || x.Customer != c[i%2] || more != w {
			t.Errorf("order %d: %+v, another look: %v", i, x, more)
		}
	}
	look(&q, a[:6], b)
	for i, w := range []bool{false, false, false, false} {
		if x, more := q.next(); x == nil || x.Connection != a[2+i].Connection || more != w {
			t.Errorf("order %d of the rest: %+v, another look: %v", i, x, more)
		}
	}
}

// What is answered while a look reads may be found as it was before: it is not ordered again.
func TestARefreshThatIsAnsweredDuringALookIsNotOrderedAgain(t *testing.T) {
	t.Parallel()
	c := customers(1)
	q := newRefreshQueue(4, 10)
	a := dues(c[0], 1)
	look(&q, a)
	x, _ := q.next()
	q.clear()
	q.done(x)
	q.put(&a[0])
	q.filled()
	if x, _ := q.next(); x != nil {
		t.Error("it is ordered again")
	}
	look(&q, a)
	if x, _ := q.next(); x == nil {
		t.Error("it is due again, and not ordered")
	}
}

// Whatever happens in whatever order, a connection is ordered once at a time, slots and room hold,
// all are ordered in the end, and nothing is kept.
func TestRefreshQueueKeepsItsBounds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1)) // #nosec G404 -- a test that can be repeated
		c := customers(1 + rng.IntN(6))
		q := newRefreshQueue(1+rng.IntN(8), 1+rng.IntN(20))
		lists := make([][]store.RefreshDue, len(c))
		total := 0
		for i := range lists {
			lists[i] = dues(c[i], rng.IntN(30))
			total += len(lists[i])
		}
		var flying []*store.RefreshDue
		now, ended := map[id.Connection]bool{}, map[id.Connection]bool{}
		start := func() {
			for x, _ := q.next(); x != nil; x, _ = q.next() {
				if now[x.Connection] || ended[x.Connection] {
					t.Fatalf("seed %d: ordered twice", seed)
				}
				now[x.Connection] = true
				flying = append(flying, x)
			}
			if len(flying) > q.slots || len(flying) != q.ordered || q.waits > q.room {
				t.Fatalf("seed %d: %d ordered, counted %d of %d; %d of %d wait", seed, len(flying), q.ordered, q.slots, q.waits, q.room)
			}
		}
		answer := func() {
			for len(flying) > 0 && rng.IntN(2) == 0 {
				i := rng.IntN(len(flying))
				x := flying[i]
				flying = slices.Delete(flying, i, i+1)
				delete(now, x.Connection)
				ended[x.Connection] = true
				q.done(x)
				start()
			}
		}
		for len(ended) < total {
			q.clear()
			for _, l := range lists {
				var page []store.RefreshDue // as SQL has it
				for i := range l {
					if !ended[l[i].Connection] {
						page = append(page, l[i])
					}
				}
				answer() // which the page does not tell
				for i := range page {
					q.put(&page[i])
				}
			}
			q.filled()
			start()
			answer()
		}
		look(&q)
		if q.ordered != 0 || q.waits != 0 || len(q.known) != 0 || len(q.customers) != 0 || q.turns.Len() != 0 {
			t.Fatalf("seed %d: it keeps %+v", seed, q)
		}
	}
}

// slowRefresher answers the orders of one customer when it is let, and all others at once.
type slowRefresher struct {
	slow    id.Customer
	release chan struct{} // closed by the test

	mu      sync.Mutex
	ordered map[id.Connection]int
}

// Refresh implements Refresher.
func (f *slowRefresher) Refresh(ctx context.Context, c id.Customer, n id.Connection, version uint64) (*lease.OrderResult, error) {
	f.mu.Lock()
	f.ordered[n]++
	f.mu.Unlock()
	if c == f.slow {
		select {
		case <-f.release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &lease.OrderResult{Code: lease.OrderOK, Status: wire.ConnectionStatus{Version: version + 1, Expires: time.Now().Add(24 * time.Hour)}}, nil
}

// of counts the orders of connections, and the connections that were ordered more than once.
func (f *slowRefresher) of(list []id.Connection) (ordered []id.Connection, twice int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range list {
		if f.ordered[n] > 0 {
			ordered = append(ordered, n)
		}
		if f.ordered[n] > 1 {
			twice++
		}
	}
	return ordered, twice
}

// due makes connections of a customer whose refresh is due now.
func (b *bench) due(c id.Customer, n int) []id.Connection {
	b.t.Helper()
	list := make([]id.Connection, n)
	now := time.Now()
	err := b.opt.Store.Write(context.Background(), func(tx *store.Tx) error {
		for i := range list {
			list[i] = id.NewConnection(now)
			x := store.Connection{Customer: c, ID: list[i], Name: "x", Connector: "c", Kind: "oauth2", RecordVersion: 1}
			if err := tx.Customer(c).PutConnection(&x, now); err != nil {
				return err
			}
			if err := tx.Customer(c).TokenSaved(list[i], &store.TokenSaved{RecordVersion: 1, Expires: now.Add(time.Hour), RefreshDue: now}, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

// noted counts the connections of a customer of which new tokens are noted.
func (b *bench) noted(c id.Customer, list []id.Connection) (noted int) {
	b.t.Helper()
	for _, n := range list {
		row, err := b.opt.Store.Customer(context.Background(), c).Connection(n)
		if err != nil {
			b.t.Fatal(err)
		}
		if row.RecordVersion > 1 {
			noted++
		}
	}
	return noted
}

// While a provider answers none of one customer's 200 orders, everybody else's refreshes are
// ordered and noted as they come due, and so is what egress nodes say of connections.
func TestSlowRefreshesOfOneCustomerHoldUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sign, err := seal.GenerateSignKey()
		if err != nil {
			t.Fatal(err)
		}
		egress := &lease.Identity{Node: id.NewNode(time.Now()), Role: wire.RoleEgress, Sign: sign.Public()}
		f := &slowRefresher{release: make(chan struct{}), ordered: map[id.Connection]int{}}
		b := newBench(t, func(o *Options) {
			o.Refresher = f
			o.Live = func(n id.Node) (*lease.Identity, bool) { return egress, n == egress.Node }
		})
		defer b.stop()
		slow, one, other := b.tenant("slow").customer, b.tenant("one").customer, b.tenant("other").customer
		f.slow = slow
		many := b.due(slow, 200)
		after(2 * DefaultRefreshEvery)
		synctest.Wait()
		waits, _ := f.of(many)
		if len(waits) != maxRefreshes/2 {
			t.Errorf("%d orders of the slow one, want %d", len(waits), maxRefreshes/2)
		}
		single, several := b.due(one, 1), b.due(other, 20)
		m := &wire.ConnectionStatus{Node: egress.Node, At: time.Now(), Customer: slow, Connection: waits[0], Version: 2, Expires: time.Now().Add(24 * time.Hour)}
		lease.SignStatus(sign, m)
		if err := b.e.Handle(t.Context(), wire.RoleEgress, egress.Node, wire.Frame{Type: m.FrameType(), Body: wire.AppendBody(nil, m)}); err != nil {
			t.Fatal(err)
		}
		after(2 * DefaultRefreshEvery)
		synctest.Wait()
		if a, b := b.noted(one, single), b.noted(other, several); a != 1 || b != len(several) {
			t.Errorf("meanwhile of one customer %d of 1 are noted, of the other %d of %d", a, b, len(several))
		}
		if n := b.noted(slow, waits[:1]); n != 1 {
			t.Error("the status of a connection waits for the orders")
		}
		if s, err := b.e.RefreshStats(t.Context()); err != nil || s.Due != uint64(len(many)-1) || s.Ordered != len(waits) || s.Oldest < 4*DefaultRefreshEvery {
			t.Errorf("%+v, %v", s, err)
		}
		close(f.release)
		after(2 * DefaultRefreshEvery)
		synctest.Wait()
		if n := b.noted(slow, many); n != len(many) {
			t.Errorf("%d of %d are noted when the provider answers again", n, len(many))
		}
		if _, twice := f.of(slices.Concat(many, single, several)); twice != 0 {
			t.Errorf("%d were ordered twice", twice)
		}
		if s, err := b.e.RefreshStats(t.Context()); err != nil || s.Due != 0 || s.Ordered != 0 || s.Oldest != 0 {
			t.Errorf("in the end: %+v, %v", s, err)
		}
	})
}
