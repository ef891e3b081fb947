package credential

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of what a provider's limits may be.
const (
	// MaxConcurrent is the most requests at a time that can be said.
	MaxConcurrent = 10_000
	// MaxPerSecond is the most requests a second that can be said.
	MaxPerSecond = 100_000
	// MaxQuotas is the most actions with limits of their own.
	MaxQuotas = 500
	// MaxRetryAfter is the longest time for which an answer is heeded that says when to come again.
	MaxRetryAfter = time.Hour
	// DefaultRetryAfter is how long a limit lasts whose answer does not say it, unless the rate does.
	DefaultRetryAfter = time.Second
)

// Rate is how often a provider lets one connection ask, and how it says that it was too often. It is a part of the sealed
// record, so that no worker can raise it. The zero Rate has no limits, and heeds Retry-After.
type Rate struct {
	Concurrent int     `json:"concurrent,omitempty"` // requests at a time; zero: any number
	PerSecond  float64 `json:"per_second,omitempty"` // zero: any number
	Burst      int     `json:"burst,omitempty"`      // requests at once before PerSecond counts; zero: those of one second

	After     string `json:"after,omitempty"`      // header with seconds or a date; empty: Retry-After
	Reset     string `json:"reset,omitempty"`      // header with the time at which the window ends
	ResetUnit string `json:"reset_unit,omitempty"` // unix (default), unix_ms, seconds, ms
	Remaining string `json:"remaining,omitempty"`  // header with the requests that are left
	Statuses  []int  `json:"statuses,omitempty"`   // that mean "later"; empty: 429 and 503
	Pause     int    `json:"pause,omitempty"`      // seconds that "later" is where the answer does not say; zero: DefaultRetryAfter

	// Path is where the body of an answer says that it was too often, with one of Values, whatever its status is: names with
	// dots between them.
	Path   string   `json:"path,omitempty"`
	Values []string `json:"values,omitempty"`

	// Actions are limits of actions of their own, which hold beside those of the connection.
	Actions map[string]Quota `json:"actions,omitempty"`
}

// Quota is how often one action may be asked. Its fields are those of [Rate].
type Quota struct {
	Concurrent int     `json:"concurrent,omitempty"`
	PerSecond  float64 `json:"per_second,omitempty"`
	Burst      int     `json:"burst,omitempty"`
}

// Check reports what is wrong with a rate.
func (r *Rate) Check() error {
	switch {
	case r.Concurrent < 0 || r.Concurrent > MaxConcurrent:
		return fmt.Errorf("%w: concurrent is not between 0 and %d", ErrFormat, MaxConcurrent)
	case !(r.PerSecond >= 0 && r.PerSecond <= MaxPerSecond):
		return fmt.Errorf("%w: per_second is not between 0 and %d", ErrFormat, MaxPerSecond)
	case r.PerSecond > 0 && r.PerSecond < 1e-4:
		return fmt.Errorf("%w: per_second is less than one in three hours", ErrFormat)
	case r.Burst < 0 || r.Burst > MaxPerSecond:
		return fmt.Errorf("%w: burst is not between 0 and %d", ErrFormat, MaxPerSecond)
	case r.Pause < 0 || time.Duration(r.Pause)*time.Second > MaxRetryAfter:
		return fmt.Errorf("%w: pause is not between 0 and %s", ErrFormat, MaxRetryAfter)
	case len(r.Statuses) > 20 || len(r.Values) > 50 || len(r.Actions) > MaxQuotas:
		return fmt.Errorf("%w: too many statuses, values or actions of a rate", ErrFormat)
	}
	for name, q := range r.Actions {
		if err := (&Rate{Concurrent: q.Concurrent, PerSecond: q.PerSecond, Burst: q.Burst}).Check(); err != nil {
			return fmt.Errorf("action %s: %w", name, err)
		}
	}
	switch r.ResetUnit {
	case "", "unix", "unix_ms", "seconds", "ms":
		return nil
	}
	return fmt.Errorf("%w: reset_unit is none of unix, unix_ms, seconds and ms", ErrFormat)
}

// Later says whether a status means that the request is to be made later.
func (r *Rate) Later(status int) bool {
	if len(r.Statuses) == 0 {
		return status == 429 || status == 503
	}
	return slices.Contains(r.Statuses, status)
}

// Limited says whether an answer refuses a request because there were too many. Where the status says something else as
// well, as 403 does, the headers must say so. header returns the first value of a header, or nothing.
func (r *Rate) Limited(status int, header func(name string) string) bool {
	if !r.Later(status) {
		return false
	}
	if status == 429 || status == 503 {
		return true
	}
	return header(r.after()) != "" || r.Remaining != "" && none(header(r.Remaining))
}

func (r *Rate) after() string {
	if r.After == "" {
		return "Retry-After"
	}
	return r.After
}

// Wait is how long to wait before the next request, as an answer's headers say it: after one that refuses until the time
// that it names, and after any other only when the window is used up. Zero is no wait.
func (r *Rate) Wait(status int, header func(name string) string, now time.Time) time.Duration {
	if r.Limited(status, header) {
		return r.Refused(header, now)
	}
	if r.Reset == "" || r.Remaining == "" || !none(header(r.Remaining)) {
		return 0
	}
	d, _ := r.reset(header(r.Reset), now)
	return d
}

// Refused is how long to wait after an answer that refuses because there were too many requests, whatever its status is.
func (r *Rate) Refused(header func(name string) string, now time.Time) time.Duration {
	if d, ok := after(header(r.after()), now); ok {
		return d
	}
	if r.Reset != "" {
		if d, ok := r.reset(header(r.Reset), now); ok {
			return d
		}
	}
	return r.pause()
}

// pause is how long a limit lasts whose answer does not say it.
func (r *Rate) pause() time.Duration {
	if r.Pause == 0 {
		return DefaultRetryAfter
	}
	return time.Duration(r.Pause) * time.Second
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
func (r *Rate) reset(s string, now time.Time) (time.Duration, bool) {
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
