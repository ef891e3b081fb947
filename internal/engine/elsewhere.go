package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// How old the counts of what other servers schedule may be. What is accepted here is added
// to them meanwhile; what others accept within that time may go over a bound.
const (
	countAge    = time.Second
	allCountAge = 5 * time.Second
	// maxElsewhere bounds the customers whose counts are kept.
	maxElsewhere = 10_000
)

// elsewhere counts what is pending of shards that other servers have: the bounds hold on
// every server, also where nothing of a customer is in memory. The database counts, because
// every server writes there what it accepts. It is guarded by the engine's mutex.
type elsewhere struct {
	customers map[id.Customer]*tally
	all       load
	allRead   time.Time
}

type tally struct {
	load    load
	read    time.Time
	reading bool
}

// countElsewhere reads how much of a customer is pending that another server schedules, when
// what is known of it is too old. One request reads for all that come meanwhile.
func (e *Engine) countElsewhere(ctx context.Context, c id.Customer) error {
	if e.ours(c) {
		return nil
	}
	now := time.Now()
	e.mu.Lock()
	if e.holds(c) {
		e.mu.Unlock()
		return nil
	}
	x := e.elsewhere.customers[c]
	if x != nil && (x.reading || now.Sub(x.read) < countAge) {
		e.mu.Unlock()
		return nil
	}
	if x == nil {
		if len(e.elsewhere.customers) >= maxElsewhere {
			clear(e.elsewhere.customers)
		}
		x = &tally{}
		e.elsewhere.customers[c] = x
	}
	x.reading = true
	e.mu.Unlock()
	events, bytes, err := e.db.Customer(ctx, c).Backlog()
	e.mu.Lock()
	defer e.mu.Unlock()
	x.reading = false
	if err != nil {
		return fmt.Errorf("count pending events: %w", err)
	}
	x.load, x.read = load{int(events), bytes}, now
	return nil
}

// countAll reads how much is pending in the shards of other servers, for the bound of all.
func (e *Engine) countAll(ctx context.Context) error {
	now := time.Now()
	e.mu.Lock()
	away := false
	for i := range e.claims {
		away = away || !e.claims[i].held
	}
	due := away && now.Sub(e.elsewhere.allRead) >= allCountAge
	if !away {
		e.elsewhere.all = load{}
	}
	e.mu.Unlock()
	if !due {
		return nil
	}
	list, err := e.db.System(ctx).Backlogs()
	if err != nil {
		return fmt.Errorf("count pending events: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	all := load{}
	for _, x := range list {
		if !e.claims[x.Shard].held {
			all = all.add(int(x.Events), x.Bytes)
		}
	}
	e.elsewhere.all, e.elsewhere.allRead = all, now
	return nil
}

// admitElsewhere counts a new job that another server will schedule. Callers hold the mutex.
func (e *Engine) admitElsewhere(j *job, bytes int64) *BusyError {
	x := e.elsewhere.customers[j.customer]
	if x == nil { // the shard changed hands a moment ago: the next request counts
		return nil
	}
	own := x.load.add(1, bytes)
	if busy := e.backlog.room(own, e.backlog.total.add(1, bytes), e.elsewhere.all); busy != nil {
		return busy
	}
	x.load, e.elsewhere.all = own, e.elsewhere.all.add(1, bytes)
	return nil
}
