package trigger

import (
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// deployed is an integration whose flows of those names have a deploy trigger.
func deployed(names ...string) *flow.Integration {
	i := &flow.Integration{Flows: []flow.Flow{{Name: "other", Trigger: flow.Trigger{Manual: &flow.Input{}}}}}
	for _, name := range names {
		i.Flows = append(i.Flows, flow.Flow{Name: name, Trigger: flow.Trigger{Deploy: &flow.Empty{}}})
	}
	return i
}

// A flow with a deploy trigger runs once in the life of its instance, when that is enabled
// first: not when it is deployed again, upgraded, rolled back, paused and resumed, and not when
// several servers look for it.
func TestDeployRunsOnce(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o store.Options) {
		r := newRig(t, o)
		now := time.Now()
		c, other := r.clock(now), r.clock(now)
		n := r.deploy(deployed("first"), "{}")
		runs := func(want ...string) {
			t.Helper()
			c.until(t, now.Add(time.Hour))
			other.until(t, now.Add(time.Hour))
			var got []string
			err := r.store.System(t.Context()).OpenExecutions(store.ShardOf(n.customer), func(x *store.Unfinished) error {
				if x.Instance == n.id {
					got = append(got, x.Flow)
					if e := r.event(n, x.Execution); e["type"] != "deploy" || e["customer"] == nil {
						t.Errorf("event of %s: %v", x.Flow, e)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			equalTexts(t, "deploy flows that began", got, want...)
		}
		runs("first")
		r.redeploy(n, deployed("first"), "{}")
		runs("first")
		r.redeploy(n, deployed(), "{}")
		r.redeploy(n, deployed("first"), "{}")
		runs("first")
		for _, state := range []store.InstanceState{store.InstancePaused, store.InstanceEnabled} {
			if err := r.e.SetInstanceState(t.Context(), n.customer, n.id, state); err != nil {
				t.Fatal(err)
			}
			runs("first")
		}
		// What another version adds has not run yet. It waits while the instance is paused.
		r.redeploy(n, deployed("first", "second"), "{}")
		if err := r.e.SetInstanceState(t.Context(), n.customer, n.id, store.InstancePaused); err != nil {
			t.Fatal(err)
		}
		runs("first")
		if err := r.e.SetInstanceState(t.Context(), n.customer, n.id, store.InstanceEnabled); err != nil {
			t.Fatal(err)
		}
		runs("first", "second")
	})
}
