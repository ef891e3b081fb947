package connect

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Lives of links.
const (
	// DefaultLinkLife is how long a link can be used.
	DefaultLinkLife = 7 * 24 * time.Hour
	// MaxLinkLife is the longest that one may ask for.
	MaxLinkLife = 30 * 24 * time.Hour
)

// Path begins the addresses of hosted pages.
const Path = "/connect/"

// secretSize is the size of the secret of a link or a cookie in bytes, secretText of its
// text.
const (
	secretSize = 32
	secretText = 43
)

// LinkEntry says for what a link is made.
type LinkEntry struct {
	Org        id.Org
	Customer   id.Customer
	Connector  string
	Version    string
	Template   id.Template   // zero: the only one of the connector, if there is one
	Connection id.Connection // to be connected again; zero: a new one
	Replaces   id.Connection // that was revoked: what used it uses the new one
	Name       string        // of the connection
	Methods    []string      // auth methods to choose from; none: all
	Vars       map[string]string
	Shared     store.Shared // with whom a new connection of the organization itself is shared
	ReturnURL  string
	Life       time.Duration // zero: DefaultLinkLife
	By         string
}

// MakeLink makes a connect link, and returns it with its address, which holds its secret
// and is not known afterwards.
//
// Errors: [InvalidError], [ErrUnknown], [ErrConflict], store.ErrNotFound for what is not the
// organization's, or one of the store.
func (s *Service) MakeLink(ctx context.Context, e *LinkEntry) (*store.Link, string, error) {
	again, err := s.again(ctx, e)
	if err != nil {
		return nil, "", err
	}
	x, err := s.offer(ctx, e.Org, e.Connector, e.Version)
	if err != nil {
		return nil, "", err
	}
	t, err := s.templateOf(ctx, e, x)
	if err != nil {
		return nil, "", err
	}
	if err := s.checkLink(ctx, e, x, t); err != nil {
		return nil, "", err
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	secret := makeSecret()
	l := &store.Link{
		ID: id.NewLink(now), Organization: e.Org, Customer: e.Customer, Hash: sha256.Sum256([]byte(secret)), Connector: x.manifest.Name,
		ConnectorVersion: x.manifest.Version, ConnectorDigest: x.manifest.Digest(), Connection: e.Connection, Replaces: e.Replaces, Name: cmp.Or(e.Name, x.manifest.Title),
		Methods: e.Methods, Vars: e.Vars, ReturnURL: e.ReturnURL, CreatedBy: e.By, Created: now, Expires: now.Add(cmp.Or(e.Life, DefaultLinkLife)),
	}
	if again != nil {
		l.Name = cmp.Or(e.Name, again.Name)
		if len(l.Vars) == 0 {
			l.Vars = again.Vars
		}
	}
	if t != nil {
		l.Template = t.ID
	}
	if isShared(&e.Shared) {
		l.Shared, l.SharedProof = e.Shared, sharedProof(secret, &e.Shared)
	}
	if err := s.db.Write(ctx, func(tx *store.Tx) error { return tx.Org(e.Org).PutLink(l) }); err != nil {
		return nil, "", fmt.Errorf("make connect link: %w", err)
	}
	return l, s.o.BaseURL + Path + secret, nil
}

// again reads the connection that a link is to connect again, which decides on the
// connector.
func (s *Service) again(ctx context.Context, e *LinkEntry) (*store.ConnectionInfo, error) {
	if e.Connection.IsZero() {
		return nil, nil //nolint:nilnil // it is a new one
	}
	old, err := s.db.Customer(ctx, e.Customer).Connection(e.Connection)
	if off(ownersChecked) {
		old, err = s.db.Org(ctx, e.Org).Connection(e.Connection)
	}
	switch {
	case err != nil:
		return nil, err
	case old.Kind == store.KindClient:
		return nil, store.ErrNotFound
	case e.Connector != "" && e.Connector != old.Connector:
		return nil, fmt.Errorf("%w: the connection is one of %s", ErrConflict, old.Connector)
	case flow.BuiltInConnector(old.Connector):
		return nil, fmt.Errorf("%w: a connection of the built-in connector is entered with the API or the command line", ErrConflict)
	}
	e.Connector = old.Connector
	if e.Template.IsZero() {
		e.Template = old.Template
	}
	return old, nil
}

// templateOf is the template of a link; nil: there is none.
func (s *Service) templateOf(ctx context.Context, e *LinkEntry, x *offer) (*store.Template, error) {
	if e.Template.IsZero() {
		list, err := s.templatesFor(ctx, e.Org, x.manifest.Name, e.Customer)
		switch {
		case err != nil || len(list) == 0:
			return nil, err
		case len(list) > 1:
			return nil, invalid("template", "there are several of %s: name one", x.manifest.Name)
		}
		e.Template = list[0].ID
	}
	t, err := s.db.Org(ctx, e.Org).Template(e.Template)
	if err != nil {
		return nil, err
	}
	if t.Connector != x.manifest.Name {
		return nil, invalid("template", "it is one of %s", t.Connector)
	}
	if !isFor(t, e.Customer) {
		return nil, errNotFor()
	}
	if t.ConnectorDigest != x.manifest.Digest() && e.Version == "" && t.ConnectorVersion != x.manifest.Version {
		// The client is bound to the version for which its secret was entered.
		older, err := s.offer(ctx, e.Org, e.Connector, t.ConnectorVersion)
		if err != nil {
			return nil, err
		}
		*x = *older
	}
	if t.ConnectorDigest != x.manifest.Digest() {
		return nil, invalid("template", "it was made for version %s of %s; enter its client again", t.ConnectorVersion, t.Connector)
	}
	return t, nil
}

func (s *Service) checkLink(ctx context.Context, e *LinkEntry, x *offer, t *store.Template) error {
	var wrong InvalidError
	if err := s.db.Org(ctx, e.Org).Owns(e.Customer); err != nil {
		return err
	}
	for _, name := range e.Methods {
		if _, err := x.method(name); err != nil || name == "" {
			wrong = append(wrong, Wrong{"methods", "the connector has " + fmt.Sprint(x.methodIDs())})
		}
	}
	if t != nil && len(e.Methods) > 0 && !slices.Contains(e.Methods, t.Method) {
		wrong = append(wrong, Wrong{"methods", "the template is for " + t.Method})
	}
	var bad InvalidError
	if _, err := x.someValues(e.Vars); errors.As(err, &bad) {
		wrong = append(wrong, bad...)
	}
	wrong = append(wrong, s.checkSharing(ctx, x, &Entry{Org: e.Org, Customer: e.Customer, Shared: e.Shared})...)
	if isShared(&e.Shared) && !e.Connection.IsZero() {
		wrong = append(wrong, Wrong{"shared", "what is connected again stays shared as it is"})
	}
	if e.Life < 0 || e.Life > MaxLinkLife {
		wrong = append(wrong, Wrong{"days", fmt.Sprintf("at most %d", MaxLinkLife/(24*time.Hour))})
	}
	if e.ReturnURL != "" {
		b, err := s.db.Org(ctx, e.Org).Brand()
		if err != nil {
			return err
		}
		if !mayReturn(b.ReturnURLs, e.ReturnURL) {
			wrong = append(wrong, Wrong{"return_url", "it begins as none of the brand's return_urls does: add it there first"})
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}

// makeSecret makes a secret for an address or a cookie. It has 256 random bits, so that a
// plain SHA-256 of it tells nobody anything.
func makeSecret() string {
	var b [secretSize]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// isSecret reports whether a text can be a secret that makeSecret made.
func isSecret(text string) bool {
	if len(text) != secretText {
		return false
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil
}

// link finds the link of a secret. [ErrUsed] is all that is told about one that cannot be
// used, but whether it is being used.
func (s *Service) link(ctx context.Context, secret string, now time.Time) (*store.Link, error) {
	if !isSecret(secret) {
		return nil, ErrUsed
	}
	l, err := s.db.System(ctx).LinkByHash(sha256.Sum256([]byte(secret)))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, ErrUsed
	case err != nil:
		return nil, err
	}
	switch l, err = s.settle(ctx, l, now); {
	case errors.Is(err, store.ErrNotFound):
		return nil, ErrUsed
	case err != nil:
		return nil, err
	case !l.Used.IsZero() && l.Connected.IsZero() && !off(linksOnce):
		return nil, errClaimed
	case !l.Used.IsZero() && !off(linksOnce), !now.Before(l.Expires) && !off(linksExpire):
		return nil, ErrUsed
	case (isShared(&l.Shared) || l.SharedProof != [32]byte{}) && l.SharedProof != sharedProof(secret, &l.Shared) && !off(sharingProven):
		return nil, errChanged
	}
	return l, nil
}

func isShared(x *store.Shared) bool { return len(x.Customers) > 0 || len(x.Actions) > 0 }

// sharedProof binds a sharing to the secret of its link, which the database does not hold: whoever can change a row there
// cannot have a connection shared with others than the link was made for.
func sharedProof(secret string, x *store.Shared) [32]byte {
	list := func(names []string) []byte { return seal.Tuple(nil, []byte(strings.Join(names, "\x00"))) }
	return keyed(secret, []byte("connect shared\x00"), list(x.Customers), list(x.Actions))
}
