package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// served starts a run that serves its webhook. It returns the address, and a function
// that waits for the end and returns exit status and standard error.
func served(t *testing.T, args ...string) (url string, wait func() (int, string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	t.Cleanup(cancel)
	p := exec.CommandContext(ctx, binary, append(args, "--json")...)
	errs, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(errs, &said))
	for url == "" && lines.Scan() {
		var m struct{ Kind, URL string }
		if json.Unmarshal(lines.Bytes(), &m) == nil && m.Kind == "listening" {
			url = m.URL
		}
	}
	if url == "" {
		t.Fatalf("no address was printed:\n%s", said.String())
	}
	return url, func() (int, string) {
		_, _ = io.Copy(&said, errs)
		if err := p.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Error(err)
		}
		return p.ProcessState.ExitCode(), said.String()
	}
}

// post sends JSON and returns status, content type and body of the answer.
func post(t *testing.T, url, body string) (status int, kind, text string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Authorization", "Bearer of-the-sender")
	q.Header.Set("X-Delivery-Id", "d 1")
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, a.Header.Get("Content-Type"), string(b)
}

func TestServe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, trigger, steps, body string
		status                     int
		answer, stderr             string
		exit                       int
	}{
		{"sync", "{webhook: {verify: none, respond: sync}}", `
      - {id: reply, respond: {status: 201, headers: {X-A: b}, body: {got: "${{ trigger.body.a }}"}}}`, `{"a":1.50}`, 201, `{"got":1.50}`, `"status":"completed"`, 0},
		{"async", "{webhook: {verify: none}}", `
      - {id: done, return: "${{ trigger.query.q }}"}`, `{}`, 202, "", `"status":"completed"`, 0},
		{"sync without an answer", "{webhook: {verify: none, respond: sync}}", `
      - {id: done, set: 1}`, `{}`, 204, "", `"status":"completed"`, 0},
		{"sync that faults", "{webhook: {verify: none, respond: sync}}", `
      - {id: stop, raise: {type: no-stock, message: private}}`, `{}`, 500, "the flow faulted before it answered\n", `"type":"no-stock"`, 1},
		{
			"headers", "{webhook: {verify: none, respond: sync}}", `
      - {id: reply, respond: {body: {id: "${{ trigger.headers[\"x-delivery-id\"] }}", secret: "${{ has(trigger.headers.authorization) }}", method: "${{ trigger.method }}", q: "${{ trigger.query.q }}"}}}`,
			`{}`, 200, `{"id":"d 1","secret":false,"method":"POST","q":"1"}`, "", 0,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "hook.yaml")
			text := "bulkhead: 1\nintegration: hook\nflows:\n  main:\n    trigger: " + c.trigger + "\n    steps:" + c.steps + "\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			url, wait := served(t, "run", file)
			if status, _, _ := post(t, url+"x", c.body); status != http.StatusNotFound {
				t.Errorf("another address answers %d", status)
			}
			if status, _, _ := post(t, url, "{torn"); status != http.StatusBadRequest {
				t.Errorf("a torn body is answered with %d", status)
			}
			status, _, answer := post(t, url+"?q=1", c.body)
			if status != c.status || answer != c.answer {
				t.Errorf("answer %d %q, want %d %q", status, answer, c.status, c.answer)
			}
			exit, stderr := wait()
			if exit != c.exit || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit status %d, want %d\n%s", exit, c.exit, stderr)
			}
			if strings.Contains(stderr, "of-the-sender") {
				t.Errorf("the sender's credential is shown:\n%s", stderr)
			}
		})
	}
}
