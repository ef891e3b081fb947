package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// What a code step throws and what a service answers is text of others: it must not
// move the cursor, rename the terminal or fake the lines of other steps.
func TestMessagesStayOnTheirLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &progress{c: &console{Streams: Streams{Err: &out}}, waits: map[string]bool{}, errors: map[string]fault{"pay": {Message: "no\n✓ pay done\x1b]0;x\x07\u009b2J"}}}
	p.step(&api.Event{Kind: api.EventProgress, Path: "pay", State: byte(wire.StepFailed), ErrorType: "code"})
	if got := out.String(); strings.Count(got, "\n") != 1 || strings.ContainsAny(got, "\x1b\x07\u009b") || !strings.Contains(got, "pay done") {
		t.Errorf("printed %q", got)
	}
}
