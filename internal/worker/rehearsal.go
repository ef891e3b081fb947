package worker

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// rehearsal is what the event of a test execution may fix, so that a test case gives the same every time. It is the field
// `test` of the event, {now, seed, hurry}; in every other execution that field means nothing.
type rehearsal struct {
	given expr.Value // as it came, for called flows; nil: nothing is fixed
	now   time.Time  // what now() says and when the execution started; zero: the real time
	hurry bool       // short pauses pass at once
}

// rehearse takes over what a test fixes.
func (x *execution) rehearse(v expr.Value) {
	if v == nil || !x.unit.Test {
		return
	}
	x.test.given = v
	if now, ok := expr.Lookup(v, "now"); ok {
		s, _ := expr.Str(now)
		if at, err := time.Parse(time.RFC3339Nano, s); err == nil {
			x.test.now = at.UTC().Truncate(time.Microsecond)
			x.unit.Started = x.test.now
		}
	}
	if seed, ok := expr.Lookup(v, "seed"); ok {
		s, _ := expr.Str(seed)
		sum := sha256.Sum256(append([]byte("seed"), s...))
		copy(x.unit.Seed[:], sum[:])
		// Executions that begin with one seed are told apart by what called them.
		binary.BigEndian.PutUint64(x.unit.Seed[8:], binary.BigEndian.Uint64(x.unit.Seed[8:])+uint64(x.depth))
	}
	if hurry, ok := expr.Lookup(v, "hurry"); ok {
		x.test.hurry, _ = expr.Truth(hurry)
	}
}

// clock is the time as the flow sees it.
func (x *execution) clock() time.Time {
	if !x.test.now.IsZero() {
		return x.test.now
	}
	return time.Now().UTC().Truncate(time.Microsecond)
}

// real is the moment of the real time that a moment of the flow's time is.
func (r *rehearsal) real(at time.Time) time.Time {
	if r.now.IsZero() {
		return at
	}
	return time.Now().Add(at.Sub(r.now))
}
