package connect

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// What the platform itself asks through a connection is an execution of an instance that no list shows: of the integration
// that flow.Probe makes of the connector, deployed once for a connection and a digest. It uses the stored credential at its
// bound hosts; nothing of who asks decides on either. The answer is sealed to a key that this process makes for the one
// question.

// Limits of what is asked through connections.
const (
	// AskWait is how long who asks waits for the end; the execution may go on.
	AskWait = 20 * time.Second
	// MaxAsking is how many questions of one customer this server asks at a time.
	MaxAsking = 4
	// MaxProbes is how many connections of one customer keep an instance for questions; the oldest makes room.
	MaxProbes = 64
	// probeTurns is into how many groups connections are divided of which one is prepared at a time.
	probeTurns = 64
	// sameProbes is how many instances of one connection are looked at: two servers may have made one each.
	sameProbes = 8
	probeCap   = 2 // executions of such an instance at a time
)

// Errors of what is asked through connections.
var (
	// ErrNoTest means that nothing says how the connection is tested.
	ErrNoTest = errors.New("there is no test")
	// ErrNoChoices means that no action lists what was asked for.
	ErrNoChoices = errors.New("no action lists it")
	// ErrAsking means that too much is being asked for the customer; later it may work.
	ErrAsking = errors.New("too many questions at a time")
)

// AskedError is a question that the other side, or the way to it, did not answer.
type AskedError struct {
	Execution id.Execution
	Type      string // of the fault; empty: it has not ended yet
	Status    int    // of the answer; 0: there was none
	Reason    string // why there was none, see egress.Reason; empty: nothing is known
}

// Error implements error.
func (e *AskedError) Error() string {
	if e.Type == "" {
		return "it has not ended yet"
	}
	if e.Status == 0 && e.Reason != "" {
		return "The service cannot be reached: " + e.Reason + "."
	}
	return told(e.Type, e.Status)
}

// told says what a type of fault means, in fixed words: what the other side says stays in the execution, where who may see
// payloads can read it.
func told(kind string, status int) string {
	answered := ""
	if status > 0 {
		answered = fmt.Sprintf(" It answered %d.", status)
	}
	switch kind {
	case "auth":
		return "The service refuses the credential." + answered
	case "timeout":
		return "The service did not answer in time."
	case "rate-limited":
		return "The service wants to be asked later, which says nothing about the credential." + answered
	case "egress-denied":
		return "The request was not allowed to go out: the credential is not bound to where it went."
	case "not-found", "upstream":
		if status > 0 {
			return "The service answered with an error." + answered
		}
		return "The service cannot be reached, or its answer cannot be read."
	case "invalid-input", "expression":
		return "The connector's request could not be made, or its answer is not what it describes." + answered
	}
	return "It ended with " + kind + "." + answered
}

// asking counts what is being asked, and prepares one connection at a time. Safe for concurrent use.
type asking struct {
	mu    sync.Mutex
	now   map[id.Customer]int
	turns [probeTurns]sync.Mutex
	kept  keptChoices
}

func (a *asking) take(c id.Customer) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now == nil {
		a.now = map[id.Customer]int{}
	}
	if a.now[c] >= MaxAsking {
		return false
	}
	a.now[c]++
	return true
}

func (a *asking) give(c id.Customer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now[c]--; a.now[c] <= 0 {
		delete(a.now, c)
	}
}

// asked is what a question was answered, as flow.Probe says.
type asked struct {
	Status int             `json:"status"`
	List   []listed        `json:"list"`
	Schema json.RawMessage `json:"schema"`
	Fields []described     `json:"fields"`
	Error  *struct {
		Type    string `json:"type"`
		Status  int    `json:"status"`
		Message string `json:"message"`
	} `json:"error"`
}

// question is one thing that is asked.
type question struct {
	customer id.Customer
	instance id.Instance
	flow     string
	body     any // what the flow sees as trigger.body
}

// ask runs a flow and waits for its answer. The error is an [*AskedError] for what did not work on the way; the execution is
// told also then.
func (s *Service) ask(ctx context.Context, q *question) (*asked, id.Execution, error) {
	key, err := seal.GenerateKey()
	if err != nil {
		return nil, id.Execution{}, err
	}
	viewer := lease.Viewer{View: id.NewView(time.Now())}
	watch, err := s.engine.Watch(viewer)
	if err != nil {
		return nil, id.Execution{}, err
	}
	defer watch.Close()
	event, err := s.event(ctx, q, viewer.View, key.Public())
	if err != nil {
		return nil, id.Execution{}, err
	}
	got, err := s.engine.Accept(ctx, &engine.Event{
		Customer: q.customer, Instance: q.instance, Flow: q.flow, Body: event, Source: "connection", Type: "probe", Test: true, Viewer: viewer,
	})
	if err != nil {
		return nil, id.Execution{}, err
	}
	waiting, cancel := context.WithTimeout(ctx, s.askWait)
	defer cancel()
	for {
		u, err := watch.Next(waiting)
		switch {
		case ctx.Err() != nil:
			return nil, got.Execution, ctx.Err()
		case err != nil:
			return nil, got.Execution, &AskedError{Execution: got.Execution}
		case u.Reply != nil:
			if a := opened(key, u.Reply); a != nil {
				return a, got.Execution, a.fault(got.Execution)
			} // another's: the flow's own may still come
		case u.Finished != nil:
			kind := u.Finished.ErrorType
			if kind == "" {
				kind = string(u.Finished.Status)
			}
			return nil, got.Execution, &AskedError{Execution: got.Execution, Type: kind}
		}
	}
}

// event is what starts a question.
func (s *Service) event(ctx context.Context, q *question, v id.View, key seal.PublicKey) ([]byte, error) {
	customer, err := s.engine.Describe(ctx, q.customer)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"customer": customer, "body": q.body, "time": time.Now().UTC().Format(time.RFC3339Nano), "source": "/connections", "type": "probe",
		"reply": map[string]any{"view": v, "key": key[:], "server": s.engine.Node()},
	})
}

// opened is the answer of a flow; nil when it is not for this key.
func opened(key *seal.PrivateKey, r *wire.Reply) *asked {
	plain, err := key.Open(lease.PurposeView, r.Place(), r.Sealed)
	if err != nil {
		return nil
	}
	m, a := &wire.ReplyBody{}, &asked{}
	if wire.ParseBody(plain, m) != nil || json.Unmarshal(m.Body, a) != nil {
		return nil
	}
	return a
}

// fault is the error of a question that failed, or nil.
func (a *asked) fault(x id.Execution) error {
	if a.Error == nil {
		return nil
	}
	return &AskedError{Execution: x, Type: a.Error.Type, Status: a.Error.Status, Reason: egress.Reason(a.Error.Message)}
}

// connection reads a connection that can be asked, with its connector in the version for which it was entered.
func (s *Service) connection(ctx context.Context, o id.Org, n id.Connection) (*store.ConnectionInfo, *connector.Manifest, error) {
	x, err := s.db.Org(ctx, o).Connection(n)
	if errors.Is(err, store.ErrNotFound) && off(askersOwn) {
		x, err = s.anybodys(ctx, n)
	}
	if err != nil {
		return nil, nil, err
	}
	if flow.BuiltInConnector(x.Connector) {
		return x, nil, nil
	}
	known, err := s.offer(ctx, o, x.Connector, x.ConnectorVersion)
	if err != nil {
		return nil, nil, err
	}
	if known.manifest.Digest() != x.ConnectorDigest {
		return nil, nil, fmt.Errorf("%w: the connection was made for another content of %s %s; enter the credential again", ErrConflict, x.Connector, x.ConnectorVersion)
	}
	return x, known.manifest, usable(x)
}

// anybodys reads a connection whoever has it.
func (s *Service) anybodys(ctx context.Context, n id.Connection) (*store.ConnectionInfo, error) {
	list, err := s.db.System(ctx).ConnectionsAfter(id.Connection{}, pageSize)
	for _, k := range list {
		if k.Connection == n {
			return s.db.Customer(ctx, k.Customer).Connection(n)
		}
	}
	return nil, errors.Join(err, store.ErrNotFound)
}

// usable refuses a connection that is known not to work.
func usable(x *store.ConnectionInfo) error {
	if x.Health == store.HealthNeedsReconnect || x.Health == store.HealthRevoked {
		return fmt.Errorf("%w: it must be connected again first", ErrConflict)
	}
	return nil
}

// put asks a question through a connection.
func (s *Service) put(ctx context.Context, o id.Org, x *store.ConnectionInfo, m *connector.Manifest, name string, body any) (*asked, id.Execution, error) {
	if !s.asking.take(x.Customer) {
		return nil, id.Execution{}, ErrAsking
	}
	defer s.asking.give(x.Customer)
	i, err := s.probe(ctx, o, x, m, name)
	if err != nil {
		return nil, id.Execution{}, err
	}
	return s.ask(ctx, &question{x.Customer, i, name, body})
}

// hiddenName is the name of an integration that no list shows.
func hiddenName(prefix, name string) string {
	return prefix + name[:min(len(name), flow.MaxNameBytes-len(prefix))]
}

// probe finds or makes the instance by which a connection is asked a question.
func (s *Service) probe(ctx context.Context, o id.Org, x *store.ConnectionInfo, m *connector.Manifest, name string) (id.Instance, error) {
	turn := &s.asking.turns[x.ID[len(x.ID)-1]%probeTurns]
	turn.Lock()
	defer turn.Unlock()
	p, err := flow.Probe(m)
	if err != nil {
		return id.Instance{}, err
	}
	if p.Flow(name) == nil {
		return id.Instance{}, fmt.Errorf("%w: its action takes a query, or the connector has too many of them", ErrNoChoices)
	}
	p.Name = hiddenName(store.ProbePrefix, m.Name)
	definition, err := p.Encode()
	if err != nil {
		return id.Instance{}, err
	}
	digest, found := sha256.Sum256(definition), id.Instance{}
	list, err := s.db.Customer(ctx, x.Customer).Probes(x.ID, sameProbes)
	if err != nil {
		return found, err
	}
	for k := range list {
		if known := &list[k]; found.IsZero() && known.Digest == digest && known.State != store.InstancePaused {
			found = known.Instance
		} else if err := s.unprobe(ctx, x.Customer, known.Instance); err != nil {
			return found, err
		}
	}
	if !found.IsZero() {
		return found, nil
	}
	if err := s.makeRoom(ctx, x.Customer); err != nil {
		return found, err
	}
	return s.deployHidden(ctx, o, definition, &engine.Deployment{
		Customer: x.Customer, InFlightCap: probeCap, Slots: []store.Slot{{Name: flow.ProbeSlot, Owner: x.Customer, Connection: x.ID}},
	})
}

// deployHidden publishes a definition that no list shows, and deploys it.
func (s *Service) deployHidden(ctx context.Context, o id.Org, definition []byte, d *engine.Deployment) (id.Instance, error) {
	v, err := s.engine.Publish(ctx, o, definition)
	if err != nil {
		return id.Instance{}, err
	}
	if err := s.db.Write(ctx, func(tx *store.Tx) error { return tx.Org(o).HideIntegration(v.Integration) }); err != nil {
		return id.Instance{}, err
	}
	d.Instance, d.Digest, d.EgressPool, d.RunnerPool, d.Quiet = id.NewInstance(time.Now()), v.Digest, s.o.Pool, s.o.Pool, true
	if _, err := s.engine.Deploy(ctx, d); err != nil {
		return id.Instance{}, err
	}
	return d.Instance, nil
}

// makeRoom removes the oldest instances for questions of a customer that has too many.
func (s *Service) makeRoom(ctx context.Context, c id.Customer) error {
	all, err := s.db.Customer(ctx, c).Probes(id.Connection{}, 2*MaxProbes)
	if err != nil {
		return err
	}
	for k := MaxProbes - 1; k < len(all); k++ {
		if err := s.unprobe(ctx, c, all[k].Instance); err != nil {
			return err
		}
	}
	return nil
}

// unprobe removes an instance for questions.
func (s *Service) unprobe(ctx context.Context, c id.Customer, i id.Instance) error {
	err := s.engine.Remove(ctx, c, i, 0)
	if errors.Is(err, engine.ErrNotFound) || errors.Is(err, engine.ErrConflict) {
		return nil // another was first
	}
	return err
}

// unprobeAll removes the instances by which a connection was asked.
func (s *Service) unprobeAll(ctx context.Context, c id.Customer, n id.Connection) error {
	for {
		list, err := s.db.Customer(ctx, c).Probes(n, sameProbes)
		if err != nil || len(list) == 0 {
			return err
		}
		for k := range list {
			if err := s.unprobe(ctx, c, list[k].Instance); err != nil {
				return err
			}
		}
	}
}
