package egress

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// paceAll makes n calls of one connection at once, each of which takes a time, and returns when each began, and the most at a time.
func paceAll(t *testing.T, p *pacer, c id.Connection, r *credential.Rate, n int, takes time.Duration) (began []time.Duration, most int) {
	t.Helper()
	start := time.Now()
	var mu sync.Mutex
	var wg sync.WaitGroup
	flying := 0
	for range n {
		wg.Go(func() {
			if f := p.enter(t.Context(), c, "", r); f != nil {
				t.Error(f)
				return
			}
			mu.Lock()
			began = append(began, time.Since(start))
			flying++
			most = max(most, flying)
			mu.Unlock()
			<-time.After(takes)
			mu.Lock()
			flying--
			mu.Unlock()
			p.leave(c, "", r, 200, nil, nil)
		})
		synctest.Wait()
	}
	wg.Wait()
	return began, most
}

func TestCallsKeepToTheLimitsOfTheConnection(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		rate  credential.Rate
		nodes int
		calls int
		most  int
		last  time.Duration
	}{
		{"concurrent", credential.Rate{Concurrent: 4}, 1, 20, 4, 4 * time.Second},
		{"concurrent, two nodes", credential.Rate{Concurrent: 4}, 2, 20, 2, 9 * time.Second},
		{"concurrent, many nodes", credential.Rate{Concurrent: 4}, 9, 4, 1, 3 * time.Second},
		{"per second", credential.Rate{PerSecond: 10}, 1, 30, 30, 2 * time.Second},
		{"per second with burst", credential.Rate{PerSecond: 10, Burst: 20}, 1, 30, 30, time.Second},
		{"per second, two nodes", credential.Rate{PerSecond: 10}, 2, 30, 30, 5 * time.Second},
		{"slow", credential.Rate{PerSecond: 0.5}, 1, 3, 3, 4 * time.Second},
		{"none", credential.Rate{}, 1, 60, 60, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPacer(nil)
				p.share(c.nodes)
				began, most := paceAll(t, p, id.NewConnection(time.Now()), &c.rate, c.calls, time.Second)
				last := began[len(began)-1]
				if most > c.most || last < c.last-time.Millisecond || last > c.last+50*time.Millisecond {
					t.Errorf("%d at a time, want %d; the last began after %v, want %v", most, c.most, last, c.last)
				}
			})
		})
	}
}

func TestAPauseOfTheProviderHoldsForAllCallsAndNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, r := id.NewConnection(time.Now()), &credential.Rate{Path: "error", Values: []string{"ratelimited"}}
		other := newPacer(nil)
		p := newPacer(other.pause)
		for _, answer := range []struct {
			status int
			header http.Header
			body   string
			want   time.Duration
		}{
			{429, http.Header{"Retry-After": {"7"}}, "", 7 * time.Second},
			{200, http.Header{"Retry-After": {"3"}}, `{"error":"ratelimited"}`, 3 * time.Second},
			{200, nil, `{"error":"ratelimited"}`, time.Second},
			{200, http.Header{"Retry-After": {"3"}}, `{"error":"other"}`, 0},
			{503, nil, "", time.Second},
		} {
			if f := p.enter(t.Context(), c, "", r); f != nil {
				t.Fatal(f)
			}
			p.leave(c, "", r, answer.status, answer.header, []byte(answer.body))
			if answer.want > 0 {
				short, cancel := context.WithTimeout(t.Context(), answer.want-time.Millisecond)
				if f := p.enter(short, c, "", r); f == nil || f.Type != RateLimited || f.Outcome != NotSent || f.RetryAfter <= 0 {
					t.Errorf("a call that cannot wait is not told so: %v", f)
				}
				cancel()
			}
			began := time.Now()
			var wg sync.WaitGroup
			for name, node := range map[string]*pacer{"this": p, "the other": other} {
				wg.Go(func() {
					if f := node.enter(t.Context(), c, "", r); f != nil {
						t.Error(f)
					}
					if got := time.Since(began); got != answer.want {
						t.Errorf("%s node waited %v after %d %s, want %v", name, got, answer.status, answer.body, answer.want)
					}
					node.leave(c, "", r, 200, nil, nil)
				})
			}
			wg.Wait()
		}
	})
}

// Where answers do not say how long, the provider's own time holds for the connection, on all nodes, and is what the caller is told.
func TestAPauseThatNoAnswerNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, r := id.NewConnection(time.Now()), &credential.Rate{Pause: 30, Statuses: []int{429}, Path: "error", Values: []string{"ratelimited"}}
		other := newPacer(nil)
		p := newPacer(other.pause)
		for _, answer := range []struct {
			status int
			header http.Header
			body   string
			want   time.Duration
		}{
			{429, nil, "", 30 * time.Second},
			{200, nil, `{"error":"ratelimited"}`, 30 * time.Second},
			{429, http.Header{"Retry-After": {"7"}}, "", 7 * time.Second},
			{503, nil, "", 0},
		} {
			if f := p.enter(t.Context(), c, "", r); f != nil {
				t.Fatal(f)
			}
			p.leave(c, "", r, answer.status, answer.header, []byte(answer.body))
			for name, node := range map[string]*pacer{"this": p, "the other": other} {
				short, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
				f := node.enter(short, c, "", r)
				cancel()
				switch {
				case answer.want == 0 && f != nil:
					t.Errorf("%s node after %d: %v", name, answer.status, f)
				case answer.want == 0:
					node.leave(c, "", r, 200, nil, nil)
				case f == nil || f.Type != RateLimited || f.Outcome != NotSent || f.RetryAfter != answer.want:
					t.Errorf("%s node after %d %s: %+v, want a wait of %v", name, answer.status, answer.body, f, answer.want)
				}
			}
			<-time.After(answer.want) // of the bubble's clock
		}
	})
}

// Calls go in their order, one that gives up does not hold others up, and too many are refused at once.
func TestCallsThatWaitGoInTheirOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, c, r := newPacer(nil), id.NewConnection(time.Now()), &credential.Rate{Concurrent: 1}
		if f := p.enter(t.Context(), c, "", r); f != nil {
			t.Fatal(f)
		}
		var order []int
		var wg sync.WaitGroup
		for i := range maxPaced {
			ctx, cancel := context.WithCancel(t.Context())
			wg.Go(func() {
				if f := p.enter(ctx, c, "", r); f != nil {
					return
				}
				order = append(order, i)
				p.leave(c, "", r, 200, nil, nil)
			})
			synctest.Wait()
			if i == 1 {
				defer cancel()
				cancel()
				synctest.Wait()
			} else {
				t.Cleanup(cancel)
			}
		}
		if f := p.enter(t.Context(), c, "", r); f == nil || f.Type != RateLimited {
			t.Errorf("one too many waits: %v", f)
		}
		p.leave(c, "", r, 200, nil, nil)
		wg.Wait()
		if len(order) != maxPaced-1 {
			t.Fatalf("%d calls were made, want %d", len(order), maxPaced-1)
		}
		for i := 1; i < len(order); i++ {
			if order[i] < order[i-1] {
				t.Fatalf("order %v", order)
			}
		}
		if g := p.gates[paceKey{connection: c}]; g.flying != 0 || len(g.waiting) != 0 {
			t.Errorf("%d are counted as under way, %d wait", g.flying, len(g.waiting))
		}
	})
}

// An action with limits of its own keeps to them beside those of the connection, and does not stand in the way of others.
func TestAnActionKeepsToItsOwnLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, c := newPacer(nil), id.NewConnection(time.Now())
		r := &credential.Rate{Concurrent: 3, Actions: map[string]credential.Quota{"search": {Concurrent: 1}, "slow": {PerSecond: 0.5}}}
		start := time.Now()
		var wg sync.WaitGroup
		var mu sync.Mutex
		began := map[string][]time.Duration{}
		call := func(action string) {
			wg.Go(func() {
				if f := p.enter(t.Context(), c, action, r); f != nil {
					t.Error(f)
					return
				}
				mu.Lock()
				began[action] = append(began[action], time.Since(start).Truncate(time.Millisecond))
				mu.Unlock()
				<-time.After(time.Second)
				p.leave(c, action, r, 200, nil, nil)
			})
			synctest.Wait()
		}
		for _, action := range []string{"search", "search", "search", "slow", "slow", "read", "read"} {
			call(action)
		}
		wg.Wait()
		s := time.Second
		want := map[string][]time.Duration{"search": {0, s, 2 * s}, "slow": {0, 2 * s}, "read": {0, s}}
		if diff := cmp.Diff(want, began); diff != "" {
			t.Errorf("when calls began: %s", diff)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		for range 3 {
			if f := p.enter(t.Context(), c, "read", r); f != nil {
				t.Fatal(f)
			}
		}
		if f := p.enter(short, c, "search", r); f == nil || f.Type != RateLimited {
			t.Errorf("a call for which the connection has no room: %v", f)
		}
		for range 3 {
			p.leave(c, "read", r, 200, nil, nil)
		}
		if f := p.enter(t.Context(), c, "search", r); f != nil {
			t.Errorf("the room of a call that gave up is not free: %v", f)
		}
	})
}
