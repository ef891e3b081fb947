package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/bulkheadhq/bulkhead/internal/sample"
)

// TestScripts runs the real program as people do. A script finds the servers of the
// sample at $SHOP and $ERP with their tokens in $SHOP_TOKEN and $ERP_TOKEN, and one that
// returns what it is sent at $ECHO. Nothing may be left in $TMPDIR at its end.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup:         setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"bulkhead":  bulkhead,
			"exits":     exits,
			"jsonlines": jsonLines,
			"lacks":     lacks,
			"nothing":   nothingLeft,
		},
	})
}

func setUp(e *testscript.Env) error {
	servers, err := sample.Start()
	if err != nil {
		return err
	}
	e.Defer(servers.Close)
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body any
		_ = json.NewDecoder(r.Body).Decode(&body)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"path": r.URL.Path, "query": r.URL.Query(), "authorization": r.Header.Get("Authorization"), "key": r.Header.Get("X-Api-Key"), "body": body,
		})
	}))
	e.Defer(echo.Close)
	// Roles run as users of their own, and enter their parts of the state below $TMPDIR.
	for dir := e.Getenv("TMPDIR"); len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o711); err != nil {
			return err
		}
	}
	e.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
	e.Setenv("SHOP", servers.ShopURL)
	e.Setenv("ERP", servers.ERPURL)
	e.Setenv("SHOP_TOKEN", servers.Accounts[0].ShopToken)
	e.Setenv("ERP_TOKEN", servers.Accounts[0].ERPToken)
	e.Setenv("ECHO", echo.URL)
	return nil
}

// bulkhead ARGUMENT… runs the program.
func bulkhead(ts *testscript.TestScript, neg bool, args []string) {
	switch err := ts.Exec(binary, args...); {
	case err != nil && !neg:
		ts.Fatalf("bulkhead: %v", err)
	case err == nil && neg:
		ts.Fatalf("bulkhead succeeds")
	}
}

// exits STATUS bulkhead ARGUMENT… runs the program and checks its exit status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[1] != "bulkhead" {
		ts.Fatalf("usage: exits STATUS bulkhead ARGUMENT…")
	}
	err := ts.Exec(binary, args[2:]...)
	var exit *exec.ExitError
	status := 0
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(status) != args[0] {
		ts.Fatalf("exit status %d, want %s", status, args[0])
	}
}

// jsonLines FILE checks that every line of a file, stdout or stderr is a JSON object.
func jsonLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: jsonlines FILE")
	}
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile(args[0]), "\n"), "\n")
	for i, line := range lines {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			ts.Fatalf("line %d is not a JSON object: %v\n%s", i+1, err, line)
		}
	}
}

// lacks FILE NAME checks that a file does not hold the value of an environment variable.
func lacks(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: lacks FILE NAME")
	}
	value := ts.Getenv(args[1])
	if value == "" {
		ts.Fatalf("$%s is empty", args[1])
	}
	if strings.Contains(ts.ReadFile(args[0]), value) {
		ts.Fatalf("%s holds the value of $%s", args[0], args[1])
	}
}

// nothingLeft checks that no temporary state is left.
func nothingLeft(ts *testscript.TestScript, neg bool, args []string) {
	entries, err := os.ReadDir(ts.Getenv("TMPDIR"))
	ts.Check(err)
	var names bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&names, " %s", e.Name())
	}
	if names.Len() > 0 {
		ts.Fatalf("left behind:%s", names.String())
	}
}
