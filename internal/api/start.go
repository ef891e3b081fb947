package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
)

// streamed is an answer that is written as it comes.
type streamed struct {
	Body func(huma.Context)
}

// starting is what starts an execution.
type starting struct {
	customer id.Customer
	instance id.Instance
	flow     string
	event    json.RawMessage
	test     bool
	view     id.View
	key      []byte
	once     string // the Idempotency-Key: an event with it is accepted once
}

// start accepts an event. For a viewer it streams what there is to see until the execution
// ends.
func (s *Server) start(ctx context.Context, in *struct {
	InstancePath
	Key  string `header:"Idempotency-Key" hidden:"true"`
	Body ExecutionRequest
},
) (*streamed, error) {
	c, err := s.org(ctx).CustomerOfInstance(in.Instance)
	if err != nil {
		return nil, err
	}
	r := &in.Body
	return s.begin(ctx, &starting{c, in.Instance, r.Flow, r.Event, r.Test, r.View, r.Key, in.Key})
}

func (s *Server) begin(ctx context.Context, b *starting) (*streamed, error) {
	if len(b.event) == 0 {
		b.event = json.RawMessage("{}")
	}
	if err := s.complete(ctx, b); err != nil {
		return nil, err
	}
	ev := &engine.Event{
		Customer: b.customer, Instance: b.instance, Flow: b.flow, Body: b.event, Source: "api", Type: "start", Test: b.test,
	}
	if b.once != "" {
		ev.Delivery = delivery(principalOf(ctx).Token, b)
	}
	if err := s.checkInput(ctx, b.customer, b.instance, b.flow, b.event); err != nil {
		return nil, err
	}
	if b.view.IsZero() {
		a, err := s.engine.Accept(ctx, ev)
		if err != nil {
			return nil, err
		}
		return &streamed{func(c huma.Context) {
			c.SetHeader("Content-Type", "application/json")
			_ = json.NewEncoder(c.BodyWriter()).Encode(Started{a.Execution}) // who asked may be gone
		}}, nil
	}
	if len(b.key) != seal.KeySize {
		return nil, problemOf(CodeInvalid, "", Place{"body.key", "want 32 bytes"})
	}
	ev.Viewer = lease.Viewer{View: b.view, Key: seal.PublicKey(b.key)}
	watch, err := s.engine.Watch(ev.Viewer)
	if err != nil {
		return nil, err
	}
	a, err := s.engine.Accept(ctx, ev)
	if err != nil {
		watch.Close()
		return nil, err
	}
	return &streamed{func(c huma.Context) { s.stream(c, watch, a) }}, nil
}

// delivery is the delivery id of a request with an Idempotency-Key: that of the same request
// of the same token, which no webhook's sender and no other token can make.
func delivery(t id.Token, b *starting) string {
	sum := sha256.Sum256(seal.Tuple(nil, []byte("delivery/1"), t[:], []byte(b.once), b.event))
	return "api:" + hex.EncodeToString(sum[:])
}

// complete adds what the platform says of an event: the customer, and where it comes from.
// Only a test may say another customer, or what the platform alone says otherwise.
func (s *Server) complete(ctx context.Context, b *starting) error {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(b.event, &fields); err != nil || fields == nil {
		return errors.Join(errRequest, errors.New("the event is no object"))
	}
	if !b.test {
		for _, own := range []string{"customer", "reply", "poll"} {
			delete(fields, own)
		}
	}
	if fields["customer"] == nil {
		customer, err := s.engine.Describe(ctx, b.customer)
		if err != nil {
			return err
		}
		fields["customer"] = customer
	}
	for name, text := range map[string]string{
		"time": time.Now().UTC().Format(time.RFC3339Nano), "source": "/instances/" + b.instance.String() + "/flows/" + b.flow, "type": "manual",
	} {
		if fields[name] == nil {
			fields[name], _ = json.Marshal(text) // a text always prints
		}
	}
	var err error
	b.event, err = json.Marshal(fields)
	return err
}

// stream writes what a viewer sees until the execution ends or the viewer is gone.
func (s *Server) stream(c huma.Context, watch *engine.Watch, a engine.Accepted) {
	defer watch.Close()
	r, w := humago.Unwrap(c)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	_ = out.SetWriteDeadline(noDeadline)
	e := json.NewEncoder(w)
	send := func(v Event) bool { return e.Encode(v) == nil && !errors.Is(out.Flush(), http.ErrHandlerTimeout) }
	if !send(Event{Kind: EventAccepted, Execution: a.Execution}) || a.Duplicate {
		return // the execution of an earlier request has its own viewer
	}
	for {
		u, err := watch.Next(r.Context())
		if err != nil || !send(eventOf(&u, a.Execution)) || u.Finished != nil {
			return
		}
	}
}
