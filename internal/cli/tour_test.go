package cli_test

import (
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/bulkheadhq/bulkhead/internal/sample/harbour"
)

// visitor is somebody with a browser.
type visitor struct {
	cookies map[string]string
}

var hiddenField = regexp.MustCompile(`type="hidden" name="([^"]*)" value="([^"]*)"`)

// send follows no redirect, and says where one leads.
func (v *visitor) send(address string, form url.Values) (page, to string, err error) {
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	r, err := http.NewRequest(method, address, strings.NewReader(form.Encode())) //nolint:noctx // of this test
	if err != nil {
		return "", "", err
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for name, value := range v.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	a, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return "", "", err
	}
	defer a.Body.Close()
	for _, c := range a.Cookies() {
		v.cookies[c.Name] = c.Value
	}
	text, err := io.ReadAll(a.Body)
	return string(text), a.Header.Get("Location"), err
}

func hidden(page string) url.Values {
	out := url.Values{}
	for _, m := range hiddenField.FindAllStringSubmatch(page, -1) {
		out.Set(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
	}
	return out
}

// connect opens a connect link, allows the use of an account at the sample provider, and returns the page at
// the end.
func connect(link, account string) (string, error) {
	v := &visitor{map[string]string{}}
	page, _, err := v.send(link, nil)
	if err != nil {
		return "", err
	}
	_, to, err := v.send(link+"/start", hidden(page))
	if err != nil {
		return page, err
	}
	if page, _, err = v.send(to, nil); err != nil {
		return page, err
	}
	form := hidden(page)
	form.Set("account", account)
	form.Set("decision", "allow")
	_, back, err := v.send(strings.SplitAfterN(to, "/authorize", 2)[0], form)
	if err != nil {
		return page, err
	}
	page, _, err = v.send(back, nil)
	return page, err
}

// consent FILE ACCOUNT opens the connect link that a file ends with and agrees at the sample provider.
func consent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: consent FILE ACCOUNT")
	}
	list := strings.Fields(ts.ReadFile(args[0]))
	page, err := connect(list[len(list)-1], args[1])
	ts.Check(err)
	if !strings.Contains(page, "is connected") {
		ts.Fatalf("the page at the end says\n%s", page)
	}
}

var tourBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// takeTour runs the commands of doc/tour.md one after another, as they stand there.
func takeTour(t *testing.T, p *platformProcess, state string) {
	t.Helper()
	doc, err := os.ReadFile("../../doc/tour.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	blocks := tourBlock.FindAllStringSubmatch(string(doc), -1)
	const prelude = "set -euo pipefail\nexport PATH=\"$TOUR_BIN:$PATH\"\n"
	link := ""
	for n, m := range blocks[1:] { // the first is where people go
		if strings.Contains(m[1], "bulkhead connections delete") {
			renewed(t, p)
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-c", prelude+strings.ReplaceAll(m[1], "http://"+harbour.Address, p.harbour))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "BULKHEAD_STATE="+state, "TOUR_BIN="+filepath.Dir(binary))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, m[1], out)
		}
		text := string(out)
		for part, want := range map[string][]string{
			"connectors import": {"3 operations: 3 actions"},
			"connectors show":   {"bookParcel"},
			"templates put":     {p.url + "/oauth/callback"},
			"trigger northwind": {"ship-order"},
			"deploy ship.yaml":  {`"parcel": "HB-0001"`, "Ada Lovelace"},
			"connections show":  {`"health": "ok"`, `"renewals":`},
			"delete northwind":  {"the provider revoked the grant", "needs another connection"},
			"|| echo":           {"no such connection", "it takes no events", "needs_connection", `"revoked":`, `"reused":0`},
		} {
			for _, w := range want {
				if strings.Contains(m[1], part) && (part != "connections show" || !strings.Contains(m[1], "|| echo")) && !strings.Contains(text, w) {
					t.Errorf("block %d of the tour does not say %q:\n%s\n%s", n+2, w, m[1], text)
				}
			}
		}
		if strings.Contains(m[1], "bulkhead connect-link") {
			list := strings.Fields(text)
			link = list[len(list)-1]
			if page, err := connect(link, "northwind"); err != nil || !strings.Contains(page, "Connected as Northwind Traders") {
				t.Fatalf("connect: %v\n%s", err, page)
			}
		}
	}
	if link == "" || len(blocks) < 8 {
		t.Errorf("the tour has %d blocks of commands", len(blocks))
	}
}

// renewed waits until the sample provider has renewed tokens.
func renewed(t *testing.T, p *platformProcess) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		page, _, err := (&visitor{map[string]string{}}).send(p.harbour+"/grants", nil)
		if err != nil {
			t.Fatal(err)
		}
		var grants []harbour.Grant
		if err := json.Unmarshal([]byte(page), &grants); err != nil {
			t.Fatal(err)
		}
		for _, g := range grants {
			if g.Account == "northwind" && g.Renewals > 0 {
				return
			}
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("no tokens were renewed")
		}
	}
}

// TestImportedExample keeps the connector of the examples what the sample provider's API description makes.
func TestImportedExample(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, stderr, status := program(t, nil, "", "connectors", "import", "../sample/harbour/openapi.json", "--sidecar", "../sample/harbour/sidecar.yaml", "-o", dir); status != 0 {
		t.Fatal(stderr)
	}
	retrieved := regexp.MustCompile(`(?m)^  retrieved: .*\n`)
	var text [2]string
	for n, name := range []string{filepath.Join(dir, "connector.yaml"), "../../examples/connectors/harbour/connector.yaml"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text[n] = retrieved.ReplaceAllString(string(b), "")
	}
	if text[0] != text[1] {
		t.Errorf("examples/connectors/harbour/connector.yaml is not what is imported:\n%s", text[0])
	}
}
