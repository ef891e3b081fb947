package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/bulkheadhq/bulkhead/internal/flowfile"
)

var update = flag.Bool("update", false, "write the reference in doc/cli.md")

// referenceBegins is the line of doc/cli.md below which all is made from the grammar.
const referenceBegins = "<!-- Made from the commands: go test ./internal/cli -run TestReference -update -->\n"

// TestReference keeps doc/cli.md to what the commands are.
func TestReference(t *testing.T) {
	t.Parallel()
	parser, err := newParser(&commands{}, Streams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	const name = "../../doc/cli.md"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, after, ok := strings.Cut(string(text), referenceBegins)
	if !ok {
		t.Fatalf("%s lacks the line %s", name, referenceBegins)
	}
	var want strings.Builder
	for _, g := range groups() {
		fmt.Fprintf(&want, "\n### %s\n", strings.TrimSuffix(g.Title, ":"))
		for _, n := range parser.Model.Children {
			if !n.Hidden && n.Group != nil && n.Group.Key == g.Key {
				reference(&want, n)
			}
		}
	}
	if *update {
		if err := os.WriteFile(name, []byte(before+referenceBegins+want.String()), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
		return
	}
	if after != want.String() {
		t.Errorf("%s is not what the commands are: go test ./internal/cli -run TestReference -update", name)
	}
	for _, n := range parser.Model.Children {
		if !n.Hidden && n.Group == nil {
			t.Errorf("the command %s has no group", n.Name)
		}
	}
}

// reference describes a command and those below it. Flags that say which platform is meant
// are described once, above.
func reference(b *strings.Builder, n *kong.Node) {
	if len(n.Children) == 0 || n.DefaultCmd != nil {
		shown := n
		if n.DefaultCmd != nil {
			shown = n.DefaultCmd
		}
		fmt.Fprintf(b, "\n#### `bulkhead %s%s`\n\n%s\n", path(n), arguments(shown), n.Help)
		flags(b, shown)
	} else {
		fmt.Fprintf(b, "\n#### `bulkhead %s …`\n\n%s\n", path(n), n.Help)
	}
	for _, child := range n.Children {
		if !child.Hidden && child != n.DefaultCmd {
			fmt.Fprintf(b, "\n**`bulkhead %s%s`** %s\n", path(child), arguments(child), child.Help)
			flags(b, child)
		}
	}
}

func path(n *kong.Node) string {
	if n.Parent == nil || n.Parent.Type == kong.ApplicationNode {
		return n.Name
	}
	return path(n.Parent) + " " + n.Name
}

func arguments(n *kong.Node) string {
	var b strings.Builder
	for _, a := range n.Positional {
		b.WriteString(" " + a.Summary())
	}
	return b.String()
}

func flags(b *strings.Builder, n *kong.Node) {
	var rows []string
	for _, f := range n.Flags {
		if f.Hidden || f.Name == "help" || f.Group != nil && f.Group.Key == "Platform" {
			continue
		}
		name := "--" + f.Name
		if f.Short != 0 {
			name = "-" + string(f.Short) + ", " + name
		}
		if !f.IsBool() {
			name += " " + strings.Trim(f.FormatPlaceHolder(), `"`)
		}
		help := strings.ReplaceAll(f.Help, "|", `\|`)
		if len(f.Envs) > 0 {
			help += " `" + strings.Join(f.Envs, "`, `") + "`"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s |\n", strings.ReplaceAll(name, "|", `\|`), help))
	}
	if len(rows) > 0 {
		b.WriteString("\n| flag | |\n|---|---|\n" + strings.Join(rows, ""))
	}
}

// The platform file of the examples is one.
func TestPlatformExample(t *testing.T) {
	t.Parallel()
	const name = "../../examples/platform/platform.yaml"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p, problems := flowfile.DecodePlatform(name, text)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, pattern := range p.Integrations {
		if found, err := filepath.Glob(filepath.Join(filepath.Dir(name), pattern)); err != nil || len(found) == 0 {
			t.Errorf("there is no %s: %v", pattern, err)
		}
	}
	for i := range p.Customers {
		for n := range p.Customers[i].Instances {
			x := &p.Customers[i].Instances[n]
			b, err := os.ReadFile(filepath.Join("../../examples", x.Integration+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			doc, problems := flowfile.Decode(x.Integration, b)
			if problems.Invalid() {
				t.Fatal(problems)
			}
			for k := range doc.Integration.Connections {
				if slot := doc.Integration.Connections[k].Name; x.Connections[slot] == "" {
					t.Errorf("%s of %s does not fill %s", x.Integration, p.Customers[i].ExternalID, slot)
				}
			}
		}
	}
}
