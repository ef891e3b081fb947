package worker

import (
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// TestMarkHidesTheInput asserts that the journal's mark of an input is the same on resume, and says nothing to who has
// only the database: it differs by key, execution and step, and is not the plain hash.
func TestMarkHidesTheInput(t *testing.T) {
	t.Parallel()
	a, b := &instance{hmacKey: []byte("key of instance a")}, &instance{hmacKey: []byte("key of instance b")}
	x, y := id.NewExecution(time.UnixMilli(1)), id.NewExecution(time.UnixMilli(1))
	input := expr.Hash(expr.String("yes"))
	mark := a.mark(x, "answer", input)
	if again := a.mark(x, "answer", expr.Hash(expr.String("yes"))); again != mark {
		t.Error("the same input has another mark on resume")
	}
	for name, other := range map[string][16]byte{
		"the plain hash":    input,
		"another instance":  b.mark(x, "answer", input),
		"another execution": a.mark(y, "answer", input),
		"another step":      a.mark(x, "answer2", input),
		"another input":     a.mark(x, "answer", expr.Hash(expr.String("no"))),
	} {
		if other == mark {
			t.Errorf("%s has the same mark", name)
		}
	}
}
