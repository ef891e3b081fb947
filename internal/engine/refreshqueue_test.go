package engine

import (
	"context"
	"fmt"
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

// dues are so many refreshes of a customer, of a connector that nobody else has.
func dues(c id.Customer, n int) []store.RefreshDue { return duesOf(c, c.String(), n) }

func duesOf(c id.Customer, connector string, n int) []store.RefreshDue {
	list := make([]store.RefreshDue, n)
	for i := range list {
		list[i] = store.RefreshDue{Customer: c, Connection: id.NewConnection(time.Now()), Connector: connector}
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

// Of the slots a connector has half too, however many customers it has; what it does not let in is
// passed over, also of a customer who has others.
func TestRefreshesOfConnectorsTakeTurns(t *testing.T) {
	t.Parallel()
	c := customers(7)
	q := newRefreshQueue(8, 1000)
	var lists [][]store.RefreshDue
	for i := range 6 {
		lists = append(lists, duesOf(c[i], "down", 2))
	}
	look(&q, lists...)
	whose, taken := run(&q, c...)
	if whose != "abcd" {
		t.Errorf("of one connector: %s", whose)
	}
	both := slices.Concat(lists[5], duesOf(c[5], "up", 1))
	look(&q, append(lists[:5:5], both, duesOf(c[6], "up", 1))...)
	whose, more := run(&q, c...)
	if whose != "fg" || more[0].Connector != "up" || more[1].Connector != "up" {
		t.Errorf("of another, beside it: %s %+v", whose, more)
	}
	for _, x := range slices.Concat(taken, more) {
		q.done(x)
	}
	if whose, _ = run(&q, c...); whose != "eabc" {
		t.Errorf("when all are answered: %s, want those who had no turn first", whose)
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
			lists[i] = duesOf(c[i], string(rune('a'+rng.IntN(3))), rng.IntN(30))
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
		if q.ordered != 0 || q.waits != 0 || len(q.known) != 0 || len(q.customers) != 0 || len(q.connectors) != 0 || q.turns.Len() != 0 {
			t.Fatalf("seed %d: it keeps %+v", seed, q)
		}
	}
}

// slowRefresher answers some orders when it is let, and all others at once.
type slowRefresher struct {
	release chan struct{} // closed by the test

	mu      sync.Mutex
	slow    map[id.Connection]bool
	ordered map[id.Connection]int
}

// Refresh implements Refresher.
func (f *slowRefresher) Refresh(ctx context.Context, _ id.Customer, n id.Connection, version uint64) (*lease.OrderResult, error) {
	f.mu.Lock()
	f.ordered[n]++
	slow := f.slow[n]
	f.mu.Unlock()
	if slow {
		select {
		case <-f.release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &lease.OrderResult{Code: lease.OrderOK, Status: wire.ConnectionStatus{Version: version + 1, Expires: time.Now().Add(24 * time.Hour)}}, nil
}

// slows makes connections slow.
func (f *slowRefresher) slows(list []store.RefreshDue) []store.RefreshDue {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range list {
		f.slow[list[i].Connection] = true
	}
	return list
}

// of are those connections that were ordered, and how many of them were more than once.
func (f *slowRefresher) of(list []store.RefreshDue) (ordered []store.RefreshDue, twice int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range list {
		if f.ordered[x.Connection] > 0 {
			ordered = append(ordered, x)
		}
		if f.ordered[x.Connection] > 1 {
			twice++
		}
	}
	return ordered, twice
}

// due has connections whose refresh is due now.
func (b *bench) due(list []store.RefreshDue) {
	b.t.Helper()
	now := time.Now()
	err := b.opt.Store.Write(context.Background(), func(tx *store.Tx) error {
		for i := range list {
			rows, n := tx.Customer(list[i].Customer), list[i].Connection
			x := store.Connection{Customer: list[i].Customer, ID: n, Name: "x", Connector: list[i].Connector, Kind: "oauth2", RecordVersion: 1}
			if err := rows.PutConnection(&x, now); err != nil {
				return err
			}
			if err := rows.TokenSaved(n, &store.TokenSaved{RecordVersion: 1, Expires: now.Add(time.Hour), RefreshDue: now}, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// noted counts the connections of which new tokens are noted.
func (b *bench) noted(list []store.RefreshDue) (noted int) {
	b.t.Helper()
	for i := range list {
		row, err := b.opt.Store.Customer(context.Background(), list[i].Customer).Connection(list[i].Connection)
		if err != nil {
			b.t.Fatal(err)
		}
		if row.RecordVersion > 1 {
			noted++
		}
	}
	return noted
}

// heldUp has connections due that do not answer, as lists makes them of customers, and then others, and tells whether
// these are ordered and noted meanwhile, and so what egress nodes say; and then all.
func heldUp(t *testing.T, customers int, lists func(c []id.Customer) (slow, others []store.RefreshDue)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sign, err := seal.GenerateSignKey()
		if err != nil {
			t.Fatal(err)
		}
		egress := &lease.Identity{Node: id.NewNode(time.Now()), Role: wire.RoleEgress, Sign: sign.Public()}
		f := &slowRefresher{release: make(chan struct{}), slow: map[id.Connection]bool{}, ordered: map[id.Connection]int{}}
		b := newBench(t, func(o *Options) {
			o.Refresher = f
			o.Live = func(n id.Node) (*lease.Identity, bool) { return egress, n == egress.Node }
		})
		defer b.stop()
		c := make([]id.Customer, customers)
		for i := range c {
			if c[i], err = b.e.PutCustomer(t.Context(), &store.CustomerRow{Organization: b.org, ExternalID: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		slow, others := lists(c)
		b.due(f.slows(slow))
		after(2 * DefaultRefreshEvery)
		synctest.Wait()
		waits, _ := f.of(slow)
		if len(waits) != maxRefreshes/2 {
			t.Errorf("%d slow orders, want %d", len(waits), maxRefreshes/2)
		}
		b.due(others)
		m := &wire.ConnectionStatus{
			Node: egress.Node, At: time.Now(), Customer: waits[0].Customer, Connection: waits[0].Connection, Version: 2, Expires: time.Now().Add(24 * time.Hour),
		}
		lease.SignStatus(sign, m)
		if err := b.e.Handle(t.Context(), wire.RoleEgress, egress.Node, wire.Frame{Type: m.FrameType(), Body: wire.AppendBody(nil, m)}); err != nil {
			t.Fatal(err)
		}
		after(2 * DefaultRefreshEvery)
		synctest.Wait()
		if n := b.noted(others); n != len(others) {
			t.Errorf("meanwhile of the others %d of %d are noted", n, len(others))
		}
		if n := b.noted(waits[:1]); n != 1 {
			t.Error("the status of a connection waits for the orders")
		}
		if s, err := b.e.RefreshStats(t.Context()); err != nil || s.Due != uint64(len(slow)-1) || s.Ordered != len(waits) || s.Oldest < 4*DefaultRefreshEvery {
			t.Errorf("%+v, %v", s, err)
		}
		close(f.release)
		after(2 * DefaultRefreshEvery)
		synctest.Wait()
		if n := b.noted(slow); n != len(slow) {
			t.Errorf("%d of %d are noted when the provider answers again", n, len(slow))
		}
		if _, twice := f.of(slices.Concat(slow, others)); twice != 0 {
			t.Errorf("%d were ordered twice", twice)
		}
		if s, err := b.e.RefreshStats(t.Context()); err != nil || s.Due != 0 || s.Ordered != 0 || s.Oldest != 0 {
			t.Errorf("in the end: %+v, %v", s, err)
		}
	})
}

// While a provider answers none of one customer's 200 orders, everybody else's refreshes are
// ordered and noted as they come due, and so is what egress nodes say of connections.
func TestSlowRefreshesOfOneCustomerHoldUpNobody(t *testing.T) {
	t.Parallel()
	heldUp(t, 3, func(c []id.Customer) (slow, others []store.RefreshDue) {
		return duesOf(c[0], "x", 200), slices.Concat(duesOf(c[1], "y", 1), duesOf(c[2], "y", 20))
	})
}

// The same where the provider answers none of a hundred customers: what they have at other
// providers is renewed.
func TestSlowRefreshesOfOneProviderHoldUpNobody(t *testing.T) {
	t.Parallel()
	heldUp(t, 100, func(c []id.Customer) (slow, others []store.RefreshDue) {
		for i := range c {
			slow = append(slow, duesOf(c[i], "down", 2)...)
			others = append(others, duesOf(c[i], "up", 1)...)
		}
		return slow, others
	})
}
