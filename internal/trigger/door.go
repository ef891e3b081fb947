package trigger

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Path is the prefix of the addresses of webhooks.
const Path = "/hooks/"

// Limits of the door.
const (
	// DefaultBudget is how many bytes of bodies are in memory at a time.
	DefaultBudget = 64 << 20
	// bodyWait is how long a request waits for room in the budget.
	bodyWait = 20 * time.Second
	// maxHooks bounds the addresses that are kept in memory.
	maxHooks = 10_000
	// hookAge is how long a change that another server made to an address may stay unseen.
	hookAge = 5 * time.Second
)

// Options are what a door needs.
type Options struct {
	Engine *engine.Engine
	Vault  engine.Vault // checks who senders are
	Store  *store.Store // keeps what was rejected; nil: nothing does
	Log    *slog.Logger // default: none
	// What apps need whose events come to one address for all customers; nil Manifests: there are none.
	Org       id.Org
	Manifests Manifests
	Accounts  Accounts
	// Base is the public address of this server as senders know it, such as https://hooks.example.com; empty: that of the
	// request. Some sign it.
	Base   string
	Budget int64 // bytes of bodies in memory; default and least: DefaultBudget, MaxBody
}

// Door takes webhooks. Make one with [NewDoor].
type Door struct {
	engine *engine.Engine
	log    *slog.Logger
	budget *budget
	checks *checker
	parts  chan struct{} // holds a token for each check that comes in parts

	rejected rejections
	base     string // public address, or empty
	apps     struct {
		org       id.Org
		manifests Manifests
		accounts  Accounts
	}
	unknown unknowns // events of apps that named an account which nobody has connected

	now func() time.Time

	syncWait time.Duration
	waiting  places // requests that wait for their flow

	mu    sync.RWMutex
	hooks map[string]known // by token
	known map[id.Template]*app
}

// known is an address that was found a moment ago.
type known struct {
	hook *store.Hook
	read time.Time
}

// NewDoor makes a door.
func NewDoor(o Options) *Door {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Budget == 0 {
		o.Budget = DefaultBudget
	}
	d := &Door{
		known: map[id.Template]*app{}, engine: o.Engine, log: o.Log, base: o.Base, budget: newBudget(max(o.Budget, MaxBody)), hooks: map[string]known{}, checks: &checker{vault: o.Vault},
		parts: make(chan struct{}, maxParts), now: time.Now, syncWait: SyncWait,
		rejected: rejections{store: o.Store, counts: map[rejected]*store.Rejection{}},
	}
	d.apps.org, d.apps.manifests, d.apps.accounts = o.Org, o.Manifests, o.Accounts
	d.unknown.store, d.unknown.org = o.Store, &d.apps.org
	return d
}

// ServeHTTP implements [http.Handler] for the addresses below [Path].
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if name, ok := strings.CutPrefix(r.URL.Path, AppPath); ok {
		d.serveApp(w, r, name)
		return
	}
	token, ok := strings.CutPrefix(r.URL.Path, Path)
	if !ok || len(token) != engine.HookTokenSize {
		refuse(w, notFound)
		return
	}
	h, err := d.find(r.Context(), token)
	if err != nil {
		d.failed(w, r, err)
		return
	}
	t, err := d.engine.Target(r.Context(), h.Customer, h.Instance, h.Flow)
	if err != nil {
		d.failed(w, r, err)
		return
	}
	take := d.serve
	switch {
	case t.Flow.Trigger.Event != nil:
		take = d.serveEvent
	case t.Flow.Trigger.Webhook == nil:
		refuse(w, notFound)
		return
	}
	switch t.Instance.State {
	case store.InstanceEnabled, store.InstancePaused, store.InstanceFailing:
		take(w, r, t)
	case store.InstanceRemoving:
		refuse(w, notFound)
	default:
		d.reject(w, r, t, notReady, notReady.code)
	}
}

// reject refuses a request for a flow, and has it listed.
func (d *Door) reject(w http.ResponseWriter, r *http.Request, t *engine.Target, a answer, reason string) {
	d.rejected.add(t, reason, r.ContentLength, d.now())
	refuse(w, a)
}

// find looks an address up by its token.
func (d *Door) find(ctx context.Context, token string) (*store.Hook, error) {
	now := time.Now()
	d.mu.RLock()
	k := d.hooks[token]
	d.mu.RUnlock()
	if k.hook != nil && now.Sub(k.read) < hookAge && (k.hook.Closes.IsZero() || now.Before(k.hook.Closes)) {
		return k.hook, nil
	}
	h, err := d.engine.Hook(ctx, token)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.hooks) >= maxHooks {
		clear(d.hooks)
	}
	d.hooks[token] = known{h, now}
	return h, nil
}

// methodsOf are the methods that a webhook takes.
func methodsOf(h *flow.Webhook) []string {
	if len(h.Methods) == 0 {
		return []string{http.MethodPost}
	}
	return h.Methods
}

// serve takes one request for a flow.
func (d *Door) serve(w http.ResponseWriter, r *http.Request, t *engine.Target) {
	hook := t.Flow.Trigger.Webhook
	if methods := methodsOf(hook); !slices.Contains(methods, r.Method) {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		d.reject(w, r, t, wrongMethod, wrongMethod.code)
		return
	}
	room := &part{b: d.budget, owner: t.Instance.Customer}
	defer room.release()
	q, err := d.read(r, room)
	if err != nil {
		a := bodyAnswer(err)
		d.reject(w, r, t, a, a.code)
		return
	}
	if err := d.verify(r.Context(), r, t, q); err != nil {
		d.unproved(w, r, t, err)
		return
	}
	d.accept(w, r, t, q, room.release)
}

// read reads the body of a request when it has its part of the budget. It reads nothing of one that says it is too large.
func (d *Door) read(r *http.Request, room *part) (*Request, error) {
	size := r.ContentLength
	if size > MaxBody {
		return nil, ErrTooLarge
	}
	if size < 0 {
		size = unknownBody
		r.Body = &growing{ReadCloser: r.Body, ctx: r.Context(), part: room, left: size}
	}
	if size > 0 {
		if err := room.grow(r.Context(), size); err != nil {
			return nil, err
		}
	}
	return ReadRequest(r)
}

// unproved refuses a request whose sender is not who the flow says. It does not say why.
func (d *Door) unproved(w http.ResponseWriter, r *http.Request, t *engine.Target, err error) {
	if errors.Is(err, errUnchecked) {
		d.log.ErrorContext(r.Context(), "webhook could not be checked", "err", err)
		d.reject(w, r, t, failed, reasonUnknown)
		return
	}
	d.reject(w, r, t, unverified, reasonOf(err))
}

// accept stores the event of a request that is what it says, and answers. release gives back
// what the body took of the budget: it is called before a flow is waited for.
func (d *Door) accept(w http.ResponseWriter, r *http.Request, t *engine.Target, q *Request, release func()) {
	hook := t.Flow.Trigger.Webhook
	ev := &engine.Event{
		Customer: t.Instance.Customer, Instance: t.Instance.ID, Flow: t.Flow.Name, Source: "webhook", Type: "request",
		Delivery: q.delivery(hook),
	}
	if c := t.Flow.Concurrency; c != nil {
		ev.OrderKey = q.Key(&c.Key)
	}
	e := &Envelope{
		Source: source(t), Type: "webhook", Time: d.now(), Customer: t.Customer,
	}
	if c := q.cloud; c != nil {
		e.ID, e.Source, e.Type = c.id, c.source, c.kind
	}
	var s *sender
	if isSync(hook) {
		var err error
		if s, err = d.newSender(t.Instance.Customer); err != nil {
			d.failed(w, r, err)
			return
		}
	}
	if s != nil {
		defer d.endSender(s)
		e.sender, ev.Viewer = s, lease.Viewer{View: s.view}
	}
	d.engine.Pace(r.Context(), ev.Customer)
	ev.Body, ev.Rest = q.Event(e, hiddenHeaders(&hook.Verify)...)
	got, err := d.engine.Accept(r.Context(), ev)
	switch {
	case errors.Is(err, engine.ErrBusy):
		d.rejected.add(t, tooMany.code, r.ContentLength, d.now())
		d.failed(w, r, err)
	case err != nil:
		d.failed(w, r, err)
	case s != nil:
		*ev, *q = engine.Event{}, Request{}
		release()
		d.answerSync(w, r, t, s, got)
	default:
		started(w, got)
	}
}

// started answers that the event is durable.
func started(w http.ResponseWriter, got engine.Accepted) {
	b := make([]byte, 0, 64)
	b = append(b, `{"execution":"`...)
	b = append(b, got.Execution.String()...)
	b = append(b, "\"}\n"...)
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Cache-Control"] = noStore
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write(b)
}

// failed answers what went wrong without being the sender's fault, or was not found.
func (d *Door) failed(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, engine.ErrNotFound):
		refuse(w, notFound)
	case errors.Is(err, engine.ErrNotEnabled):
		refuse(w, notReady)
	case errors.Is(err, engine.ErrTooLarge):
		refuse(w, tooLarge)
	case errors.Is(err, engine.ErrBusy):
		a := tooMany
		if b, ok := errors.AsType[*engine.BusyError](err); ok {
			a.after = b.RetryAfter
		}
		refuse(w, a)
	case r.Context().Err() != nil: // the sender is gone
	default:
		d.log.ErrorContext(r.Context(), "webhook failed", "err", err)
		refuse(w, failed)
	}
}
