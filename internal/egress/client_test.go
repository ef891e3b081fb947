package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/dial"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// canary is the secret that the tests plant.
const canary = "s3cr3t-C4nary/7f+9a==\"x"

// flows collects flow records.
type flows struct {
	mu  sync.Mutex
	all []Flow
}

func (f *flows) Record(r Flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, r)
}

func (f *flows) list() []Flow {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Flow(nil), f.all...)
}

func loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

// rig is a client that may reach loopback, with its flow records.
type rig struct {
	*Client
	flows *flows
}

func newRig(t testing.TB, p dial.Policy) *rig {
	t.Helper()
	f := &flows{}
	c, err := New(Options{Dialer: dial.New(p), Recorder: f})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(c.Close)
	return &rig{c, f}
}

func localRig(t testing.TB) *rig { return newRig(t, dial.Policy{Allow: loopback()}) }

func bearer(token string) Credential {
	return Credential{Kind: Bearer, Fields: map[string]secret.Value{"token": secret.New([]byte(token))}}
}

func newLease(t testing.TB, base string, c Credential, change ...func(*LeaseSpec)) *Lease {
	t.Helper()
	b, err := ParseBinding(base)
	if err != nil {
		t.Fatalf("ParseBinding(%q): %v", base, err)
	}
	s := LeaseSpec{Customer: id.NewCustomer(time.Now()), Connection: id.NewConnection(time.Now()), Binding: b, Credential: c}
	for _, f := range change {
		f(&s)
	}
	l, err := NewLease(s)
	if err != nil {
		t.Fatalf("NewLease: %v", err)
	}
	return l
}

func serve(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func faultOf(t testing.TB, err error) *Fault {
	t.Helper()
	var f *Fault
	if !errors.As(err, &f) {
		t.Fatalf("error is %v, want a *Fault", err)
	}
	return f
}

func TestDoSendsWhatTheCallSays(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":1}`)
	})
	r := localRig(t)
	l := newLease(t, s.URL+"/v1", bearer(canary))
	a, err := r.Do(t.Context(), &Call{
		Lease: l, Method: "POST", Path: "/orders/a%2Fb", Query: []Pair{{"q", "x y&z"}, {"q", "2"}},
		Headers: []Pair{{"x-trace", "1"}}, Body: []byte(`{"a":1}`), IdempotencyKey: "key-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if a.Status != 201 || string(a.Body) != `{"id":1}` || a.Format != ModeJSON || a.Size != 8 {
		t.Errorf("answer = %+v", a)
	}
	want := map[string]string{
		"uri": "/v1/orders/a%2Fb?q=x+y%26z&q=2", "auth": "Bearer " + canary, "type": "application/json",
		"key": "key-1", "trace": "1", "body": `{"a":1}`, "agent": "bulkhead", "enc": "gzip",
	}
	have := map[string]string{
		"uri": got.RequestURI, "auth": got.Header.Get("Authorization"), "type": got.Header.Get("Content-Type"),
		"key": got.Header.Get("Idempotency-Key"), "trace": got.Header.Get("X-Trace"), "body": string(body),
		"agent": got.UserAgent(), "enc": got.Header.Get("Accept-Encoding"),
	}
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("request differs (-want +got):\n%s", d)
	}
	list := r.flows.list()
	if len(list) != 2 || list[0].Phase != Begin || list[1].Phase != End {
		t.Fatalf("flows = %+v", list)
	}
	end := list[1]
	if end.Status != 201 || end.BytesOut != 7 || end.BytesIn != 8 || end.Verdict != Completed || !end.Addr.IsValid() || end.Duration <= 0 {
		t.Errorf("end record = %+v", end)
	}
	text := fmt.Sprintf("%+v", list)
	for _, part := range []string{canary, "orders", "x-trace", "key-1", "x y"} {
		if strings.Contains(text, part) {
			t.Errorf("flow records contain %q: %s", part, text)
		}
	}
}

func TestDoInjectsEachKind(t *testing.T) {
	t.Parallel()
	field := func(pairs ...string) map[string]secret.Value {
		m := map[string]secret.Value{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = secret.New([]byte(pairs[i+1]))
		}
		return m
	}
	cases := map[string]struct {
		credential Credential
		want       string
	}{
		"none":   {Credential{Kind: None}, "||/"},
		"bearer": {bearer("tok"), "Bearer tok||/"},
		"basic":  {Credential{Kind: Basic, Fields: field("username", "u", "password", "p:w")}, "Basic dTpwOnc=||/"},
		"header": {Credential{Kind: Header, Name: "x-api-key", Fields: field("value", "v v")}, "|v v|/"},
		"query":  {Credential{Kind: Query, Name: "key", Fields: field("value", "a&b")}, "||/?key=a%26b"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got string
			s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
				got = r.Header.Get("Authorization") + "|" + r.Header.Get("X-Api-Key") + "|" + r.RequestURI
			})
			if _, err := localRig(t).Do(t.Context(), &Call{Lease: newLease(t, s.URL, c.credential)}); err != nil {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("server saw %q, want %q", got, c.want)
			}
		})
	}
}

func TestCallCannotTouchWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	hits := 0
	s := serve(t, func(http.ResponseWriter, *http.Request) { hits++ })
	value := map[string]secret.Value{"value": secret.New([]byte(canary))}
	header := newLease(t, s.URL, Credential{Kind: Header, Name: "X-Api-Key", Fields: value})
	query := newLease(t, s.URL, Credential{Kind: Query, Name: "key", Fields: value})
	cases := map[string]Call{
		"own header":           {Lease: header, Headers: []Pair{{"x-api-key", "mine"}}},
		"own header, fold":     {Lease: header, Headers: []Pair{{"X_Api_Key", "mine"}}},
		"own parameter":        {Lease: query, Query: []Pair{{"key", "mine"}}},
		"own parameter, case":  {Lease: query, Query: []Pair{{"KEY", "mine"}}},
		"own parameter, array": {Lease: query, Query: []Pair{{"key[]", "mine"}}},
		"host":                 {Lease: header, Headers: []Pair{{"Host", "evil.example"}}},
		"connection":           {Lease: header, Headers: []Pair{{"connection", "x-api-key"}}},
		"transfer-encoding":    {Lease: header, Headers: []Pair{{"Transfer-Encoding", "chunked"}}},
		"content-length":       {Lease: header, Headers: []Pair{{"Content-Length", "3"}}},
		"proxy":                {Lease: header, Headers: []Pair{{"Proxy-Authorization", "x"}}},
		"override":             {Lease: header, Headers: []Pair{{"X-HTTP-Method-Override", "DELETE"}}},
		"CRLF in value":        {Lease: header, Headers: []Pair{{"A", "b\r\nX: y"}}},
		"CRLF in name":         {Lease: header, Headers: []Pair{{"A\r\nX", "b"}}},
		"LF in value":          {Lease: header, Headers: []Pair{{"A", "b\nX: y"}}},
		"NUL in value":         {Lease: header, Headers: []Pair{{"A", "b\x00"}}},
		"pseudo header":        {Lease: header, Headers: []Pair{{":authority", "evil"}}},
		"CRLF in content type": {Lease: header, Method: "POST", Body: []byte("1"), ContentType: "a\r\nX: y"},
		"CRLF in key":          {Lease: header, Method: "POST", IdempotencyKey: "a\r\nX: y"},
		"CRLF in method":       {Lease: header, Method: "GET / HTTP/1.1\r\nX: y\r\n"},
		"connect":              {Lease: header, Method: "CONNECT"},
		"trace":                {Lease: header, Method: "TRACE"},
		"lower-case method":    {Lease: header, Method: "get"},
		"two bodies":           {Lease: header, Method: "POST", Body: []byte("1"), Form: []Pair{{"a", "b"}}},
		"too many headers":     {Lease: header, Headers: make([]Pair, MaxHeaders+1)},
		"too large a header":   {Lease: header, Headers: []Pair{{"A", strings.Repeat("b", MaxHeaderBytes+1)}}},
		"too large a query":    {Lease: header, Query: []Pair{{"A", strings.Repeat("b", MaxHeaderBytes+1)}}},
	}
	r := localRig(t)
	for name, c := range cases {
		_, err := r.Do(t.Context(), &c)
		if f := faultOf(t, err); f.Type != InvalidInput || f.Outcome != NotSent {
			t.Errorf("%s: fault = %v, outcome %s", name, f, f.Outcome)
		}
	}
	if hits != 0 {
		t.Errorf("server was reached %d times", hits)
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mr, err := r.MultipartReader()
		if err != nil {
			b, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%s %d %s", r.Header.Get("Content-Type"), r.ContentLength, b)
			return
		}
		_, _ = fmt.Fprintf(w, "%v", r.ContentLength > 0)
		for part, err := mr.NextPart(); err == nil; part, err = mr.NextPart() {
			b, _ := io.ReadAll(part)
			_, _ = fmt.Fprintf(w, "|%s,%s,%s,%s", part.FormName(), part.FileName(), part.Header.Get("Content-Type"), b)
		}
	})
	cases := map[string]struct {
		call Call
		want string
	}{
		"json":             {Call{Body: []byte(`{}`)}, "application/json 2 {}"},
		"own type":         {Call{Body: []byte(`<a/>`), Headers: []Pair{{"content-type", "text/xml"}}}, "text/xml 4 <a/>"},
		"form":             {Call{Form: []Pair{{"b", "1 2"}, {"a", "&"}}}, "application/x-www-form-urlencoded 11 b=1+2&a=%26"},
		"stream":           {Call{Stream: strings.NewReader("abc"), StreamSize: 3}, "application/octet-stream 3 abc"},
		"stream, unknown":  {Call{Stream: strings.NewReader("abc"), StreamSize: -1}, "application/octet-stream -1 abc"},
		"none":             {Call{}, " 0 "},
		"multipart":        {Call{Multipart: []Part{{Name: "a", Data: []byte("1")}, {Name: "f", FileName: "x\"\r\n.txt", Data: []byte("2")}}}, `true|a,,,1|f,x"%0D%0A.txt,application/octet-stream,2`},
		"multipart stream": {Call{Multipart: []Part{{Name: "a", Stream: strings.NewReader("12"), Size: 2}, {Name: "b", Data: []byte("3")}}}, `true|a,,,12|b,,,3`},
		"multipart unsized": {
			Call{Multipart: []Part{{Name: "a", Stream: strings.NewReader("12"), Size: -1}, {Name: "b", Stream: strings.NewReader("3"), Size: 1}}},
			`false|a,,,12|b,,,3`,
		},
	}
	r := localRig(t)
	l := newLease(t, s.URL, Credential{Kind: None})
	for name, c := range cases {
		c.call.Lease, c.call.Method = l, "POST"
		a, err := r.Do(t.Context(), &c.call)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := string(a.Body); got != c.want {
			t.Errorf("%s: server saw %q, want %q", name, got, c.want)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Join(r.Header.Values("Idempotency-Key"), ","))
	})
	r := localRig(t)
	l := newLease(t, s.URL, Credential{Kind: None})
	for _, c := range []struct {
		call Call
		want string
	}{
		{Call{Method: "POST", IdempotencyKey: "k"}, "k"},
		{Call{Method: "DELETE", IdempotencyKey: "k"}, "k"},
		{Call{Method: "PATCH", IdempotencyKey: "k", Once: true}, "k"},
		{Call{Method: "GET", IdempotencyKey: "k"}, ""},
		{Call{Method: "OPTIONS", IdempotencyKey: "k"}, ""},
		{Call{Method: "POST", IdempotencyKey: "k", Headers: []Pair{{"idempotency-key", "own"}}}, "own"},
	} {
		c.call.Lease = l
		a, err := r.Do(t.Context(), &c.call)
		if err != nil {
			t.Fatal(err)
		}
		if string(a.Body) != c.want {
			t.Errorf("%s: key %q, want %q", c.call.Method, a.Body, c.want)
		}
	}
}

func TestSinkTakesLargeAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size int
		mode Mode
		sunk bool
	}{
		{0, ModeAuto, false}, {Inline, ModeAuto, false}, {Inline + 1, ModeAuto, true}, {3 << 20, ModeAuto, true}, {10, ModeFile, true}, {0, ModeFile, true},
	} {
		t.Run(fmt.Sprint(c.size, c.mode), func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte("x"), c.size)) })
			sink := &memorySink{}
			a, err := localRig(t).Do(t.Context(), &Call{
				Lease: newLease(t, s.URL, bearer(canary)), Response: c.mode,
				Sink: func(*Answer) (io.WriteCloser, error) { return sink, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			if a.Streamed != c.sunk || sink.closed != c.sunk || a.Size != int64(c.size) || sink.Len()+len(a.Body) != c.size {
				t.Errorf("streamed %v, closed %v, size %d, in sink %d, in body %d", a.Streamed, sink.closed, a.Size, sink.Len(), len(a.Body))
			}
		})
	}
}

type memorySink struct {
	bytes.Buffer
	closed, aborted bool
}

func (m *memorySink) Close() error { m.closed = true; return nil }
func (m *memorySink) Abort()       { m.aborted = true }

func TestContextEnds(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	entered := make(chan struct{}, 2)
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-release
	})
	t.Cleanup(func() { close(release) })
	r := localRig(t)
	l := newLease(t, s.URL, Credential{Kind: None})
	_, err := r.Do(t.Context(), &Call{Lease: l, Timeout: 50 * time.Millisecond})
	if f := faultOf(t, err); f.Type != Timeout || f.Outcome != Unknown || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the deadline: %v, %s", f, f.Outcome)
	}
	ctx, cancel := context.WithCancel(t.Context())
	<-entered
	go func() { <-entered; cancel() }()
	_, err = r.Do(ctx, &Call{Lease: l})
	if f := faultOf(t, err); f.Type != Interrupted || f.Outcome != Unknown {
		t.Errorf("after cancel: %v, %s", f, f.Outcome)
	}
}

func TestRefusalsAreRecorded(t *testing.T) {
	t.Parallel()
	r := localRig(t)
	l := newLease(t, "http://127.0.0.1:9", bearer(canary), func(s *LeaseSpec) {
		s.Binding.Rules, s.Budget = []Rule{{"GET", "/a"}}, Budget{Requests: 1, Bytes: 1}
	})
	for _, c := range []struct {
		call Call
		want Type
	}{
		{Call{Method: "DELETE", Path: "/a"}, EgressDenied},
		{Call{Path: "/a/../b"}, EgressDenied},
		{Call{Host: "127.0.0.2", Path: "/a"}, EgressDenied},
		{Call{Path: "/a", Headers: []Pair{{"Host", "x"}}}, InvalidInput},
		{Call{Path: "/a", Body: []byte("22")}, Limit},
	} {
		c.call.Lease = l
		before := len(r.flows.list())
		_, err := r.Do(t.Context(), &c.call)
		list := r.flows.list()[before:]
		if f := faultOf(t, err); f.Type != c.want || f.Outcome != NotSent || f.Definite() {
			t.Errorf("%+v: %v", c.call, f)
		}
		if len(list) != 1 || list[0].Phase != Begin || list[0].Verdict != Denied || list[0].Fault != c.want || list[0].Host == "" {
			t.Errorf("%+v: records %+v", c.call, list)
		}
	}
}
