package connect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Times of a link that is being used. A server may crash in between: then nobody ends it who has begun.
const (
	claimWork   = 100 * time.Second // a request works at most so long with a link: more than a provider has for its answer
	claimLife   = 2 * time.Minute   // after that nobody works with it any more
	settleAfter = 5 * time.Second   // what has connected so long after its begin is noted by whoever sees it
)

// errClaimed means that a link is being used, or was when a server crashed.
var errClaimed = fmt.Errorf("%w at this moment", ErrUsed)

// lasting is the context of what is done with a link: what is begun is ended, whoever waits for it, or is given up.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), claimWork)
}

// settle ends the use of a link whose server has crashed: it is noted that it has connected, or what was begun is taken back and
// the link is good for another try. It returns the link as it is then; one that may be worked with still, as it was.
//
// Errors: store.ErrNotFound for a link that was revoked, or one of the store or the vault.
func (s *Service) settle(ctx context.Context, l *store.Link, now time.Time) (*store.Link, error) {
	age := now.Sub(l.Used)
	if l.Used.IsZero() || !l.Connected.IsZero() || age < settleAfter {
		return l, nil
	}
	done, err := s.hasMade(ctx, l)
	if err != nil || !done && age < claimLife {
		return l, err
	}
	ctx, cancel := lasting(ctx)
	defer cancel()
	if done {
		err = s.made(ctx, l, l.Customer, l.Made)
	} else {
		err = s.undo(ctx, l, l.Made, l.Connection.IsZero())
	}
	if err != nil { // what counts is noted, or is tried again
		s.log.ErrorContext(ctx, "what a crash interrupted is not ended", "link", l.ID.String(), "connection", l.Made.String(), "err", err)
	}
	return s.db.System(ctx).Link(l.ID)
}

// hasMade reports whether the connection for which a link was claimed is there, with its tokens if it has any. Of one that is
// connected again, what was there before the claim does not count. One that has ended since was there.
func (s *Service) hasMade(ctx context.Context, l *store.Link) (bool, error) {
	n, err := s.db.Customer(ctx, l.Customer).Connection(l.Made)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case n.Health == store.HealthRevoked:
		return true, nil
	case n.RecordVersion == 0, !l.Connection.IsZero() && n.Changed.Before(l.Used):
		return false, nil
	case lease.Kind(n.Kind).Changes():
		return !n.LastRefresh.IsZero() && (l.Connection.IsZero() || !n.LastRefresh.Before(l.Used)), nil
	}
	return true, nil
}

// settleAll settles every link.
func (s *Service) settleAll(ctx context.Context, now time.Time) error {
	var after id.Link
	for {
		list, err := s.db.System(ctx).Claims(after, pageSize)
		if err != nil {
			return err
		}
		for i := range list {
			if _, err := s.settle(ctx, &list[i], now); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			after = list[i].ID
		}
		if len(list) < pageSize {
			return nil
		}
	}
}

// undecided shows that it is not known yet what becomes of a link.
func (s *Service) undecided(w http.ResponseWriter, b *store.Brand) {
	s.refuse(w, http.StatusServiceUnavailable, b, "Please wait a moment",
		"Your link was used a moment ago, and what became of it is not known yet. Please load this page again in two minutes: then it says so, or you can try again.")
}
