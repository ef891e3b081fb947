package connect

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// errNoProviders means that no egress node can be asked.
var errNoProviders = errors.New("no provider can be asked")

// departure is where a browser is sent to, and the state that the provider gives back.
type departure struct{ address, state string }

// leave prepares for a browser to go to the provider.
func (s *Service) leave(ctx context.Context, v *visitor, m *credential.Method, e *Entry, other bool) (*departure, error) {
	if s.o.Providers == nil {
		return nil, errNoProviders
	}
	if err := served(m); err != nil {
		return nil, err
	}
	r, err := s.draft(ctx, v.offer, m, e, false)
	if err != nil {
		return nil, err
	}
	defer r.Wipe()
	spec, err := credential.ParseSpec(r.Spec)
	if err != nil {
		return nil, fmt.Errorf("read auth method: %w", err)
	}
	to := &oauth.Start{Spec: spec, ClientID: string(r.Field(lease.FieldClientID)), RedirectURI: s.RedirectURI()}
	if !e.Template.IsZero() {
		to.ClientID, to.Scopes = v.tmpl.ClientName, v.tmpl.Scopes
	}
	asked := to.Asked()
	for _, set := range slices.Sorted(maps.Keys(asked)) {
		r.Fields = append(r.Fields, lease.Field{Name: strings.TrimSuffix("scope."+set, "."), Secret: []byte(strings.Join(asked[set], " "))})
	}
	r.Connection, r.Customer = e.Connection, e.Customer
	draft, err := seal.Seal(s.engine.VaultKey(), lease.PurposeVault, lease.ConnectionPlace(e.Customer, e.Connection), wire.AppendBody(nil, r))
	if err != nil {
		return nil, fmt.Errorf("seal draft: %w", err)
	}
	started, err := s.o.Providers.Start(ctx, &lease.StartCall{
		Customer: e.Customer, Connection: e.Connection, Client: r.Client, Draft: draft, RedirectURI: to.RedirectURI, Browser: browserHash(v.cookie),
		Reconnect: !v.link.Connection.IsZero(), OtherAccount: other,
	})
	if err != nil {
		return nil, fmt.Errorf("start authorization: %w", err)
	}
	to.State, to.Challenge, to.Nonce = started.State, started.Challenge, started.Nonce
	address, err := oauth.AuthorizeURL(to)
	if err != nil {
		return nil, fmt.Errorf("make authorize request: %w", err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	visit := &store.Visit{
		State: sha256.Sum256([]byte(started.State)), Browser: browserHash(v.cookie), Link: v.link.ID, Organization: e.Org, Customer: e.Customer,
		Connection: e.Connection, Template: e.Template, Method: m.ID, Vars: e.Vars, Scopes: asked[""], OtherAccount: other, Created: now, Expires: now.Add(lease.MaxPending),
	}
	if err := s.db.Write(ctx, func(tx *store.Tx) error { return tx.System().PutVisit(visit) }); err != nil {
		return nil, fmt.Errorf("remember visit: %w", err)
	}
	return &departure{address, started.State}, nil
}

// callback takes a browser back from a provider. Nothing of the request gets into a page.
func (s *Service) callback(w http.ResponseWriter, r *http.Request) {
	again := secretCookie(r, cookieLink)
	params, ok := callbackParams(r.URL.RawQuery)
	if !ok {
		s.unreadable(w, again)
		return
	}
	visit, state, err := s.visitOf(r, params)
	if errors.Is(err, errNoState) {
		if visit, state, err = s.unasked(r); err == nil && !off(answersConfirmed) {
			s.askPerson(w, r, visit)
			return
		}
	}
	if errors.Is(err, store.ErrNotFound) && s.already(w, r, params...) {
		return
	}
	if err != nil {
		s.strange(w, r, again, err)
		return
	}
	s.land(w, r, visit, &lease.Exchange{State: state, Browser: browserHash(secretCookie(r, cookieBrowser)), Params: params})
}

// land has the first tokens of a visit obtained, and shows what became of it.
func (s *Service) land(w http.ResponseWriter, r *http.Request, visit *store.Visit, x *lease.Exchange) {
	l, err := s.db.System(r.Context()).Link(visit.Link)
	if err != nil {
		s.result(w, http.StatusGone, nil, "", "This link cannot be used", "It was taken back meanwhile. Nothing was connected.")
		return
	}
	b, err := s.db.Org(r.Context(), l.Organization).Brand()
	if err != nil {
		s.broken(w, r, nil, err)
		return
	}
	result, account, err := s.arrive(r.Context(), l, visit, x)
	if errors.Is(err, ErrUsed) && s.already(w, r, wire.Pair{Value: x.State}) {
		return
	}
	s.arrived(w, r, &arrival{link: l, brand: b, again: secretCookie(r, cookieLink), result: result, account: account, err: err})
}

// callbackParams reads the parameters of a callback. One that comes twice is refused (RFC
// 6749 section 3.1).
func callbackParams(query string) ([]wire.Pair, bool) {
	if len(query) > maxCallback {
		return nil, false
	}
	values, err := url.ParseQuery(query)
	if err != nil || len(values) > maxParams {
		return nil, false
	}
	var list []wire.Pair
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if len(values[name]) != 1 {
			return nil, false
		}
		list = append(list, wire.Pair{Name: name, Value: values.Get(name)})
	}
	return list, true
}

// errNoState means that a callback carries nothing that could be a state of ours.
var errNoState = errors.New("the callback has no state")

// visitOf finds the visit that a callback ends, by the state that it carries in whichever
// parameter. The visit must be this browser's.
func (s *Service) visitOf(r *http.Request, params []wire.Pair) (*store.Visit, string, error) {
	now := time.Now()
	browser := browserHash(secretCookie(r, cookieBrowser))
	for _, p := range params {
		if !isSecret(p.Value) {
			continue
		}
		v, err := s.db.System(r.Context()).Visit(sha256.Sum256([]byte(p.Value)), now)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err == nil && v.Browser != browser && !off(browsersBound) {
			err = store.ErrNotFound
		}
		if err != nil {
			return nil, "", err
		}
		return v, p.Value, nil
	}
	return nil, "", errNoState
}

// unstated reports whether the provider of a visit gives no state back.
func (s *Service) unstated(ctx context.Context, v *store.Visit) bool {
	l, err := s.db.System(ctx).Link(v.Link)
	if err != nil {
		return false
	}
	x, err := s.offer(ctx, v.Organization, l.Connector, l.ConnectorVersion)
	if err != nil {
		return false
	}
	m, err := x.method(v.Method)
	return err == nil && isUnstated(m)
}

// arrive has the first tokens of a visit obtained. The link is used up meanwhile, and the
// row of a new connection is there before its tokens are.
func (s *Service) arrive(ctx context.Context, l *store.Link, v *store.Visit, x *lease.Exchange) (*lease.OrderResult, *lease.Account, error) {
	if s.o.Providers == nil {
		return nil, nil, errNoProviders
	}
	if !l.Used.IsZero() && !off(linksOnce) {
		return nil, nil, ErrUsed
	}
	o, err := s.offer(ctx, l.Organization, l.Connector, l.ConnectorVersion)
	if err != nil {
		return nil, nil, err
	}
	m, err := o.method(v.Method)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := lasting(ctx)
	defer cancel()
	if err := s.claim(ctx, l.ID, v.Connection, [32]byte{}, v); err != nil {
		return nil, nil, err
	}
	e := &Entry{
		Org: l.Organization, Customer: l.Customer, Connection: v.Connection, Name: l.Name, Connector: l.Connector, Method: v.Method,
		Template: v.Template, Vars: v.Vars, Shared: l.Shared, By: "connect link " + l.ID.String(),
	}
	fresh := l.Connection.IsZero()
	if !fresh {
		old, err := s.db.Customer(ctx, l.Customer).Connection(v.Connection)
		if err != nil {
			return nil, nil, errors.Join(err, s.release(ctx, l.ID, v.Connection))
		}
		e.Shared = old.Shared
	}
	if fresh {
		if err := s.putRow(ctx, o, m, e, v, 0); err != nil {
			return nil, nil, errors.Join(err, s.release(ctx, l.ID, v.Connection))
		}
	}
	result, account, err := s.o.Providers.Order(ctx, lease.OrderExchange, l.Customer, v.Connection, x)
	if err != nil || result.Code != lease.OrderOK {
		return result, account, errors.Join(err, s.undo(ctx, l, v.Connection, fresh))
	}
	if !fresh {
		if err := s.putRow(ctx, o, m, e, v, result.Status.Version); err != nil {
			return nil, nil, err
		}
	}
	if err := s.saved(ctx, l.Customer, v.Connection, result, account, l.Connector); err != nil {
		return nil, nil, err
	}
	return result, account, s.made(ctx, l, l.Customer, v.Connection)
}

// putRow writes the metadata of a connection whose record egress and vault make.
func (s *Service) putRow(ctx context.Context, o *offer, m *credential.Method, e *Entry, v *store.Visit, version uint64) error {
	values, err := o.values(e.Vars)
	if err != nil {
		return err
	}
	r, err := o.record(m, values, nil)
	if err != nil {
		return err
	}
	row := s.row(o, m, e, v.Connection, r)
	row.RecordVersion, row.Scopes = version, v.Scopes
	now := time.Now()
	return s.db.Write(ctx, func(tx *store.Tx) error { return tx.Customer(e.Customer).PutConnection(row, now) })
}

// undo takes back what was prepared for tokens that did not come.
func (s *Service) undo(ctx context.Context, l *store.Link, n id.Connection, fresh bool) error {
	err := s.release(ctx, l.ID, n)
	if !fresh {
		return err
	}
	// The vault may have a record after all: then it is destroyed too.
	gone := s.engine.DeleteConnection(ctx, l.Customer, n, "not connected")
	switch {
	case errors.Is(gone, engine.ErrNotFound):
		gone = s.engine.ForgetConnection(ctx, l.Customer, n)
	case gone != nil:
		now := time.Now()
		gone = s.db.Write(ctx, func(tx *store.Tx) error { return tx.Customer(l.Customer).DeleteConnection(n, "not connected", now) })
	}
	return errors.Join(err, gone)
}

// saved notes what an order says of the tokens of a connection.
func (s *Service) saved(ctx context.Context, c id.Customer, n id.Connection, r *lease.OrderResult, account *lease.Account, connector string) error {
	t := &store.TokenSaved{RecordVersion: r.Status.Version, Expires: r.Status.Expires, RefreshDue: engine.RefreshAt(r.Status.Expires, r.Status.Refresh, time.Now())}
	if r.Status.Scopes != "" {
		t.Scopes = strings.Fields(r.Status.Scopes)
	}
	if account != nil && account.ID != "" {
		var err error
		if t.AccountHash, err = s.o.Providers.AccountIndex(ctx, connector, account.ID); err != nil {
			return err
		}
	}
	now := time.Now()
	return s.db.Write(ctx, func(tx *store.Tx) error { return tx.Customer(c).TokenSaved(n, t, now) })
}

// Resume lets instances go on that waited for a connection, which has a new credential, and ends those by which it was asked:
// their workers hold the credential before. What keeps one of them from it is logged.
//
// Errors: those of the store.
func (s *Service) Resume(ctx context.Context, o id.Org, n id.Connection) error {
	owner, err := s.db.Org(ctx, o).CustomerOfConnection(n)
	if err != nil {
		return err
	}
	if err := s.unprobeAll(ctx, owner, n); err != nil {
		s.log.ErrorContext(ctx, "a test may use the credential before", "connection", n.String(), "err", err)
	}
	users, err := s.db.Org(ctx, o).Using(n)
	if err != nil {
		return err
	}
	for _, u := range users {
		x, err := s.db.Customer(ctx, u.Customer).Instance(u.Instance)
		if err != nil || x.State != store.InstanceNeedsConnection {
			continue
		}
		if _, err := s.engine.Change(ctx, &engine.Change{Customer: u.Customer, Instance: u.Instance}); err != nil {
			s.log.ErrorContext(ctx, "instance does not go on", "instance", u.Instance.String(), "err", err)
		}
	}
	return nil
}

// arrival is what became of a callback.
type arrival struct {
	link    *store.Link
	brand   *store.Brand
	again   string
	result  *lease.OrderResult
	account *lease.Account
	err     error
}

// arrived shows what became of a callback.
func (s *Service) arrived(w http.ResponseWriter, r *http.Request, a *arrival) {
	title := a.link.Connector
	if x, err := s.offer(r.Context(), a.link.Organization, a.link.Connector, a.link.ConnectorVersion); err == nil {
		title = x.manifest.Title
	}
	switch {
	case errors.Is(a.err, ErrUsed):
		s.result(w, http.StatusGone, a.brand, "", "This link cannot be used", "It was used already or has expired. Please ask whoever sent it for a new one.")
		return
	case a.err != nil && (a.result == nil || a.result.Code == lease.OrderOK):
		s.broken(w, r, a.brand, a.err)
		return
	case a.err != nil:
		s.log.ErrorContext(r.Context(), "what was prepared could not be taken back", "connection", a.link.Connection.String(), "err", a.err)
	}
	lines := func(text ...string) []string {
		if off(textEscaped) {
			text = append(text, r.URL.Query().Get("error_description"))
		}
		return text
	}
	switch a.result.Code {
	case lease.OrderOK:
		label := ""
		if a.account != nil {
			label = a.account.Label
		}
		s.connected(w, a.brand, a.link, title, label)
	case lease.OrderDenied:
		s.result(w, http.StatusOK, a.brand, a.again, "Nothing was connected", lines("You did not agree at "+title+".")...)
	case lease.OrderOtherAccount:
		s.otherAccount(w, r, a, title)
	case lease.OrderRefused, lease.OrderDead:
		s.result(w, http.StatusBadGateway, a.brand, a.again, "Nothing was connected", lines(title+" did not complete the connection.")...)
	case lease.OrderUnsure:
		s.result(w, http.StatusBadGateway, a.brand, a.again, "Nothing was connected", "The answer of "+title+" was lost. Please connect again.")
	default:
		s.result(w, http.StatusBadGateway, a.brand, a.again, "Nothing was connected", title+" could not be reached. Please try again in some minutes.")
	}
}

// otherAccount asks whether another account than before is meant.
func (s *Service) otherAccount(w http.ResponseWriter, r *http.Request, a *arrival, title string) {
	p := &page{
		Result: true, Tone: "bad", Heading: "That is another account",
		Lines: []string{"You signed in to another account at " + title + " than the one that was connected. Nothing has changed."},
	}
	p.Lines = append(append(p.Lines, s.accountsOf(r.Context(), a)...), "Sign in to the same account, or use the other one from now on.")
	p.dress(a.brand)
	cookie := secretCookie(r, cookieBrowser)
	if a.again != "" && cookie != "" {
		p.OtherAccount, p.Again, p.Action, p.Form = true, Path+a.again, Path+a.again+"/start", formToken(cookie, a.link.Hash)
		p.to = []string{"https:"}
		if v, err := s.db.System(r.Context()).Link(a.link.ID); err == nil && s.methodOf(r.Context(), v, p) != nil {
			p.OtherAccount = false
		}
	}
	s.show(w, http.StatusConflict, p)
}

// methodOf adds what the form for another account needs: the method, and what was entered
// for its variables, which the link knows for a connection that is connected again.
func (s *Service) methodOf(ctx context.Context, l *store.Link, p *page) error {
	v := &visitor{link: l}
	if err := s.read(ctx, v); err != nil {
		return err
	}
	n, err := s.db.Customer(ctx, l.Customer).Connection(l.Connection)
	if err != nil {
		return err
	}
	m := v.chosen(n.Method)
	if m == nil || m.Type != credential.OAuth2Code {
		return errChanged
	}
	p.to = v.origins(m)
	p.Hidden = append(p.Hidden, hidden{"method", m.ID})
	for name, value := range n.Vars {
		p.Hidden = append(p.Hidden, hidden{"var." + name, value})
	}
	return nil
}

// connected shows that it worked.
func (s *Service) connected(w http.ResponseWriter, b *store.Brand, l *store.Link, title, label string) {
	p := &page{Result: true, Tone: "good", Heading: title + " is connected"}
	p.dress(b)
	if label != "" {
		p.Lines = append(p.Lines, "Connected as "+label+".")
	}
	if l.ReturnURL != "" && mayReturn(b.ReturnURLs, l.ReturnURL) {
		p.Return, p.ReturnHost = l.ReturnURL, hostOf(l.ReturnURL)
	} else {
		p.Lines = append(p.Lines, "You can close this page.")
	}
	s.show(w, http.StatusOK, p)
}

// result shows what went wrong, and leads back to the form where that helps.
func (s *Service) result(w http.ResponseWriter, status int, b *store.Brand, again, heading string, lines ...string) {
	p := &page{Result: true, Tone: "bad", Heading: heading, Lines: lines}
	if b != nil {
		p.dress(b)
	}
	if again != "" {
		p.Again = Path + again
	}
	s.show(w, status, p)
}
