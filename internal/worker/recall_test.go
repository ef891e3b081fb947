package worker

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// smallBody is the largest body that the host leaves in a page of many entries.
const smallBody = 100

// journalPage is the server's answer to a worker that asks for its journal.
func (h *host) journalPage(m *wire.JournalGet) *wire.JournalPage {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.runs[m.Execution]
	page := &wire.JournalPage{Call: m.Call, Execution: m.Execution}
	if r == nil || r.unit.Fence != m.Fence {
		page.Error = "not-found"
		return page
	}
	if m.Wakes {
		for _, number := range m.Seqs {
			page.Entries = append(page.Entries, r.unit.Wakes[number-1])
		}
		return page
	}
	if len(m.Seqs) > 0 {
		for _, seq := range m.Seqs[:min(len(m.Seqs), h.paged)] {
			page.Entries = append(page.Entries, r.unit.Journal[seq-1])
		}
		return page
	}
	rest := r.unit.Journal[m.After:]
	page.Entries = slices.Clone(rest[:min(len(rest), h.paged)])
	for i := range page.Entries {
		if len(page.Entries[i].Body) > smallBody {
			page.Entries[i].Body = nil
		}
	}
	h.got += len(page.Entries)
	page.Last = len(page.Entries) == len(rest)
	return page
}

// TestResumePaged is TestResume with a journal that comes in pages.
func TestResumePaged(t *testing.T) {
	t.Parallel()
	want, appends := journeyOf(t, func(int, *wire.Append) cutting { return goOn })
	for at := 1; at <= appends; at++ {
		t.Run(strconv.Itoa(at), func(t *testing.T) {
			t.Parallel()
			got, _ := journeyPaged(t, 3, func(n int, _ *wire.Append) cutting {
				if n == at {
					return loseAck
				}
				return goOn
			})
			compareJourneys(t, want, got, true)
		})
	}
}

// numbered answers /pages with pages of a few items, and counts what is put.
type numbered struct {
	pages, items int
	asked, put   map[string]int
	h            *host
}

func (n *numbered) answer(r *wire.Request) *wire.Response {
	n.h.mu.Lock()
	defer n.h.mu.Unlock()
	if r.Path != "/pages" {
		n.put[string(r.Body)]++
		if strings.HasSuffix(strings.TrimSuffix(string(r.Body), "]"), "13") {
			return refusal("upstream", 500)
		}
		return jsonAnswer(200, `{}`)
	}
	at := 0
	for _, p := range r.Query {
		if p.Name == "at" {
			at, _ = strconv.Atoi(p.Value)
		}
	}
	n.asked[strconv.Itoa(at)]++
	items := make([]string, 0, n.items)
	for i := range n.items {
		items = append(items, strconv.Itoa(at*n.items+i))
	}
	next := "null"
	if at+1 < n.pages {
		next = strconv.Itoa(at + 1)
	}
	// The filler makes an answer larger than what a page of the journal carries.
	return jsonAnswer(200, fmt.Sprintf(`{"items":[%s],"next":%s,"filler":%q}`, strings.Join(items, ","), next, strings.Repeat("x", 2*smallBody)))
}

const pagedLoop = `
      - id: all
        for: {each: {uses: api.request, with: {path: /pages, query: {at: "${{ orElse(cursor, 0) }}"}}, items: "${{ result.body.items }}", cursor: "${{ result.body.next }}"}%s, on_error: continue}
        steps: [{id: put, uses: api.request, with: {method: POST, path: /put, body: "${{ item }}"}}]
%s
      - {id: out, return: {all: "${{ steps.all }}"}}
`

func TestALongLoopResumesBehindItsMark(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options, result string
		pages, items    int
	}{
		"items":    {"", "", 400, 1},
		"batches":  {", batch: 3", "", 200, 4},
		"parallel": {", parallel: 8", "", 120, 4},
		"results":  {", batch: 2, parallel: 3", `        result: "${{ size(item) }}"`, 250, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := func(cutAt func(n int) bool) (outcomeOf, *numbered, *host, id.Execution) {
				h := newHost(t, steps(t, fmt.Sprintf(pagedLoop, c.options, c.result)))
				h.paged = 50
				n := &numbered{pages: c.pages, items: c.items, asked: map[string]int{}, put: map[string]int{}, h: h}
				h.egress = n.answer
				h.cut = func(n int, _ *wire.Append) cutting {
					if cutAt(n) {
						return loseAck
					}
					return goOn
				}
				e := h.add("main", `{"body":{}}`)
				for range 20 {
					l := h.start()
					l.give(e)
					released := h.released(e)
					_ = l.stop()
					if released.Fault == "" {
						return h.result(e), n, h, e
					}
				}
				t.Fatal("it never ends")
				return outcomeOf{}, nil, nil, id.Execution{}
			}
			want, all, h, e := run(func(int) bool { return false })
			if want.Status != wire.StatusCompleted {
				t.Fatalf("it ends as %+v", want)
			}
			marks, live := 0, h.liveEntries(e)
			for _, x := range h.run(e).unit.Journal {
				if x.Kind == wire.EntryCheckpoint && x.Path == "all" {
					marks++
				}
			}
			total := len(h.run(e).unit.Journal)
			t.Logf("%d entries, %d marks, %d entries needed after the last mark", total, marks, live)
			if marks == 0 || live > total/2 {
				t.Errorf("%d marks in %d entries, %d are needed", marks, total, live)
			}
			appends := h.appends
			cuts := map[int]bool{appends / 4: true, appends / 2: true, appends/2 + 1: true, appends * 9 / 10: true}
			got, again, _, _ := run(func(n int) bool { return cuts[n] })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("interrupted, it ends differently:\n%s", diff)
			}
			repeated := 0
			for _, m := range []map[string]int{again.asked, again.put} {
				for _, times := range m {
					repeated += times - 1
				}
			}
			if len(again.put) != len(all.put) || len(again.asked) != c.pages {
				t.Errorf("%d bodies were put and %d pages read, want %d and %d", len(again.put), len(again.asked), len(all.put), c.pages)
			}
			if most := 4 * 10; repeated > most { // what was under way in each of four interruptions
				t.Errorf("%d requests were repeated, want at most %d", repeated, most)
			}
		})
	}
}

// liveEntries is how many entries of a journal a resume would keep.
func (h *host) liveEntries(e id.Execution) int {
	last := map[string]bool{}
	var mark int
	for i, x := range h.run(e).unit.Journal {
		if x.Kind == wire.EntryCheckpoint && x.Path == "all" {
			mark = i
		}
		last[x.Path] = true
	}
	return len(h.run(e).unit.Journal) - mark
}

func TestAMarkOfOtherInputIsAMismatch(t *testing.T) {
	t.Parallel()
	h := newHost(t, steps(t, `
      - id: all
        for: {each: "${{ trigger.body.list }}"}
        steps: [{id: put, uses: api.request, with: {method: POST, path: /put, body: "${{ item }}"}}]
      - {id: out, return: {n: "${{ steps.all.count }}"}}
`))
	h.paged = 10
	h.egress = func(*wire.Request) *wire.Response { return jsonAnswer(200, `{}`) }
	list := make([]string, 200)
	for i := range list {
		list[i] = strconv.Itoa(i)
	}
	h.cut = func(n int, _ *wire.Append) cutting {
		if n == 150 {
			return loseAck
		}
		return goOn
	}
	resume := func(list []string) outcomeOf {
		e := h.add("main", `{"body":{"list":[`+strings.Join(list, ",")+`]}}`)
		l := h.start()
		l.give(e)
		h.released(e)
		_ = l.stop()
		list[3] = `"other"`
		h.mu.Lock()
		h.runs[e].unit.Event = h.sealEvent(h.runs[e].unit.EventID, `{"body":{"list":[`+strings.Join(list, ",")+`]}}`)
		h.mu.Unlock()
		l = h.start()
		defer func() { _ = l.stop() }()
		return h.finish(l, e)
	}
	if got := resume(slices.Clone(list)); got.Type != typeMismatch || got.Step != "all" {
		t.Errorf("with another list it ends as %+v, want %s", got, typeMismatch)
	}
}

func TestMarksAreNotShown(t *testing.T) {
	t.Parallel()
	h := newHost(t, steps(t, `
      - id: all
        for: {each: "${{ trigger.body }}"}
        steps: [{id: put, uses: api.request, with: {method: POST, path: /put}}]
`))
	h.egress = func(*wire.Request) *wire.Response { return jsonAnswer(200, `{}`) }
	l := h.start()
	e := h.add("main", `{"body":[`+strings.Repeat("1,", 2*markEvery)+`1]}`)
	if got := h.finish(l, e); got.Status != wire.StatusCompleted {
		t.Fatalf("it ends as %+v", got)
	}
	v := l.viewing(wire.ReadStep, e, wire.ClassOperator).rows("all")
	if len(v.read.Rows) != 2 {
		t.Errorf("the journal has %d marks, want 2", len(v.read.Rows))
	}
	if got := v.rows("all[0]").rows("all[0].put").shown(); len(got) != 2 || !strings.HasPrefix(got[0], "result all[0] ") {
		t.Errorf("shown is %q, want the round and its step", got)
	}
	if err := l.stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
}
