package suite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/sample"
)

// holdings says which classes each process may hold. What is not here it may not hold.
//
// The server: events come in through its API in clear, so their text may be in its
// memory: trigger bodies, labels taken from them, callback bodies. Nothing else of an
// execution may. The vault opens credentials and config values and makes all keys.
// Egress puts credentials into requests and carries what requests and answers hold; a
// sandbox has the inputs and outputs of code.
func holdings() map[string][]class {
	return map[string][]class{
		"bus":     {},
		"runner":  {},
		"server":  {event},
		"vault":   {credential, identifier, config, key},
		"egress":  {credential, identifier, config, event, answer, product},
		"worker":  {identifier, config, event, answer, product, key},
		"sandbox": {event, answer, product},
	}
}

// scan is what was found in the memory of the processes of one system.
type scan struct {
	t      *testing.T
	looked map[string]int
	size   map[string]int64
	found  map[string]map[class]int // also what may be there: it shows that the search works
	wrong  []hit
	owners map[string]map[string]bool // whose marks were found, by process
}

func newScan(t *testing.T) *scan {
	return &scan{t, map[string]int{}, map[string]int64{}, map[string]map[class]int{}, nil, map[string]map[string]bool{}}
}

// add looks into processes.
func (c *scan) add(s *searcher, when string, all []process) {
	c.t.Helper()
	for _, p := range all {
		hits, size, err := s.memory(p)
		if err != nil {
			if p.name == "worker" || p.name == "sandbox" {
				continue // it has ended meanwhile
			}
			c.t.Errorf("look into %v: %v", p, err)
			continue
		}
		c.looked[p.name]++
		c.size[p.name] += size
		if c.found[p.name] == nil {
			c.found[p.name] = map[class]int{}
		}
		owners := c.owners[p.String()]
		if owners == nil {
			owners = map[string]bool{}
			c.owners[p.String()] = owners
		}
		for _, h := range hits {
			c.found[p.name][h.mark.class]++
			if h.mark.owner != "" {
				owners[h.mark.owner] = true
			}
			if !slices.Contains(holdings()[p.name], h.mark.class) || h.mark.name == "root key" && p.name != "vault" {
				h.where = "the memory of " + p.name + " " + when
				c.wrong = append(c.wrong, h)
			}
		}
	}
}

func (c *scan) print(title string) {
	c.t.Helper()
	rows := [][]string{{"process", "scans", "MiB", "may hold", "found of what it may hold", "found of what it may not"}}
	for _, name := range []string{"bus", "server", "vault", "egress", "runner", "worker", "sandbox"} {
		allowed, wrong := []string{}, 0
		for _, k := range []class{credential, identifier, config, event, answer, product, key} {
			n := c.found[name][k]
			if slices.Contains(holdings()[name], k) {
				allowed = append(allowed, fmt.Sprintf("%s %d", k, n))
			} else {
				wrong += n
			}
		}
		may := fmt.Sprint(holdings()[name])
		rows = append(rows, []string{name, fmt.Sprint(c.looked[name]), fmt.Sprint(c.size[name] >> 20), may, strings.Join(allowed, ", "), fmt.Sprint(wrong)})
	}
	table(c.t, title, rows)
}

// ofOne checks that no worker or sandbox holds anything of two customers, and that the
// search would have found it: egress holds both's.
func (c *scan) ofOne(s *searcher) {
	c.t.Helper()
	mixed, single := 0, map[string]int{}
	both := false
	for name, owners := range c.owners {
		switch jailed := strings.HasPrefix(name, "worker") || strings.HasPrefix(name, "sandbox"); {
		case jailed && len(owners) > 1:
			mixed++
			c.t.Errorf("%s holds marks of %d customers", name, len(owners))
		case jailed:
			for o := range owners {
				single[o]++
			}
		case strings.HasPrefix(name, "egress"):
			both = len(owners) > 1
		}
	}
	if len(single) != 2 || !both {
		c.t.Errorf("red twin: jailed processes of %d customers, egress with both %v: the marks of two customers are not told apart", len(single), both)
	}
	// Red twin of the look into memory: an ordinary process that got a credential.
	var planted *mark
	for _, m := range s.marks() {
		if m.class == credential {
			planted = m
		}
	}
	hits, _, err := s.memory(process{"ordinary", ordinary(c.t, 64_004, planted.value)})
	if err != nil || len(hits) == 0 {
		c.t.Errorf("red twin: a credential in clear in a process is not found: %v", err)
	}
	c.t.Logf("memory: customers whose marks are in jailed processes: %d; jailed processes that hold two customers': %d; red twin: planted in an ordinary process, found %d time(s)", len(single), mixed, len(hits))
}

// TestNothingInClearBetweenTheWalls records everything on the bus and looks into the
// memory of every process while executions with planted credentials and payloads run.
func TestNothingInClearBetweenTheWalls(t *testing.T) {
	t.Parallel()
	needSystem(t)
	s := startSystem(t, true)
	other := s.second()
	m, n := newMarks().ownedBy(s.customer.String()), newMarks().ownedBy(other.customer.String())
	w, v := newWorld(t, m), newWorld(t, n)
	_, i := s.deploy(flowsHead+everything+failureFlows(), m.config(), m.accounts(w.URL, closedPort(t)))
	_, j := other.deploy(flowsHead+everything, n.config(), n.accounts(v.URL, closedPort(t)))

	x, y := s.start(i, "everything", m.event()), other.start(j, "everything", n.event())
	held, alsoHeld := w.hold(), v.hold()
	marks := slices.Concat(m.all(), n.all(), s.keys(i), other.keys(j))
	search := newSearcher(marks)
	c := newScan(t)
	c.add(search, "while a request is held", s.processes())
	close(held.release)
	close(alsoHeld.release)
	back, alsoBack := w.callback(), v.callback()
	c.add(search, "while a callback is awaited", s.processes())
	if err := errors.Join(post(t.Context(), back, map[string]any{"v": m.back.value}), post(t.Context(), alsoBack, map[string]any{"v": n.back.value})); err != nil {
		t.Fatal(err)
	}
	if e := y.wait(); e.status != "completed" {
		t.Fatalf("everything of the second customer: %s %s %s", e.status, e.errorType, e.output)
	}
	if e := x.wait(); e.status != "completed" {
		t.Fatalf("everything: %s %s %s", e.status, e.errorType, e.output)
	}
	for _, f := range failures() {
		s.run(i, f.name, m.event())
	}
	s.sample(t)
	s.spin(c, search, i, m)
	c.add(search, "after all", s.processes())
	c.print("memory, four times during the run; writable mappings, as root")
	c.ofOne(search)
	if len(c.wrong) > 0 {
		t.Errorf("in memory where it may not be:\n%s", summary(c.wrong))
	}
	// The same search must find what is there, or its silence means nothing.
	for name, want := range map[string][]class{"server": {event}, "egress": {credential, answer}, "worker": {answer, product, config, key}, "sandbox": {event}} {
		for _, k := range want {
			if c.found[name][k] == 0 {
				t.Errorf("red twin: the search finds no %s in %s, where it must be", k, name)
			}
		}
	}
	used := w.used()
	for _, kind := range []string{"bearer", "basic", "header", "query"} {
		if used[kind] == 0 {
			t.Errorf("the %s credential was never used: nothing is proven about it", kind)
		}
	}
	s.stop()
	s.searchRecording(search, len(marks))
}

// spin looks into a sandbox, and everything else, while code runs in it.
func (s *system) spin(c *scan, search *searcher, i id.Instance, m *marks) {
	s.t.Helper()
	x := s.start(i, "spin", m.event())
	s.eventually("a sandbox that holds the input of its code", func() bool {
		c.add(search, "while code runs", slices.DeleteFunc(s.children(), func(p process) bool { return p.name != "sandbox" || cpuTicks(p.pid) < 10 }))
		return c.found["sandbox"][event] > 0
	})
	c.add(search, "while code runs", s.processes())
	if err := s.Cancel(s.t.Context(), x.execution); err != nil {
		s.t.Error(err)
	}
	if e := x.wait(); e.status != "cancelled" {
		s.t.Errorf("code that was cancelled: %s %s", e.status, e.errorType)
	}
}

// sample runs the integration that is shipped, through the same system.
func (s *system) sample(t *testing.T) {
	t.Helper()
	servers, err := sample.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer servers.Close()
	_, i := s.deploy(string(sample.File), nil, map[string]account{"shop": bearer(servers.ShopURL, servers.Accounts[0].ShopToken), "erp": bearer(servers.ERPURL, servers.Accounts[0].ERPToken)})
	if e := s.run(i, "order-paid", map[string]any{"id": "4711"}); e.status != "completed" || len(servers.Accounts[0].Booked()) != 3 {
		t.Errorf("order-to-erp: %s %s, %d lines booked", e.status, e.output, len(servers.Accounts[0].Booked()))
	}
	for name, token := range map[string]string{"shop": servers.Accounts[0].ShopToken, "erp": servers.Accounts[0].ERPToken} {
		hits, _, _ := newSearcher([]*mark{{name: name, class: credential, core: token}}).inTree(t, filepath.Join(s.dir, recordingName))
		if len(hits) > 0 {
			t.Errorf("order-to-erp on the bus: %s", summary(hits))
		}
	}
}

// searchRecording looks through everything that went over the bus, and then plants one
// mark in it to see that it would have been found.
func (s *system) searchRecording(search *searcher, marks int) {
	s.t.Helper()
	dir := filepath.Join(s.dir, recordingName)
	hits, files, size := search.inTree(s.t, dir)
	if len(hits) > 0 {
		s.t.Errorf("in clear on the bus:\n%s", summary(hits))
	}
	messages := 0
	var longest string
	all, err := filepath.Glob(filepath.Join(dir, "*.sent"))
	if err != nil {
		s.t.Fatal(err)
	}
	text := ""
	for _, f := range all {
		b, err := os.ReadFile(f)
		if err != nil {
			s.t.Fatal(err)
		}
		n := strings.Count(string(b), "PUB ")
		messages += n
		if len(b) > len(text) {
			longest, text = f, string(b)
		}
	}
	// The recording itself: 4 roles, and their traffic in it.
	for _, want := range []string{"CONNECT {", "server.any.work.", "vault.any.lease.", "egress."} {
		if !strings.Contains(text, want) && !s.recorded(all, want) {
			s.t.Errorf("the recording does not hold %q: it is not the bus", want)
		}
	}
	if len(all) < 4 || messages < 50 {
		s.t.Errorf("the recording has %d connections and %d messages: too few to be all", len(all), messages)
	}
	// Red twin: one mark in clear in the middle.
	b := []byte(text)
	var planted *mark
	for _, p := range search.patterns {
		if p[0].mark.class == credential {
			planted = p[0].mark
			break
		}
	}
	copy(b[len(b)/2:], planted.value)
	if err := os.WriteFile(longest, b, 0o600); err != nil {
		s.t.Fatal(err)
	}
	twin, _, _ := search.inTree(s.t, dir)
	if len(twin) == 0 {
		s.t.Error("red twin: a credential planted in clear on the bus is not found")
	}
	s.t.Logf("bus: %d connections in %d files, %d KiB, %d messages sent; %d marks in every encoding: %d hits; red twin: planted credential found %d time(s)", len(all), files, size>>10, messages, marks, len(hits), len(twin))
}

func (s *system) recorded(files []string, want string) bool {
	return slices.ContainsFunc(files, func(f string) bool {
		b, err := os.ReadFile(f)
		return err == nil && strings.Contains(string(b), want)
	})
}
