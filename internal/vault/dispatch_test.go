package vault

import (
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// A breached runner has a dispatch for a minute: it must not get a lease for each program
// that it starts meanwhile.
func TestADispatchGivesAFewLeases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lift(w.vault)
	a := w.tenant("token of A")
	d := w.dispatch(a)
	for range maxLeasesPerDispatch {
		w.lease(d)
	}
	w.clock.add(lease.MaxDispatchAge)
	if _, err := w.tryLease(d); !errors.Is(err, ErrRefused) {
		t.Errorf("lease %d of one dispatch: %v, want refused", maxLeasesPerDispatch+1, err)
	}
	other := w.dispatch(a)
	w.lease(other)
}

// A lease that was not given takes nothing of what the dispatch gives.
func TestARefusedLeaseDoesNotCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lift(w.vault)
	a := w.tenant("token of A")
	d := w.dispatch(a)
	d.ConfigVersion++
	for range maxLeasesPerDispatch + 1 {
		if _, err := w.tryLease(d); !errors.Is(err, ErrRefused) {
			t.Fatalf("lease with a config that does not exist: %v", err)
		}
	}
	a.config = w.saveInstance(a.customer, a.instance, `{"a":2}`)
	if a.config.Version != d.ConfigVersion {
		t.Fatalf("config has version %d", a.config.Version)
	}
	w.lease(d)
}

func TestDispatchesAreForgottenWithTheirTime(t *testing.T) {
	t.Parallel()
	var s dispatches
	now := testStart
	for range 100 {
		d := &lease.Dispatch{Issued: now}
		if _, err := s.take(d, now); err != nil {
			t.Fatal(err)
		}
		now = now.Add(lease.MaxDispatchAge)
	}
	if len(s.given) > 4 {
		t.Errorf("%d dispatches are remembered", len(s.given))
	}
	s.given = make(map[[32]byte]*given, maxDispatches)
	for i := range maxDispatches {
		s.given[[32]byte{byte(i), byte(i >> 8), 1}] = &given{until: now.Add(time.Hour)}
	}
	if _, err := s.take(&lease.Dispatch{Issued: now}, now); !errors.Is(err, ErrBusy) {
		t.Errorf("a dispatch over the limit: %v", err)
	}
}
