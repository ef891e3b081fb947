package trigger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits of calls to the vault for checks.
const (
	// maxFlights is how many calls are on their way at a time. What comes meanwhile shares
	// the next one: a call costs four signatures, whatever it holds.
	maxFlights = 2
	// maxFlightBytes bounds a call, unless one check alone is larger.
	maxFlightBytes = 1 << 20
	// maxWaiting bounds the checks that wait for a call.
	maxWaiting = 4096
	// checkTime bounds a check.
	checkTime = 10 * time.Second
)

// errTooMany means that the vault is not fast enough.
var errTooMany = errors.New("too many checks are waiting for the vault")

// checker puts checks to the vault, many in one call. It is safe for concurrent use.
type checker struct {
	vault engine.Vault

	mu      sync.Mutex
	waiting []*checking
	flights int
	places  places // that waiting takes
}

// checking is one check that waits for its result.
type checking struct {
	check  *lease.MacCheck
	result lease.MacResult
	err    error
	done   chan struct{} // closed when result or err is set
}

// do puts one check. It keeps the check until its result is there, also when the context
// ends before.
func (c *checker) do(ctx context.Context, m *lease.MacCheck) (lease.MacResult, error) {
	k := &checking{check: m, done: make(chan struct{})}
	c.mu.Lock()
	if !c.places.take(m.Customer, maxWaiting) {
		c.mu.Unlock()
		return lease.MacResult{}, errTooMany
	}
	c.waiting = append(c.waiting, k)
	if c.flights < maxFlights {
		c.flights++
		go c.fly()
	}
	c.mu.Unlock()
	select {
	case <-k.done:
		return k.result, k.err
	case <-ctx.Done():
		return lease.MacResult{}, ctx.Err()
	}
}

// fly makes calls until no check waits.
func (c *checker) fly() {
	for {
		batch := c.next()
		if batch == nil {
			return
		}
		results, err := c.call(batch)
		for i, k := range batch {
			if k.err = err; err == nil {
				k.result = results[i]
			}
			close(k.done)
		}
	}
}

// next takes the checks of one call, or ends the flight.
func (c *checker) next() []*checking {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, size := 0, 0
	for n < len(c.waiting) && n < lease.MaxMacChecks {
		m := c.waiting[n].check
		if size += len(m.Data) + len(m.Config); n > 0 && size > maxFlightBytes {
			break
		}
		n++
	}
	if n == 0 {
		c.flights--
		return nil
	}
	batch := c.waiting[:n:n]
	for _, k := range batch {
		c.places.give(k.check.Customer)
	}
	c.waiting = c.waiting[n:]
	if len(c.waiting) == 0 {
		c.waiting = nil
	}
	return batch
}

func (c *checker) call(batch []*checking) ([]lease.MacResult, error) {
	m := &lease.MacCall{Checks: make([]lease.MacCheck, len(batch))}
	for i, k := range batch {
		m.Checks[i] = *k.check
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	b, err := c.vault.Call(ctx, lease.OpMac, wire.AppendBody(nil, m))
	if err != nil {
		return nil, fmt.Errorf("ask vault to check: %w", err)
	}
	var a lease.MacAnswer
	if err := wire.ParseBody(b, &a); err != nil {
		return nil, fmt.Errorf("ask vault to check: %w", err)
	}
	if len(a.Results) != len(batch) {
		return nil, fmt.Errorf("ask vault to check: %d results of %d checks", len(a.Results), len(batch))
	}
	return a.Results, nil
}
