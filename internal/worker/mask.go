package worker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// redacted stands where egress took a secret out of an answer: what package secret prints,
// which the worker does not import because it never holds a credential.
const redacted = "[redacted]"

// masked is what a viewer sees instead of what it may not.
const masked = "••••"

const (
	// minMaskedPart is the shortest value in bytes that is masked wherever it stands in a text: shorter ones would be found
	// everywhere.
	minMaskedPart = 8
	// minMaskedWhole is the shortest value in bytes that is masked where a text is nothing else.
	minMaskedWhole = 4
)

// masker hides from a viewer what its class may not see: the values of secrets of the config, wherever they turn up; what
// egress removed; and, from a customer, the values of config variables that only the organization sees. It is for one read.
type masker struct {
	parts  []string // longest first
	wholes map[string]bool
}

// newMasker makes the masker of a class from the config values of the instance as they are stored.
func newMasker(definition *flow.Integration, values expr.Value, class wire.Class) *masker {
	k := &masker{wholes: map[string]bool{}}
	for i := range definition.Config {
		if v := &definition.Config[i]; hidden(v, class) {
			if value, ok := expr.Lookup(values, v.Name); ok {
				k.hide(value)
			}
		}
	}
	k.parts = append(k.parts, redacted)
	slices.SortFunc(k.parts, func(a, b string) int { return len(b) - len(a) })
	k.parts = slices.Compact(k.parts)
	return k
}

// hidden reports whether a class may not see the value of a variable.
func hidden(v *flow.ConfigVar, class wire.Class) bool {
	return v.Type == flow.ConfigSecret || class != wire.ClassOperator && v.Visible == flow.VisibleOrganization
}

// hide adds the texts in a value.
func (k *masker) hide(v expr.Value) {
	if s, ok := expr.Str(v); ok {
		if len(s) >= minMaskedPart {
			k.parts = append(k.parts, s)
		}
		if len(s) >= minMaskedWhole {
			k.wholes[s] = true
		}
		return
	}
	rebuild(v, func(item expr.Value) expr.Value {
		k.hide(item)
		return item
	})
}

// text masks one text.
func (k *masker) text(s string) string {
	if k.wholes[s] {
		return masked
	}
	for _, p := range k.parts {
		s = strings.ReplaceAll(s, p, masked)
	}
	return s
}

// json masks every text of a JSON value, names of fields too, and changes nothing else.
func (k *masker) json(b []byte) ([]byte, error) {
	if !json.Valid(b) {
		return nil, fmt.Errorf("mask: %w", errStored)
	}
	out := make([]byte, 0, len(b))
	for {
		i := bytes.IndexByte(b, '"')
		if i < 0 {
			return append(out, b...), nil
		}
		end := i + 1
		for b[end] != '"' {
			if b[end] == '\\' {
				end++
			}
			end++
		}
		out = append(out, b[:i]...)
		quoted := b[i : end+1]
		b = b[end+1:]
		var s string
		if err := json.Unmarshal(quoted, &s); err != nil {
			return nil, fmt.Errorf("mask: %w", errStored)
		}
		if t := k.text(s); t != s {
			quoted, _ = json.Marshal(t) // a string always encodes
		}
		out = append(out, quoted...)
	}
}
