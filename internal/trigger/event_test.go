package trigger

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// An event is the same however its body came, and a large body is not copied for what is said
// about it.
func TestABodyIsPartOfItsEvent(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 100, 511, 512, 513, 4000, 100_000, 3_000_000} {
		for _, chunked := range []bool{false, true} {
			text := strings.Repeat("x", size)
			body := []byte(`{"text":"` + text + `"}`)
			r := httptest.NewRequest(http.MethodPost, "/hooks/x?a=b", bytes.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("X-Long", strings.Repeat("h", 5000))
			if chunked {
				r.ContentLength = -1
			}
			q, err := ReadRequest(r)
			if err != nil {
				t.Fatal(err)
			}
			at := &q.buf[0]
			event, rest := q.Event(&Envelope{Source: "s", Type: "t"})
			if &event[0] != at {
				t.Errorf("a body of %d bytes was copied", size)
			}
			var got struct {
				Body    struct{ Text string }
				Method  string
				Headers map[string]string
				Query   map[string]string
				Source  string
			}
			if err := json.Unmarshal(slices.Concat(append([][]byte{event}, rest...)...), &got); err != nil {
				t.Fatalf("a body of %d bytes: %v", size, err)
			}
			if got.Body.Text != text || got.Method != http.MethodPost || len(got.Headers["x-long"]) != 5000 || got.Query["a"] != "b" || got.Source != "s" {
				t.Errorf("a body of %d bytes, chunked %v: %s, %v, %s", size, chunked, got.Method, got.Query, got.Source)
			}
		}
	}
}
