package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// surface is a place that is searched.
type surface struct {
	name, dir string // a directory, or
	text      []byte // text
}

// TestCanary plants credentials of every kind and payload marks, runs flows that succeed
// and that fail in every way, kills the roles in the middle of one, and searches what
// they leave behind.
func TestCanary(t *testing.T) {
	t.Parallel()
	needSystem(t)
	m := newMarks()
	w := newWorld(t, m)
	s := startSystem(t, true)
	_, i := s.deploy(flowsHead+everything+failureFlows(), m.config(), m.accounts(w.URL, closedPort(t)))
	search := newSearcher(m.all())

	var streams bytes.Buffer
	x := s.start(i, "everything", m.event())
	close(w.hold().release)
	if err := post(t.Context(), w.callback(), map[string]any{"v": m.back.value}); err != nil {
		t.Fatal(err)
	}
	e := x.wait()
	if e.status != "completed" || !strings.Contains(e.output, m.codeOut.core) || !strings.Contains(e.logs, m.logOut.core) {
		t.Fatalf("everything: %s %s\n%s\n%s", e.status, e.errorType, e.output, e.logs)
	}
	streams.Write(e.stream)
	outcomes := map[string]int{e.status: 1}
	var pages []byte
	for _, f := range failures() {
		e := s.run(i, f.name, m.event())
		streams.Write(e.stream)
		pages = append(pages, e.output+e.logs...)
		outcome := e.errorType
		if e.status == "completed" {
			outcome = e.status
		}
		outcomes[outcome]++
		if f.want != "*" && outcome != f.want {
			t.Errorf("%s: it ends as %s, want %s\n%s", f.name, outcome, f.want, e.output)
		}
	}
	t.Logf("canary: %d flows ended: %v", 1+len(failures()), outcomes)
	// What an execution's own viewer sees has payloads, and never a credential.
	if hits := newSearcher(m.of(credential)).inflated(pages, "pages for the viewer"); len(hits) > 0 {
		t.Errorf("credentials in what a viewer sees:\n%s", summary(hits))
	}
	problems := s.problems(m)
	s.start(i, "everything", m.event())
	s.crash(t, w)
	s.stop()
	s.searchAll(search, []surface{
		{name: "database, WAL, blobs", dir: filepath.Join(s.state(), "server")},
		{name: "keystore", dir: filepath.Join(s.state(), "vault")},
		{name: "recorded bus", dir: filepath.Join(s.dir, recordingName)},
		{name: "role logs, crash output", text: []byte(s.logged())},
		{name: "API event streams", text: streams.Bytes()},
		{name: "API problem+json", text: problems},
	})
}

// searchAll searches every surface, and then again with one mark planted in each: a
// search that does not find that one proves nothing.
func (s *system) searchAll(search *searcher, all []surface) {
	s.t.Helper()
	rows := [][]string{{"surface", "files", "KiB", "hits", "red twin"}}
	planted := search.any()
	for _, f := range all {
		files, size := 1, int64(len(f.text))
		hits := search.inflated(f.text, f.name)
		twin := search.inflated(append(slices.Clone(f.text), planted.value...), f.name)
		if f.dir != "" {
			hits, files, size = search.inTree(s.t, f.dir)
			file := filepath.Join(f.dir, "planted")
			if err := os.WriteFile(file, []byte(fmt.Sprintf("%x", planted.value)), 0o600); err != nil {
				s.t.Fatal(err)
			}
			twin, _, _ = search.inTree(s.t, f.dir)
			if err := os.Remove(file); err != nil {
				s.t.Fatal(err)
			}
		}
		if size == 0 {
			s.t.Errorf("%s: there is nothing to search", f.name)
		}
		if len(hits) > 0 {
			s.t.Errorf("%s:\n%s", f.name, summary(hits))
		}
		if len(twin) <= len(hits) { // more than one: what was planted may be a form of another mark
			s.t.Errorf("%s: red twin: a planted mark is not found", f.name)
		}
		rows = append(rows, []string{f.name, fmt.Sprint(files), fmt.Sprint(size >> 10), fmt.Sprint(len(hits)), fmt.Sprintf("finds %d", len(twin)-len(hits))})
	}
	// The files are the ones that are meant: the database holds names in clear.
	db, err := os.ReadFile(filepath.Join(s.state(), "server", "bulkhead.db"))
	wal, _ := os.ReadFile(filepath.Join(s.state(), "server", "bulkhead.db-wal"))
	if err != nil || !bytes.Contains(append(db, wal...), []byte(`"integration":"suite"`)) {
		s.t.Errorf("the database does not hold the published integration: it is not the database (%v)", err)
	}
	table(s.t, "canary: "+fmt.Sprint(len(search.marks()))+" marks in every encoding", rows)
}

// any is one of the marks that are looked for, alone where it stands.
func (s *searcher) any() *mark {
	all := s.marks()
	return all[slices.IndexFunc(all, func(m *mark) bool { return !m.among })]
}

func (s *searcher) marks() (out []*mark) {
	for _, all := range s.patterns {
		for _, p := range all {
			if !slices.Contains(out, p.mark) {
				out = append(out, p.mark)
			}
		}
	}
	return out
}

// problems asks the API for what it must refuse, with marks in every part, and returns
// everything that it answered.
func (s *system) problems(m *marks) []byte {
	s.t.Helper()
	var d net.Dialer
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", s.roles.API)
	}}}
	defer c.CloseIdleConnections()
	var out []byte
	refused := 0
	for _, q := range []struct{ method, path, body string }{
		{"POST", "/api/v1/customers", `{"external_id": ` + fmt.Sprintf("%q", m.token.value) + `, "name": {}}`},
		{"POST", "/api/v1/customers", m.password.value},
		{"POST", "/api/v1/customers", `["` + m.token.core + `"]`},
		{"POST", "/api/v1/integrations", m.password.value},
		{"POST", "/api/v1/integrations", `{"bulkhead": 1, "secret": "` + m.token.core + `"}`},
		{"PUT", "/api/v1/connections/" + m.token.core, `{}`},
		{"PUT", "/api/v1/connections/con_" + m.token.core, `{"customer": "` + s.customer.String() + `"}`},
		{"PUT", "/api/v1/connections/con_00000000000000000000000000", `{"customer": "` + m.token.core + `", "kind": "bearer", "record": "` + m.header.core + `"}`},
		{"PUT", "/api/v1/instances/ins_00000000000000000000000000", `{"digest": "` + m.hidden.core + `", "config": "` + m.plain.core + `"}`},
		{"POST", "/api/v1/instances/ins_00000000000000000000000000/executions", `{"flow": "` + m.trigger.core + `", "event": {"body": "` + m.trigger.core + `"}}`},
		{"POST", "/api/v1/instances/ins_00000000000000000000000000/executions", `{"event": ` + m.trigger.core},
		{"POST", "/api/v1/instances/ins_00000000000000000000000000/executions", `{"view": "` + m.trigger.core + `"}`},
		{"DELETE", "/api/v1/executions/" + m.trigger.core, `{}`},
		{"GET", "/api/v1/" + m.trigger.core, ``},
	} {
		r, err := http.NewRequestWithContext(s.t.Context(), q.method, "http://bulkhead"+q.path, strings.NewReader(q.body))
		if err != nil {
			s.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+m.token.value)
		a, err := c.Do(r)
		if err != nil {
			s.t.Errorf("%s %s: %v", q.method, q.path, err)
			continue
		}
		b, _ := io.ReadAll(a.Body)
		_ = a.Body.Close()
		if a.StatusCode >= 400 {
			refused++
		}
		head, _ := json.Marshal(a.Header)
		out = append(append(append(out, head...), b...), '\n')
	}
	for _, path := range []string{"/callbacks/" + m.back.core, "/callbacks/x?token=" + m.back.core} {
		if err := post(s.t.Context(), "http://"+s.roles.Public+path, m.back.value); err == nil {
			s.t.Error("a callback with a made-up token is taken")
		} else {
			out = append(out, strings.ReplaceAll(err.Error(), path, "")...)
			refused++
		}
	}
	if refused != 16 {
		s.t.Errorf("%d of 16 bad requests are refused:\n%s", refused, out)
	}
	return out
}

// crash makes every process dump its goroutines and die while a request is under way.
func (s *system) crash(t *testing.T, w *world) {
	t.Helper()
	w.hold()
	s.crashAll(t)
}

// crashAll makes every process dump its goroutines and die.
func (s *system) crashAll(t *testing.T) {
	t.Helper()
	before := len(s.logged())
	all := s.processes()
	ended := 0
	for _, name := range []string{"sandbox", "worker", "egress", "server", "vault", "runner", "bus"} {
		for _, p := range all {
			if p.name == name {
				_ = syscall.Kill(p.pid, syscall.SIGQUIT) // it may have ended with its parent
				ended++
			}
		}
	}
	s.eventually("the end of each", func() bool {
		return !slices.ContainsFunc(all, func(p process) bool { return living(p.pid) })
	})
	text := s.logged()[before:]
	if n := strings.Count(text, "goroutine "); n < 10 {
		t.Errorf("only %d goroutines in the crash output", n)
	}
	cores, _ := filepath.Glob("core*")
	if len(cores) > 0 {
		t.Errorf("core dumps: %v", cores)
	}
	t.Logf("canary: %d processes killed by SIGQUIT in the middle of a request: %d KiB of crash output, %d core dumps", ended, len(text)>>10, len(cores))
}

// living says whether a process has not ended. One that nobody has waited for has.
func living(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}

// TestCanaryCommandLine runs the command line with credentials in its environment.
func TestCanaryCommandLine(t *testing.T) {
	t.Parallel()
	needSystem(t)
	m := newMarks()
	w := newWorld(t, m)
	dir := t.TempDir()
	file, input := filepath.Join(dir, "suite.yaml"), filepath.Join(dir, "event.json")
	b, err := json.Marshal(m.event())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{file: flowsHead + echoes + failureFlows(), input: string(b)} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	closed := closedPort(t)
	secrets := map[string]string{
		"bearer": "bearer:env:S_TOKEN", "basic": "basic:env:S_BASIC", "header": "header:X-Api-Key:env:S_HEADER", "query": "query:api_key:env:S_QUERY",
		"denied": "header:X-Api-Key:env:S_HEADER", "refused": "query:api_key:env:S_QUERY", "unsafe": "query:api_key:env:S_QUERY", "keyed": "basic:env:S_KEYED",
	}
	common := []string{"--input", input, "--allow-net", "127.0.0.0/8", "--config", "plain=" + m.plain.value, "--config", "hidden=" + m.hidden.value}
	for slot, a := range m.accounts(w.URL, closed) {
		common = append(common, "--connection", slot+"="+a.url, "--connection-secret", slot+"="+secrets[slot])
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	var all []byte
	for name, args := range map[string][]string{
		"completes": {"run", file, "--flow", "echoes", "--verbose"},
		"explains":  {"run", file, "--flow", "echoes", "--explain", "--verbose"},
		"refused":   {"run", file, "--flow", "refused", "--json", "--verbose"},
		"throws":    {"run", file, "--flow", "throw", "--explain", "--verbose"},
		"usage":     {"run", file, "--flow", "none"},
	} {
		wait.Go(func() {
			c := exec.CommandContext(t.Context(), "/proc/self/exe", append(append([]string{"bulkhead"}, args...), common...)...)
			c.Env = []string{
				"S_TOKEN=" + m.token.value, "S_BASIC=" + m.user.value + ":" + m.password.value, "S_HEADER=" + m.header.value, "S_QUERY=" + m.query.value,
				"S_KEYED=" + m.keyed.value + ":", "TMPDIR=" + os.TempDir(), "PATH=" + os.Getenv("PATH"),
			}
			out, err := c.CombinedOutput()
			mu.Lock()
			defer mu.Unlock()
			all = append(all, out...)
			if ok := err == nil; ok != (args[3] == "echoes") {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		})
	}
	wait.Wait()
	search := newSearcher(m.of(credential))
	if hits := search.inflated(all, "output of the command line"); len(hits) > 0 {
		t.Errorf("%s", summary(hits))
	}
	twin := search.inflated(append(slices.Clone(all), m.token.value...), "")
	if len(twin) != 1 {
		t.Error("red twin: a credential that is printed is not found")
	}
	if !bytes.Contains(all, []byte("[redacted]")) || !bytes.Contains(all, []byte(m.answerBody.core)) {
		t.Error("the output holds neither an answer nor a redaction: nothing was echoed")
	}
	t.Logf("command line: 5 runs, %d KiB of output (results included), %d credentials in every encoding: 0 allowed; red twin finds %d", len(all)>>10, len(m.of(credential)), len(twin))
}

// echoes sends every credential to a service that sends everything back.
const echoes = `
  echoes:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - {id: a, uses: bearer.request, with: {method: POST, path: /echo, body: "${{ trigger.body }}"}}
      - {id: b, uses: basic.request, with: {path: /echo/gzip}}
      - {id: c, uses: header.request, with: {path: /echo}}
      - {id: d, uses: query.request, with: {path: /echo}}
      - {id: e, uses: keyed.request, with: {path: /echo}}
      - {id: f, uses: query.request, with: {path: /echo, response: text}}
      - id: code
        with: {all: "${{ [steps.a, steps.b, steps.c, steps.d, steps.e] }}"}
        code: "export default ({all}) => { console.log(JSON.stringify(all)); console.log([...JSON.stringify(all)].join(' ')); return all }"
      - {id: out, return: {all: "${{ steps.code }}", text: "${{ steps.f.body }}"}}
`
