package worker

import (
	"bytes"
	"errors"
	"slices"
	"sync"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// recalled are the entries of earlier stays that a resume still needs, of a journal that is too long to come with its unit.
//
// The journal is read page by page, and what a later entry made unnecessary is forgotten at once: the checkpoint of a round
// stands for every entry below the round, the mark of a loop for the rounds and pages before it. Larger bodies do not come with
// the pages; they are read when a step asks for them, some ahead. So memory is bounded by what is unfinished, not by what was
// done. It is safe for concurrent use once it is loaded.
type recalled struct {
	x     *execution
	under map[string]map[string]struct{} // the paths of records below a round
	live  int                            // entries

	mu     sync.Mutex
	away   []uint32 // entries without their bodies, in order
	bodies map[uint32][]byte
}

// recall loads the journal of a resumed execution that did not come with its unit.
func (x *execution) recall() error {
	if int64(x.unit.Entries) <= int64(len(x.unit.Journal)) {
		return nil
	}
	r := &recalled{x: x, under: map[string]map[string]struct{}{}}
	j := &x.journal
	j.records, j.recalled = map[string]*record{}, r
	after := uint32(0)
	for last := false; !last; {
		page, err := x.journalPage(&wire.JournalGet{After: after})
		if err != nil {
			return err
		}
		for i := range page.Entries {
			e := page.Entries[i]
			if e.Seq <= after {
				return faultf(typeMismatch, "the journal is not in order").atStep(e.Path)
			}
			after, e.Body = e.Seq, bytes.Clone(e.Body) // the page is not kept
			if err := r.add(&e); err != nil {
				return err
			}
		}
		last = page.Last || len(page.Entries) == 0
	}
	if after != x.unit.Entries {
		return faultf(typeMismatch, "the journal has %d entries where %d were committed", after, x.unit.Entries).atStep("")
	}
	j.seq, j.entries = after, int(after)
	r.under = nil
	r.sortAway(j.records)
	return nil
}

// journalPage asks for entries. A page that does not come ends the stay: another one may begin.
func (x *execution) journalPage(m *wire.JournalGet) (*wire.JournalPage, error) {
	m.Call, m.Execution, m.Fence = x.s.number.Add(1), x.unit.Execution, x.unit.Fence
	ch := x.s.pages.begin(m.Call)
	defer x.s.pages.end(m.Call)
	if err := x.s.out.Write(m); err != nil {
		return nil, err
	}
	page, err := receive(x.ctx, ch, hostWait)
	switch {
	case errors.Is(err, errLate):
		return nil, errLost
	case err != nil:
		return nil, err
	case page.Error != "":
		return nil, errLost
	}
	return page, nil
}

// wakeBody is the sealed body of the answer to a wait, which may not have come with the unit.
func (x *execution) wakeBody(w *wire.Entry) ([]byte, error) {
	if len(w.Body) > 0 || !x.unit.WakesAway {
		return w.Body, nil
	}
	page, err := x.journalPage(&wire.JournalGet{Seqs: []uint32{w.Seq}, Wakes: true})
	if err != nil || len(page.Entries) == 0 {
		return nil, err
	}
	return page.Entries[0].Body, nil
}

// add takes the next entry.
func (r *recalled) add(e *wire.Entry) error {
	j := &r.x.journal
	if e.Kind == wire.EntryRetry {
		j.retry = e
		return nil
	}
	if e.Kind == wire.EntryCheckpoint {
		if isRound(e.Path) {
			for path := range r.under[e.Path] {
				r.forget(path)
			}
		} else if err := r.marked(e); err != nil {
			return err
		}
	}
	if j.records[e.Path] == nil {
		j.records[e.Path] = &record{}
		rounds(e.Path, func(round string) {
			if r.under[round] == nil {
				r.under[round] = map[string]struct{}{}
			}
			r.under[round][e.Path] = struct{}{}
		})
	}
	rec := j.records[e.Path]
	before := rec.len()
	j.put(rec, e)
	if r.live += rec.len() - before; r.live > MaxLive {
		return faultf(typeLimit, "more than %d entries of the journal are needed to resume", MaxLive).atStep("")
	}
	return nil
}

// marked forgets what the mark of a loop stands for.
func (r *recalled) marked(e *wire.Entry) error {
	m, err := r.x.openMark(e)
	if err != nil {
		return err
	}
	from, page := 0, 0
	if rec := r.x.journal.records[e.Path]; rec != nil && rec.checkpoint != nil {
		old, err := r.x.openMark(rec.checkpoint)
		if err != nil {
			return err
		}
		if from = old.Rounds; old.Page != nil {
			page = old.Page.Number
		}
	}
	for ; from < m.Rounds; from++ {
		round := roundPath(e.Path, from)
		for path := range r.under[round] {
			r.forget(path)
		}
		if !m.Kept {
			r.forget(round)
		}
	}
	for ; m.Page != nil && page < m.Page.Number; page++ {
		r.forget(pagePath(e.Path, page))
	}
	return nil
}

// forget drops the entries at a path.
func (r *recalled) forget(path string) {
	rec := r.x.journal.records[path]
	if rec == nil {
		return
	}
	r.live -= rec.len()
	delete(r.x.journal.records, path)
	rounds(path, func(round string) {
		if delete(r.under[round], path); len(r.under[round]) == 0 {
			delete(r.under, round)
		}
	})
}

// rounds calls each with the path of every round around a path.
func rounds(path string, each func(round string)) {
	for i := range len(path) - 1 {
		if path[i] == ']' && path[i+1] == '.' {
			each(path[:i+1])
		}
	}
}

// sortAway lists the entries whose bodies did not come.
func (r *recalled) sortAway(records map[string]*record) {
	for _, rec := range records {
		rec.each(func(e *wire.Entry) {
			if len(e.Body) == 0 {
				r.away = append(r.away, e.Seq)
			}
		})
	}
	slices.Sort(r.away)
}

// ahead is how many bodies are asked for at once: those that a resume needs next.
const ahead = 32

// body reads the sealed body of an entry, and those of the next ones.
func (r *recalled) body(seq uint32) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b, ok := r.bodies[seq]; ok {
		return b, nil
	}
	seqs := []uint32{seq}
	at, _ := slices.BinarySearch(r.away, seq+1)
	seqs = append(seqs, r.away[at:min(at+ahead, len(r.away))]...)
	page, err := r.x.journalPage(&wire.JournalGet{Seqs: seqs})
	if err != nil {
		return nil, err
	}
	r.bodies = make(map[uint32][]byte, len(page.Entries))
	for i := range page.Entries {
		r.bodies[page.Entries[i].Seq] = page.Entries[i].Body
	}
	return r.bodies[seq], nil
}
