package suite

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// world is every other system: it misbehaves on request.
type world struct {
	*httptest.Server
	t      *testing.T
	marks  *marks
	held   chan *arrival // requests to /hold, until someone releases them
	notify chan string   // callback addresses

	mu       sync.Mutex
	accounts map[string]int      // how often each credential came
	keys     map[string][]string // idempotency keys by path, in order
}

// arrival is a request that waits.
type arrival struct {
	path    string
	release chan struct{}
}

func newWorld(t *testing.T, m *marks) *world {
	t.Helper()
	w := &world{t: t, marks: m, held: make(chan *arrival, 16), notify: make(chan string, 16), accounts: map[string]int{}, keys: map[string][]string{}}
	w.Server = httptest.NewUnstartedServer(w)
	w.Config.ErrorLog = nil
	w.Start()
	t.Cleanup(func() { w.CloseClientConnections(); w.Close() })
	return w
}

// closedPort is an address at which nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// ServeHTTP implements http.Handler.
func (w *world) ServeHTTP(a http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.count(r)
	first, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	m := w.marks
	switch first {
	case "answer":
		a.Header().Set("X-Answer", m.answerHeader.value)
		reply(a, http.StatusOK, map[string]any{"text": m.answerBody.value, "n": 7})
	case "text":
		a.Header().Set("Content-Type", "text/plain")
		fmt.Fprint(a, m.answerText.value)
	case "large":
		reply(a, http.StatusOK, map[string]any{"text": strings.Repeat(m.answerLarge.value+" ", 20_000)})
	case "file":
		a.Header().Set("Content-Type", "application/octet-stream")
		for range 20_000 {
			fmt.Fprint(a, m.answerFile.value, " ")
		}
	case "echo":
		w.echo(a, r, string(body))
	case "status":
		n, _ := strconv.Atoi(strings.Split(rest, "/")[0])
		reply(a, n, map[string]any{"error": m.answerError.value})
	case "callback":
		var in struct {
			URL string `json:"url"`
		}
		if err := json.Unmarshal(body, &in); err == nil {
			w.notify <- in.URL
		}
		reply(a, http.StatusOK, map[string]any{})
	case "hold":
		h := &arrival{r.URL.Path, make(chan struct{})}
		select {
		case w.held <- h:
		case <-r.Context().Done():
			return
		}
		select {
		case <-h.release:
			reply(a, http.StatusOK, map[string]any{"text": m.answerHeld.value})
		case <-r.Context().Done():
		}
	case "hang":
		<-r.Context().Done()
	case "broken-json":
		a.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(a, `{"text": "%s", `, m.answerError.value)
	case "cut":
		a.Header().Set("Content-Length", "100000")
		fmt.Fprint(a, m.answerError.value)
		panic(http.ErrAbortHandler)
	case "garbage":
		c, _, err := http.NewResponseController(a).Hijack()
		if err == nil {
			fmt.Fprintf(c, "HTTP/9.9 %s %s\r\n\r\n", m.answerError.value, r.Header.Get("Authorization"))
			_ = c.Close()
		}
	case "bad-gzip":
		a.Header().Set("Content-Encoding", "gzip")
		fmt.Fprint(a, m.answerError.value)
	case "headers":
		for n := range 3000 {
			a.Header().Add("X-Many", fmt.Sprint(m.answerError.value, n, strings.Repeat("x", 400)))
		}
		reply(a, http.StatusOK, nil)
	case "redirect":
		a.Header().Set("Location", "http://127.0.0.2:9/?token="+url.QueryEscape(r.Header.Get("Authorization")+r.Header.Get("X-Api-Key")+r.URL.RawQuery)+"&p="+m.answerError.value)
		a.WriteHeader(http.StatusFound)
	default:
		reply(a, http.StatusNotFound, nil)
	}
}

// count notes the credential and the idempotency key of a request.
func (w *world) count(r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.marks
	user, password, _ := r.BasicAuth()
	for name, came := range map[string]bool{
		"bearer": r.Header.Get("Authorization") == "Bearer "+c.token.value,
		"basic":  user == c.user.value && password == c.password.value,
		"header": r.Header.Get("X-Api-Key") == c.header.value,
		"query":  r.URL.Query().Get("api_key") == c.query.value,
	} {
		if came {
			w.accounts[name]++
		}
	}
	if k := r.Header.Get("Idempotency-Key"); k != "" {
		w.keys[r.URL.Path] = append(w.keys[r.URL.Path], k)
	}
}

// used is how often each credential came.
func (w *world) used() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]int{}
	for k, n := range w.accounts {
		out[k] = n
	}
	return out
}

func (w *world) keysOf(path string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.keys[path]...)
}

// echo gives back everything that came, credentials included, in headers and body, in
// many forms.
func (w *world) echo(a http.ResponseWriter, r *http.Request, body string) {
	for name, v := range r.Header {
		a.Header().Set("X-Echo-"+name, v[0])
	}
	a.Header().Set("X-Echo-Url", r.URL.String())
	user, password, _ := r.BasicAuth()
	out := map[string]any{
		"headers": r.Header, "url": r.URL.String(), "body": body, "user": user, "password": password,
		"escaped": url.QueryEscape(r.Header.Get("Authorization") + r.Header.Get("X-Api-Key") + user + password + r.URL.Query().Get("api_key")),
		"text":    w.marks.answerBody.value,
	}
	if strings.HasSuffix(r.URL.Path, "gzip") {
		a.Header().Set("Content-Type", "application/json")
		a.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(a)
		_ = json.NewEncoder(z).Encode(out)
		_ = z.Close()
		return
	}
	if strings.HasSuffix(r.URL.Path, "500") {
		reply(a, http.StatusInternalServerError, out)
		return
	}
	reply(a, http.StatusOK, out)
}

func reply(a http.ResponseWriter, status int, v any) {
	a.Header().Set("Content-Type", "application/json")
	a.WriteHeader(status)
	_ = json.NewEncoder(a).Encode(v)
}

// hold waits for the next request that the world holds.
func (w *world) hold() *arrival {
	w.t.Helper()
	select {
	case h := <-w.held:
		return h
	case <-time.After(patience):
		w.t.Fatal("no request to /hold came")
		return nil
	}
}

// callback waits for the address of a callback.
func (w *world) callback() string {
	w.t.Helper()
	select {
	case u := <-w.notify:
		return u
	case <-time.After(patience):
		w.t.Fatal("no callback address came")
		return ""
	}
}
