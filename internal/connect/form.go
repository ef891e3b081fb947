package connect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// filled is a form that was sent and must be corrected.
type filled struct {
	values  url.Values
	wrong   InvalidError
	problem string
}

// asked are the fields that a method asks the person for.
func (v *visitor) asked(m *credential.Method) []credential.Field {
	if v.tmpl != nil && v.tmpl.Method == m.ID {
		return m.Entered()
	}
	return slices.Concat(m.Client(), m.Entered())
}

// given are the values of variables that the person need not enter.
func (v *visitor) given(m *credential.Method) map[string]string {
	out := map[string]string{}
	if v.tmpl != nil && v.tmpl.Method == m.ID {
		for name, value := range v.tmpl.Vars {
			out[name] = value
		}
	}
	for name, value := range v.link.Vars {
		out[name] = value
	}
	return out
}

// entry is what a form says.
func (v *visitor) entry(m *credential.Method, form url.Values) *Entry {
	e := &Entry{
		Org: v.link.Organization, Customer: v.link.Customer, Connection: v.connectionOf(), Name: v.link.Name, Connector: v.link.Connector,
		Method: m.ID, Vars: v.given(m), Fields: map[string]string{}, Shared: v.link.Shared, By: "connect link " + v.link.ID.String(),
	}
	if v.tmpl != nil && v.tmpl.Method == m.ID {
		e.Template = v.tmpl.ID
	}
	if v.old != nil {
		e.again, e.Shared = true, v.old.Shared // for display; with whom it is shared, a link does not decide, and the vault keeps what the record says
	}
	for _, name := range v.offer.varNames() {
		if _, known := e.Vars[name]; !known {
			e.Vars[name] = form.Get("var." + name)
		}
	}
	for _, f := range v.asked(m) {
		if value := form.Get("field." + f.Name); value != "" {
			e.Fields[f.Name] = value
		}
	}
	return e
}

// form is the page with the form of a link, empty or as it was sent.
func (s *Service) form(v *visitor, m *credential.Method, sent *filled) *page {
	title := v.offer.manifest.Title
	p := &page{
		Heading: "Connect " + title, Connector: title, Customer: v.customer(), Method: m.ID, Help: m.Help, Action: Path + v.secret + "/start",
		Form: formToken(v.cookie, v.link.Hash), Asks: m.Type == credential.OAuth2Code, Expires: day(v.link.Expires),
		Hosts: hostsFor(v.offer.manifest.Hosts, v.given(m)), Tokens: hostsFor(m.Recipe.Hosts(), v.given(m)), Files: v.offer.manifest.Downloads(),
	}
	p.Tokens = slices.DeleteFunc(p.Tokens, func(h string) bool { return slices.Contains(p.Hosts, h) })
	p.SharedWith, p.SharedFor = sharedWith(&v.link.Shared), v.link.Shared.Actions
	p.dress(v.brand)
	if !v.link.Connection.IsZero() {
		p.Heading, p.Again = "Connect "+title+" again", "again"
	}
	for _, x := range v.methods {
		p.Methods = append(p.Methods, choice{methodTitle(x), Path + v.secret + "?method=" + url.QueryEscape(x.ID), x == m})
	}
	p.Fields = v.inputs(m, sent)
	if sent != nil {
		p.Problem = sent.problem
		for _, w := range sent.wrong {
			if !slices.ContainsFunc(p.Fields, func(f input) bool { return f.Problem != "" && f.Name == formName(w.Place) }) {
				p.Problems = append(p.Problems, w.Message)
			}
		}
	}
	if p.Asks {
		p.to = v.origins(m)
		p.SignIn = strings.Join(hostsFor([]string{urlHost(m.Recipe.Authorize.URL)}, v.given(m)), "")
		p.Scopes = m.Recipe.Authorize.Scopes
		if v.tmpl != nil {
			p.Scopes = slices.Compact(slices.Sorted(slices.Values(slices.Concat(p.Scopes, v.tmpl.Scopes))))
		}
	}
	return p
}

func (v *visitor) customer() string {
	switch {
	case v.of.Internal:
		return ""
	case v.of.Title != "":
		return v.of.Title
	}
	return v.of.ExternalID
}

// sharedWith says to a person with whom a connection will be shared; empty: with nobody.
func sharedWith(x *store.Shared) string {
	switch n := len(x.Customers); {
	case n == 0:
		return ""
	case slices.Contains(x.Customers, lease.SharedWithAll):
		return "all customers"
	case n == 1:
		return "one customer"
	default:
		return fmt.Sprintf("%d customers", n)
	}
}

// methodTitle is what a method is called on a page.
func methodTitle(m *credential.Method) string {
	if m.Title != "" {
		return m.Title
	}
	switch m.Type {
	case credential.OAuth2Code:
		return "Sign in"
	case credential.Basic:
		return "User name and password"
	case credential.MTLS:
		return "Certificate"
	case credential.OAuth2JWT:
		return "Service account"
	case credential.None:
		return "No sign-in"
	}
	return "Key"
}

// formName is the name of the field of a place such as fields.token.
func formName(place string) string {
	if rest, ok := strings.CutPrefix(place, "fields."); ok {
		return "field." + rest
	}
	if rest, ok := strings.CutPrefix(place, "vars."); ok {
		return "var." + rest
	}
	return place
}

// inputs are the fields of a form.
func (v *visitor) inputs(m *credential.Method, sent *filled) (list []input) {
	value := func(name, otherwise string) string {
		if sent != nil {
			return sent.values.Get(name)
		}
		return otherwise
	}
	problem := func(name string) string {
		if sent == nil {
			return ""
		}
		for _, w := range sent.wrong {
			if formName(w.Place) == name {
				return capital(w.Message)
			}
		}
		return ""
	}
	given := v.given(m)
	for _, name := range v.offer.varNames() {
		if _, known := given[name]; known || answered(m, name) {
			continue
		}
		def, at := v.offer.vars[name], "var."+name
		in := input{ID: "var-" + name, Name: at, Title: orName(def.Title, name), Help: def.Help, Value: value(at, def.Default), Choices: def.Enum, Problem: problem(at)}
		if in.Help == "" && len(def.Enum) == 0 {
			in.Help = v.addressHint(name)
		}
		list = append(list, in)
	}
	for _, f := range v.asked(m) {
		at := "field." + f.Name
		in := input{
			ID: "field-" + f.Name, Name: at, Title: orName(f.Title, f.Name), Help: f.Help, Secret: f.Secret, Multiline: f.Multiline, Optional: f.Optional,
			Problem: problem(at), Value: value(at, f.Default),
		}
		if f.Secret {
			in.Value = "" // it is not sent back
		}
		list = append(list, in)
	}
	return list
}

// answered reports whether nobody need enter a variable because the provider's answer decides on the host that it stands for:
// nothing that is done before the answer uses it.
func answered(m *credential.Method, name string) bool {
	if len(m.Recipe.Bound()) == 0 {
		return false
	}
	used, err := json.Marshal(m)
	return err == nil && !bytes.Contains(used, []byte("{"+name+"}"))
}

// addressHint shows where a variable stands in the address of the other side.
func (v *visitor) addressHint(name string) string {
	for _, h := range v.offer.manifest.Hosts {
		if at := "{" + name + "}"; strings.Contains(h, at) && h != at {
			return "A part of your address: " + strings.Join(hostsFor([]string{h}, nil), "")
		}
	}
	if s := v.offer.vars[name].Suffixes; len(s) > 0 && s[0] != credential.AnyHost {
		return "It ends in " + strings.Join(s, " or ") + "."
	}
	return ""
}

func orName(title, name string) string {
	if title != "" {
		return title
	}
	return capital(strings.ReplaceAll(name, "_", " "))
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// hostsFor shows host templates to a person, with the values of variables that are known.
func hostsFor(hosts []string, known map[string]string) (out []string) {
	for _, h := range hosts {
		for {
			a, rest, ok := strings.Cut(h, "{")
			name, b, end := strings.Cut(rest, "}")
			if !ok || !end {
				break
			}
			value, ok := known[name]
			if !ok {
				value = "‹" + name + "›"
			}
			h = a + value + b
		}
		out = append(out, h)
	}
	return out
}

func urlHost(template string) string {
	_, rest, _ := strings.Cut(template, "://")
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	return rest
}

// origins are where the provider's page may be.
func (v *visitor) origins(m *credential.Method) []string {
	at, x := m.Recipe.Authorize.URL, v.offer
	if v.tmpl != nil && v.tmpl.Method == m.ID {
		x = x.pinned(v.tmpl.Vars)
	}
	return originsOf(at, hostPatterns([]string{urlHost(at)}, x.vars))
}

// enter saves what a person entered by a link, and uses the link up: by the form of that hash.
func (s *Service) enter(ctx context.Context, v *visitor, m *credential.Method, e *Entry, form [32]byte) error {
	r, err := s.draft(ctx, v.offer, m, e, true)
	if err != nil {
		return err
	}
	defer r.Wipe()
	ctx, cancel := lasting(ctx)
	defer cancel()
	if err := s.claim(ctx, v.link.ID, e.Connection, form, nil); err != nil {
		return err
	}
	c := &engine.Credential{Connection: *s.row(v.offer, m, e, e.Connection, r), Record: r, KeepSharing: v.old != nil}
	err = s.engine.PutConnection(ctx, c)
	if err == nil && m.Obtains() {
		if err = s.mint(ctx, e); err != nil {
			err = errors.Join(err, s.unminted(ctx, e, v.old == nil, errors.Is(err, errRefused)))
		}
	}
	if err != nil {
		return errors.Join(err, s.release(ctx, v.link.ID, e.Connection))
	}
	return s.made(ctx, v.link, e.Customer, e.Connection)
}

// made ends what was done with a link that has made a connection: nothing waits for that one any more. What ends behind a crash is
// done again, so that it is noted last.
func (s *Service) made(ctx context.Context, l *store.Link, c id.Customer, n id.Connection) error {
	err := errors.Join(s.replace(ctx, l, n), s.Resume(ctx, l.Organization, n))
	now := time.Now()
	noted := s.db.Write(ctx, func(tx *store.Tx) error { return tx.System().LinkConnected(l.ID, n, now) })
	switch {
	case noted == nil:
		s.notify(ctx, c, n, store.NoticeConnected, "")
	case !errors.Is(noted, store.ErrNotFound): // another request has noted it
		s.log.ErrorContext(ctx, "who sends a form again will not be told at once that it is connected", "connection", n.String(), "err", noted)
	}
	return err
}

// mint obtains the first tokens with what was entered.
func (s *Service) mint(ctx context.Context, e *Entry) error {
	if s.o.Providers == nil {
		return nil
	}
	result, _, err := s.o.Providers.Order(ctx, lease.OrderRefresh, e.Customer, e.Connection, nil)
	if err != nil {
		return err
	}
	switch result.Code {
	case lease.OrderOK:
		return s.saved(ctx, e.Customer, e.Connection, result, nil, "")
	case lease.OrderRefused, lease.OrderDead:
		return errRefused
	}
	return fmt.Errorf("obtain tokens: %s", result.Code) // what egress says of it is in its log
}

// unminted takes back what was saved for tokens that did not come. A new connection is not kept: the link makes another. One
// that was to be connected again stays what it is to those who use it, and waits for a person when the provider refuses.
func (s *Service) unminted(ctx context.Context, e *Entry, fresh, refused bool) error {
	if fresh {
		return s.engine.DeleteConnection(ctx, e.Customer, e.Connection, "refused")
	}
	if !refused {
		return nil
	}
	_, err := s.SetHealth(ctx, e.Customer, e.Connection, store.HealthNeedsReconnect, "refused")
	return err
}

// claim uses a link up for a connection: by a form, or by a visit, which is used at the same moment.
func (s *Service) claim(ctx context.Context, l id.Link, n id.Connection, form [32]byte, v *store.Visit) error {
	now := time.Now()
	err := s.db.Write(ctx, func(tx *store.Tx) error {
		if v != nil {
			if err := tx.System().UseVisit(v.State, now); err != nil {
				return err
			}
		}
		return tx.System().ClaimLink(l, n, form, now)
	})
	if errors.Is(err, store.ErrNotFound) {
		if off(linksOnce) || off(linksExpire) {
			return nil
		}
		return ErrUsed
	}
	return err
}

// release makes a link usable again after a claim that came to nothing.
func (s *Service) release(ctx context.Context, l id.Link, n id.Connection) error {
	ctx = context.WithoutCancel(ctx) // the person may have gone; the link is theirs still
	return s.db.Write(ctx, func(tx *store.Tx) error { return tx.System().ReleaseLink(l, n) })
}

// notify makes a notice; one that cannot be made is logged.
func (s *Service) notify(ctx context.Context, c id.Customer, n id.Connection, kind store.NoticeKind, reason string) {
	now := time.Now()
	err := s.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Customer(c).Notify(&store.ConnectionNotice{ID: id.NewNotice(now), Connection: n, Kind: kind, Reason: reason, At: now})
		return err
	})
	if err != nil {
		s.log.ErrorContext(ctx, "notice is lost", "connection", n.String(), "kind", string(kind), "err", err)
	}
}
