package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Times and sizes of retention. What is expired cannot be opened whether its rows are there
// or not, because the vault has destroyed the keys: so nothing here is urgent.
const (
	// DefaultMetadata is how long the metadata of an execution stays after its end.
	DefaultMetadata = 90 * 24 * time.Hour
	// retainEvery is the pause between two looks.
	retainEvery = 5 * time.Minute
	// retainPage is how many executions are read at a time; retainGroup how many are emptied
	// in one write, retainRowsOf how many rows of each table of one of them, and retainRows
	// how many rows of other tables.
	retainPage   = 512
	retainGroup  = 8
	retainRowsOf = 128
	retainRows   = 256
	// retainRest is how many times as long as a write the writer is left to others after it,
	// unless the walk has taken retainLate, and cannot keep up.
	retainRest = 3
	retainLate = 12 * time.Hour
)

// Purged counts what retention removed.
type Purged struct {
	Emptied   int // executions that lost their payloads
	Forgotten int // executions that lost their metadata too
	Blobs     int
	BlobDays  int // directories of blobs
}

// retainLoop removes what has expired, in small writes. Of several servers one does.
func (e *Engine) retainLoop(ctx context.Context) {
	tick := time.NewTicker(retainEvery)
	defer tick.Stop()
	var walked lease.Day // the day on which all executions were last looked at
	for now := time.Now(); ; {
		var err error
		if e.leads() {
			err = e.dropLapsed(ctx, now)
		}
		if day := lease.DayOf(now); err == nil && day != walked && e.leads() {
			var p Purged
			if p, err = e.retain(ctx, now); err == nil {
				walked = day
			}
			if p != (Purged{}) {
				e.log.InfoContext(ctx, "expired rows removed", "emptied", p.Emptied, "forgotten", p.Forgotten, "blobs", p.Blobs, "blob_days", p.BlobDays)
			}
		}
		if err != nil && ctx.Err() == nil {
			e.log.ErrorContext(ctx, "expired rows could not be removed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case now = <-tick.C:
		}
	}
}

// retain walks over all executions, the oldest first, and removes the payloads of those
// whose day is over and the metadata of those that ended long ago; then blobs and flow records.
func (e *Engine) retain(ctx context.Context, now time.Time) (p Purged, err error) {
	p.BlobDays, err = e.retainBlobs(ctx, now, &p)
	if err != nil {
		return p, fmt.Errorf("remove expired blobs: %w", err)
	}
	var after id.Execution
	for began := time.Now(); ; {
		page, err := e.db.System(ctx).Rows(after, retainPage)
		if err != nil {
			return p, fmt.Errorf("list executions: %w", err)
		}
		if err := e.retainRows(ctx, page, now, began, &p); err != nil {
			return p, fmt.Errorf("remove expired rows: %w", err)
		}
		if len(page) < retainPage {
			break
		}
		after = page[len(page)-1].Execution
	}
	if err := e.dropFlowRecords(ctx, now.Add(-e.o.Metadata)); err != nil {
		return p, fmt.Errorf("remove old flow records: %w", err)
	}
	return p, nil
}

// retainRows removes what is due of a page of executions. Metadata of what it empties
// goes with the next walk at the earliest.
func (e *Engine) retainRows(ctx context.Context, page []store.Row, now, began time.Time, p *Purged) error {
	today, before := uint32(lease.DayOf(now)), now.Add(-e.o.Metadata)
	var due, old []store.Row
	for _, x := range page {
		switch {
		case x.Finished.IsZero() || x.Day >= today:
		case !x.Emptied:
			due = append(due, x)
		case x.Finished.Before(before):
			old = append(old, x)
		}
	}
	for group := range slices.Chunk(due, retainGroup) {
		if err := e.empty(ctx, group, today, began); err != nil {
			return err
		}
		p.Emptied += len(group)
	}
	for group := range slices.Chunk(old, retainRows) {
		err := e.writeSlowly(ctx, began, func(tx *store.Tx) error {
			for i := range group {
				if err := tx.Customer(group[i].Customer).Forget(group[i].Execution, before); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		p.Forgotten += len(group)
	}
	return nil
}

// empty removes the payloads of executions. What is large takes several writes.
func (e *Engine) empty(ctx context.Context, list []store.Row, today uint32, began time.Time) error {
	for len(list) > 0 {
		var left []store.Row
		err := e.writeSlowly(ctx, began, func(tx *store.Tx) error {
			left = left[:0]
			for i := range list {
				done, err := tx.Customer(list[i].Customer).Empty(&list[i], today, retainRowsOf)
				if err != nil {
					return err
				}
				if !done {
					left = append(left, list[i])
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		list = left
	}
	return nil
}

// writeSlowly writes, and then leaves the writer to others for a while.
func (e *Engine) writeSlowly(ctx context.Context, began time.Time, fn func(*store.Tx) error) error {
	start := time.Now()
	if err := e.db.Write(ctx, fn); err != nil {
		return err
	}
	if start.Sub(began) > retainLate {
		return nil
	}
	rest := time.NewTimer(retainRest * time.Since(start))
	defer rest.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-rest.C:
		return nil
	}
}

// retainBlobs removes the rows of blobs whose day is over, and then their files.
func (e *Engine) retainBlobs(ctx context.Context, now time.Time, p *Purged) (days int, err error) {
	type row struct {
		customer id.Customer
		blob     id.Blob
	}
	today, began := uint32(lease.DayOf(now)), time.Now()
	for {
		var list []row
		err := e.db.System(ctx).ExpiredBlobs(today, retainRows, func(c id.Customer, b id.Blob) { list = append(list, row{c, b}) })
		if err != nil {
			return 0, err
		}
		if len(list) == 0 {
			return e.blobs.Expire(today)
		}
		err = e.writeSlowly(ctx, began, func(tx *store.Tx) error {
			for _, x := range list {
				if err := tx.Customer(x.customer).DeleteBlob(x.blob, today); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		p.Blobs += len(list)
	}
}

// dropLapsed removes rows that are of no use any more: delivery ids and answers whose
// time is over, and the metadata of tokens and rejected deliveries.
func (e *Engine) dropLapsed(ctx context.Context, now time.Time) error {
	began := time.Now()
	for what, before := range map[store.Lapsed]time.Time{
		store.Deliveries: now, store.RequestAnswers: now,
		store.DeadTokens: now.Add(-e.o.Metadata), store.OldRejections: now.Add(-e.o.Metadata),
	} {
		for done := false; !done; {
			err := e.writeSlowly(ctx, began, func(tx *store.Tx) (err error) {
				done, err = tx.System().DeleteLapsed(what, before, retainRows)
				return err
			})
			if err != nil {
				return fmt.Errorf("remove old rows: %w", err)
			}
		}
	}
	return nil
}

// dropFlowRecords removes the records of calls out before a time.
func (e *Engine) dropFlowRecords(ctx context.Context, before time.Time) error {
	customers, err := e.db.System(ctx).Customers()
	if err != nil {
		return err
	}
	began := time.Now()
	for _, c := range customers {
		for {
			until, err := e.db.Customer(ctx, c).OldFlowRecords(before, retainRows)
			if err != nil {
				return err
			}
			if until.IsZero() {
				break
			}
			err = e.writeSlowly(ctx, began, func(tx *store.Tx) error { return tx.Customer(c).DeleteFlowRecords(until) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}
