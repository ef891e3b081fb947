package connector

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// Failure is an answer that says in its body that the request failed, whatever its status is.
type Failure struct {
	Message string // what the other side says; empty when it says nothing
	Code    string // the value that says it failed, when it is a text or number
	Auth    bool   // the credential is refused
	Limited bool   // to be tried later
}

// Failed reads an answer's body by the recipe of the action, or by the default one. ok is false when nothing failed.
func (d *Defaults) Failed(a *Action, body expr.Value) (f Failure, ok bool) {
	e := a.Error
	if e == nil {
		e = d.Error
	}
	if e == nil || body == nil {
		return Failure{}, false
	}
	v, there := At(body, e.Path)
	there = there && e.Path != "" && truthy(v)
	if e.OK != "" {
		if text(body, e.OK) != "false" {
			return Failure{}, false
		}
	} else if !there {
		return Failure{}, false
	}
	if there {
		f.Code = scalar(v)
	}
	if f.Message = text(body, e.Message); e.Message == "" || f.Message == "" {
		f.Message = f.Code
	}
	f.Auth = f.Code != "" && slices.Contains(e.Auth, f.Code)
	f.Limited = f.Code != "" && slices.Contains(e.Limited, f.Code)
	return f, true
}

// Limits of what an answer may ask for.
const (
	// MaxRetryAfter is the longest time for which an answer is heeded that says when to come again.
	MaxRetryAfter = time.Hour
	// DefaultRetryAfter is how long a limit lasts whose answer does not say it.
	DefaultRetryAfter = time.Second
)

// Later says whether a status means that the request is to be made later. r may be nil.
func (r *Retry) Later(status int) bool {
	if r == nil || len(r.Statuses) == 0 {
		return status == 429 || status == 503
	}
	return slices.Contains(r.Statuses, status)
}

// Wait is how long to wait before the next request, as an answer's headers say it: after a status that means later until
// the time that it names, and after any other only when the window is used up. header returns the first value of a header,
// or nothing. r may be nil; zero is no wait.
func (r *Retry) Wait(status int, header func(name string) string, now time.Time) time.Duration {
	if r == nil {
		r = &Retry{}
	}
	later := r.Later(status)
	if later {
		if d, ok := after(header(orText(r.After, "Retry-After")), now); ok {
			return d
		}
	} else if r.Remaining == "" || !none(header(r.Remaining)) {
		return 0
	}
	if r.Reset != "" {
		if d, ok := r.reset(header(r.Reset), now); ok {
			return d
		}
	}
	if later {
		return DefaultRetryAfter
	}
	return 0
}

// after reads Retry-After (RFC 9110 section 10.2.3): seconds, also with a fraction as some send them, or a date.
func after(s string, now time.Time) (time.Duration, bool) {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, false
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return bounded(f * float64(time.Second))
	}
	for _, layout := range []string{"Mon, 02 Jan 2006 15:04:05 GMT", time.RFC850, time.ANSIC, time.RFC1123Z} {
		if at, err := time.Parse(layout, s); err == nil {
			return bounded(float64(at.Sub(now)))
		}
	}
	return 0, false
}

func bounded(ns float64) (time.Duration, bool) {
	if math.IsNaN(ns) {
		return 0, false
	}
	return time.Duration(max(0, min(ns, float64(MaxRetryAfter)))), true
}

// none says whether a header of what is left says that nothing is.
func none(s string) bool {
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	return err == nil && f <= 0
}

// reset reads the time at which a window ends.
func (r *Retry) reset(s string, now time.Time) (time.Duration, bool) {
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil {
		if at, err := time.Parse(time.RFC3339, s); err == nil {
			return bounded(float64(at.Sub(now)))
		}
		return after(s, now)
	}
	switch r.ResetUnit {
	case "seconds":
		return bounded(f * float64(time.Second))
	case "ms":
		return bounded(f * float64(time.Millisecond))
	case "unix_ms":
		return bounded((f - float64(now.UnixMilli())) * float64(time.Millisecond))
	}
	return bounded((f - float64(now.UnixMilli())/1000) * float64(time.Second))
}

// IdempotencyOf is how a repeated request of an action is recognised: by the action's own rule, or by the default one.
// Without either it is the header Idempotency-Key.
func (d *Defaults) IdempotencyOf(a *Action) Idempotency {
	switch {
	case a.Idempotency != nil:
		return *a.Idempotency
	case d.Idempotency != nil:
		return *d.Idempotency
	}
	return Idempotency{}
}

// LimitsOf are the limits of an action: the connection's, or narrower ones of its own; nil for none.
func (d *Defaults) LimitsOf(a *Action) *Limits {
	if a.Limits != nil {
		return a.Limits
	}
	return d.Limits
}

// Limited says whether an answer refuses a request because there were too many. Where the status says something else as
// well, as 403 does, the headers must say so.
func (r *Retry) Limited(status int, header func(name string) string) bool {
	if !r.Later(status) {
		return false
	}
	if status == 429 || status == 503 {
		return true
	}
	return header(orText(r.After, "Retry-After")) != "" || r.Remaining != "" && none(header(r.Remaining))
}

// Told is what the body of an answer says about why a request was refused; empty when it says nothing where the recipe looks.
func (d *Defaults) Told(a *Action, body expr.Value) string {
	e := a.Error
	if e == nil {
		e = d.Error
	}
	if e == nil {
		return ""
	}
	if e.Message != "" {
		if s := text(body, e.Message); s != "" {
			return s
		}
	}
	if e.Path == "" {
		return ""
	}
	return text(body, e.Path)
}
