package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// A test run of a draft is a test execution of an instance of its own, of a version that is
// published under an integration of its own: no list shows either, and the numbers of the
// real one's versions do not move. Nothing starts the flows of its instance but that test run:
// a draft's schedules do not run and its webhooks have no address. The instance stays as long
// as somebody may look at what it did, and is removed with a later test run.

const (
	// testPrefix begins the names of such integrations, and of no other.
	testPrefix = store.TestPrefix
	// testFor is how long the instance of a test run stays.
	testFor = 24 * time.Hour
	// testSweep is how many old ones are removed with each test run.
	testSweep = 8
)

func (s *Server) testRoutes() []route {
	return []route{{
		id: "test-draft", method: http.MethodPost, path: "/integrations/{integration}/test", permission: PermissionExecutionsTest,
		summary: "Run a flow of a draft, or of a source, as a test execution of a customer. What it does with connections is real. The answer is a stream.", body: maxRequest,
		streams: true, register: handle(s, s.testDraft),
	}}
}

func (s *Server) testDraft(ctx context.Context, in *struct {
	IntegrationPath
	Key  string `header:"Idempotency-Key" hidden:"true"`
	Body TestRequest
},
) (*streamed, error) {
	r := &in.Body
	if len(r.Slots) > 0 && !r.Effects {
		return nil, problemOf(CodeInvalid, "", Place{"body.effects", "want true: a test run with connections changes what is in the systems behind them"})
	}
	source := r.Source
	if source == "" {
		x, err := s.findIntegration(ctx, in.Integration)
		if err != nil {
			return nil, err
		}
		d, err := s.org(ctx).Draft(x.ID)
		if err != nil {
			return nil, err
		}
		source = d.Source
	}
	c, err := s.findCustomer(ctx, r.Customer)
	if err != nil {
		return nil, err
	}
	i, problems := s.decode(ctx, source)
	if i == nil {
		return nil, invalidSource(problems)
	}
	f := i.Flow(r.Flow)
	if f == nil {
		return nil, problemOf(CodeInvalid, "", Place{"body.flow", "the integration has no such flow"})
	}
	if i.Name = testPrefix + i.Name; len(i.Name) > maxName {
		i.Name = i.Name[:maxName]
	}
	definition, err := i.Encode()
	if err != nil {
		return nil, err
	}
	d := &engine.Deployment{Customer: c, Instance: r.Instance, Sealed: r.SealedConfig, EgressPool: DefaultPool, RunnerPool: DefaultPool, Quiet: true}
	if d.Slots, err = s.slotsOf(ctx, c, r.Slots); err != nil {
		return nil, err
	}
	if r.SealedConfig == nil {
		if d.Config, err = checkConfig(definition, r.Config, false); err != nil {
			return nil, err
		}
	}
	if d.Instance.IsZero() {
		d.Instance = id.NewInstance(time.Now())
	} else if err := s.free(ctx, d.Instance); err != nil {
		return nil, err
	}
	if d.Digest, err = s.publishHidden(ctx, definition); err != nil {
		return nil, err
	}
	s.sweepTests(ctx)
	if _, err := s.engine.Deploy(ctx, d); err != nil {
		return nil, err
	}
	return s.begin(ctx, &starting{c, d.Instance, r.Flow, r.Event, true, r.View, r.Key, in.Key})
}

// publishHidden publishes a version that no list shows.
func (s *Server) publishHidden(ctx context.Context, definition []byte) ([32]byte, error) {
	org := principalOf(ctx).Org
	v, err := s.engine.Publish(ctx, org, definition)
	if err != nil {
		return [32]byte{}, err
	}
	return v.Digest, s.db.Write(ctx, func(tx *store.Tx) error { return tx.Org(org).HideIntegration(v.Integration) })
}

// sweepTests removes the instances of test runs that are over for long.
func (s *Server) sweepTests(ctx context.Context) {
	list, err := s.org(ctx).TestInstances(time.Now().Add(-testFor), testSweep)
	if err != nil {
		s.log.ErrorContext(ctx, "old test runs cannot be found", "err", err)
		return
	}
	for _, k := range list {
		if err := s.engine.Remove(ctx, k.Customer, k.Instance, 0); err != nil && !errors.Is(err, engine.ErrConflict) {
			s.log.ErrorContext(ctx, "old test run cannot be removed", "instance", k.Instance.String(), "err", err)
		}
	}
}
