package engine

import (
	"context"
	"errors"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// A journal of up to maxInlineEntries entries and maxInlineJournal bytes travels with its
// dispatch. Of a longer one the worker asks for pages.
const (
	maxInlineEntries = 1024
	maxInlineJournal = 256 << 10
)

// Limits of one page. A body over maxPageBody is left out of a page of many entries.
const (
	maxPageEntries = 2048
	maxPageBytes   = 512 << 10
	maxPageBody    = 512
	maxPageSeqs    = 256
)

// errFull ends the reading of a page.
var errFull = errors.New("the page is full")

// page gathers entries up to a number of bytes; the first always fits.
type page struct {
	entries []wire.Entry
	left    int  // bytes
	short   bool // a body was left out
}

func (p *page) add(x *wire.Entry, leftOut bool) error {
	p.left -= len(x.Path) + len(x.Body) + entryOverhead
	if p.left < 0 && len(p.entries) > 0 {
		return errFull
	}
	p.entries, p.short = append(p.entries, *x), p.short || leftOut
	return nil
}

// whole says that a full page is no error.
func whole(err error) error {
	if errors.Is(err, errFull) {
		return nil
	}
	return err
}

// inlineJournal reads all entries, or none when they are too large for a dispatch.
func inlineJournal(c store.Customer, x id.Execution, last uint32) ([]wire.Entry, error) {
	p := page{left: maxInlineJournal}
	err := whole(c.JournalAfter(x, 0, maxInlineEntries, maxInlineJournal, p.add))
	if err != nil || p.short || len(p.entries) < int(last) {
		return nil, err
	}
	return p.entries, nil
}

// inlineWakes reads the wakes, without their bodies when these are too large for a dispatch.
func inlineWakes(c store.Customer, x id.Execution) (list []wire.Entry, away bool, err error) {
	list, bytes, err := c.WakeHeads(x)
	if err != nil || bytes > maxInlineJournal {
		return list, true, err
	}
	list, err = c.Wakes(x)
	return list, false, err
}

// journalGet answers the worker that runs an execution with a page of its journal.
func (e *Engine) journalGet(ctx context.Context, from id.Node, m *wire.JournalGet) {
	e.mu.Lock()
	j := e.held(from, m.Execution, m.Fence)
	e.mu.Unlock()
	if j == nil {
		e.o.Link.Send(wire.RoleRunner, from, &wire.Cancel{Execution: m.Execution, Fence: m.Fence})
		return
	}
	answer := &wire.JournalPage{Call: m.Call, Execution: m.Execution}
	c := e.db.Customer(ctx, j.customer)
	p := page{left: maxPageBytes}
	var err error
	switch {
	case m.Wakes:
		seqs := m.Seqs[:min(len(m.Seqs), maxPageSeqs)]
		err = c.WakesByNumber(m.Execution, seqs, func(x *wire.Entry) error { return p.add(x, false) })
	case len(m.Seqs) > 0:
		seqs := m.Seqs[:min(len(m.Seqs), maxPageSeqs)]
		err = c.JournalEntries(m.Execution, seqs, func(x *wire.Entry) error { return p.add(x, false) })
	default:
		err = c.JournalAfter(m.Execution, m.After, maxPageEntries, maxPageBody, p.add)
		answer.Last = err == nil && len(p.entries) < maxPageEntries
	}
	answer.Entries = p.entries
	if err := whole(err); err != nil {
		e.log.ErrorContext(ctx, "journal could not be read", "execution", m.Execution, "error", err)
		answer.Entries, answer.Error = nil, BlobFailed
	}
	e.o.Link.Send(wire.RoleRunner, from, answer)
}
