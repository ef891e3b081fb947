package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/flowfile"
)

// Where no sandbox starts, that is said once, and a file is neither worse nor better.
func TestWithoutSandbox(t *testing.T) {
	t.Parallel()
	doc, problems := flowfile.Decode("a.yaml", []byte("bulkhead: 1\nintegration: x\nflows:\n  main:\n    trigger: {manual: {}}\n    steps:\n      - {id: a, code: export default ;}\n"))
	if doc == nil {
		t.Fatal(problems)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	c := &console{Streams: Streams{Err: &out}, ctx: ctx}
	for range 2 {
		if got := withCode(c, doc, problems); len(got) != len(problems) {
			t.Errorf("problems: %v", got)
		}
	}
	if strings.Count(out.String(), "note: ") != 1 || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("said:\n%s", &out)
	}
}
