package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits of a step tree.
const (
	// MaxFailures is how many failed rounds of one step a tree names; all are counted.
	MaxFailures = 20
	// MaxStepPage is how many entries of a journal are read at a time.
	MaxStepPage = 5000
	// maxOpenWaits is how many waits a tree shows.
	maxOpenWaits = 1000
)

// StepStatus is how a step stands.
type StepStatus string

// The values of [StepStatus].
const (
	StepDone     StepStatus = "done"     // its result is in the journal
	StepFailed   StepStatus = "failed"   // it faulted for good
	StepRetrying StepStatus = "retrying" // its last try failed, and another follows
	StepWaiting  StepStatus = "waiting"  // for a time, an answer or a child
	StepBegun    StepStatus = "begun"    // it has begun, or something inside it has
	StepPassed   StepStatus = "passed"   // it is not journaled, but what comes behind it is: it was computed or skipped
	StepUnknown  StepStatus = ""         // the journal says nothing: not reached, under way, computed or skipped
)

// Step is one step of the definition, with what the journal says of it in clear. Nothing
// is opened for it.
type Step struct {
	ID     string        // unique in the flow
	Parent string        // the step around it, or empty
	Kind   flow.StepKind // as the definition says
	Title  string        // the same
	Status StepStatus    // of the run, or of the last round
	Rounds int           // runs in the journal: 1, or more inside a loop
	Done   int           // rounds that are done
	Failed int           // rounds that failed for good
	Tries  int           // failed tries of all rounds, not counting the last of each that failed for good
	Pages  int           // of a loop over the pages of an action

	First    *StepRun  // nil when there is none
	Last     *StepRun  // the newest; nil when there is only one
	Failures []StepRun // the first MaxFailures that failed
}

// StepRun is one run of a step, such as in one round of a loop.
type StepRun struct {
	Path      string // with indices; what ReadRequest.Path names
	Status    StepStatus
	Seq       uint32        // the entry that says so
	Tries     int           // tries that are in the journal
	Started   time.Time     // when it began, for a wait or a step that must run once; else zero
	Committed time.Time     // when the newest entry was committed
	Took      time.Duration // of the last try, or of the wait; 0: not known
	Until     time.Time     // of a wait that is open: when it fires or times out
	ErrorType string
}

// stepTree gathers entries into steps.
type stepTree struct {
	list []*Step
	byID map[string]*Step
	runs map[string]*StepRun // begun and not ended, by path
}

// Steps is the step tree of an execution, from its definition and the metadata of its
// journal: nothing is opened. Steps come in the order of the definition; one inside a loop
// comes once, with counts, its first and last round, and the failed ones. Steps that are
// only computed are not in the journal, see [StepPassed] and [StepUnknown]. Memory is that
// of the definition, however long the journal is.
func (e *Engine) Steps(ctx context.Context, c id.Customer, x id.Execution) ([]*Step, error) {
	t, err := e.steps(ctx, c, x)
	if err != nil {
		return nil, fmt.Errorf("read steps: %w", notFound(err))
	}
	return t.list, nil
}

func (e *Engine) steps(ctx context.Context, c id.Customer, x id.Execution) (*stepTree, error) {
	rows := e.db.Customer(ctx, c)
	row, err := rows.Execution(x)
	if err != nil {
		return nil, err
	}
	f, err := e.catalog.flow(ctx, row.Digest, row.Flow)
	if err != nil {
		return nil, err
	}
	t := &stepTree{byID: map[string]*Step{}, runs: map[string]*StepRun{}}
	t.define("", f.Steps)
	waits, err := rows.OpenWaits(x, maxOpenWaits)
	if err != nil {
		return nil, err
	}
	for after, n := uint32(0), MaxStepPage; n == MaxStepPage; {
		n = 0
		err := rows.StepEntries(x, after, MaxStepPage, func(s *store.StepEntry) error {
			n, after = n+1, s.Seq
			t.add(s)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for i := range waits {
		t.wait(&waits[i])
	}
	for _, r := range t.runs {
		t.show(r)
	}
	if row.Status == store.Faulted {
		t.fault(row)
	}
	t.pass(f.Steps, row.Status == store.Completed && !returns(f.Steps))
	if row.Status == store.Completed {
		t.complete()
	}
	return t, nil
}

// complete marks what has begun as gone by: nothing of an execution that completed goes on.
// A single run that has begun and not ended stays as it is: its flow has left it behind.
func (t *stepTree) complete() {
	for _, s := range t.list {
		if s.Status == StepBegun && s.Rounds == 0 {
			s.Status = StepPassed
		}
	}
}

// define lists the steps of the definition.
func (t *stepTree) define(parent string, steps []flow.Step) {
	for i := range steps {
		s := &Step{ID: steps[i].ID, Parent: parent, Kind: steps[i].Kind(), Title: steps[i].Title.In("en")}
		t.list = append(t.list, s)
		t.byID[s.ID] = s
		for _, n := range steps[i].Nested() {
			t.define(s.ID, n.Steps)
		}
	}
}

// stepOf finds the step of a path. round says that it is a round of a loop itself, page
// that it is a page of one.
func (t *stepTree) stepOf(path string) (s *Step, round, page bool) {
	path = strings.TrimSuffix(path, ".retry")
	parts := strings.Split(path, ".")
	last := parts[len(parts)-1]
	if n := len(parts); n > 1 && strings.HasPrefix(last, "page[") {
		if before := parts[n-2]; !strings.HasSuffix(before, "]") && !strings.Contains(before, "#") {
			return t.byID[before], false, true
		}
	}
	id, _, _ := strings.Cut(last, "#")
	id, _, round = strings.Cut(id, "[")
	return t.byID[id], round, false
}

// add takes the next entry.
func (t *stepTree) add(x *store.StepEntry) {
	s, round, page := t.stepOf(x.Path)
	switch {
	case s == nil:
		return
	case x.Kind == wire.EntryRetry:
		t.retried(s, x.Path)
		return
	case page && x.Kind == wire.EntryResult:
		s.Pages++
		return
	case page || round || x.Kind == wire.EntryCheckpoint || x.Kind == wire.EntryClock || x.Kind == wire.EntryReply:
		return // the entries of the steps inside say it
	}
	r := t.runs[x.Path]
	if r == nil {
		r = &StepRun{Path: x.Path}
		t.runs[x.Path] = r
	}
	r.Seq, r.Committed = x.Seq, x.Committed
	switch x.Kind {
	case wire.EntryIntent:
		r.Status = StepBegun
		if r.Started.IsZero() {
			r.Started = x.Committed
		}
		return
	case wire.EntryAttempt:
		r.Status, r.Took, r.ErrorType = StepRetrying, x.Took, x.ErrorType
		r.Tries++
		s.Tries++
		return
	case wire.EntryResult:
		r.Status, r.ErrorType = StepDone, ""
		s.Done++
	case wire.EntryFault:
		r.Status, r.ErrorType = StepFailed, x.ErrorType
		s.Failed++
	default:
		return
	}
	r.Tries++
	if r.Took = x.Took; r.Took == 0 && !r.Started.IsZero() {
		r.Took = x.Committed.Sub(r.Started)
	}
	delete(t.runs, x.Path)
	t.show(r)
}

// retried takes back that a step faulted: somebody retried the execution.
func (t *stepTree) retried(s *Step, path string) {
	isIt := func(r *StepRun) bool { return r != nil && r.Path == path && r.Status == StepFailed }
	s.Failures = slices.DeleteFunc(s.Failures, func(r StepRun) bool { return isIt(&r) })
	var was *StepRun
	for _, r := range []**StepRun{&s.First, &s.Last} {
		if isIt(*r) {
			was, *r = *r, nil
		}
	}
	if was == nil {
		return
	}
	s.Rounds, s.Failed, s.Tries = s.Rounds-1, s.Failed-1, s.Tries+1
	was.Status = StepRetrying
	t.runs[path] = was
}

// show makes a run one of its step.
func (t *stepTree) show(r *StepRun) {
	s, _, _ := t.stepOf(r.Path)
	s.Rounds++
	if s.First == nil {
		s.First = r
	}
	if s.Rounds > 1 && (s.Last == nil || r.Seq >= s.Last.Seq) {
		s.Last = r
	}
	if s.Last == nil || s.Last == r {
		s.Status = r.Status
	}
	if r.Status == StepFailed && len(s.Failures) < MaxFailures {
		s.Failures = append(s.Failures, *r)
	}
}

// wait takes a wait that nobody has answered.
func (t *stepTree) wait(w *wire.Wait) {
	path := strings.TrimSuffix(w.Path, ".retry")
	if s, _, _ := t.stepOf(path); s == nil {
		return
	}
	r := t.runs[path]
	if r == nil {
		r = &StepRun{Path: path}
		t.runs[path] = r
	}
	if r.Until = w.At; path == w.Path {
		r.Status = StepWaiting
	}
}

// fault names the step that ended the execution when it was only computed: its fault is in
// no entry.
func (t *stepTree) fault(row *store.Execution) {
	s, _, _ := t.stepOf(row.ErrorStep)
	if s == nil || s.Failed > 0 || s.Status == StepFailed {
		return
	}
	s.Failed++
	t.show(&StepRun{Path: row.ErrorStep, Status: StepFailed, Tries: 1, Seq: row.LastSeq + 1, Committed: row.Finished, ErrorType: row.ErrorType})
}

// pass marks the steps of a list that the flow has gone by: something behind them is in the
// journal, or the list is known to have ended. It reports whether the journal knows the list.
func (t *stepTree) pass(steps []flow.Step, ended bool) (known bool) {
	behind := ended
	for i := len(steps) - 1; i >= 0; i-- {
		s := t.byID[steps[i].ID]
		inside := false
		for _, n := range steps[i].Nested() {
			inside = t.pass(n.Steps, false) || inside
		}
		switch {
		case s.Status != StepUnknown:
		case behind:
			s.Status = StepPassed
		case inside || s.Pages > 0:
			s.Status = StepBegun
		}
		if inside || s.Rounds > 0 || s.Pages > 0 {
			behind, known = true, true
		}
	}
	return known
}

// returns reports whether a list may end before its last step.
func returns(steps []flow.Step) bool {
	for i := range steps {
		if steps[i].Return != nil && i < len(steps)-1 {
			return true
		}
		for _, n := range steps[i].Nested() {
			for _, s := range flow.Walk("", n.Steps) {
				if s.Return != nil {
					return true
				}
			}
		}
	}
	return false
}
