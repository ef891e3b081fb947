package vault

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// maxCalls bounds the calls of one server within the time that they are remembered.
const maxCalls = 1 << 18

// Serve is [Vault.Call] for a call that came by the bus: it must be signed by the
// sender, a moment old, and new. The answer is signed by the authority.
func (v *Vault) Serve(ctx context.Context, from id.Node, m *wire.VaultCall) (*wire.VaultAnswer, error) {
	if err := v.checkCall(from, m); err != nil && !off(callsSigned) {
		return nil, v.refuse(ctx, "call", from, err)
	}
	body, err := v.Call(ctx, from, m.Op, m.Body)
	if err != nil {
		return nil, err
	}
	return lease.SignAnswer(v.authority, m, body), nil
}

func (v *Vault) checkCall(from id.Node, m *wire.VaultCall) error {
	server, ok := v.member(from)
	if !ok {
		return fmt.Errorf("%w: the sender is not live", ErrRefused)
	}
	now := v.now()
	if err := lease.CheckCall(server.identity, m, now); err != nil {
		return err
	}
	if m.Issued.Before(v.born.Truncate(time.Microsecond)) {
		// The vault before this one may have served it; what that remembered is gone.
		return fmt.Errorf("%w: a call from before this vault was started", ErrRefused)
	}
	return server.calls.take(m.Nonce, now)
}

// nonces remembers the calls of one server for as long as they would be accepted.
type nonces struct {
	mu    sync.Mutex
	until map[[16]byte]time.Time
	sweep time.Time
}

// take accepts a nonce once.
func (n *nonces) take(nonce [16]byte, now time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.until == nil || !now.Before(n.sweep) {
		kept := map[[16]byte]time.Time{}
		for k, end := range n.until {
			if now.Before(end) {
				kept[k] = end
			}
		}
		n.until, n.sweep = kept, now.Add(lease.MaxDispatchAge)
	}
	if _, seen := n.until[nonce]; seen {
		return fmt.Errorf("%w: a call that came before", ErrRefused)
	}
	if len(n.until) >= maxCalls {
		return ErrBusy
	}
	n.until[nonce] = now.Add(2*lease.MaxDispatchAge + time.Second)
	return nil
}
