package egress

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// The name of an account is one line of whole characters, whatever a provider sends.
func TestShortLabel(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"ann@acme.example": "ann@acme.example", " Acme\r\nLtd\x1b[2J\u202e ": "AcmeLtd[2J", "": ""} {
		if got := shortLabel(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := shortLabel(strings.Repeat("ü", lease.MaxAccountLabel)); len(got) > lease.MaxAccountLabel || len(got) < lease.MaxAccountLabel-4 || !utf8.ValidString(got) {
		t.Errorf("a long one: %d bytes, %q", len(got), got)
	}
}
