package connector

import (
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
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
	failed := there
	if e.OK != "" {
		failed = text(body, e.OK) == "false"
	}
	if !failed {
		return e.also(body)
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

// also reads the further places of an answer's body.
func (e *ErrorBody) also(body expr.Value) (f Failure, ok bool) {
	for _, path := range e.Also {
		if f.Message = text(body, path); f.Message != "" {
			return f, true
		}
	}
	return Failure{}, false
}

// MaxRetryAfter and DefaultRetryAfter are those of [credential.Rate].
const (
	MaxRetryAfter     = credential.MaxRetryAfter
	DefaultRetryAfter = credential.DefaultRetryAfter
)

// rate is the part of a connection's rate that says how the other side asks to be called later.
func (r *Retry) rate() *credential.Rate {
	if r == nil {
		return &credential.Rate{}
	}
	return &credential.Rate{After: r.After, Reset: r.Reset, ResetUnit: r.ResetUnit, Remaining: r.Remaining, Statuses: r.Statuses, Pause: int(r.Pause)}
}

// Rate is how often the other side lets one connection ask, with the limits that actions have of their own, for the
// credential's sealed record.
func (m *Manifest) Rate() *credential.Rate {
	r := m.Defaults.rate()
	for i := range m.Actions {
		if l := m.Actions[i].Limits; l != nil {
			if r.Actions == nil {
				r.Actions = map[string]credential.Quota{}
			}
			r.Actions[m.Actions[i].Name] = credential.Quota{Concurrent: l.Concurrent, PerSecond: l.PerSecond, Burst: l.Burst}
		}
	}
	return r
}

func (d *Defaults) rate() *credential.Rate {
	r := d.Retry.rate()
	if l := d.Limits; l != nil {
		r.Concurrent, r.PerSecond, r.Burst = l.Concurrent, l.PerSecond, l.Burst
	}
	if e := d.Error; e != nil && len(e.Limited) > 0 {
		r.Path, r.Values = e.Path, e.Limited
	}
	return r
}

// Later says whether a status means that the request is to be made later. r may be nil.
func (r *Retry) Later(status int) bool { return r.rate().Later(status) }

// Wait is how long to wait before the next request, as an answer's headers say it, see [credential.Rate.Wait]. r may be nil.
func (r *Retry) Wait(status int, header func(name string) string, now time.Time) time.Duration {
	return r.rate().Wait(status, header, now)
}

// Refused is how long to wait after an answer that refuses because there were too many, see [credential.Rate.Refused]. r may be nil.
func (r *Retry) Refused(header func(name string) string, now time.Time) time.Duration {
	return r.rate().Refused(header, now)
}

// Limited says whether an answer refuses a request because there were too many, see [credential.Rate.Limited].
func (r *Retry) Limited(status int, header func(name string) string) bool {
	return r.rate().Limited(status, header)
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
