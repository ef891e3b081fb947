package tokens

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// provider rotates refresh tokens: each is good once. One that comes a second time ends the
// whole grant (RFC 9700 section 4.14.2).
type provider struct {
	life time.Duration // of access tokens

	mu      sync.Mutex
	grants  map[id.Connection]*grant
	refresh map[string]id.Connection // every refresh token that there ever was
	access  map[string]time.Time     // until when each access token is good

	refreshes int
	reuses    map[id.Connection]int
	expired   int // uses of an access token after its end
	unknown   int // uses of one that never was, or of a revoked grant
	uses      int
}

// grant is what one connection was given.
type grant struct {
	current string // refresh token
	n       int
	revoked bool
	// inWindow: tokens were given out by a node that has not committed them.
	inWindow bool
	rotated  time.Time
}

func newProvider(life time.Duration) *provider {
	return &provider{life: life, grants: map[id.Connection]*grant{}, refresh: map[string]id.Connection{}, access: map[string]time.Time{}, reuses: map[id.Connection]int{}}
}

// issued is an answer of the provider.
type issued struct {
	access, refresh string
	expires         time.Time
}

// give makes the next tokens of a grant. The caller holds mu.
func (p *provider) give(c id.Connection, g *grant) issued {
	g.n++
	g.rotated = time.Now()
	out := issued{fmt.Sprintf("access-%s-%d", c, g.n), fmt.Sprintf("refresh-%s-%d", c, g.n), g.rotated.Add(p.life)}
	g.current = out.refresh
	p.refresh[out.refresh] = c
	p.access[out.access] = out.expires
	return out
}

// consent is a person's, once for each connection.
func (p *provider) consent(c id.Connection) issued {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := &grant{}
	p.grants[c] = g
	return p.give(c, g)
}

var errInvalidGrant = errors.New("invalid_grant")

// rotate is a refresh request. From its return until [provider.committed] only the node has
// the new tokens.
func (p *provider) rotate(token string) (issued, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.refresh[token]
	if !ok {
		return issued{}, errInvalidGrant
	}
	g := p.grants[c]
	if g.revoked {
		return issued{}, errInvalidGrant
	}
	if g.current != token {
		p.reuses[c]++
		g.revoked = true
		return issued{}, errInvalidGrant
	}
	p.refreshes++
	g.inWindow = true
	return p.give(c, g), nil
}

// committed says that an answer is in the keystore, and returns how long it was not.
func (p *provider) committed(c id.Connection) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.grants[c].inWindow = false
	return time.Since(p.grants[c].rotated)
}

// use is a request with an access token.
func (p *provider) use(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uses++
	switch until, ok := p.access[token]; {
	case !ok:
		p.unknown++
	case !time.Now().Before(until):
		p.expired++
	}
}

// pause waits for a random time, or until the context ends.
func pause(ctx context.Context, most time.Duration) {
	t := time.NewTimer(time.Duration(rand.Int64N(int64(most))))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
