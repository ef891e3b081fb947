package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/sample"
)

// patience is how long a program may take before a test gives it up.
const patience = 5 * time.Minute

// program runs the real program and returns what it prints and its exit status.
func program(t *testing.T, env []string, input string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	c := exec.CommandContext(ctx, binary, args...)
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(input), &out, &errs
	c.Env = append(os.Environ(), env...)
	if err := c.Run(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// examples are the integrations in examples/, without their cases.
func examples(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("../../examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, file := range all {
		if !strings.HasSuffix(file, ".test.yaml") {
			files = append(files, file)
		}
	}
	if len(files) < 15 {
		t.Fatalf("only %d examples", len(files))
	}
	return files
}

func TestExamples(t *testing.T) {
	t.Parallel()
	stdout, stderr, status := program(t, nil, "", append([]string{"test"}, examples(t)...)...)
	if status != 0 {
		t.Errorf("bulkhead test examples = exit status %d\n%s%s", status, stdout, stderr)
	}
	t.Log(stdout)
}

func TestExamplesAreFormatted(t *testing.T) {
	t.Parallel()
	all, err := filepath.Glob("../../examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, status := program(t, nil, "", append([]string{"fmt", "--check"}, all...)...)
	if status != 0 {
		t.Errorf("not formatted (run bulkhead fmt -w):\n%s%s", stdout, stderr)
	}
}

// TestExamplesShowEverything keeps an example for every kind of step, and a line about
// each in the list of examples.
func TestExamplesShowEverything(t *testing.T) {
	t.Parallel()
	list, err := os.ReadFile("../../examples/README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[flow.StepKind]bool{}
	for _, file := range examples(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		doc, problems := flowfile.Decode(file, text)
		if doc == nil {
			t.Errorf("%s: %v", file, problems)
			continue
		}
		for n := range doc.Integration.Flows {
			for _, s := range flow.Walk("", doc.Integration.Flows[n].Steps) {
				shown[s.Kind()] = true
			}
		}
		if !strings.Contains(string(list), "("+filepath.Base(file)+")") {
			t.Errorf("examples/README.md does not list %s", filepath.Base(file))
		}
	}
	for _, kind := range flow.StepKinds() {
		if !shown[kind] {
			t.Errorf("no example shows a step %q", kind)
		}
	}
}

// published are the files that the format promises to run unchanged.
func published(name string) string {
	if file := filepath.Join("../../../shared/examples", name); exists(file) {
		return file
	}
	return filepath.Join("../flowfile/testdata/valid", name)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func wantJSON(t *testing.T, what, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("%s = %q, which is not JSON: %v", what, got, err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(w, g); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestOrderToERP(t *testing.T) {
	t.Parallel()
	servers, err := sample.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer servers.Close()
	env := []string{"A=" + servers.Accounts[0].ShopToken, "B=" + servers.Accounts[0].ERPToken}
	stdout, stderr, status := program(t, env, `{"id":"4711"}`, "run", published("order-to-erp.yaml"), "--flow", "order-paid", "--input", "-",
		"--config", "min_total=50", "--connection", "shop="+servers.ShopURL, "--connection", "erp="+servers.ERPURL,
		"--connection-secret", "shop=bearer:env:A", "--connection-secret", "erp=bearer:env:B", "--allow-net", "127.0.0.0/8")
	if status != 0 {
		t.Fatalf("exit status %d\n%s", status, stderr)
	}
	booked := servers.Accounts[0].Booked()
	if len(booked) != 3 {
		t.Fatalf("booked %+v, want three lines", booked)
	}
	ids := map[string]string{}
	for _, b := range booked {
		ids[b.SKU] = b.ID
	}
	// The lines go two at a time; the list of results is in the order of the lines.
	wantJSON(t, "output", stdout, `{"sent":["`+ids["PAPER-A4"]+`","`+ids["INK-BLACK"]+`","`+ids["STAPLER"]+`"],"total":124.25}`)
}

func TestApproveRefund(t *testing.T) {
	t.Parallel()
	refunded := make(chan string, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /approvals", func(w http.ResponseWriter, r *http.Request) {
		var ask struct {
			AnswerAt string `json:"answer_at"`
		}
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusAccepted)
		go func() { // somebody answers later, after fetching the page, which counts as nothing
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				q, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), method, ask.AnswerAt, strings.NewReader(`{"approved":true}`))
				if err != nil {
					t.Error(err)
					return
				}
				a, err := http.DefaultClient.Do(q)
				if err != nil {
					t.Error(err)
					return
				}
				_ = a.Body.Close()
				if a.StatusCode != http.StatusOK {
					t.Errorf("%s of the callback = %s", method, a.Status)
				}
			}
		}()
	})
	mux.HandleFunc("POST /orders/{order}/refund", func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		refunded <- r.PathValue("order") + " " + string(b)
	})
	shop := httptest.NewServer(mux)
	defer shop.Close()
	stdout, stderr, status := program(t, nil, `{"order":"o 1","amount":12.50}`, "run", published("approve-refund.yaml"), "--input", "-",
		"--connection", "shop="+shop.URL, "--allow-net", "127.0.0.0/8")
	if status != 0 {
		t.Fatalf("exit status %d\n%s", status, stderr)
	}
	wantJSON(t, "output", stdout, `{"refunded":true}`)
	if got, want := <-refunded, `o 1 {"amount":12.50}`; got != want {
		t.Errorf("refunded %s, want %s", got, want)
	}
	if !regexp.MustCompile(`(?m)^· decision +waiting\n  answer it: curl -X POST http://127\.0\.0\.1:\d+/callbacks/`).MatchString(stderr) {
		t.Errorf("the address of the callback is not shown:\n%s", stderr)
	}
}

func TestScoreLead(t *testing.T) {
	t.Parallel()
	enrich := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("domain") != "known.example" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"employees":120,"country":"DE"}`)
	}))
	defer enrich.Close()
	for _, c := range []struct{ lead, want string }{
		{`{"email":"ada@known.example","title":"CTO","country":"DE"}`, `{"grade":"A","points":80}`},
		{`{"email":"bob@unknown.example","country":"FR"}`, `{"grade":"C","points":0}`},
	} {
		url, wait := served(t, "run", published("score-lead.yaml"), "--connection", "enrich="+enrich.URL, "--allow-net", "127.0.0.0/8")
		status, kind, body := post(t, url, c.lead)
		if status != http.StatusOK || !strings.HasPrefix(kind, "application/json") {
			t.Errorf("answer %d %s %q", status, kind, body)
		}
		wantJSON(t, "answer", body, c.want)
		if status, stderr := wait(); status != 0 {
			t.Errorf("exit status %d\n%s", status, stderr)
		}
	}
}
