package connect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Tested is what the test of a connection found.
type Tested struct {
	OK        bool
	Ended     bool   // it has ended; else nothing is known yet
	Type      string // of the fault; empty when it is ok
	Status    int    // of the answer; 0: there was none
	Message   string // for people, in fixed words
	Health    store.Health
	Execution id.Execution
}

// Test tests a connection: it makes the request that the connector names for its auth method, with the stored credential at
// its bound host, as an execution. What it found becomes the health of the connection, unless it says nothing about the
// credential or that was entered anew meanwhile.
//
// Errors: [ErrNoTest]; [ErrConflict] for a connection that must be connected again; [ErrAsking]; store.ErrNotFound; or one of
// the engine, the vault or the store.
func (s *Service) Test(ctx context.Context, o id.Org, n id.Connection) (*Tested, error) {
	x, m, err := s.connection(ctx, o, n)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, fmt.Errorf("%w: http connects to any service, and does not know which request would prove it; run a flow", ErrNoTest)
	}
	method := m.Method(x.Method)
	if method == nil || method.Test == nil {
		return nil, fmt.Errorf("%w: %s %s names none for the auth method %s", ErrNoTest, m.Name, m.Version, x.Method)
	}
	if action := method.Test.Action; len(x.Shared.Actions) > 0 && !slices.Contains(x.Shared.Actions, action) {
		return nil, fmt.Errorf("%w: the credential may be used for some actions only, and %s is none of them", ErrNoTest, action)
	}
	began := time.Now()
	a, execution, err := s.put(ctx, o, x, m, flow.ProbeTest(method.ID), struct{}{})
	t := &Tested{Ended: true, Health: x.Health, Execution: execution}
	failed, isFault := errors.AsType[*AskedError](err)
	switch {
	case isFault:
		t.Type, t.Status, t.Ended, t.Message = failed.Type, failed.Status, failed.Type != "", failed.Error()
	case err != nil:
		return nil, err
	case !expected(method.Test.Expect, a.Status):
		t.Type, t.Status = "upstream", a.Status
		t.Message = fmt.Sprintf("The service answered %d, which is not what the connector's test expects.", a.Status)
	default:
		t.OK, t.Status, t.Message = true, a.Status, "The service accepts the credential."
	}
	return t, s.tested(ctx, x, t, began)
}

// expected reports whether a status is what a test expects; 0 is any below 300.
func expected(want, got int) bool { return got == want || want == 0 && got < 300 }

// health is what a test says of its connection; empty when it says nothing about the credential.
func (t *Tested) health() store.Health {
	if t.OK {
		return store.HealthOK
	}
	switch t.Type {
	case "auth", "upstream", "not-found", "timeout", "egress-denied":
		return store.HealthFailing
	}
	return ""
}

// tested notes what a test found.
func (s *Service) tested(ctx context.Context, x *store.ConnectionInfo, t *Tested, began time.Time) error {
	h, problem := t.health(), ""
	if h == "" {
		return nil
	}
	if h == store.HealthFailing {
		problem = "test_" + t.Type
	}
	changed, now := false, time.Now()
	err := s.db.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		var err error
		changed, err = tx.Customer(x.Customer).SetTested(x.ID, h, problem, began, now)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil // it was deleted meanwhile
	}
	if err != nil {
		return err
	}
	if changed && h == store.HealthFailing {
		s.notify(ctx, x.Customer, x.ID, store.NoticeFailing, problem)
	}
	if now, err := s.db.Customer(ctx, x.Customer).Connection(x.ID); err == nil {
		t.Health = now.Health
	}
	return nil
}
