package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/trigger"
)

const (
	// maxDifferences is how many differences of one comparison are shown.
	maxDifferences = 10
	// maxShown is how many bytes of one value are shown.
	maxShown = 300
	// maxExact is the longest number that is compared by its value instead of its text.
	maxExact = 40
)

// difference is one place where something is not as expected. A side that is empty has
// nothing there.
type difference struct {
	Path     string `json:"path"`
	Expected string `json:"expected,omitempty"` // JSON
	Got      string `json:"got,omitempty"`      // JSON
}

// nothing stands for a value that is not there.
type nothing struct{}

// differences compares two values as JSON: numbers by value, objects without order.
func differences(path string, want, got any) []difference {
	var list []difference
	compare(&list, path, want, got)
	return list
}

func compare(list *[]difference, path string, want, got any) {
	if len(*list) >= maxDifferences {
		return
	}
	switch w := want.(type) {
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			compareObjects(list, path, w, g)
			return
		}
	case []any:
		if g, ok := got.([]any); ok {
			for i := range max(len(w), len(g)) {
				compare(list, path+"["+strconv.Itoa(i)+"]", item(w, i), item(g, i))
			}
			return
		}
	case json.Number:
		if g, ok := got.(json.Number); ok && sameNumber(w.String(), g.String()) {
			return
		}
	default:
		if scalar(got) && want == got {
			return
		}
	}
	*list = append(*list, difference{path, inJSON(want), inJSON(got)})
}

func scalar(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

func compareObjects(list *[]difference, path string, want, got map[string]any) {
	names := map[string]bool{}
	for k := range want {
		names[k] = true
	}
	for k := range got {
		names[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(names)) {
		compare(list, field(path, k), member(want, k), member(got, k))
	}
}

// compareNamed compares only what is named in want.
func compareNamed(path string, want, got map[string]any) []difference {
	var list []difference
	for _, k := range slices.Sorted(maps.Keys(want)) {
		compare(&list, field(path, k), want[k], member(got, k))
	}
	return list
}

func field(path, name string) string {
	plain := name != ""
	for _, r := range name {
		plain = plain && (r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}
	switch {
	case !plain:
		return path + "[" + strconv.Quote(name) + "]"
	case path == "":
		return name
	default:
		return path + "." + name
	}
}

func item(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nothing{}
}

func member(m map[string]any, name string) any {
	if v, ok := m[name]; ok {
		return v
	}
	return nothing{}
}

// sameNumber compares two JSON numbers by value. Very long ones, whose value could be
// huge, are compared as written.
func sameNumber(a, b string) bool {
	if a == b {
		return true
	}
	if len(a) > maxExact || len(b) > maxExact || exponent(a) > maxExact || exponent(b) > maxExact {
		return false
	}
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	return okX && okY && x.Cmp(y) == 0
}

func exponent(s string) int {
	i := strings.IndexAny(s, "eE")
	if i < 0 {
		return 0
	}
	n, err := strconv.Atoi(s[i+1:])
	if err != nil {
		return maxExact + 1
	}
	return max(n, -n)
}

// inJSON is a value as JSON for people, cut where it is long.
func inJSON(v any) string {
	if _, ok := v.(nothing); ok {
		return ""
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	s := oneLine(strings.TrimSuffix(b.String(), "\n"))
	if len(s) > maxShown {
		s = strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return s
}

// literal is a value of a test file as JSON decodes it.
func literal(v *flow.Value) any {
	switch v.Kind {
	case flow.Absent, flow.Null:
		return nil
	case flow.Bool:
		return v.Bool
	case flow.Number:
		return json.Number(v.Text)
	case flow.Object:
		m := make(map[string]any, len(v.Keys))
		for i, k := range v.Keys {
			m[k] = literal(&v.Items[i])
		}
		return m
	case flow.List:
		list := make([]any, len(v.Items))
		for i := range v.Items {
			list[i] = literal(&v.Items[i])
		}
		return list
	default:
		return v.Text
	}
}

// literals is an object of a test file, or an empty one.
func literals(v *flow.Value) map[string]any {
	m, _ := literal(v).(map[string]any)
	if m == nil {
		m = map[string]any{}
	}
	return m
}

// texts is an object of a test file whose values stand for their text.
func texts(v *flow.Value) map[string]any {
	m := literals(v)
	for k, x := range m {
		if s, ok := x.(string); ok {
			m[k] = s
		} else {
			m[k] = inJSON(x)
		}
	}
	return m
}

// decodeJSON reads JSON so that numbers keep their digits.
func decodeJSON(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, trigger.ErrMalformed
	}
	return v, nil
}
