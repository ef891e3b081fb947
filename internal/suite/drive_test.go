package suite

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// TestDrive drives a whole platform, all its processes, as its users and the services
// around it do: through the API and over HTTP.
func TestDrive(t *testing.T) {
	t.Parallel()
	needSystem(t)
	s := startSystem(t, false)
	t.Run("together", func(t *testing.T) {
		for name, f := range map[string]func(*drive){
			"webhooks": driveWebhooks, "proofs": driveProofs, "deliveries": driveDeliveries, "large": driveLarge,
			"flows": driveFlows, "callback": driveCallback, "again": driveAgain, "versions": driveVersions, "end": driveEnd,
			"times": driveTimes, "deploy": driveDeploy,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f(newDrive(t, s))
			})
		}
	})
	t.Run("poll", func(t *testing.T) { drivePoll(newDrive(t, s)) }) // it kills what the others need
}

// drive is one test's part of a system, with an outside that only it counts on.
type drive struct {
	*system
	out *outside
}

func newDrive(t *testing.T, s *system) *drive {
	own := *s
	own.t = t
	return &drive{&own, newOutside(t)}
}

// put deploys a file as an instance whose slot api is the outside.
func (d *drive) put(file string, config map[string]string) id.Instance {
	d.t.Helper()
	_, i := d.deploy("bulkhead: 1\n"+file, config, map[string]account{"api": bearer(d.out.URL, "drive-token")})
	return i
}

// answerOf is what came back from an address.
type answerOf struct {
	status int
	header http.Header
	body   string
}

// execution is the one that an answer names.
func (a *answerOf) execution(t *testing.T) (x id.Execution) {
	t.Helper()
	var m struct {
		Execution id.Execution `json:"execution"`
	}
	if err := json.Unmarshal([]byte(a.body), &m); err != nil || a.status != http.StatusAccepted {
		t.Fatalf("the answer is %d %s, want 202 with an execution", a.status, a.body)
	}
	return m.Execution
}

// send sends a request; headers are name, value, name, value.
func (d *drive) send(method, url, body string, headers ...string) *answerOf {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for n := 0; n < len(headers); n += 2 {
		r.Header.Set(headers[n], headers[n+1])
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return &answerOf{a.StatusCode, a.Header, string(b)}
}

// becomes waits until an execution has a status.
func (d *drive) becomes(x id.Execution, status string) *api.Execution {
	d.t.Helper()
	var e *api.Execution
	last := ""
	end := time.Now().Add(patience)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		var err error
		if e, err = d.Execution(d.t.Context(), x); err != nil {
			d.t.Fatal(err)
		}
		if last = e.Status; last == status {
			tick.Stop()
			return e
		}
		if time.Now().After(end) || slices.Contains([]string{"completed", "faulted", "cancelled"}, last) {
			d.t.Fatalf("%s of %s is %s %s in step %q, want %s", x, e.Flow, last, e.ErrorType, e.ErrorStep, status)
		}
	}
}

// of lists the executions of a flow, the oldest first.
func (d *drive) of(i id.Instance, flow string) (list []api.Execution) {
	d.t.Helper()
	for x, err := range client.All(func(cursor string) (*api.Page[api.Execution], error) {
		return d.Executions(d.t.Context(), api.ExecutionQuery{Instance: i, Flow: flow}, client.List{Limit: 200, Cursor: cursor})
	}) {
		if err != nil {
			d.t.Fatal(err)
		}
		list = append(list, x)
	}
	slices.Reverse(list)
	return list
}

// read opens what is stored of an execution.
func (d *drive) read(x id.Execution, kind wire.ReadKind, at string) (items []wire.Item) {
	d.t.Helper()
	r, err := d.Read(x, kind, at)
	if err != nil {
		d.t.Fatal(err)
	}
	for {
		page, more, err := r.Next(d.t.Context())
		if err != nil {
			d.t.Fatalf("read %s of %s: %v", kind, x, err)
		}
		if items = append(items, page...); !more {
			return items
		}
	}
}

// event is what expressions saw as trigger and customer.
func (d *drive) event(x id.Execution) map[string]any {
	d.t.Helper()
	items := d.read(x, wire.ReadEvent, "")
	if len(items) != 1 {
		d.t.Fatalf("the event of %s has %d items", x, len(items))
	}
	m := map[string]any{}
	if err := json.Unmarshal(items[0].Value, &m); err != nil {
		d.t.Fatal(err)
	}
	return m
}

// output waits for the end of an execution and is what it gave.
func (d *drive) output(x id.Execution) string {
	d.t.Helper()
	d.becomes(x, "completed")
	items := d.read(x, wire.ReadOutput, "")
	if len(items) != 1 {
		d.t.Fatalf("the output of %s has %d items", x, len(items))
	}
	return string(items[0].Value)
}

// same compares what is shown with what is wanted.
func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// outside is the services around a platform.
type outside struct {
	*httptest.Server
	held chan *arrival

	mu    sync.Mutex
	got   map[string][]string // bodies by path
	keys  map[string][]string // idempotency keys by path, each once
	down  map[string]bool     // paths that answer 500
	items []int
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	o := &outside{held: make(chan *arrival, 64), got: map[string][]string{}, keys: map[string][]string{}, down: map[string]bool{}}
	o.Server = httptest.NewServer(o)
	t.Cleanup(func() { o.CloseClientConnections(); o.Close() })
	return o
}

// ServeHTTP implements http.Handler: it notes what comes and answers {"n": count}.
func (o *outside) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if strings.HasPrefix(r.URL.Path, "/hold/") {
		a := &arrival{r.URL.Path, make(chan struct{})}
		o.held <- a
		select {
		case <-a.release:
		case <-r.Context().Done():
			return
		}
	}
	o.mu.Lock()
	o.got[r.URL.Path] = append(o.got[r.URL.Path], string(bytes.TrimSpace(body)))
	if key := r.Header.Get("Idempotency-Key"); !slices.Contains(o.keys[r.URL.Path], key) {
		o.keys[r.URL.Path] = append(o.keys[r.URL.Path], key)
	}
	n, down, items := len(o.got[r.URL.Path]), o.down[r.URL.Path], slices.Clone(o.items)
	o.mu.Unlock()
	switch {
	case down:
		reply(w, http.StatusInternalServerError, map[string]any{"error": "down"})
	case r.URL.Path == "/items":
		after := 0
		_ = json.Unmarshal([]byte(r.URL.Query().Get("after")), &after) // none: from the begin
		list := []map[string]any{}
		for _, n := range items {
			if n > after {
				list = append(list, map[string]any{"id": n})
			}
		}
		reply(w, http.StatusOK, map[string]any{"items": list})
	default:
		reply(w, http.StatusOK, map[string]any{"n": n})
	}
}

// bodies are what came to a path.
func (o *outside) bodies(path string) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.got[path])
}

// effects is how many requests of different keys came to a path: one that was interrupted comes again under its key.
func (o *outside) effects(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.keys[path])
}

// breaks makes a path answer 500, or repairs it.
func (o *outside) breaks(path string, down bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.down[path] = down
}

// lists sets the items that a poll finds.
func (o *outside) lists(items ...int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.items = items
}
