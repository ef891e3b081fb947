package trigger

import (
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Who wonders why nothing starts sees the newest refusals and why; a flood of them is one row.
func TestRejectionsAreListed(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o store.Options) {
		r := newRig(t, o)
		n := r.deploy(webhook(flow.Webhook{Verify: flow.Verify{Header: &flow.VerifyHeader{Name: "X-Key", Secret: "config.s"}}}), `{"s":"k"}`)
		url := r.hookURL(n)
		list := func(want int) []store.Rejection {
			t.Helper()
			r.door.rejected.flush()
			var got []store.Rejection
			until(t, func() bool {
				var err error
				got, err = r.door.Rejections(t.Context(), n.customer, n.id, "hook")
				return err == nil && len(got) == want
			})
			return got
		}
		r.post(url, "{}")
		if got := list(1); got[0].Reason != "no-signature" || got[0].Size != 2 || got[0].Repeats != 0 || got[0].At.IsZero() {
			t.Errorf("%+v", got)
		}
		for range 100 {
			r.post(url, "{}", "X-Key: guess")
		}
		r.post(url, "{", "X-Key: k", "Content-Type: application/json")
		list(3)
		for range 20 {
			r.post(url, "{}", "X-Key: guess")
		}
		list(4)
		for range 2 * store.MaxRejections {
			for _, body := range []string{"{", "{}"} {
				r.post(url, body, "Content-Type: application/json")
				r.door.rejected.flush()
			}
		}
		until(t, func() bool { // the last write may still be on its way
			got := list(store.MaxRejections)
			return got[0].Reason == "no-signature" && got[1].Reason == "malformed"
		})
		if got, err := r.store.Customer(t.Context(), r.deploy(webhook(open()), "{}").customer).Rejections(n.id, "hook"); err != nil || len(got) != 0 {
			t.Errorf("another customer sees %+v, %v", got, err)
		}
	})
}
