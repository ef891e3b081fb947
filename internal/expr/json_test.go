package expr

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const suiteDir = "../../../shared/corpus/json/test_parsing"

// TestJSONSuite runs Nicolas Seriot's JSONTestSuite: y_ must be accepted, n_ refused, and what
// becomes of i_, which RFC 8259 leaves open, is pinned in testdata/jsonsuite.golden.
func TestJSONSuite(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(suiteDir + "/*.json")
	if err != nil || len(files) == 0 {
		t.Skipf("SKIPPED: the JSONTestSuite is not at %s; the parser is NOT checked against it here", suiteDir)
	}
	if len(files) < 300 {
		t.Errorf("only %d files of the suite are there", len(files))
	}
	var open strings.Builder
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		base := filepath.Base(name)
		v, err := ParseJSON(data)
		switch base[0] {
		case 'y':
			if strings.HasPrefix(base, "y_object_duplicated_key") {
				// Refused on purpose: two parties may read such an object in two ways.
				if err == nil || !strings.Contains(err.Error(), "the same key twice") {
					t.Errorf("%s: %v, want it refused", base, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", base, err)
				continue
			}
			walk(v)
		case 'n':
			if err == nil {
				t.Errorf("%s was accepted", base)
			}
			var se *SyntaxError
			if !errors.As(err, &se) || se.Offset < 0 || se.Offset > len(data) {
				t.Errorf("%s: error %#v", base, err)
			}
		default:
			verdict := "accepted"
			if err != nil {
				verdict = "refused: " + err.Error()
			} else {
				walk(v)
			}
			fmt.Fprintf(&open, "%s %s\n", base, verdict)
		}
	}
	const golden = "testdata/jsonsuite.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(open.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), open.String()); diff != "" {
		t.Errorf("verdicts on i_ files (-want +got):\n%s", diff)
	}
}

// walk looks at every value inside, so that every lazy index is built.
func walk(v Value) int {
	n := 1
	for _, k := range Keys(v) {
		x, _ := Lookup(v, k)
		n += walk(x)
	}
	if Kind(v) == KindList {
		for i := range Len(v) {
			x, _ := Index(v, i)
			n += walk(x)
		}
	}
	return n
}

// rebuild makes the same value without any of its source text.
func rebuild(v Value) Value {
	switch Kind(v) {
	case KindObject:
		keys := append([]string{}, Keys(v)...)
		vals := make([]Value, len(keys))
		for i, k := range keys {
			x, _ := Lookup(v, k)
			vals[i] = rebuild(x)
		}
		return NewObject(keys, vals)
	case KindList:
		vals := make([]Value, Len(v))
		for i := range vals {
			x, _ := Index(v, i)
			vals[i] = rebuild(x)
		}
		return NewList(vals)
	}
	return v
}

func TestParseJSONErrors(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		``:                       "invalid JSON at byte 0: the text ends where a value is expected",
		`{"a":1,"a":2}`:          "invalid JSON at byte 7: the same key twice in one object",
		`{"a":1,"\u0061":2}`:     "invalid JSON at byte 7: the same key twice in one object",
		`[1,]`:                   "invalid JSON at byte 3: not the start of a value",
		"{\"a\":\"\x01\"}":       "invalid JSON at byte 6: control character in a string",
		"\"\xff\"":               "invalid JSON at byte 1: not UTF-8",
		`01`:                     "invalid JSON at byte 1: text after the value",
		`1.`:                     "invalid JSON at byte 2: not a number",
		"\ufeff{}":               "invalid JSON at byte 0: not the start of a value",
		`{"a" 1}`:                "invalid JSON at byte 5: expected :",
		`{"a":1`:                 "invalid JSON at byte 6: the text ends inside an object",
		`"\u12g4"`:               `invalid JSON at byte 2: expected four hexadecimal digits after \u`,
		`{"a":1} x`:              "invalid JSON at byte 8: text after the value",
		strings.Repeat("[", 201): "invalid JSON at byte 200: nested deeper than 200",
	} {
		_, err := ParseJSON([]byte(src))
		if err == nil || err.Error() != want {
			t.Errorf("ParseJSON(%q) = %v, want %s", src, err, want)
		}
	}
	var many strings.Builder
	many.WriteString(`{`)
	for i := range 100 {
		fmt.Fprintf(&many, `"k%d":%d,`, i, i)
	}
	if _, err := ParseJSON([]byte(many.String() + `"last":1}`)); err != nil {
		t.Errorf("many keys: %v", err)
	}
	if _, err := ParseJSON([]byte(many.String() + `"k50":1}`)); err == nil {
		t.Error("a repeated key among many was accepted")
	}
}

func TestUntouchedIsReemitted(t *testing.T) {
	t.Parallel()
	const src = `{ "z" : [1.0, 1e3 ,-0],  "a":{"ä\u00e4\ud83d\ude00\/": "\ud800"} }`
	v := parse(t, " "+src+"\n")
	if got, err := AppendJSON([]byte("x"), v); err != nil || string(got) != "x"+src {
		t.Errorf("AppendJSON = %s, %v", got, err)
	}
	z, _ := Lookup(v, "z")
	if got, err := AppendJSON(nil, z); err != nil || string(got) != `[1.0, 1e3 ,-0]` {
		t.Errorf("of a field: %s, %v", got, err)
	}
	a, _ := Lookup(v, "a")
	s, ok := Lookup(a, "ää😀/")
	if text, _ := Str(s); !ok || text != "\ufffd" {
		t.Errorf("a lone surrogate is read as %q", text)
	}
	if got, err := AppendJSON(nil, rebuild(v)); err != nil || string(got) != `{"z":[1.0,1e3,-0],"a":{"ää😀/":"�"}}` {
		t.Errorf("rebuilt: %s, %v", got, err)
	}
}

func TestEqualAndHash(t *testing.T) {
	t.Parallel()
	groups := [][]string{
		{`1`, `1.0`, `1e0`, `10e-1`, `0.1e1`},
		{`0`, `-0`, `0.0`, `0e5`},
		{`100`, `1e2`, `1.00E+2`},
		{`12345678901234567890`, `12345678901234567890.0`, `1234567890123456789e1`},
		{`1e400`, `10e399`},
		{`{"a":1,"b":[2]}`, `{ "b" : [2.0] , "a" : 1e0 }`},
		{`"a"`, `"\u0061"`},
		{`[]`, `[ ]`},
		{`{}`, `{ }`},
		{`[[]]`},
		{`[{}]`},
		{`"1"`},
		{`null`},
		{`true`},
		{`false`},
		{`""`},
		{`["a","b"]`},
		{`["ab"]`},
		{`["b","a"]`},
		{`1.5`},
		{`-1`},
		{`{"a":null}`},
		{`{"a":"1","b":"2"}`},
		{`{"a":"1b","":"2"}`},
	}
	for i, g := range groups {
		for j, h := range groups {
			for _, x := range g {
				for _, y := range h {
					a, b := parse(t, x), parse(t, y)
					if Equal(a, b) != (i == j) || Equal(a, rebuild(b)) != (i == j) {
						t.Errorf("Equal(%s, %s) is not %v", x, y, i == j)
					}
					if (Hash(a) == Hash(b)) != (i == j) || Hash(a) != Hash(rebuild(a)) {
						t.Errorf("Hash(%s) and Hash(%s): equal is not %v", x, y, i == j)
					}
				}
			}
		}
	}
}

func TestViewsAreShared(t *testing.T) {
	t.Parallel()
	v := parse(t, `{"a":[{"b":{"c":[1,2,{"d":"x"}]}},{"b":2}],"e":{"f":{"g":[]}}}`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if n := walk(v); n != 14 {
				t.Errorf("walked %d values", n)
			}
		})
	}
	wg.Wait()
}

// TestSharedParts: a value that holds one part many times is small in memory and endless on
// paper. Writing and hashing it must stop.
func TestSharedParts(t *testing.T) {
	t.Parallel()
	if raceEnabled {
		t.Skip("SKIPPED under the race detector")
	}
	v := NewList([]Value{Int(1)})
	for range 60 {
		v = NewList([]Value{v, v})
	}
	_, err := AppendJSON(nil, v)
	var e *Error
	if !errors.As(err, &e) || !e.Limit {
		t.Errorf("AppendJSON = %v, want a limit", err)
	}
	if _, err := Text(v); !errors.As(err, &e) || !e.Limit {
		t.Errorf("Text = %v, want a limit", err)
	}
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.50,"x\u00e4\n",null,true,{"b":{}}]}`, `-0.0e-0`, `"\ud83d\ude00\ud800"`, ` [ ] `, `{"":""}`, `12345678901234567890123`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := ParseJSON(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("accepted what encoding/json refuses: %q", data)
		}
		walk(v)
		same, err := AppendJSON(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		if Len(v) >= 0 && !bytes.Equal(same, bytes.Trim(data, " \t\r\n")) {
			t.Fatalf("untouched %q was written as %q", data, same)
		}
		built := rebuild(v)
		again, err := AppendJSON(nil, built)
		if err != nil {
			t.Fatal(err)
		}
		w, err := ParseJSON(again)
		if err != nil {
			t.Fatalf("wrote %q, which is not JSON: %v", again, err)
		}
		if !Equal(v, w) || !Equal(w, built) || Hash(v) != Hash(w) || Hash(v) != Hash(built) {
			t.Fatalf("%q became %q", data, again)
		}
	})
}
