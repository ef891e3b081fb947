package connect

import (
	"context"
	"crypto/sha256"
	"net/http"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Times of a browser that asks again while its first request is being worked on.
const (
	alreadyWait  = 10 * time.Second
	alreadyEvery = 100 * time.Millisecond
	// alreadyBegun is how many looks may find the link unused: it is claimed a moment after the
	// visit is used, and released when nothing came of it.
	alreadyBegun = 5
)

// already answers a browser that comes back from a provider a second time, by two clicks or by
// loading the page of the end again. Nothing happens twice, and who did connect is not told that
// nothing was connected. It reports whether it has answered: where this browser has connected
// nothing with the state that it brings, the caller says what is wrong.
func (s *Service) already(w http.ResponseWriter, r *http.Request, params []wire.Pair) bool {
	browser := secretCookie(r, cookieBrowser)
	if browser == "" {
		return false
	}
	for _, p := range params {
		if !isSecret(p.Value) {
			continue
		}
		v, err := s.db.System(r.Context()).UsedVisit(sha256.Sum256([]byte(p.Value)), browserHash(browser), time.Now())
		if err != nil {
			continue
		}
		l := s.made(r.Context(), v)
		if l == nil {
			return false
		}
		b, err := s.db.Org(r.Context(), l.Organization).Brand()
		if err != nil {
			return false
		}
		x, err := s.offer(r.Context(), l.Organization, l.Connector, l.ConnectorVersion)
		if err != nil {
			return false
		}
		s.connected(w, b, l, x.manifest.Title, "")
		return true
	}
	return false
}

// made is the link of a visit that has made its connection, as soon as that is so. Nil: it has not.
func (s *Service) made(ctx context.Context, v *store.Visit) *store.Link {
	ctx, cancel := context.WithTimeout(ctx, alreadyWait)
	defer cancel()
	tick := time.NewTicker(alreadyEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		l, err := s.db.System(ctx).Link(v.Link)
		if err != nil || l.Used.IsZero() && n > alreadyBegun || !l.Used.IsZero() && l.Made != v.Connection {
			return nil
		}
		x, err := s.db.Customer(ctx, v.Customer).Connection(v.Connection)
		if err == nil && !l.Used.IsZero() && x.RecordVersion > 0 && x.Health != store.HealthRevoked {
			return l
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C: // another request obtains its tokens
		}
	}
}
