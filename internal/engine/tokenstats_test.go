package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Every way in which a refresh ends is counted once, under its own name.
func TestRefreshesAreCountedByOutcome(t *testing.T) {
	t.Parallel()
	for outcome, tt := range map[string]struct {
		answer *lease.OrderResult
		err    error
	}{
		"saved":       {&lease.OrderResult{Code: lease.OrderOK, Status: wire.ConnectionStatus{Version: 8, Expires: time.Now().Add(time.Hour)}}, nil},
		"failed":      {&lease.OrderResult{Code: lease.OrderFailed, Retry: time.Hour, Status: wire.ConnectionStatus{Error: "network"}}, nil},
		"refused":     {&lease.OrderResult{Code: lease.OrderDead, Status: wire.ConnectionStatus{State: wire.ConnectionNeedsReconnect, Error: "invalid_grant"}}, nil},
		"lost_answer": {&lease.OrderResult{Code: lease.OrderDead, Status: wire.ConnectionStatus{State: wire.ConnectionLostAnswer}}, nil},
		"not_ordered": {nil, errors.New("no egress node of the pool is live")},
	} {
		t.Run(outcome, func(t *testing.T) {
			t.Parallel()
			x := newTokened(t, time.Now().Add(-time.Hour))
			s, err := x.e.RefreshStats(t.Context())
			if err != nil || s.Due != 1 || s.Overdue != 1 || s.Oldest < time.Hour {
				t.Errorf("before: %+v, %v", s, err)
			}
			x.refresher.answer, x.refresher.err = tt.answer, tt.err
			x.order()
			x.order() // nothing is due any more
			want := map[string]uint64{"saved": 0, "refused": 0, "failed": 0, "lost_answer": 0, "not_ordered": 0}
			want[outcome] = 1
			s, err = x.e.RefreshStats(t.Context())
			if err != nil || s.Due != 0 || s.Overdue != 0 || s.Oldest != 0 {
				t.Errorf("after: %+v, %v", s, err)
			}
			if diff := cmp.Diff(want, s.Outcomes); diff != "" {
				t.Error(diff)
			}
		})
	}
}
