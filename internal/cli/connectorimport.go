package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/openapi"
	"github.com/bulkheadhq/bulkhead/internal/openapi/strict"
	places "github.com/bulkheadhq/bulkhead/internal/source"
)

type connectorsImport struct {
	File    string   `arg:"" help:"API description: Swagger 2.0, OpenAPI 3.0 or 3.1, in JSON or YAML; - is standard input."`
	Sidecar string   `placeholder:"FILE" help:"What the description does not say, keyed by operationId."`
	Name    string   `help:"Name of the connector; default: made of the title."`
	Source  string   `placeholder:"URL" help:"Where the description was read from: servers may be relative to it, and its domain is the vendor's."`
	Vendor  []string `placeholder:"DOMAIN" help:"Domain of the vendor: hosts outside of it are flagged."`
	Out     string   `short:"o" placeholder:"DIR" help:"Write connector.yaml and, unless there is one, sidecar.yaml here; default: only report."`
	Force   bool     `help:"Overwrite a connector.yaml that exists; sidecar.yaml is never overwritten."`
	JSON    bool     `name:"json" help:"Print the report as JSON, with the manifest."`
}

// maxListed is how many of a kind a report lists.
const maxListed = 10

// Run implements the command.
func (m *connectorsImport) Run(c *console) error {
	document, err := m.read(c)
	if err != nil {
		return err
	}
	o := openapi.Options{Name: m.Name, Source: m.Source, Vendor: m.Vendor, Retrieved: time.Now().UTC().Format(time.DateOnly)}
	if m.Sidecar != "" {
		if o.Side, err = readFile(m.Sidecar, openapi.MaxSide); err != nil {
			return err
		}
		o.SideName = m.Sidecar
	}
	r, err := new(openapi.Reader).Import(c.ctx, document, o)
	var problems places.Problems
	switch {
	case errors.As(err, &problems):
		if err := problems.Render(c.Err, places.Style(style(c.Err))); err != nil {
			return err
		}
		return said(exitUsage)
	case errors.Is(err, openapi.ErrLost):
		return fmt.Errorf("import %s: %w", m.File, err)
	case err != nil:
		return usage("import %s: %w", m.File, err)
	}
	written, err := m.write(r)
	if err != nil {
		return err
	}
	if m.JSON {
		return writeJSON(c.Out, r)
	}
	m.report(c, r)
	for _, name := range written {
		fmt.Fprintf(c.Out, "wrote %s\n", name)
	}
	return nil
}

func (m *connectorsImport) read(c *console) ([]byte, error) {
	if m.File == "-" {
		return readAll(c.In, "standard input", openapi.MaxDocument)
	}
	return readFile(m.File, openapi.MaxDocument)
}

// write writes the files, and says which.
func (m *connectorsImport) write(r *openapi.Result) ([]string, error) {
	if m.Out == "" {
		return nil, nil
	}
	manifest, err := r.Connector()
	if err != nil {
		return nil, err
	}
	text, err := openapi.YAML(manifest)
	if err != nil {
		return nil, err
	}
	name := filepath.Join(m.Out, "connector.yaml")
	if err := writeNew(name, text, m.Force); err != nil {
		return nil, err
	}
	side := filepath.Join(m.Out, "sidecar.yaml")
	if _, err := os.Stat(side); err == nil || m.Sidecar != "" {
		return []string{name}, nil
	}
	if text, err = openapi.SideTemplate(r); err != nil {
		return nil, err
	}
	if err := writeNew(side, text, false); err != nil {
		return nil, err
	}
	return []string{name, side}, nil
}

func (m *connectorsImport) report(c *console, r *openapi.Result) {
	w := c.Out
	fmt.Fprintf(w, "%s (OpenAPI %s), sha256 %s\n", r.Title, r.Version, r.SHA256)
	fmt.Fprintf(w, "%s: %s, %d left out\n", count(r.Operations, "operation"), count(len(r.Actions), "action"), len(r.Skipped))
	groups := map[string][]string{}
	var reasons []string
	for _, s := range r.Skipped {
		if groups[s.Reason] == nil {
			reasons = append(reasons, s.Reason)
		}
		groups[s.Reason] = append(groups[s.Reason], s.Operation)
	}
	slices.SortStableFunc(reasons, func(a, b string) int { return len(groups[b]) - len(groups[a]) })
	for _, reason := range reasons[:min(len(reasons), maxListed)] {
		fmt.Fprintf(w, "  left out, because %s: %s\n", reason, some(groups[reason]))
	}
	for _, a := range r.Auth {
		fmt.Fprintf(w, "  authentication left out: %s\n", a)
	}
	for _, h := range r.Hosts {
		fmt.Fprintf(w, "  host for %s: %s%s\n", h.For, h.Host, map[openapi.Vendor]string{
			openapi.VendorNo:      "   <- NOT the vendor's",
			openapi.VendorUnknown: "   (whose it is, nobody said: --vendor DOMAIN)",
		}[h.Vendor])
	}
	if len(r.Webhooks) > 0 {
		fmt.Fprintf(w, "  webhooks described, to be made triggers in the side file: %s\n", some(r.Webhooks))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "  note: %s\n", n)
	}
	if r.Broken > 0 {
		fmt.Fprintf(w, "  %s of the specification, tolerated:\n", count(r.Broken, "violation"))
		for _, v := range r.Violations[:min(len(r.Violations), maxListed)] {
			fmt.Fprintf(w, "    %s\n", strings.TrimPrefix(v.At+": "+v.Message, ": "))
		}
		if r.Broken > maxListed {
			fmt.Fprintf(w, "    and %d more (--json has up to %d)\n", r.Broken-maxListed, openapi.MaxViolations)
		}
	}
	fmt.Fprintln(w, "Imported means untrusted: compare the hosts with what the vendor says before anybody connects an account.")
}

// some lists a few names.
func some(names []string) string {
	if len(names) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
	}
	return strings.Join(names, ", ")
}

// readOpenAPI is the process that parses a document; see [openapi.Reader].
func readOpenAPI(s Streams, args []string) int {
	c := openapi.Child{Strict: strict.Check, Lockdown: jail.Lockdown}
	if err := c.Main(args); err != nil {
		fmt.Fprintln(s.Err, "bulkhead:", err)
		return exitFailed
	}
	return exitOK
}
