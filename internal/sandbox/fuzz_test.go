package sandbox

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
)

// FuzzRun gives the engine any source and any input. It must answer, with JSON or with a typed error; a run that hangs is
// found by the deadline of the test.
func FuzzRun(f *testing.F) {
	for _, c := range hostile {
		if !c.abandoned {
			f.Add(c.source, `{"a": 1}`)
		}
	}
	f.Add(small, smallInput)
	f.Add("export default (x) => x", `[1e400, -0, 12345678901234567890, "\ud800", {"__proto__": {}}]`)
	limits := Limits{Time: 100 * time.Millisecond, Memory: 256 << 20, Source: 16 << 10, Input: 64 << 10}
	f.Fuzz(func(t *testing.T, source, input string) {
		result, err := runCode(t, source, input, limits)
		var e *Error
		switch {
		case err == nil && !json.Valid(result.Output):
			t.Errorf("the result is not JSON: %q", result.Output)
		case err != nil && !errors.As(err, &e):
			t.Errorf("untyped error %v", err)
		case e != nil && e.Kind == KindInternal:
			t.Errorf("the engine failed: %v", err)
		}
	})
}

// FuzzInput checks the scanners of JSON text against the standard library.
func FuzzInput(f *testing.F) {
	f.Add(`{"a": [1, "\"]", -9007199254740993]}`)
	f.Add(`"\\`)
	f.Add(`[[[`)
	f.Fuzz(func(t *testing.T, text string) {
		deepest := nesting(text)
		rounded, _ := roundedIntegers(text)
		var value any
		if json.Unmarshal([]byte(text), &value) != nil {
			return
		}
		if want := depth(value); deepest != want {
			t.Errorf("%q nests %d levels, want %d", text, deepest, want)
		}
		if rounded < 0 || rounded > len(text) {
			t.Errorf("%q has %d rounded integers", text, rounded)
		}
	})
}

func depth(value any) (deepest int) {
	switch v := value.(type) {
	case []any:
		for _, e := range v {
			deepest = max(deepest, depth(e))
		}
		return deepest + 1
	case map[string]any:
		for _, e := range v {
			deepest = max(deepest, depth(e))
		}
		return deepest + 1
	}
	return 0
}
