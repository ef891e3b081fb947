package suite

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// maxPSS is how much memory all processes of an installation together may take while they
// work on large data: the sum of their proportional set sizes.
const maxPSS = 600 << 20

// largePatience is how long one case may take. Reaching it is a failure, never a measurement.
const largePatience = 20 * time.Minute

const largeFlows = `bulkhead: 1
integration: large
title: Large data
connections:
  api: {connector: http, title: The world}
flows:
  events:
    trigger: {webhook: {methods: [POST], verify: none}}
    on_fault: failed
    steps:
      - {id: part, set: {n: "${{ size(trigger.body.lines) }}", first: "${{ trigger.body.lines[0] }}", last: "${{ trigger.body.lines[size(trigger.body.lines) - 1].sku }}"}}
      - {id: put, uses: api.request, with: {method: POST, path: /put, body: "${{ steps.part }}"}}
  rows:
    trigger: {webhook: {methods: [POST], verify: none}}
    on_fault: failed
    timeout: PT1H
    steps:
      - {id: file, uses: api.request, with: {path: "/csv/${{ trigger.body.n }}", response: file}}
      - id: all
        for: {each: {rows: "${{ steps.file.body }}", format: csv}, as: rows, batch: 500}
        steps:
          - {id: put, uses: api.request, with: {method: POST, path: /put, body: {n: "${{ size(rows) }}", first: "${{ rows[0] }}", sum: "${{ sum(rows.map(r, int(r.qty))) }}"}}}
      - {id: done, uses: api.request, with: {method: POST, path: /done/rows, body: "${{ steps.all }}"}}
  pages:
    trigger: {webhook: {methods: [POST], verify: none}}
    on_fault: failed
    timeout: PT1H
    steps:
      - id: all
        for: {each: {uses: api.request, with: {path: "/pages/${{ trigger.body.n }}", query: {at: "${{ orElse(cursor, 0) }}"}}, items: "${{ result.body.items }}", cursor: "${{ result.body.next }}"}, as: list, batch: 100}
        steps:
          - {id: put, uses: api.request, with: {method: POST, path: /put, body: {n: "${{ size(list) }}", first: "${{ list[0].id }}"}}}
      - {id: done, uses: api.request, with: {method: POST, path: /done/pages, body: "${{ steps.all }}"}}
  failed:
    trigger: {call: {}}
    steps:
      - {id: tell, uses: api.request, with: {method: POST, path: /failed, body: "${{ trigger.body }}"}}
`

// mill is another system with a lot of data, and counts what it is sent.
type mill struct {
	*httptest.Server
	done chan string // the first body of each /done, and those of /failed
	puts atomic.Int64
	gets atomic.Int64

	mu    sync.Mutex
	seen  map[string]int          // bodies of /put
	ended map[string]bool         // flows that came to /done: it may be told again after a kill
	stops map[int64]chan struct{} // what a request to /put of that number waits for
}

func newMill(t *testing.T) *mill {
	t.Helper()
	m := &mill{done: make(chan string, 1024), seen: map[string]int{}, ended: map[string]bool{}}
	m.Server = httptest.NewServer(m)
	t.Cleanup(func() { m.CloseClientConnections(); m.Close() })
	return m
}

// ServeHTTP implements http.Handler.
func (m *mill) ServeHTTP(a http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	first, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	n, _ := strconv.Atoi(rest)
	switch first {
	case "put":
		m.mu.Lock()
		m.seen[string(body)]++
		stop := m.stops[m.puts.Add(1)]
		m.mu.Unlock()
		if stop != nil {
			select {
			case <-stop:
			case <-r.Context().Done():
			}
		}
	case "done":
		m.mu.Lock()
		again := m.ended[rest]
		m.ended[rest] = true
		m.mu.Unlock()
		if !again {
			m.done <- string(body)
		}
	case "failed":
		m.done <- "failed: " + string(body)
	case "csv":
		a.Header().Set("Content-Type", "text/csv")
		_, _ = io.WriteString(a, "sku,name,qty,note\n")
		for i := range n {
			_, _ = fmt.Fprintf(a, "sku-%d,\"Name, of %d\",%d,%s\n", i, i, i%7, strings.Repeat("x", 100))
		}
		return
	case "pages":
		m.gets.Add(1)
		at, _ := strconv.Atoi(r.URL.Query().Get("at"))
		out := map[string]any{"items": []any{map[string]any{"id": at, "note": strings.Repeat("y", 200)}}, "next": nil}
		if at+1 < n {
			out["next"] = at + 1
		}
		reply(a, http.StatusOK, out)
		return
	}
	reply(a, http.StatusOK, map[string]any{})
}

// pss samples the memory of all processes of a system until it is stopped.
type pss struct {
	s    *system
	stop chan struct{}
	done chan struct{}

	peak int64
	at   map[string]int64 // what each role had when the sum was highest
	each map[string]int64 // the most that each role had
	n    int
}

func (s *system) weigh() *pss {
	p := &pss{s: s, stop: make(chan struct{}), done: make(chan struct{}), each: map[string]int64{}}
	go func() {
		defer close(p.done)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			p.take()
			select {
			case <-tick.C:
			case <-p.stop:
				return
			}
		}
	}()
	return p
}

func (p *pss) take() {
	now, sum := map[string]int64{}, int64(0)
	for _, x := range p.s.processes() {
		n, err := pssOf(x.pid)
		if err != nil {
			continue // it has ended
		}
		now[x.name] += n
		sum += n
	}
	p.n++
	for name, n := range now {
		p.each[name] = max(p.each[name], n)
	}
	if sum > p.peak {
		p.peak, p.at = sum, now
	}
}

// pssOf is the proportional set size of a process in bytes.
func pssOf(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if f := strings.Fields(string(line)); len(f) == 3 && f[0] == "Pss:" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("process %d tells no Pss", pid)
}

// end stops the sampling, checks the bound and prints the figures.
func (p *pss) end(t *testing.T, what string) {
	t.Helper()
	close(p.stop)
	<-p.done
	rows := [][]string{{"process", "MiB at the peak", "most MiB"}}
	names := make([]string, 0, len(p.each))
	for name := range p.each {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		rows = append(rows, []string{name, fmt.Sprint(p.at[name] >> 20), fmt.Sprint(p.each[name] >> 20)})
	}
	table(t, fmt.Sprintf("memory: %s: peak %d MiB PSS over all processes, of %d allowed (%d samples)", what, p.peak>>20, maxPSS>>20, p.n), rows)
	if p.peak == 0 || p.peak > maxPSS {
		t.Errorf("the processes had %d MiB at once, more than %d", p.peak>>20, maxPSS>>20)
	}
}

// largeBody is a JSON body of a size, made while it is read: {"lines": […], "pad": "…"}.
func largeBody(size, lines int) (io.Reader, int64) {
	var head bytes.Buffer
	head.WriteString(`{"lines":[`)
	for i := range lines {
		if i > 0 {
			head.WriteByte(',')
		}
		fmt.Fprintf(&head, `{"sku":"sku-%d","qty":%d,"text":"%s"}`, i, i%9, strings.Repeat("z", 60))
	}
	head.WriteString(`],"pad":"`)
	pad := max(size-head.Len()-2, 0)
	return io.MultiReader(&head, io.LimitReader(filler{}, int64(pad)), strings.NewReader(`"}`)), int64(head.Len() + pad + 2)
}

// filler is an endless text.
type filler struct{}

// Read implements io.Reader.
func (filler) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a' + byte(i%26)
	}
	return len(p), nil
}

// hook is the address of a flow's webhook.
func (s *system) hook(i id.Instance, flow string) string {
	s.t.Helper()
	u, err := s.HookURL(s.t.Context(), i, flow)
	if err != nil {
		s.t.Fatal(err)
	}
	return u
}

// deliver posts to a webhook until it is accepted: a server that has no room says so.
func (s *system) deliver(url string, body func() (io.Reader, int64), refused *atomic.Int64) error {
	end := time.Now().Add(largePatience)
	for {
		pause := time.Second
		in, size := body()
		r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url, in)
		if err != nil {
			return err
		}
		r.ContentLength = size
		r.Header.Set("Content-Type", "application/json")
		a, err := http.DefaultClient.Do(r)
		if err == nil {
			_, _ = io.Copy(io.Discard, a.Body)
			_ = a.Body.Close()
			switch a.StatusCode {
			case http.StatusAccepted:
				return nil
			case http.StatusTooManyRequests, http.StatusServiceUnavailable:
				if n, err := strconv.Atoi(a.Header.Get("Retry-After")); err == nil {
					pause = time.Duration(n) * time.Second
				}
				refused.Add(1)
			default:
				return fmt.Errorf("webhook: %s", a.Status)
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("webhook: it is never accepted: %w", err)
		}
		<-time.After(pause)
	}
}

func text(body any) func() (io.Reader, int64) {
	b, _ := json.Marshal(body)
	return func() (io.Reader, int64) { return bytes.NewReader(b), int64(len(b)) }
}

// TestLargeDataInBoundedMemory runs what is large through a whole installation: many large
// events at once, a file of many rows, an action with many pages; the latter two also
// interrupted in the middle. Their figures are printed; the bound is the memory of all
// processes together.
func TestLargeDataInBoundedMemory(t *testing.T) {
	t.Parallel()
	needSystem(t)
	events, rows, pages := 200, 100_000, 5_000
	switch {
	case testing.Short():
		events, rows, pages = 20, 5_000, 1_000
	case os.Getenv("SUITE_PAGES") == "all": // some minutes: pages come one after the other
		pages = 100_000
	}
	m := newMill(t)
	s := startSystem(t, false)
	_, i := s.deploy(largeFlows, nil, map[string]account{"api": bearer(m.URL, "token")})
	t.Run("events", func(t *testing.T) { s.largeEvents(t, m, i, events) })
	t.Run("rows", func(t *testing.T) { s.largeLoop(t, m, i, "rows", rows, int64((rows+499)/500)) })
	t.Run("pages", func(t *testing.T) { s.largeLoop(t, m, i, "pages", pages, int64((pages+99)/100)) })
}

// largeEvents sends events with bodies of 10 MiB at once.
func (s *system) largeEvents(t *testing.T, m *mill, i id.Instance, events int) {
	url := s.hook(i, "events")
	p := s.weigh()
	errs := make(chan error, events)
	var refused atomic.Int64
	began := time.Now()
	for range events {
		go func() {
			errs <- s.deliver(url, func() (io.Reader, int64) { return largeBody(10<<20, 20_000) }, &refused)
		}()
	}
	for range events {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d events accepted in %v, %d times asked to come later", events, time.Since(began).Round(time.Second), refused.Load())
	m.until(t, "every event", func() bool { return m.puts.Load() >= int64(events) })
	p.end(t, fmt.Sprintf("%d concurrent events of 10 MiB", events))
	m.mu.Lock()
	defer m.mu.Unlock()
	want := `{"n":20000,"first":{"sku":"sku-0","qty":0,"text":"` + strings.Repeat("z", 60) + `"},"last":"sku-19999"}`
	if len(m.seen) != 1 || m.seen[want] < events {
		for body, n := range m.seen {
			t.Errorf("%d times: %.200s", n, body)
		}
	}
}

// until waits for what the world sees. A flow that faults ends the wait.
func (m *mill) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.NewTimer(largePatience)
	defer late.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case body := <-m.done:
			t.Fatalf("while waiting for %s: %s", what, body)
		case <-late.C:
			t.Fatalf("%s never came", what)
		}
	}
}

// largeLoop runs a loop to its end, with its worker killed in the middle.
func (s *system) largeLoop(t *testing.T, m *mill, i id.Instance, flow string, n int, rounds int64) {
	stops := map[int64]chan struct{}{rounds / 3: make(chan struct{}), 2 * rounds / 3: make(chan struct{})}
	m.mu.Lock()
	m.seen, m.stops = map[string]int{}, stops
	m.mu.Unlock()
	m.puts.Store(0)
	m.gets.Store(0)
	p := s.weigh()
	began := time.Now()
	if err := s.deliver(s.hook(i, flow), text(map[string]any{"n": n}), &atomic.Int64{}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []int64{1, 2} {
		m.until(t, "a part of the loop", func() bool { return m.puts.Load() >= part*rounds/3 })
		s.killBusiest(t) // while the request of that number has no answer
		close(stops[part*rounds/3])
	}
	var result string
	late := time.NewTimer(largePatience)
	defer late.Stop()
	select {
	case result = <-m.done:
	case <-late.C:
		t.Fatal("the loop has no end")
	}
	p.end(t, fmt.Sprintf("%d %s, worker killed twice", n, flow))
	if want := fmt.Sprintf(`{"count":%d,"failed":0,"errors":[]}`, rounds); result != want {
		t.Errorf("the loop ends as %s, want %s", result, want)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if repeated := m.puts.Load() - int64(len(m.seen)); int64(len(m.seen)) != rounds || repeated > 2 {
		t.Errorf("%d rounds were done, %d requests repeated; want %d and at most one for each kill", len(m.seen), repeated, rounds)
	}
	// A page is a safe request: a few may be asked for again that were not committed yet.
	const again = 2 * 10
	if flow == "pages" && m.gets.Load() > int64(n)+again {
		t.Errorf("%d pages were asked for, of %d", m.gets.Load(), n)
	}
	t.Logf("%s: %d rounds in %v, %d pages asked for", flow, rounds, time.Since(began).Round(time.Second), m.gets.Load())
}

// killBusiest kills the worker that has worked most, and waits for its end.
func (s *system) killBusiest(t *testing.T) {
	t.Helper()
	var busiest process
	most := -1
	for _, p := range s.children() {
		if n := cpuTicks(p.pid); p.name == "worker" && n > most {
			busiest, most = p, n
		}
	}
	if err := syscall.Kill(busiest.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.eventually("its end", func() bool { return !slices.Contains(s.children(), busiest) })
}
