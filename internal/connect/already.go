package connect

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Times of a browser that asks again while its first request is being worked on.
const (
	alreadyWait  = 20 * time.Second // less than the server gives an answer
	alreadyEvery = 100 * time.Millisecond
)

// already answers a browser that comes back from a provider a second time, by two clicks or by
// loading the page of the end again: with what becomes of the first time. Nothing happens twice,
// and who did connect is not told that nothing was connected. It reports whether it has answered:
// where this browser has used nothing of what it brings, the caller says what is wrong.
func (s *Service) already(w http.ResponseWriter, r *http.Request, params ...wire.Pair) bool {
	browser := secretCookie(r, cookieBrowser)
	if browser == "" {
		return false
	}
	for _, p := range params {
		if !isSecret(p.Value) {
			continue
		}
		v, err := s.db.System(r.Context()).UsedVisit(sha256.Sum256([]byte(p.Value)), browserHash(browser), time.Now())
		if err == nil {
			return s.became(w, r, v.Link, v.Connection, secretCookie(r, cookieLink))
		}
	}
	return false
}

// entered answers a form of a link that is used: when this very form uses it, by two clicks or by loading the page of the end
// again, with what becomes of the first one. It reports whether it has answered.
func (s *Service) entered(w http.ResponseWriter, r *http.Request) bool {
	secret, cookie := r.PathValue("secret"), secretCookie(r, cookieBrowser)
	if !isSecret(secret) || cookie == "" {
		return false
	}
	first, err := s.db.System(r.Context()).LinkByHash(sha256.Sum256([]byte(secret)))
	if err != nil || !first.Used.IsZero() && first.Entered != formHash(cookie, first.Hash, r.PostForm) && !off(formsOwn) {
		return false
	}
	return s.became(w, r, first.ID, first.Made, secret)
}

// became shows what becomes of a link that another request has begun to use. It reports whether it could: not when what was
// made has ended since, or the link has.
func (s *Service) became(w http.ResponseWriter, r *http.Request, link id.Link, made id.Connection, again string) bool {
	l, err := s.awaitMade(r.Context(), link, made)
	if errors.Is(err, context.DeadlineExceeded) && r.Context().Err() == nil {
		s.undecided(w, nil)
		return true
	}
	if err != nil {
		return false
	}
	b, err := s.db.Org(r.Context(), l.Organization).Brand()
	if err != nil {
		return false
	}
	if l.Made != made || l.Used.IsZero() {
		if !time.Now().Before(l.Expires) {
			return false
		}
		s.result(w, http.StatusUnprocessableEntity, b, again, "That did not work", "Nothing was connected. Please try again.")
		return true
	}
	x, err := s.offer(r.Context(), l.Organization, l.Connector, l.ConnectorVersion)
	if err != nil {
		return false
	}
	s.connected(w, b, l, x.manifest.Title, "")
	return true
}

// awaitMade is a link as soon as it has made a connection, or it is known that it does not make it.
//
// Errors: those of the store and of ctx, where it is not known in time; store.ErrNotFound when the connection has ended since.
func (s *Service) awaitMade(ctx context.Context, link id.Link, made id.Connection) (*store.Link, error) {
	ctx, cancel := context.WithTimeout(ctx, s.alreadyWait)
	defer cancel()
	tick := time.NewTicker(alreadyEvery)
	defer tick.Stop()
	for {
		l, err := s.db.System(ctx).Link(link)
		if err == nil && l.Made == made {
			l, err = s.settle(ctx, l, time.Now())
		}
		switch {
		case err != nil:
			return nil, err
		case l.Used.IsZero(), l.Made != made:
			return l, nil
		case !l.Connected.IsZero():
			x, err := s.db.Customer(ctx, l.Customer).Connection(made)
			if err == nil && x.Health == store.HealthRevoked {
				err = store.ErrNotFound
			}
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C: // another request obtains its tokens
		}
	}
}
