package trigger

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// maxEcho bounds what a provider is answered that checks an address, in bytes.
const maxEcho = 1024

// serveEvent takes one request of the other side of a subscription: a check of the address, or
// an event. Its recipe is that of the connector, as the integration was published with it.
func (d *Door) serveEvent(w http.ResponseWriter, r *http.Request, t *engine.Target) {
	if t.Trigger == nil || t.Trigger.Type != connector.TriggerWebhook {
		refuse(w, notFound)
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
	dl := d.delivery(r, q)
	check, sealed, err := d.subscriptionCheck(r.Context(), t)
	if err != nil {
		d.failed(w, r, err)
		return
	}
	if c := t.Trigger.Challenge; c != nil {
		if text, ok := c.Asked(dl); ok {
			d.answerChallenge(w, r, t, text, check, sealed)
			return
		}
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		d.reject(w, r, t, wrongMethod, wrongMethod.code)
		return
	}
	if err := d.proveDelivery(r.Context(), t.Trigger.Verify, dl, check, sealed); err != nil {
		d.unproved(w, r, t, err)
		return
	}
	own := engine.Arrived{Customer: t.Instance.Customer, Instance: t.Instance.ID, Slot: t.Slot}
	if err := d.resume(r.Context(), q, dl, t.Trigger, &own); err != nil {
		d.failed(w, r, err)
		return
	}
	if !t.Trigger.Takes(dl, literalInputs(t)) {
		ignored(w)
		return
	}
	d.acceptEvent(w, r, t, q, dl)
}

// delivery is a request as the recipes of connectors see it.
func (d *Door) delivery(r *http.Request, q *Request) *connector.Delivery {
	u := *r.URL
	u.Scheme, u.Host = "https", r.Host
	if d.base != "" {
		u.Scheme, u.Host, _ = strings.Cut(d.base, "://")
		u.Host, _, _ = strings.Cut(u.Host, "/")
	}
	return &connector.Delivery{Method: r.Method, URL: u.String(), Header: r.Header.Get, Query: q.Query.Get, Raw: q.Raw, Body: q.body}
}

// subscriptionCheck is a check of who sends the events of a flow, without what is checked, and
// the sealed secret of its subscription.
func (d *Door) subscriptionCheck(ctx context.Context, t *engine.Target) (lease.MacCheck, []byte, error) {
	i := t.Instance
	m := lease.MacCheck{Customer: i.Customer, Instance: i.ID, ConfigVersion: i.ConfigVersion}
	v := t.Trigger.Verify
	if v == nil || v.Secret != "subscription" {
		if v != nil && (v.Secret == "app" || v.Secret == "client") {
			err := d.clientOf(ctx, t, &m)
			return m, nil, err
		}
		return m, nil, nil
	}
	m.StateName = lease.SubscriptionSecret(i.ID, t.Flow.Name)
	sealed, err := d.engine.SubscriptionSecret(ctx, i.Customer, i.ID, m.StateName)
	if err != nil {
		return m, nil, err
	}
	if len(sealed) > 0 {
		m.StateHash = sha256.Sum256(sealed)
	}
	m.Secrets = []string{"subscription"}
	return m, sealed, nil
}

// clientOf has a check take the secret of the app with which the connection of a flow was made.
func (d *Door) clientOf(ctx context.Context, t *engine.Target, m *lease.MacCheck) error {
	for _, s := range t.Instance.Slots {
		if s.Name != t.Slot {
			continue
		}
		owner, client, err := d.engine.ClientOf(ctx, s.Owner, s.Connection)
		if err != nil {
			return err
		}
		m.Customer, m.Client = owner, client
	}
	return nil
}

// secretField is the field of a client's record in which the secret of a recipe is.
func secretField(v *connector.Verify) string {
	if v.Secret == "client" {
		return lease.FieldClientSecret
	}
	return lease.FieldSigningSecret
}

// proveDelivery checks who sent a delivery. check says whose secret it is. The error is one of
// the reasons of package verify.
func (d *Door) proveDelivery(ctx context.Context, v *connector.Verify, dl *connector.Delivery, check lease.MacCheck, sealed []byte) error {
	if v == nil {
		return errNoRecipe
	}
	if v.Type == "none" {
		return nil
	}
	p, err := v.Proof(dl)
	if err != nil {
		return errNoProof
	}
	if !v.Fresh(p, d.now()) {
		return errExpired
	}
	one := &proof{check: check}
	switch {
	case v.Secret == "subscription" && check.StateHash == [32]byte{}:
		return errNoSecret
	case v.Secret == "app" || v.Secret == "client":
		if check.Client.IsZero() {
			return errNoSecret
		}
		one.check.Secrets = []string{secretField(v)}
	}
	switch {
	case p.Algorithm == "":
		one.check.Kind, one.check.Candidates = lease.MacEqual, [][]byte{[]byte(p.Plain)}
	default:
		one.body, one.check.Kind, one.check.Algorithm, one.check.Candidates = true, lease.MacHMAC, p.Algorithm, p.Signatures
		switch {
		case v.Type == "standard-webhooks":
			one.check.Decoding = lease.MacStandard
		case v.Key == connector.KeyBase64:
			one.check.Decoding = lease.MacBase64
		}
	}
	result, err := d.ask(ctx, one, p.Signed, sealed)
	if err != nil {
		return errors.Join(errUnchecked, err)
	}
	switch result.Verdict {
	case lease.MacMatch:
		return nil
	case lease.MacMismatch:
		return errBadProof
	case lease.MacMissing:
		return errNoSecret
	}
	return errUnchecked
}

// answerChallenge answers a provider that checks an address. A text that becomes the secret of
// the subscription is handed to the flow that keeps it, unless there is one.
func (d *Door) answerChallenge(w http.ResponseWriter, r *http.Request, t *engine.Target, text string, check lease.MacCheck, sealed []byte) {
	c := t.Trigger.Challenge
	if len(text) > maxEcho || strings.ContainsAny(text, "\r\n\x00") {
		d.reject(w, r, t, malformed, malformed.code)
		return
	}
	if c.Keep && len(sealed) == 0 {
		if err := d.keepSecret(r.Context(), t, text); err != nil {
			d.failed(w, r, err)
			return
		}
	}
	text, err := d.signChallenge(r.Context(), c, text, check, sealed)
	if err != nil {
		d.unproved(w, r, t, err)
		return
	}
	echo(w, c, text)
}

// signChallenge is the answer to a challenge: the text, or its MAC under the secret.
func (d *Door) signChallenge(ctx context.Context, c *connector.Challenge, text string, check lease.MacCheck, sealed []byte) (string, error) {
	if c.HMAC == "" {
		return text, nil
	}
	if !lease.MacToken([]byte(text)) {
		return "", errNoRecipe
	}
	if len(check.Secrets) == 0 {
		check.Secrets = []string{lease.FieldClientSecret}
	}
	check.Kind, check.Algorithm, check.Data = lease.MacSign, "sha256", []byte(text)
	result, err := d.ask(ctx, &proof{check: check}, nil, sealed)
	switch {
	case err != nil:
		return "", errors.Join(errUnchecked, err)
	case result.Verdict != lease.MacMatch:
		return "", errNoSecret
	case c.HMAC == "base64":
		return base64.StdEncoding.EncodeToString(result.Sum), nil
	}
	return hex.EncodeToString(result.Sum), nil
}

// echo writes the answer to a challenge. It is data, whatever a browser would make of it.
func echo(w http.ResponseWriter, c *connector.Challenge, text string) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h["Cache-Control"] = noStore
	status := c.Status
	if status == 0 {
		status = http.StatusOK
	}
	switch c.As {
	case "header":
		h.Set(c.Name, text)
		w.WriteHeader(status)
	case "json":
		h["Content-Type"] = jsonType
		w.WriteHeader(status)
		b, err := json.Marshal(map[string]string{c.Name: text})
		if err == nil {
			_, _ = w.Write(b)
		}
	default:
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text)) // #nosec G705 -- plain text that is not sniffed, in a sandbox
	}
}

// keepSecret starts the flow that keeps a secret which came to the address.
func (d *Door) keepSecret(ctx context.Context, t *engine.Target, secret string) error {
	body, err := json.Marshal(map[string]string{"secret": secret})
	if err != nil {
		return err
	}
	e := &Envelope{Source: source(t), Type: "secret", Time: d.now(), Customer: t.Customer}
	_, err = d.engine.Accept(ctx, &engine.Event{
		Customer: t.Instance.Customer, Instance: t.Instance.ID, Flow: t.Flow.Name + flow.KeepSuffix, Source: "webhook", Type: "secret", Body: e.Event(body),
	})
	return err
}

// proveWebhook checks a request to a webhook by the recipe of a connector.
func (d *Door) proveWebhook(ctx context.Context, r *http.Request, t *engine.Target, q *Request) error {
	if t.Trigger == nil {
		return errNoRecipe
	}
	check, sealed, err := d.subscriptionCheck(ctx, t)
	if err != nil {
		return errors.Join(errUnchecked, err)
	}
	return d.proveDelivery(ctx, t.Trigger.Verify, d.delivery(r, q), check, sealed)
}

// literalInputs are the inputs that a flow gives to its trigger, as far as they are texts and not
// expressions: the worker compares the others.
func literalInputs(t *engine.Target) expr.Value {
	var keys []string
	var vals []expr.Value
	with := &t.Flow.Trigger.Event.With
	for n := range t.Trigger.Inputs {
		in := &t.Trigger.Inputs[n]
		raw, given := []byte(in.Default), false
		for k, key := range with.Keys {
			if key != in.Name {
				continue
			}
			given = true
			if !with.Items[k].Literal() {
				raw = nil
				continue
			}
			var err error
			if raw, err = with.Items[k].MarshalJSON(); err != nil {
				raw = nil
			}
		}
		if len(raw) == 0 || given && string(raw) == "null" {
			continue
		}
		if v, err := expr.ParseJSON(raw); err == nil {
			keys, vals = append(keys, in.Name), append(vals, v)
		}
	}
	return expr.NewObject(keys, vals)
}

// acceptEvent stores the event of a subscription. It is answered with 200: some providers take
// nothing else for an answer.
func (d *Door) acceptEvent(w http.ResponseWriter, r *http.Request, t *engine.Target, q *Request, dl *connector.Delivery) {
	ev := &engine.Event{Customer: t.Instance.Customer, Instance: t.Instance.ID, Flow: t.Flow.Name, Source: "webhook", Type: "event"}
	if ev.Delivery = t.Trigger.ID(dl); len(ev.Delivery) > maxKey {
		ev.Delivery = ""
	}
	if c := t.Flow.Concurrency; c != nil {
		ev.OrderKey = q.Key(&c.Key)
	}
	e := &Envelope{Source: source(t), Type: t.Flow.Trigger.Event.Uses, Time: d.now(), Customer: t.Customer}
	d.engine.Pace(r.Context(), ev.Customer)
	ev.Body, ev.Rest = q.Event(e, provingHeaders(t.Trigger.Verify)...)
	_, err := d.engine.Accept(r.Context(), ev)
	switch {
	case errors.Is(err, engine.ErrBusy):
		d.rejected.add(t, tooMany.code, r.ContentLength, d.now())
		d.failed(w, r, err)
	case err != nil:
		d.failed(w, r, err)
	default:
		ignored(w)
	}
}

// provingHeaders are the headers that prove who a sender is, which no flow sees.
func provingHeaders(v *connector.Verify) []string {
	if v == nil || v.Header == "" || v.Type == "query" {
		return nil
	}
	return []string{http.CanonicalHeaderKey(v.Header)}
}

// ignored answers that nothing more is to be sent about an event.
func ignored(w http.ResponseWriter) {
	w.Header()["Content-Type"] = jsonType
	w.Header()["Cache-Control"] = noStore
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write([]byte("{}\n"))
}
