package engine

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// foreign are the ends of a stay that are not the execution's doing, by what a runner says.
func foreign() []string {
	return []string{"lease", "shutdown", "unavailable", "unanswered", "idle", "evicted", "lost"}
}

// ended is how an execution ends whose worker is killed some times, which is then given back for a reason, far more often
// in a row than any limit, and is then let finish.
func ended(t *testing.T, kills int, why string) (status store.Status, interruptions uint32) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.stop()
		ctx, cancel := context.WithCancel(context.Background())
		n := b.tenant("c1")
		r := b.runner()
		r.heartbeats(ctx, 5, none)
		synctest.Wait()
		x := b.accept(n, "main", `{}`)
		for i := range kills + 2*MaxKills {
			if b.row(n, x).Status == store.Faulted {
				break
			}
			fault := why
			if i < kills {
				fault = interruptKilled
			}
			u := r.dispatch()[0]
			r.send(&wire.Released{Execution: x, Fence: u.Fence, Fault: fault})
			next(r, &wire.Cancel{})
			synctest.Wait()
		}
		if row := b.row(n, x); row.Status != store.Faulted {
			interruptions = row.Interruptions
			r.finish(r.dispatch()[0])
		}
		status = b.row(n, x).Status
		cancel()
		synctest.Wait()
	})
	return status, interruptions
}

// TestEndsOfOthersDoNotCount gives an execution back for every reason that is not its own: it goes
// on however often that happens.
func TestEndsOfOthersDoNotCount(t *testing.T) {
	t.Parallel()
	for _, why := range foreign() {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			for _, kills := range []int{0, MaxInterruptions, MaxKills - 1} {
				if status, n := ended(t, kills, why); status != store.Completed || int(n) != kills {
					t.Errorf("it is %v after %d interruptions, want completed after %d", status, n, kills)
				}
			}
		})
	}
}
