package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// markEvery is how many rounds, or pages of an action, pass between two marks of a loop.
const markEvery = 64

// loopMark says how far a loop has come: a checkpoint at the loop's own path. A resume begins behind it, and needs no entry of
// the rounds and pages before it. A loop with results keeps the checkpoints of its rounds, which hold them, so only one over
// pages is marked: the rounds of others are at most as many as its results may be.
type loopMark struct {
	Rounds int           `json:"rounds"` // so many first rounds are finished
	Failed int           `json:"failed,omitempty"`
	Errors []markedError `json:"errors,omitempty"`
	Kept   bool          `json:"kept,omitempty"` // each of these rounds has a checkpoint, with its result
	Page   *markedPage   `json:"page,omitempty"`
}

// markedError is the fault of a finished round.
type markedError struct {
	Index int             `json:"index"`
	Fault json.RawMessage `json:"fault"`
}

// markedPage is the page in which the next round begins.
type markedPage struct {
	Number int             `json:"number"`
	Skip   int             `json:"skip,omitempty"` // items of it that belong to finished rounds
	Cursor json.RawMessage `json:"cursor"`
	Query  []wire.Pair     `json:"query,omitempty"`
	Linked bool            `json:"linked,omitempty"`
	Count  int             `json:"count,omitempty"` // by a connector's recipe, see connector.Page
	Below  string          `json:"below,omitempty"`
}

// recipePage is where a page is by a connector's recipe.
func (m *markedPage) recipePage(cursor expr.Value) *pageAt {
	p := &connector.Page{Count: m.Count, Linked: m.Linked, Below: m.Below}
	if expr.Kind(cursor) != expr.KindNull {
		p.Cursor = cursor
	}
	if m.Linked {
		p.Query = make([]connector.Fixed, len(m.Query))
		for i, q := range m.Query {
			p.Query[i] = connector.Fixed(q)
		}
	}
	return &pageAt{cursor: cursor, page: p}
}

// isRound says whether the path of a checkpoint is that of a round; else it is that of a loop, and the checkpoint its mark.
func isRound(path string) bool { return strings.HasSuffix(path, "]") }

func roundPath(loop string, i int) string { return loop + "[" + strconv.Itoa(i) + "]" }
func pagePath(loop string, i int) string  { return fmt.Sprintf("%s.page[%d]", loop, i) }

// position is where the next item of pages is.
type position struct {
	page, skip int
	at         *pageAt
}

func (p *position) marked() (*markedPage, error) {
	m := &markedPage{Number: p.page, Skip: p.skip, Query: p.at.query, Linked: p.at.linked}
	if r := p.at.page; r != nil {
		m.Count, m.Linked, m.Below, m.Query = r.Count, r.Linked, r.Below, wirePairs(r.Query)
	}
	var err error
	m.Cursor, err = appendJSON(nil, p.at.cursor)
	return m, err
}

// ended follows the end of a round that does not end the loop. The caller holds mu.
func (l *looping) ended(i int, failed bool) {
	if !l.marks {
		return
	}
	l.done[i] = failed
	for {
		failed, ok := l.done[l.low]
		if !ok {
			return
		}
		delete(l.done, l.low)
		if failed {
			l.lowFailed++
		}
		if at, ok := l.starts[l.low]; ok {
			l.next0 = at
			delete(l.starts, l.low)
		}
		l.low++
	}
}

// mark records how far the loop has come, when that is far enough from the last mark. With at, every round that has begun is
// finished, and the next one begins there.
func (l *looping) mark(ctx context.Context, at *position) error {
	l.marking.Lock()
	defer l.marking.Unlock()
	l.mu.Lock()
	if at != nil && l.low < l.begun {
		at = nil
	}
	if at == nil {
		at = l.next0
	}
	far := l.low-l.marked >= markEvery || at != nil && at.page-l.markedPage >= markEvery
	if !l.marks || !far || !l.dirty || l.stopped {
		l.mu.Unlock()
		return nil
	}
	m := loopMark{Rounds: l.low, Failed: l.lowFailed, Kept: l.keeps()}
	for _, r := range l.errors {
		if r.index < l.low && !m.Kept {
			m.Errors = append(m.Errors, markedError{r.index, r.fault.appendJSON()})
		}
	}
	l.marked, l.dirty = l.low, false
	if at != nil {
		l.markedPage = at.page
	}
	l.mu.Unlock()
	return l.writeMark(ctx, &m, at)
}

func (l *looping) writeMark(ctx context.Context, m *loopMark, at *position) error {
	var err error
	if at != nil {
		if m.Page, err = at.marked(); err != nil {
			return err
		}
	}
	c := content{Version: contentVersion}
	if c.JSON, err = json.Marshal(m); err != nil {
		return fmt.Errorf("encode mark: %w", err)
	}
	if len(c.JSON) > MaxInline {
		if c.Spill, err = l.x.writeBlob(ctx, c.JSON); err != nil {
			return err
		}
		c.JSON = nil
	}
	l.x.record(l.e.f, wire.Entry{Kind: wire.EntryCheckpoint, Path: l.in.round, Epoch: uint32(m.Rounds), Hash: l.sourceHash()}, wire.AppendBody(nil, &c))
	return nil
}

// sourceHash is the mark of what the loop goes through; zero for pages, whose requests have their own.
func (l *looping) sourceHash() (hash [16]byte) {
	if l.list == nil {
		return hash
	}
	if f, ok := asFile(l.list); ok {
		return l.x.in.mark(l.x.unit.Execution, l.in.round, f.ref.Blob.Blob)
	}
	return l.x.in.mark(l.x.unit.Execution, l.in.round, expr.Hash(l.list))
}

// openMark opens the mark of a loop.
func (x *execution) openMark(e *wire.Entry) (*loopMark, error) {
	plain, err := x.openEntry(e)
	if err != nil {
		return nil, err
	}
	unreadable := func() error { return faultf(typeMismatch, "a journal entry cannot be read").atStep(e.Path) }
	var c content
	if err := wire.ParseBody(plain, &c); err != nil {
		return nil, unreadable()
	}
	if c.Spill != nil {
		if c.JSON, err = x.loadBlob(x.ctx, c.Spill); err != nil {
			return nil, err
		}
	}
	m := &loopMark{}
	if err := json.Unmarshal(c.JSON, m); err != nil || m.Rounds < 0 {
		return nil, unreadable()
	}
	return m, nil
}

// resume begins behind the mark of an earlier stay, if there is one.
func (l *looping) resume(ctx context.Context) error {
	rec := l.x.journal.past(l.in.round)
	if rec == nil || rec.checkpoint == nil {
		return nil
	}
	if l.sourceHash() != rec.checkpoint.Hash {
		return faultf(typeMismatch, "what the loop goes through is not what it was before the execution was interrupted").atStep(l.e.path)
	}
	m, err := l.x.openMark(rec.checkpoint)
	if err != nil {
		return err
	}
	if err := l.restore(ctx, m); err != nil {
		return err
	}
	l.begun, l.low, l.marked, l.lowFailed = m.Rounds, m.Rounds, m.Rounds, m.Failed
	l.e.f.write()
	if m.Page != nil && l.paged != nil {
		l.markedPage = m.Page.Number
		return l.paged.seek(m.Page)
	}
	for range m.Rounds {
		if err := cause(ctx); err != nil {
			return err
		}
		_, ok, err := l.each.next(ctx)
		if err != nil {
			return err
		}
		if !ok {
			return faultf(typeMismatch, "the loop has fewer rounds than before the execution was interrupted").atStep(l.e.path)
		}
	}
	return nil
}

// restore takes how the rounds before a mark ended.
func (l *looping) restore(ctx context.Context, m *loopMark) error {
	if !m.Kept {
		l.count, l.failed = m.Rounds, m.Failed
		for _, e := range m.Errors {
			f, err := parseFault(e.Fault)
			if err != nil {
				return faultf(typeMismatch, "a journal entry cannot be read").atStep(l.e.path)
			}
			l.keepError(roundError{e.Index, f})
		}
		return nil
	}
	for i := range m.Rounds {
		path := roundPath(l.in.round, i)
		rec := l.x.journal.past(path)
		if rec == nil || rec.checkpoint == nil {
			return faultf(typeMismatch, "the journal lacks a finished round").atStep(path)
		}
		v, err := l.x.pastRound(ctx, rec.checkpoint)
		if _, ok := caught(err); err != nil && !ok {
			return err
		}
		l.end(i, v, err)
	}
	clear(l.done)
	return nil
}
