package connect

import (
	"slices"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/store"
)

// A connection that ends soon and that nothing renews is told of, and one that nothing has
// used for long, each once.
func TestWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := must(w.Save(t.Context(), &Entry{
		Org: w.org, Customer: w.customer, Connector: "acme", Method: "key", Vars: map[string]string{"shop": "bakery"},
		Fields: map[string]string{"key_id": "abcdefgh", "api_key": canary},
	}))
	now := time.Now()
	notices := func(now time.Time) (kinds []store.NoticeKind) {
		t.Helper()
		if err := w.Watch(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		for _, x := range must(w.db.Org(t.Context(), w.org).Notices(&store.NoticeQuery{}, 9)) {
			kinds = append(kinds, x.Kind)
		}
		slices.Sort(kinds) // those of one millisecond are in no order
		return kinds
	}
	if got := notices(now); len(got) != 0 {
		t.Errorf("at first: %v", got)
	}
	err := w.db.Write(t.Context(), func(tx *store.Tx) error {
		return tx.Customer(w.customer).TokenSaved(n, &store.TokenSaved{RecordVersion: 9, Expires: now.Add(30 * 24 * time.Hour)}, now)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := notices(now); len(got) != 0 {
		t.Errorf("a month before its end: %v", got)
	}
	for range 2 {
		if got := notices(now.Add(25 * 24 * time.Hour)); len(got) != 1 || got[0] != store.NoticeExpiring || w.connections(w.customer)[0].Health != store.HealthExpiring {
			t.Errorf("some days before its end: %v", got)
		}
	}
	for range 2 {
		if got := notices(now.Add(UnusedAfter + time.Hour)); len(got) != 2 || got[1] != store.NoticeUnused {
			t.Errorf("unused: %v", got)
		}
	}
}
