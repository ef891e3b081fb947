package trigger

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/store"
)

const (
	paidTrigger = `{"name":"paid","type":"webhook",` + subscriptionRecipe + `,"verify":{"type":"none","secret":"none"}}`
	sentTrigger = `{"name":"sent","type":"webhook",` + subscriptionRecipe + `,"verify":{"type":"none","secret":"none"}}`
)

// An instance that is removed before the subscription was taken back which its version has no more takes it back too.
func TestARemovalTakesBackWhatAnUpgradeDropped(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o store.Options) {
		r := newRig(t, o)
		n := r.put(instance{}, subscribing(t, paidTrigger))
		n = r.put(n, subscribing(t, sentTrigger))
		if err := r.e.Remove(t.Context(), n.customer, n.id, 0); err != nil {
			t.Fatal(err)
		}
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		late := time.After(20 * time.Second)
		for len(r.begun(n)) < 2 {
			select {
			case <-tick.C:
			case <-late:
				t.Fatalf("only %v began", r.begun(n))
			}
		}
		equalTexts(t, "removed", r.begun(n), "paid$unsubscribe", "sent$unsubscribe")
	})
}

// A version that has a subscription again keeps it, whether the one before it came to taking it back or not.
func TestWhatAVersionHasAgainIsNotTakenBack(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o store.Options) {
		r := newRig(t, o)
		now := time.Now()
		c := r.clock(now)
		n := r.put(instance{}, subscribing(t, paidTrigger))
		c.until(t, now.Add(time.Hour))
		n = r.put(n, subscribing(t, sentTrigger))
		n = r.put(n, subscribing(t, paidTrigger))
		c.until(t, now.Add(2*time.Hour))
		got := r.begun(n)
		got = slices.DeleteFunc(got, func(name string) bool { return strings.HasPrefix(name, "sent$") })
		equalTexts(t, "again", got, "paid$subscribe", "paid$subscribe")
	})
}
