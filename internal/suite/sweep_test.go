package suite

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/client"
)

// commands that change something, that talk to no platform, or that are run elsewhere. Every other command is taken to read, and
// is run. It is one or the other for each that doc/cli.md has.
func changes() []string {
	return []string{
		"apply", "backup", "brand put", "cancel", "completion", "connect-link", "connections choices", "connections delete", "connections put", "connections rename", "connections test",
		"connectors import", "connectors new", "connectors publish", "connectors validate", "customers delete", "customers put", "deploy", "doctor", "fmt",
		"instances choices", "instances connect", "instances pause", "instances remove", "instances resume", "instances rollback", "instances upgrade", "integrations draft",
		"integrations publish", "links revoke", "notices seen", "replay", "restore", "retry", "revoke", "run", "sample", "schema", "templates delete",
		"templates put", "test", "tokens create", "tokens revoke", "trigger", "unseal", "up", "validate", "version",
	}
}

// sweep calls every route of the API that reads, and every command that does, for everything that there is, as the owner of the
// machine, who may all. It returns what they answered.
func (s *spill) sweep() (answers, printed []byte) {
	s.t.Helper()
	things := s.things()
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	text, status := s.get("/api/openapi.json")
	if err := json.Unmarshal(text, &doc); err != nil || status != http.StatusOK {
		s.t.Fatalf("the description of the API: %d, %v", status, err)
	}
	calls := 0
	for path, methods := range doc.Paths {
		if methods["get"] == nil {
			continue
		}
		for _, at := range fill(path, things) {
			if strings.Contains(at, "{") {
				s.t.Errorf("nothing is known to read %s of: add it to things", at)
				continue
			}
			body, status := s.get(at)
			calls++
			answers = append(answers, body...)
			if status != http.StatusOK && status != http.StatusNotFound { // no draft, no hook
				s.t.Errorf("GET %s answers %d %s", at, status, body)
			}
		}
	}
	for _, at := range []string{"/metrics", "/healthz", "/readyz"} {
		a, err := http.Get(s.roles.URL + at)
		if err != nil {
			s.t.Fatal(err)
		}
		body, _ := io.ReadAll(a.Body)
		_ = a.Body.Close()
		own, _ := s.get(at)
		answers = append(append(answers, body...), own...)
	}
	commands := 0
	p := &platform{s.system, ""}
	for _, command := range readers(s) {
		out, err := p.command(append(command, "--state", s.state())...)
		commands++
		printed = append(printed, out...)
		if err != nil {
			s.t.Errorf("bulkhead %s: %v %s", strings.Join(command, " "), err, out)
		}
	}
	s.t.Logf("sweep: %d requests to every route that reads, %d KiB; %d commands that read, %d KiB", calls, len(answers)>>10, commands, len(printed)>>10)
	return answers, printed
}

// things are the names by which parameters of paths are filled.
func (s *spill) things() map[string][]string {
	ctx := s.t.Context()
	out := map[string][]string{"customer": {s.customer.String(), "internal"}, "version": {"1"}, "execution": {s.last.String()}, "flow": {"code", "bearer"}}
	for _, k := range s.kinds {
		out["connection"] = append(out["connection"], s.conns[k.name].String())
		out["connector"] = append(out["connector"], "told-"+k.name)
		if t, ok := s.template[k.name]; ok {
			out["template"] = append(out["template"], t.String())
		}
	}
	instances, err := s.Instances(ctx, client.InstanceQuery{}, client.List{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, i := range instances.Items {
		out["instance"] = append(out["instance"], i.ID.String())
	}
	integrations, err := s.Integrations(ctx, client.List{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, i := range integrations.Items {
		out["integration"] = append(out["integration"], i.Name)
	}
	return out
}

// fill makes every path of a template.
func fill(template string, things map[string][]string) []string {
	m := regexp.MustCompile(`\{([a-z]+)\}`).FindStringSubmatch(template)
	if m == nil || len(things[m[1]]) == 0 {
		return []string{template}
	}
	var out []string
	for _, v := range things[m[1]] {
		out = append(out, fill(strings.Replace(template, m[0], v, 1), things)...)
	}
	return out
}

// readers are the commands that read, with arguments.
func readers(s *spill) [][]string {
	s.t.Helper()
	b, err := os.ReadFile("../../doc/cli.md")
	if err != nil {
		s.t.Fatal(err)
	}
	known := s.things()
	var out [][]string
	unused := changes()
	for _, m := range regexp.MustCompile("(?m)^(?:#### |\\*\\*)`bulkhead ([a-z -]+?)((?: \\[?<.*)?)`").FindAllStringSubmatch(string(b), -1) {
		if at := slices.Index(unused, m[1]); at >= 0 {
			unused = slices.Delete(unused, at, at+1)
			continue
		}
		command := strings.Fields(m[1])
		if m[1] == "instances hooks" {
			m[2] = "<instance>" // of its list
		}
		argument := regexp.MustCompile(`<([a-z]+)>`).FindStringSubmatch(m[2])
		if argument == nil || m[1] == "logs" || m[1] == "executions" || m[1] == "connectors" {
			out = append(out, command)
			continue
		}
		if len(known[argument[1]]) == 0 {
			s.t.Errorf("bulkhead %s: nothing is known as its argument: add it to things, or the command to those that change something", m[1])
		}
		for _, v := range known[argument[1]] {
			out = append(out, append(slices.Clone(command), v))
		}
	}
	if len(unused) > 0 {
		s.t.Errorf("commands that are not in doc/cli.md: %v", unused)
	}
	return out
}

// get asks the API over the socket of the machine's owner.
func (s *system) get(path string) ([]byte, int) {
	s.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.roles.API)
	}}}
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://bulkhead"+path, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := c.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return b, a.StatusCode
}
