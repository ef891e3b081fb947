package flowfile

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/bulkheadhq/bulkhead/connectors"
	"github.com/bulkheadhq/bulkhead/internal/connectorfile"
	"github.com/bulkheadhq/bulkhead/internal/flow"
)

var _ Connectors = (*connectorfile.Catalogue)(nil)

func catalogue(t *testing.T) Connectors {
	t.Helper()
	c, err := connectorfile.Open(connectors.Files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestConnectorProblems is TestProblems for files whose connectors are looked up.
func TestConnectorProblems(t *testing.T) {
	t.Parallel()
	archives, err := filepath.Glob("testdata/connectors/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	all := catalogue(t)
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			doc, problems := DecodeWith(a.Files[0].Name, a.Files[0].Data, all)
			if doc != nil {
				problems = doc.Warnings
			}
			var got bytes.Buffer
			if err := problems.Render(&got, Plain); err != nil {
				t.Fatal(err)
			}
			if *update {
				a.Files = []txtar.File{a.Files[0], {Name: "problems", Data: got.Bytes()}}
				if err := os.WriteFile(name, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(a.Files[1].Data), got.String()); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

const locked = `bulkhead: 1
integration: a
connections: {gh: {connector: "github@^1"}, pay: {connector: stripe}, web: {connector: http}}
flows:
  main:
    trigger: {event: {uses: gh.issue, with: {owner: a, repo: b}}}
    steps:
      - {id: all, for: {each: {uses: pay.listCustomers}, as: payer}, steps: [{id: one, set: "${{ payer.email }}"}]}
      - {id: say, uses: gh.createComment, with: {owner: a, repo: b, issue_number: "${{ trigger.body.issue.number }}", body: hello}}
      - {id: get, uses: web.request, with: {path: /}}
`

// TestLocks: an integration carries what it uses, what its triggers use, and nothing else; the digest covers it, and the
// canonical form keeps it.
func TestLocks(t *testing.T) {
	t.Parallel()
	doc, problems := DecodeWith("a.yaml", []byte(locked), catalogue(t))
	if doc == nil {
		t.Fatal(problems)
	}
	i := doc.Integration
	got := map[string][]string{}
	for _, l := range i.Locks {
		for _, a := range l.Actions {
			got[l.Slot+" "+l.Name] = append(got[l.Slot+" "+l.Name], a.Name)
		}
		for _, x := range l.Triggers {
			got[l.Slot+" "+l.Name] = append(got[l.Slot+" "+l.Name], "on "+x.Name)
		}
		if len(l.Digest) != 64 || l.Version == "" {
			t.Errorf("lock of %s has version %q and digest %q", l.Slot, l.Version, l.Digest)
		}
	}
	want := map[string][]string{"gh github": {"createComment", "createWebhook", "deleteWebhook", "listWebhooks", "on issue"}, "pay stripe": {"listCustomers"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	b, err := i.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := flow.Decode(b)
	if err != nil || again.Digest() != i.Digest() {
		t.Errorf("canonical form: %v", err)
	}
	plain, _ := Decode("a.yaml", []byte(locked))
	if plain.Integration.Digest() == i.Digest() || len(plain.Integration.Locks) != 0 {
		t.Error("the digest does not cover the locks")
	}
	if len(plain.NotYet()) == 0 {
		t.Error("an integration whose connectors were not looked up can be run")
	}
}
