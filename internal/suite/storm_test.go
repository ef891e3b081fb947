package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/role"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/testkit"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// stormFlows have two effects each; what lies between differs.
const stormFlows = `bulkhead: 1
integration: storm
title: Storm
connections:
  shop: {connector: http, title: Shop}
flows:
  plain:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - {id: shape, set: {n: "${{ trigger.body.n }}", text: "order ${{ trigger.body.n }}"}}
      - {id: first, uses: shop.request, with: {method: POST, path: "/first/${{ trigger.body.n }}", body: "${{ steps.shape }}"}}
      - {id: second, uses: shop.request, with: {method: POST, path: "/second/${{ trigger.body.n }}", body: {got: "${{ steps.first.body.n }}"}}}
      - {id: out, return: {n: "${{ steps.second.body.n }}"}}
  code:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - {id: first, uses: shop.request, with: {method: POST, path: "/first/${{ trigger.body.n }}", body: {n: "${{ trigger.body.n }}"}}}
      - {id: turn, retry: {attempts: 8, delay: PT0.1S}, with: {n: "${{ steps.first.body.n }}"}, code: "export default ({n}) => ({n: n + 1})"}
      - {id: second, uses: shop.request, with: {method: POST, path: "/second/${{ trigger.body.n }}", body: {got: "${{ steps.turn.n }}"}}}
  pause:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - {id: first, uses: shop.request, with: {method: POST, path: "/first/${{ trigger.body.n }}", body: {n: "${{ trigger.body.n }}"}}}
      - {id: rest, wait: {for: PT6S}}
      - {id: second, uses: shop.request, with: {method: POST, path: "/second/${{ trigger.body.n }}", body: {n: "${{ trigger.body.n }}"}}}
  parent:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - {id: first, uses: shop.request, with: {method: POST, path: "/first/${{ trigger.body.n }}", body: {n: "${{ trigger.body.n }}"}}}
      - {id: sub, call: {flow: child, with: {n: "${{ trigger.body.n }}"}, wait: true}}
      - {id: out, return: {n: "${{ steps.sub.n }}"}}
  child:
    trigger: {call: {input: {type: object}}}
    steps:
      - {id: second, uses: shop.request, with: {method: POST, path: "/second/${{ trigger.body.n }}", body: {n: "${{ trigger.body.n }}"}}}
      - {id: out, return: {n: "${{ steps.second.body.n }}"}}
`

const (
	// stormVariable says how many processes are killed, else stormKills are: make crash kills
	// more.
	stormVariable = "BULKHEAD_STORM_KILLS"
	stormKills    = 20
	stormPosters  = 12
	stormOpen     = 96 // accepted events that have not been seen to end
	// stormStuck is how long there may be no progress.
	stormStuck = 30 * time.Second
)

// victims are what is killed. Roles are named often enough to be half of it.
func victims() []string {
	return []string{"server", "bus", "vault", "egress", "runner", "worker", "worker", "sandbox", "server", "egress"}
}

// TestStorm kills every kind of process again and again while events come in.
func TestStorm(t *testing.T) {
	needSystem(t)
	t.Run("sqlite", func(t *testing.T) { storm(t, "") })
	t.Run("postgres", func(t *testing.T) {
		p := &testkit.Postgres{}
		t.Cleanup(func() {
			if err := p.Stop(); err != nil {
				t.Error(err)
			}
		})
		u := p.Database(t)
		if at, err := url.Parse(u); err == nil { // the server role is another user
			if err := os.Chmod(at.Query().Get("host"), 0o711); err != nil {
				t.Fatal(err)
			}
		}
		storm(t, u)
	})
}

// shop is the counting server.
type shop struct {
	*httptest.Server
	mu       sync.Mutex
	requests int
	got      map[string][]testkit.Heard // by path
}

func newShop(t *testing.T) *shop {
	s := &shop{got: map[string][]testkit.Heard{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return // cut off: whether it counts is open, as for any server
		}
		s.mu.Lock()
		s.requests++
		s.got[r.URL.Path] = append(s.got[r.URL.Path], testkit.Heard{Key: r.Header.Get("Idempotency-Key"), Body: string(b)})
		s.mu.Unlock()
		reply(w, http.StatusOK, map[string]any{"n": 1})
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

func (s *shop) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// weather is one storm.
type weather struct {
	*system
	shop  *shop
	hooks []string

	mu       sync.Mutex
	number   int
	accepted map[int]id.Execution // by the number of the event
	refused  map[string]int
	open     chan struct{} // holds one token for each event that has not been seen to end
	killed   map[string]int
	back     map[string][]time.Duration // how long roles were away
}

func storm(t *testing.T, database string) {
	w := &weather{
		system: startService(t, func(c *role.Config) { c.Database = database }), shop: newShop(t), accepted: map[int]id.Execution{}, refused: map[string]int{},
		open: make(chan struct{}, stormOpen), killed: map[string]int{}, back: map[string][]time.Duration{},
	}
	for range 3 {
		_, i := w.deploy(stormFlows, nil, map[string]account{"shop": bearer(w.shop.URL, "storm-token")})
		for _, flow := range []string{"plain", "plain", "plain", "code", "parent", "pause"} {
			u, err := w.HookURL(t.Context(), i, flow)
			if err != nil {
				t.Fatal(err)
			}
			w.hooks = append(w.hooks, u)
		}
	}
	kills := stormKills
	if n, err := strconv.Atoi(os.Getenv(stormVariable)); err == nil && n > 0 {
		kills = n
	}
	posting, stop := context.WithCancel(t.Context())
	var posters sync.WaitGroup
	for range stormPosters {
		posters.Go(func() { w.post(posting) })
	}
	ended := make(chan struct{})
	watching, quiet := context.WithCancel(t.Context())
	go func() { defer close(ended); w.watch(watching) }()
	began := time.Now()
	w.strike(kills)
	stormed := time.Since(began)
	stop()
	posters.Wait()
	w.settle()
	quiet()
	<-ended
	w.report(kills, stormed)
	w.judge(database)
}

// post sends events until the context ends. One that was not accepted is not sent again:
// its number may have been accepted without an answer.
func (w *weather) post(ctx context.Context) {
	for {
		select {
		case w.open <- struct{}{}:
		case <-ctx.Done():
			return
		}
		w.mu.Lock()
		w.number++
		n := w.number
		w.mu.Unlock()
		x, err := w.event(n)
		w.mu.Lock()
		if err == nil {
			w.accepted[n] = x
		} else {
			w.refused[err.Error()]++
		}
		w.mu.Unlock()
		if err != nil {
			<-w.open
			pause(ctx, 20*time.Millisecond)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// event posts one event and returns its execution when it was accepted.
func (w *weather) event(n int) (x id.Execution, err error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	body := fmt.Sprintf(`{"n":%d}`, n)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.hooks[n%len(w.hooks)], bytes.NewReader([]byte(body)))
	if err != nil {
		return x, err
	}
	r.Header.Set("Content-Type", "application/json")
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return x, errors.New("connection broken")
	}
	defer a.Body.Close()
	var m struct{ Execution id.Execution }
	if a.StatusCode != http.StatusAccepted {
		return x, fmt.Errorf("status %d", a.StatusCode)
	}
	if err := json.NewDecoder(a.Body).Decode(&m); err != nil {
		return x, errors.New("answer broken")
	}
	return m.Execution, nil
}

// watch makes room for new events as accepted ones have had their second effect.
func (w *weather) watch(ctx context.Context) {
	seen := map[int]bool{}
	for ctx.Err() == nil {
		w.mu.Lock()
		w.shop.mu.Lock()
		for n := range w.accepted {
			if !seen[n] && len(w.shop.got[fmt.Sprintf("/second/%d", n)]) > 0 {
				seen[n] = true
				<-w.open
			}
		}
		w.shop.mu.Unlock()
		w.mu.Unlock()
		pause(ctx, 10*time.Millisecond)
	}
}

// strike kills processes, each after some progress.
func (w *weather) strike(kills int) {
	w.t.Helper()
	list := victims()
	for done := 0; done < kills; {
		before := w.shop.count()
		pause(w.t.Context(), time.Duration(50+mathrand.IntN(100))*time.Millisecond)
		for end := time.Now().Add(stormStuck); w.shop.count() < before+2; {
			if time.Now().After(end) {
				w.t.Fatalf("no progress for %v after %d kills %v", stormStuck, done, w.killed)
			}
			pause(w.t.Context(), 5*time.Millisecond)
		}
		name := list[mathrand.IntN(len(list))]
		if w.killOne(name) {
			w.killed[name]++
			done++
		}
	}
}

// killOne kills a process of a kind, if there is one, and measures how long a role is away.
func (w *weather) killOne(name string) bool {
	if pid, ok := w.roles.Processes()[name]; ok {
		if syscall.Kill(pid, syscall.SIGKILL) != nil {
			return false
		}
		killed := time.Now()
		go func() {
			for time.Since(killed) < stormStuck {
				for _, r := range w.roles.Health().Roles {
					if r.Name == name && r.State == "up" && w.roles.Processes()[name] != pid {
						w.mu.Lock()
						defer w.mu.Unlock()
						w.back[name] = append(w.back[name], time.Since(killed))
						return
					}
				}
				pause(context.Background(), 5*time.Millisecond)
			}
		}()
		return true
	}
	var of []process
	for _, p := range w.children() {
		if p.name == name {
			of = append(of, p)
		}
	}
	return len(of) > 0 && syscall.Kill(of[mathrand.IntN(len(of))].pid, syscall.SIGKILL) == nil
}

// settle waits until every accepted event has ended.
func (w *weather) settle() {
	w.t.Helper()
	open := map[id.Execution]int{}
	for n, x := range w.accepted {
		open[x] = n
	}
	last, since := len(open), time.Now()
	for len(open) > 0 {
		for x := range open {
			e, err := w.Execution(w.t.Context(), x)
			if err == nil && slices.Contains([]string{"completed", "faulted", "cancelled"}, e.Status) {
				if e.Status != "completed" {
					w.t.Errorf("event %d: execution %s of flow %s is %s: %s at %s after %d interruptions", open[x], x, e.Flow, e.Status, e.ErrorType, e.ErrorStep, e.Interruptions)
				}
				delete(open, x)
			}
		}
		if len(open) < last {
			last, since = len(open), time.Now()
		}
		if time.Since(since) > stormStuck {
			for x, n := range open {
				e, err := w.Execution(w.t.Context(), x)
				w.t.Errorf("event %d never ends: %+v, %v", n, e, err)
			}
			return
		}
		pause(w.t.Context(), 50*time.Millisecond)
	}
}

// report prints the figures.
func (w *weather) report(kills int, took time.Duration) {
	repeated, requests := 0, 0
	for _, list := range w.shop.got {
		requests += len(list)
		repeated += len(list) - 1
	}
	rows := [][]string{{"role", "killed", "median away", "longest"}}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range slices.Sorted(slices.Values(slices.Compact(slices.Sorted(slices.Values(victims()))))) {
		row := []string{name, fmt.Sprint(w.killed[name]), "", ""}
		if b := slices.Sorted(slices.Values(w.back[name])); len(b) > 0 {
			row[2], row[3] = b[len(b)/2].Round(time.Millisecond).String(), b[len(b)-1].Round(time.Millisecond).String()
		}
		rows = append(rows, row)
	}
	table(w.t, fmt.Sprintf("storm: %d kills in %v; %d events accepted, refused or unanswered %v; %d requests, %d of them repeated",
		kills, took.Round(time.Second), len(w.accepted), w.refused, requests, repeated), rows)
}

// judge checks what the storm left.
func (w *weather) judge(database string) {
	w.t.Helper()
	for _, wrong := range testkit.JudgeEffects(w.shop.got, slices.Collect(maps.Keys(w.accepted))) {
		w.t.Error(wrong)
	}
	processes := w.processes()
	w.stop()
	for _, p := range processes {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", p.pid)); err == nil {
			w.t.Errorf("process %v is left", p)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(w.state(), "*")); len(left) > 8 {
		w.t.Errorf("left in the state directory: %v", left)
	}
	o := store.Options{Dir: filepath.Join(w.state(), "server")}
	if database != "" {
		o = store.Options{URL: database}
	}
	db, err := store.Open(context.Background(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	rows := db.Customer(context.Background(), w.customer)
	entries := 0
	for n, x := range w.accepted {
		row, err := rows.Execution(x)
		if err != nil {
			w.t.Errorf("event %d: %v", n, err)
			continue
		}
		journal, err := rows.Journal(x)
		if err != nil {
			w.t.Errorf("event %d: %v", n, err)
			continue
		}
		entries += len(journal)
		for _, wrong := range testkit.JudgeJournal(journal, row.LastSeq) {
			w.t.Errorf("event %d, execution %s of flow %s: %s", n, x, row.Flow, wrong)
		}
	}
	w.t.Logf("storm: %d journal entries of %d executions verify", entries, len(w.accepted))
}

// TestStormJudgeTwin gives the judges of the storm what they are to find: keys that change
// with each try, effects that are missing, and a journal that two holders wrote.
func TestStormJudgeTwin(t *testing.T) {
	t.Parallel()
	good := map[string][]testkit.Heard{"/first/1": {{Key: "a", Body: "x"}, {Key: "a", Body: "x"}}, "/second/1": {{Key: "b", Body: "x"}}}
	accepted := []int{1}
	if wrong := testkit.JudgeEffects(good, accepted); len(wrong) > 0 {
		t.Errorf("found in order: %v", wrong)
	}
	for want, got := range map[string]map[string][]testkit.Heard{
		"another request": {"/first/1": {{Key: "a", Body: "x"}, {Key: "c", Body: "x"}}, "/second/1": {{Key: "b", Body: "x"}}},
		"is missing":      {"/first/1": {{Key: "a", Body: "x"}}},
		"have one key":    {"/first/1": {{Key: "a", Body: "x"}}, "/second/1": {{Key: "a", Body: "x"}}},
	} {
		if wrong := testkit.JudgeEffects(got, accepted); len(wrong) != 1 || !strings.Contains(wrong[0], want) {
			t.Errorf("want %q, found %v", want, wrong)
		}
	}
	entry := func(seq uint32, path string) wire.Entry {
		return wire.Entry{Seq: seq, Kind: wire.EntryResult, Path: path}
	}
	if wrong := testkit.JudgeJournal([]wire.Entry{entry(1, "a"), entry(2, "b")}, 2); len(wrong) > 0 {
		t.Errorf("found in order: %v", wrong)
	}
	for want, journal := range map[string][]wire.Entry{
		"two results":    {entry(1, "a"), entry(2, "a")},
		"has the number": {entry(1, "a"), entry(3, "b")},
		"its row counts": {entry(1, "a")},
	} {
		if wrong := testkit.JudgeJournal(journal, 2); len(wrong) != 1 || !strings.Contains(wrong[0], want) {
			t.Errorf("want %q, found %v", want, wrong)
		}
	}
}
