package trigger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// AppPath is the prefix of the addresses of apps, behind which the id of the template stands that
// has the app's client. The id is no secret: every event proves its sender.
const AppPath = Path + "app/"

// Limits of the events of apps.
const (
	// maxAppEvents is how many events one request may carry.
	maxAppEvents = 1000
	// maxAppConnections is how many connections of one account an event goes to.
	maxAppConnections = 1000
	// appAge is how long a change of a template may stay unseen.
	appAge = 5 * time.Second
	// maxApps bounds the apps that are kept in memory.
	maxApps = 1000
)

// Manifests finds connectors of an organization.
type Manifests interface {
	Manifest(ctx context.Context, o id.Org, name, versions string) (*connector.Manifest, error)
}

// Accounts makes the blind index of an account at a provider, as connections have it.
type Accounts interface {
	AccountIndex(ctx context.Context, connector, account string) ([32]byte, error)
}

// app is an app whose events come to one address for all customers.
type app struct {
	template *store.Template
	triggers []*connector.Trigger // those of type app
	verify   *connector.Verify    // how the events of all of them prove their sender
	read     time.Time
}

// app finds an app by what stands in its address.
func (d *Door) app(ctx context.Context, name string) (*app, error) {
	var t id.Template
	if err := t.UnmarshalText([]byte(name)); err != nil || d.apps.manifests == nil {
		return nil, engine.ErrNotFound
	}
	now := time.Now()
	d.mu.RLock()
	a := d.known[t]
	d.mu.RUnlock()
	if a != nil && now.Sub(a.read) < appAge {
		return a, nil
	}
	a = &app{read: now}
	var err error
	if a.template, err = d.rejected.store.Org(ctx, d.apps.org).Template(t); err != nil {
		if errors.Is(err, store.ErrNotFound) {
			err = engine.ErrNotFound
		}
		return nil, err
	}
	m, err := d.apps.manifests.Manifest(ctx, d.apps.org, a.template.Connector, a.template.ConnectorVersion)
	if err != nil {
		return nil, fmt.Errorf("find connector of app: %w", err)
	}
	a.verify = m.AppProof()
	for i := range m.Triggers {
		t := &m.Triggers[i]
		// One address has one recipe: an event that proved its sender by another's is none of this trigger's.
		if t.Type != connector.TriggerApp || t.App == nil || !t.Verify.ProvesApp() || *t.Verify != *a.verify {
			continue
		}
		a.triggers = append(a.triggers, t)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.known) >= maxApps {
		clear(d.known)
	}
	d.known[t] = a
	return a, nil
}

// serveApp takes one request of a provider's app: a check of the address, or events of any of the
// accounts that are connected through it. What is of no account that is known is dropped.
func (d *Door) serveApp(w http.ResponseWriter, r *http.Request, name string) {
	a, err := d.app(r.Context(), name)
	if err == nil && len(a.triggers) == 0 {
		err = engine.ErrNotFound
	}
	if err != nil {
		d.failed(w, r, err)
		return
	}
	room := &part{b: d.budget, owner: a.template.Owner}
	defer room.release()
	q, err := d.read(r, room)
	if err != nil {
		refuse(w, bodyAnswer(err))
		return
	}
	dl := d.delivery(r, q)
	check := lease.MacCheck{Customer: a.template.Owner, Client: a.template.Client}
	for _, t := range a.triggers {
		if t.Challenge == nil {
			continue
		}
		if text, ok := t.Challenge.Asked(dl); ok {
			d.answerApp(w, r, t, text, check)
			return
		}
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, wrongMethod)
		return
	}
	if err := d.proveDelivery(r.Context(), a.verify, dl, check, nil); err != nil {
		if errors.Is(err, errUnchecked) {
			d.log.ErrorContext(r.Context(), "event of an app could not be checked", "err", err)
			refuse(w, failed)
			return
		}
		refuse(w, unverified)
		return
	}
	if err := d.spread(r.Context(), a, q, dl); err != nil {
		d.failed(w, r, err)
		return
	}
	// Some show a person what they are answered, or take nothing but an empty body.
	w.Header()["Cache-Control"] = noStore
	w.WriteHeader(http.StatusOK)
}

// answerApp answers a provider that checks the address of an app.
func (d *Door) answerApp(w http.ResponseWriter, r *http.Request, t *connector.Trigger, text string, check lease.MacCheck) {
	if len(text) > maxEcho || strings.ContainsAny(text, "\r\n\x00") {
		refuse(w, malformed)
		return
	}
	if t.Verify != nil && t.Verify.Type != "none" {
		check.Secrets = []string{secretField(t.Verify)}
	}
	text, err := d.signChallenge(r.Context(), t.Challenge, text, check, nil)
	if err != nil {
		refuse(w, unverified)
		return
	}
	echo(w, t.Challenge, text)
}

// spread gives every event of a request to the flows that want it. A customer with too much pending keeps it from nobody else:
// the provider is asked to send it again when all others have it, who know it by its key then.
func (d *Door) spread(ctx context.Context, a *app, q *Request, dl *connector.Delivery) error {
	var busy error
	done := map[string]bool{} // triggers with the same list of events have the same events
	for _, t := range a.triggers {
		events, err := t.App.Events(dl.Body)
		if err != nil {
			continue // the delivery is not of this trigger's form
		}
		if len(events) > maxAppEvents {
			return engine.ErrTooLarge
		}
		for _, body := range events {
			one := *dl
			one.Body = body
			if !t.Takes(&one, expr.Null()) {
				continue
			}
			account, ok := one.Text(t.App.Account)
			if !ok {
				continue
			}
			taken, err := d.deliver(ctx, a, t, q, &one, account)
			switch {
			case errors.Is(err, engine.ErrBusy):
				busy = err
			case err != nil:
				return err
			}
			done[account] = done[account] || taken
		}
	}
	for _, taken := range done {
		if !taken {
			d.unknown.add(a.template.ID, d.now())
		}
	}
	return busy
}

// deliver starts the flows of the instances that use a connection of an account, and answers what
// waits there, each sealed to its own customer. It reports whether the account is known.
func (d *Door) deliver(ctx context.Context, a *app, t *connector.Trigger, q *Request, dl *connector.Delivery, account string) (bool, error) {
	index, err := d.apps.accounts.AccountIndex(ctx, a.template.Connector, account)
	if err != nil {
		return false, fmt.Errorf("index account: %w", err)
	}
	org := d.rejected.store.Org(ctx, d.apps.org)
	list, err := org.ConnectionsOfAccount(a.template.Connector, index, maxAppConnections)
	if err != nil {
		return false, fmt.Errorf("find connections of account: %w", err)
	}
	known, busy := false, error(nil)
	for i := range list {
		if list[i].Template != a.template.ID {
			continue // made with another app, which has an address of its own
		}
		known = true
		users, err := org.Using(list[i].ID)
		if err != nil {
			return known, fmt.Errorf("find instances of connection: %w", err)
		}
		for _, u := range users {
			if u.Customer != list[i].Customer && !list[i].Shared.With(u.Customer) {
				continue // the vault leases it to them no more, and its events are none of theirs
			}
			if err := d.resume(ctx, q, dl, t, &engine.Arrived{Customer: u.Customer, Instance: u.Instance, Connection: list[i].ID}); err != nil {
				return known, err
			}
			targets, err := d.engine.AppTargets(ctx, u.Customer, u.Instance, list[i].ID, t.Name)
			if err != nil && !errors.Is(err, engine.ErrNotFound) { // it is gone meanwhile
				return known, err
			}
			for _, x := range targets {
				err := d.acceptApp(ctx, x, q, dl)
				switch {
				case errors.Is(err, engine.ErrBusy):
					busy = err
				case err != nil:
					return known, err
				}
			}
		}
	}
	return known, busy
}

// acceptApp stores an event for one flow, unless that wants no such event. An instance that takes
// no events keeps nobody else from theirs.
func (d *Door) acceptApp(ctx context.Context, t *engine.Target, q *Request, dl *connector.Delivery) error {
	if !t.Trigger.Takes(dl, literalInputs(t)) {
		return nil
	}
	body, err := expr.AppendJSON([]byte(bodyOpen), dl.Body)
	if err != nil {
		return ErrMalformed
	}
	own := &Request{Method: q.Method, Header: q.Header, Query: q.Query, body: dl.Body, buf: body}
	ev := &engine.Event{Customer: t.Instance.Customer, Instance: t.Instance.ID, Flow: t.Flow.Name, Source: "webhook", Type: "event"}
	if ev.Delivery = t.Trigger.ID(dl); len(ev.Delivery) > maxKey {
		ev.Delivery = ""
	}
	if c := t.Flow.Concurrency; c != nil {
		ev.OrderKey = own.Key(&c.Key)
	}
	e := &Envelope{Source: source(t), Type: t.Flow.Trigger.Event.Uses, Time: d.now(), Customer: t.Customer}
	ev.Body, ev.Rest = own.Event(e, provingHeaders(t.Trigger.Verify)...)
	_, err = d.engine.Accept(ctx, ev)
	if errors.Is(err, engine.ErrNotEnabled) || errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	return err
}
