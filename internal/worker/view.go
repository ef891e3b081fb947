package worker

import (
	"strconv"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// viewer is who watches an execution: it gets how each step goes, and pages of what the steps got and gave, sealed to its
// key. All methods do nothing on a nil viewer. What a page shows holds no secret, because nothing in a worker does.
type viewer struct {
	x   *execution
	id  id.View
	key seal.PublicKey
}

// newViewer returns nil unless the lease lists the viewer that the unit names.
func newViewer(x *execution) *viewer {
	if x.unit.Viewer.IsZero() {
		return nil
	}
	key, ok := x.in.viewer(x.unit.Viewer)
	if !ok {
		return nil
	}
	return &viewer{x: x, id: x.unit.Viewer, key: key}
}

func (v *viewer) progress(path string, state wire.StepState, attempt uint32, d time.Duration, errorType string) {
	if v == nil {
		return
	}
	v.x.s.write(&wire.Progress{
		View: v.id, Execution: v.x.unit.Execution, Path: path, State: state, Attempt: attempt, Duration: d, ErrorType: errorType,
	})
}

// started says that a try begins, and returns when.
func (v *viewer) started(path string, failed int) time.Time {
	if v == nil {
		return time.Time{}
	}
	v.progress(path, wire.StepStarted, uint32(failed+1), 0, "")
	return time.Now()
}

// done says that a step succeeded; replayed, that it did in an earlier stay.
func (v *viewer) done(path string, began time.Time, failed int, out expr.Value, replayed bool) {
	if v == nil {
		return
	}
	state := wire.StepDone
	if replayed {
		state = wire.StepReplayed
	}
	v.output(path, out)
	v.progress(path, state, uint32(failed+1), time.Since(began), "")
}

// failed says that a step faulted for good.
func (v *viewer) failed(path string, began time.Time, f *fault) {
	v.fault(path, began, f, wire.StepFailed)
}

// retrying says that a try faulted and another follows.
func (v *viewer) retrying(path string, began time.Time, f *fault) {
	v.fault(path, began, f, wire.StepRetrying)
}

func (v *viewer) fault(path string, began time.Time, f *fault, state wire.StepState) {
	if v == nil {
		return
	}
	var d time.Duration
	if !began.IsZero() {
		d = time.Since(began)
	}
	v.page(wire.ViewError, path, f.appendJSON())
	v.progress(path, state, uint32(f.Attempts), d, f.Type)
}

// output shows what a step gave.
func (v *viewer) output(path string, out expr.Value) { v.value(wire.ViewOutput, path, out) }

// input shows what a step got.
func (v *viewer) input(path string, in expr.Value) { v.value(wire.ViewInput, path, in) }

func (v *viewer) value(kind wire.ViewKind, path string, val expr.Value) {
	if v == nil {
		return
	}
	b, err := expr.AppendJSON(nil, val)
	if err != nil {
		b = []byte(`{"unprintable":true}`)
	}
	v.page(kind, path, b)
}

// request shows what a request asks for.
func (v *viewer) request(path string, r *prepared) {
	if v == nil {
		return
	}
	keys := []string{"method", "path"}
	vals := []expr.Value{expr.String(r.Method), expr.String(r.Path)}
	for _, list := range []struct {
		name  string
		pairs []wire.Pair
	}{{"query", r.Query}, {"headers", r.Headers}} {
		if len(list.pairs) > 0 {
			keys, vals = append(keys, list.name), append(vals, headerValue(list.pairs))
		}
	}
	switch {
	case r.body != nil:
		keys, vals = append(keys, "body"), append(vals, r.body)
	case len(r.Parts) > 0:
		names := make([]expr.Value, len(r.Parts))
		for i := range r.Parts {
			names[i] = expr.String(r.Parts[i].Name)
		}
		keys, vals = append(keys, "multipart"), append(vals, expr.NewList(names))
	case r.HasBody:
		keys, vals = append(keys, "form"), append(vals, expr.String(string(r.Body)))
	}
	v.hiding(path, expr.NewObject(keys, vals), r.locked)
}

// hiding shows what a step got, but for the values of its secret inputs.
func (v *viewer) hiding(path string, in expr.Value, l *locked) {
	if l == nil || len(l.hidden) == 0 {
		v.input(path, in)
		return
	}
	k := &masker{wholes: map[string]bool{}}
	for _, value := range l.hidden {
		k.hide(value)
	}
	b, err := expr.AppendJSON(nil, in)
	if err == nil {
		b, err = k.json(b)
	}
	if err != nil {
		b = []byte(`{"unprintable":true}`)
	}
	v.page(wire.ViewInput, path, b)
}

// refused shows the answer that made a step fault: it is where the other side says why.
func (v *viewer) refused(path string, a *wire.Response) {
	if v == nil || a.Status == 0 {
		return
	}
	body := expr.String(string(a.Body))
	if parsed, err := expr.ParseJSON(a.Body); err == nil {
		body = parsed
	}
	v.output(path, answerValue(expr.Int(int64(a.Status)), headerValue(a.Headers), body))
}

// log shows one line of a step's console.
func (v *viewer) log(path string, l wire.CodeLog) {
	if v == nil {
		return
	}
	v.value(wire.ViewLog, path, native([]string{"level", "text"}, expr.String(l.Level), expr.String(l.Text)))
}

// result shows how the execution ended.
func (v *viewer) result(s wire.Status, body []byte) {
	if v == nil {
		return
	}
	kind := wire.ViewResult
	if s == wire.StatusFaulted {
		kind = wire.ViewError
	}
	v.page(kind, "", body)
}

// page seals one page. One that is too large is replaced by its size.
func (v *viewer) page(kind wire.ViewKind, path string, plain []byte) {
	if len(plain) > MaxPage {
		plain = []byte(`{"truncated":true,"bytes":` + strconv.Itoa(len(plain)) + `}`)
	}
	sealed, err := seal.Seal(v.key, lease.PurposeView, lease.ViewPlace(v.id, v.x.unit.Execution, kind, path), plain)
	if err != nil {
		return
	}
	v.x.s.write(&wire.View{View: v.id, Execution: v.x.unit.Execution, Kind: kind, Path: path, Sealed: sealed})
}

// reply answers the request of a synchronous webhook, whose viewer it is.
func (v *viewer) reply(m *wire.ReplyBody) {
	if v == nil {
		return
	}
	r := &wire.Reply{View: v.id, Execution: v.x.unit.Execution, Fence: v.x.unit.Fence}
	var err error
	if r.Sealed, err = seal.Seal(v.key, lease.PurposeView, r.Place(), wire.AppendBody(nil, m)); err != nil {
		return
	}
	v.x.s.write(r)
}
