package canon

import (
	"strings"
	"testing"
)

type document struct {
	Name string            `json:"name"`
	Map  map[string]string `json:"map,omitempty"`
}

func TestMarshal(t *testing.T) {
	t.Parallel()
	b, err := Marshal(document{Name: "<a & b>", Map: map[string]string{"z": "1", "a": "2"}})
	if want := `{"name":"<a & b>","map":{"a":"2","z":"1"}}`; err != nil || string(b) != want {
		t.Errorf("got %s, %v; want %s", b, err, want)
	}
	if _, err := Marshal(func() {}); err == nil {
		t.Error("a function was written")
	}
}

func TestUnmarshal(t *testing.T) {
	t.Parallel()
	var d document
	if err := Unmarshal([]byte(` {"name": "a"} `), &d); err != nil || d.Name != "a" {
		t.Errorf("got %+v, %v", d, err)
	}
	for text, want := range map[string]string{
		`{"name": "a", "more": 1}`: "unknown field",
		`{"name": "a"} {}`:         "something follows",
		`{"name": "a"}]`:           "something follows",
		`{"name": "a"`:             "unexpected EOF",
		`{"name": 1}`:              "cannot unmarshal",
	} {
		if err := Unmarshal([]byte(text), &document{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
