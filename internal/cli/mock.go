package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
)

const (
	// maxMockBody is the largest request that a mock reads, in bytes.
	maxMockBody = 16 << 20
	// callbackName is what a mock reads instead of the address of a callback, which is new in every run.
	callbackName = "callback.url"
	// nowhere is an address of documentation (RFC 5737), to which no connection is bound.
	nowhere = "http://192.0.2.1/"
)

// problem is one thing that is not as a case expects.
type problem struct {
	What        string       `json:"what"`
	Differences []difference `json:"differences,omitempty"`
	Hint        string       `json:"hint,omitempty"`
}

// mock plays the other side of one connection in one case: it is an HTTP server that
// checks each request and answers as the case says. It is safe for concurrent use.
type mock struct {
	slot       string
	anyOrder   bool
	url        string
	callbacks  *regexp.Regexp // addresses of callbacks
	unexpected func()         // called when a request came that the case does not know
	server     *http.Server

	mu       sync.Mutex
	calls    []expected
	problems []problem
	changed  chan struct{} // has room for one; never closed
}

// expected is one call of a case with how often it has come.
type expected struct {
	*flowfile.TestCall
	number int // from 1
	came   int
}

// startMock serves the calls of a slot on loopback; c is nil where the case does not
// name the slot.
func startMock(slot string, c *flowfile.TestConnection, callbacks *regexp.Regexp, unexpected func()) (*mock, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start mock of %s: %w", slot, err)
	}
	m := &mock{slot: slot, url: "http://" + l.Addr().String(), callbacks: callbacks, unexpected: unexpected, changed: make(chan struct{}, 1)}
	if c != nil {
		m.anyOrder = c.AnyOrder
		for i := range c.Calls {
			m.calls = append(m.calls, expected{TestCall: &c.Calls[i], number: i + 1})
		}
	}
	m.server = &http.Server{Handler: m, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second}
	go func() { _ = m.server.Serve(l) }() // ends with close
	return m, nil
}

func (m *mock) close() { _ = m.server.Close() }

// sent is a request as it is compared.
type sent struct {
	method, path string
	plain        string // the path, unescaped
	query        map[string]any
	headers      map[string]any
	body         any
}

// isAt compares the path with the one that a case names, escaped or not.
func (s *sent) isAt(r *flowfile.TestRequest) bool {
	if r.Pattern != "" {
		ok, err := regexp.MatchString(r.Pattern, s.path)
		return ok && err == nil
	}
	return r.Path == "" || r.Path == s.path || r.Path == s.plain
}

func (s *sent) String() string { return s.method + " " + s.path }

// ServeHTTP implements http.Handler.
func (m *mock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, err := m.read(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	call := m.take(s)
	if call == nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"error":"the test case does not expect this request"}`)
		m.unexpected()
		return
	}
	play(w, &call.Answer)
}

// read reads a request, with addresses of callbacks replaced by their name.
func (m *mock) read(r *http.Request) (*sent, error) {
	b, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxMockBody))
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	s := &sent{method: r.Method, path: r.URL.EscapedPath(), plain: r.URL.Path, query: firsts(r.URL.Query()), headers: map[string]any{}}
	for name := range r.Header {
		s.headers[strings.ToLower(name)] = r.Header.Get(name)
	}
	for _, list := range []map[string]any{s.query, s.headers} {
		for k, v := range list {
			if text, ok := v.(string); ok {
				list[k] = m.callbacks.ReplaceAllString(text, callbackName)
			}
		}
	}
	s.body = readBody(r.Header.Get("Content-Type"), m.callbacks.ReplaceAll(b, []byte(callbackName)))
	return s, nil
}

// firsts are the fields of a form or query: a text each, or a list where one is repeated.
func firsts(v url.Values) map[string]any {
	out := map[string]any{}
	for k, values := range v {
		if len(values) == 1 {
			out[k] = values[0]
			continue
		}
		list := make([]any, len(values))
		for i := range values {
			list[i] = values[i]
		}
		out[k] = list
	}
	return out
}

// readBody is a body as it is compared: JSON, the fields of a form, or a text.
func readBody(contentType string, b []byte) any {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = ""
	}
	switch {
	case len(b) == 0:
		return nothing{}
	case kind == "application/x-www-form-urlencoded":
		if form, err := url.ParseQuery(string(b)); err == nil {
			return firsts(form)
		}
	case kind == "multipart/form-data":
		return readParts(b, params["boundary"])
	}
	if v, err := decodeJSON(b); err == nil && (kind == "" || strings.Contains(kind, "json")) {
		return v
	}
	return string(b)
}

// take finds the call that a request is, and notes what is different in it. nil means
// that the case does not expect it.
func (m *mock) take(s *sent) *expected {
	m.mu.Lock()
	defer m.mu.Unlock()
	var first *expected // that is still to come
	var near *expected  // of the same method and path
	for i := range m.calls {
		c := &m.calls[i]
		if c.came == c.Times {
			continue
		}
		if first == nil {
			first = c
		}
		same := len(different(&c.Expect, s)) == 0
		if same || near == nil && c.aims(s) {
			near = c
		}
		if same || !m.anyOrder {
			break
		}
	}
	if near != nil {
		near.came++
		if d := different(&near.Expect, s); len(d) > 0 {
			m.problems = append(m.problems, problem{What: fmt.Sprintf("%s, call %d: %s", m.slot, near.number, s), Differences: d})
		}
		m.signal()
		return near
	}
	p := problem{What: fmt.Sprintf("%s got a request that it does not expect: %s", m.slot, s)}
	switch {
	case first == nil && len(m.calls) == 0:
		p.Hint = "the case names no call of this connection"
	case first == nil:
		p.Hint = "every call of this connection has come"
	case m.anyOrder:
		p.Hint = "no call that is still to come has this method and path"
	default:
		p.Hint = fmt.Sprintf("next is call %d: %s", first.number, first)
		if slices.ContainsFunc(m.calls, func(c expected) bool { return c.came < c.Times && c.aims(s) }) {
			p.Hint += "; if the order does not matter, write any_order: true"
		}
	}
	m.problems = append(m.problems, p)
	m.signal()
	return nil
}

func (m *mock) signal() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// aims says whether a request has the method and path of the call.
func (c *expected) aims(s *sent) bool {
	return (c.Expect.Method == "" || c.Expect.Method == s.method) && s.isAt(&c.Expect)
}

// String is the method and path of the call.
func (c *expected) String() string {
	switch {
	case c.Expect.Method == "" && c.Expect.Path == "":
		return "any request"
	case c.Expect.Method == "":
		return "any method " + c.Expect.Path
	case c.Expect.Path == "":
		return c.Expect.Method + " of any path"
	default:
		return c.Expect.Method + " " + c.Expect.Path
	}
}

// different is how a request differs from what is expected.
func different(want *flowfile.TestRequest, got *sent) []difference {
	var list []difference
	if want.Method != "" && want.Method != got.method {
		list = append(list, difference{"method", inJSON(want.Method), inJSON(got.method)})
	}
	if !got.isAt(want) {
		list = append(list, difference{"path", inJSON(want.Path), inJSON(got.path)})
	}
	list = append(list, compareNamed("query", texts(&want.Query), got.query)...)
	list = append(list, compareNamed("headers", lower(texts(&want.Headers)), got.headers)...)
	if !want.Body.IsZero() {
		list = append(list, differences("body", literal(&want.Body), got.body)...)
	}
	return list
}

func lower(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[strings.ToLower(k)] = v
	}
	return out
}

// missing lists the calls that have not come.
func (m *mock) missing() []problem {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []problem
	for i := range m.calls {
		switch c := &m.calls[i]; {
		case c.came == c.Times:
		case c.Times == 1:
			list = append(list, problem{What: fmt.Sprintf("%s, call %d did not come: %s", m.slot, c.number, c)})
		default:
			list = append(list, problem{What: fmt.Sprintf("%s, call %d came %d of %d times: %s", m.slot, c.number, c.came, c.Times, c)})
		}
	}
	return list
}

func (m *mock) found() []problem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.problems)
}

// play answers a request as a case says. To fail it misbehaves, so that the error is
// one that egress makes.
func play(w http.ResponseWriter, a *flowfile.TestAnswer) {
	switch a.Fail {
	case "timeout":
		w.WriteHeader(http.StatusRequestTimeout)
		return
	case "auth":
		w.WriteHeader(http.StatusUnauthorized)
		return
	case "egress-denied":
		w.Header().Set("Location", nowhere)
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	case "upstream":
		breakOff(w)
		return
	}
	headers := texts(&a.Headers)
	for _, k := range slices.Sorted(maps.Keys(headers)) {
		w.Header().Set(k, headers[k].(string))
	}
	var body []byte
	kind := ""
	switch {
	case a.Body.IsZero():
	case a.Body.Kind == flow.String && !strings.Contains(w.Header().Get("Content-Type"), "json"):
		body, kind = []byte(a.Body.Text), "text/plain; charset=utf-8"
	default:
		body, _ = json.Marshal(literal(&a.Body)) // made of what JSON has
		kind = "application/json"
	}
	if kind != "" && w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", kind)
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(body)
}

// breakOff begins an answer and closes the connection, so that nobody can repeat the
// request by themselves.
func breakOff(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	_, _ = io.WriteString(c, "HTTP/1.1 2")
	_ = c.Close()
}
