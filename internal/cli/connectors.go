package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/connectorfile"
	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/registry"
	places "github.com/bulkheadhq/bulkhead/internal/source"
)

type connectorsCommand struct {
	List     connectorsList     `cmd:"" default:"withargs" help:"List the connectors of the catalogue, or those of a platform with its own."`
	Show     connectorsShow     `cmd:"" help:"Show what a connector can do."`
	Validate connectorsValidate `cmd:"" help:"Check manifests, and run the cases beside them."`
	Publish  connectorsPublish  `cmd:"" help:"Publish a version of a connector of the organization."`
	Import   connectorsImport   `cmd:"" help:"Make a draft connector of an OpenAPI or Swagger document, and report what it says."`
	New      connectorsNew      `cmd:"" help:"Make a connector for a provider that speaks OAuth 2.0, of its URLs."`
}

// finder finds connectors for the files that are read: those of the catalogue, those in the directory connectors beside the
// file, and those of a platform.
type finder struct {
	catalogue func() (*connectorfile.Catalogue, error)
	beside    *connectorfile.Catalogue // nil: there are none
	remote    func(name, versions string) (*connector.Manifest, error)
}

var _ flowfile.Connectors = (*finder)(nil)

// connectorsBeside finds the connectors for a file on this machine. As a name, - is standard input.
func connectorsBeside(file string) (*finder, error) {
	f := &finder{catalogue: registry.Catalogue()}
	dir := filepath.Join(filepath.Dir(file), "connectors")
	if file == "-" || !isDir(dir) {
		return f, nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, usage("%v", err)
	}
	if f.beside, err = connectorfile.Open(root.FS()); err != nil {
		return nil, usage("%s: %v", dir, err)
	}
	return f, nil
}

// of adds the connectors of a platform.
func (f *finder) of(ctx context.Context, x *client.Client) *finder {
	f.remote = func(name, versions string) (*connector.Manifest, error) {
		d, err := x.Connector(ctx, name, versions)
		if err != nil {
			return nil, err
		}
		return connector.Decode(d.Manifest)
	}
	return f
}

// Manifest implements [flowfile.Connectors]. What a platform has decides; else the catalogue, then what lies beside the file.
func (f *finder) Manifest(name, versions string) (*connector.Manifest, error) {
	if f.remote != nil {
		m, err := f.remote(name, versions)
		if client.IsCode(err, api.CodeNotFound) {
			return nil, fmt.Errorf("%w on this platform: %q %s", connectorfile.ErrNoConnector, name, versions)
		}
		return m, err
	}
	c, err := f.catalogue()
	if err != nil {
		return nil, err
	}
	if slices.Contains(c.Names(), name) {
		return c.Manifest(name, versions)
	}
	if f.beside != nil && slices.Contains(f.beside.Names(), name) {
		return f.beside.Manifest(name, versions)
	}
	return nil, fmt.Errorf("%w: nothing is called %q; a manifest of your own is read from connectors/%s/connector.yaml beside the file", connectorfile.ErrNoConnector, name, name)
}

// Names implements [flowfile.Connectors].
func (f *finder) Names() []string {
	c, err := f.catalogue()
	if err != nil {
		return nil
	}
	names := slices.Clone(c.Names())
	if f.beside != nil {
		names = append(names, f.beside.Names()...)
	}
	return names
}

// proof says how far a connector is proved: how it was made, with how many cases it was tested, of when the vendor's copy is
// with which it was compared, and whether it was tried live.
func proof(x *api.Connector) (made, tested, copied, tried string) {
	made, tested, copied, tried = "by hand", "-", "-", "no"
	if x.Tier == string(connector.TierImported) {
		made = "imported"
	}
	if x.Own {
		made += ", own"
	}
	if x.Cases > 0 {
		tested = count(x.Cases, "case")
	}
	if x.Retrieved != "" {
		copied = x.Retrieved
	}
	if x.TriedLive {
		tried = "yes"
	}
	return made, tested, copied, tried
}

type connectorsList struct{ remote }

// Run implements the command. Without a platform it lists the catalogue.
func (m *connectorsList) Run(c *console) error {
	list, err := m.list(c)
	if err != nil {
		return err
	}
	if m.JSON {
		for i := range list {
			if err := writeJSON(c.Out, list[i]); err != nil {
				return err
			}
		}
		return nil
	}
	t := &table{head: []string{"CONNECTOR", "VERSION", "TITLE", "MADE", "CONTRACT-TESTED", "VENDOR'S COPY OF", "TRIED LIVE"}}
	t.add(flow.ConnectorHTTP, "-", "Any HTTP API", "built in", "-", "-", "no")
	for i := range list {
		x := &list[i]
		made, tested, copied, tried := proof(x)
		t.add(x.Name, x.Version, x.Title, made, tested, copied, tried)
	}
	t.print(c)
	return nil
}

func (m *connectorsList) list(c *console) ([]api.Connector, error) {
	if m.Server == "" && m.State == "" {
		return catalogueList()
	}
	var list []api.Connector
	err := m.with(c, func(ctx context.Context, x *client.Client) error {
		all, err := x.Connectors(ctx)
		if err == nil {
			list = all.Items
		}
		return err
	})
	return list, err
}

func catalogueList() ([]api.Connector, error) {
	c, err := registry.Catalogue()()
	if err != nil {
		return nil, err
	}
	all, err := c.All()
	if err != nil {
		return nil, err
	}
	list := make([]api.Connector, len(all))
	for i := range all {
		e := &all[i]
		list[i] = api.Connector{
			Name: e.Manifest.Name, Version: e.Manifest.Version, Title: e.Manifest.Title, Tier: string(e.Manifest.Tier), Digest: fmt.Sprintf("%x", e.Digest), Cases: e.Cases,
			Retrieved: e.Manifest.Provenance.Retrieved,
		}
	}
	return list, nil
}

type connectorsShow struct {
	remote
	Connector string `arg:"" help:"Name, or name@version such as github@^1."`
}

// Run implements the command.
func (m *connectorsShow) Run(c *console) error {
	name, versions := flow.SplitConnector(m.Connector)
	if m.Server == "" && m.State == "" {
		f, err := connectorsBeside("./x")
		if err != nil {
			return err
		}
		manifest, err := f.Manifest(name, versions)
		if err != nil {
			return usage("%w", err)
		}
		return m.print(c, manifest)
	}
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		d, err := x.Connector(ctx, name, versions)
		if err != nil {
			return err
		}
		manifest, err := connector.Decode(d.Manifest)
		if err != nil {
			return err
		}
		return m.print(c, manifest)
	})
}

func (m *connectorsShow) print(c *console, x *connector.Manifest) error {
	if m.JSON {
		b, err := x.Encode()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.Out, "%s\n", b)
		return err
	}
	fmt.Fprintf(c.Out, "%s %s  %s\n", x.Name, x.Version, x.Title)
	if x.Description != "" {
		fmt.Fprintln(c.Out, x.Description)
	}
	fmt.Fprintf(c.Out, "\nDigest  %x\nTier    %s\nHosts   %s\n", x.Digest(), x.Tier, strings.Join(x.Hosts, ", "))
	printReach(c, x)
	if x.Docs != "" {
		fmt.Fprintf(c.Out, "Docs    %s\n", x.Docs)
	}
	if p := &x.Provenance; p.Source != "" {
		of := "without a date"
		if p.Retrieved != "" {
			of = "the copy of " + p.Retrieved
		}
		fmt.Fprintf(c.Out, "Source  %s, %s\n", p.Source, of)
	}
	vars := &table{head: []string{"VARIABLE", "TITLE", "VALUES"}}
	for _, name := range slices.Sorted(maps.Keys(x.Vars)) {
		v := x.Vars[name]
		vars.add("{"+name+"}", v.Title, varValues(&v))
	}
	if len(vars.rows) > 0 {
		fmt.Fprintln(c.Out, "\nEach connection has values of its own for what stands in braces; --var NAME=VALUE gives them.")
		vars.print(c)
	}
	auth := &table{head: []string{"AUTH", "TYPE", "TITLE"}}
	for i := range x.Auth {
		auth.add(x.Auth[i].ID, string(x.Auth[i].Type), x.Auth[i].Title)
	}
	actions := &table{head: []string{"ACTION", "TITLE", "INPUTS", "SCOPES"}}
	for i := range x.Actions {
		a := &x.Actions[i]
		if a.Visibility == connector.VisibilityInternal {
			continue
		}
		actions.add(a.Name, a.Title, inputNames(a.Inputs), strings.Join(a.Scopes, " "))
	}
	triggers := &table{head: []string{"TRIGGER", "TYPE", "TITLE", "INPUTS"}}
	for i := range x.Triggers {
		t := &x.Triggers[i]
		triggers.add(t.Name, t.Type, t.Title, inputNames(t.Inputs))
	}
	for _, t := range []*table{auth, actions, triggers} {
		if len(t.rows) > 0 {
			fmt.Fprintln(c.Out)
			t.print(c)
		}
	}
	return nil
}

// printReach prints where else than to the hosts of actions requests go: with what the credential is made of, and without it.
func printReach(c *console, x *connector.Manifest) {
	var tokens []string
	for i := range x.Auth {
		tokens = append(tokens, x.Auth[i].Recipe.Hosts()...)
	}
	slices.Sort(tokens)
	tokens = slices.DeleteFunc(slices.Compact(tokens), func(h string) bool { return slices.Contains(x.Hosts, h) })
	if len(tokens) > 0 {
		fmt.Fprintf(c.Out, "Tokens  %s, where they are made and kept alive\n", strings.Join(tokens, ", "))
	}
	if files := x.Downloads(); len(files) > 0 {
		fmt.Fprintf(c.Out, "Files   %s, where redirects lead downloads, without the credential\n", strings.Join(files, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(x.Bases)) {
		fmt.Fprintf(c.Out, "Base    %s: %s\n", name, x.Bases[name])
	}
}

// varValues says what a variable of hosts may be.
func varValues(v *credential.Var) string {
	var text string
	switch {
	case len(v.Enum) > 0:
		text = strings.Join(v.Enum, " or ")
	case slices.Contains(v.Suffixes, credential.AnyHost):
		text = "any host"
	case len(v.Suffixes) > 0:
		hosts := slices.Clone(v.Suffixes)
		for n := range hosts {
			if strings.HasPrefix(hosts[n], ".") {
				hosts[n] = "*" + hosts[n]
			}
		}
		text = strings.Join(hosts, " or ")
	case v.Pattern != "":
		text = "a match of " + v.Pattern
	case v.Type != "":
		text = "a " + string(v.Type)
	default:
		text = "a " + string(credential.VarLabel)
	}
	if v.Default != "" {
		text += "; default " + v.Default
	}
	if v.Help != "" {
		text += ". " + v.Help
	}
	return text
}

// inputNames lists inputs, those that are required with a star.
func inputNames(list []connector.Input) string {
	var names []string
	for i := range list {
		switch in := &list[i]; {
		case in.Visibility == connector.VisibilityInternal || in.Visibility == connector.VisibilityAdvanced:
		case in.Required && len(in.Default) == 0:
			names = append(names, in.Name+"*")
		default:
			names = append(names, in.Name)
		}
	}
	return strings.Join(names, " ")
}

type connectorsValidate struct {
	Files []string `arg:"" name:"file" help:"Manifests; the cases of each are in test.yaml beside it."`
	JSON  bool     `name:"json" help:"Print problems as JSON on standard output."`
}

// Run implements the command.
func (m *connectorsValidate) Run(c *console) error {
	all := places.Problems{}
	for _, file := range m.Files {
		manifest, cases, problems, err := readManifest(file)
		if err != nil {
			return err
		}
		all = append(all, problems...)
		if m.JSON {
			continue
		}
		if err := problems.Render(c.Err, style(c.Err)); err != nil {
			return err
		}
		if len(problems) == 0 {
			tested := "no cases: it is not contract-tested"
			if cases > 0 {
				tested = count(cases, "case")
			}
			fmt.Fprintf(c.Out, "%s: valid, %s, %s, %s, digest %x\n", file, count(len(manifest.Actions), "action"), count(len(manifest.Triggers), "trigger"), tested, manifest.Digest())
		}
	}
	if m.JSON {
		if err := writeJSON(c.Out, map[string]any{"valid": len(all) == 0, "problems": all}); err != nil {
			return err
		}
	}
	if len(all) > 0 {
		return said(exitUsage)
	}
	return nil
}

// testsOf is the file with the cases of a manifest.
func testsOf(file string) string { return filepath.Join(filepath.Dir(file), "test.yaml") }

// readManifest reads a manifest and runs the cases beside it.
func readManifest(file string) (*connector.Manifest, int, places.Problems, error) {
	text, err := readFile(file, connector.MaxManifest)
	if err != nil {
		return nil, 0, nil, err
	}
	doc, problems := connectorfile.Decode(file, text)
	if doc == nil {
		return nil, 0, problems, nil
	}
	tests := testsOf(file)
	text, err = readFile(tests, connector.MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return doc.Manifest, 0, nil, nil
	}
	if err != nil {
		return nil, 0, nil, err
	}
	cases, problems := connectorfile.DecodeTests(tests, text, doc.Manifest)
	if cases == nil {
		return doc.Manifest, 0, problems, nil
	}
	return doc.Manifest, len(cases.Cases), cases.Run(doc.Manifest), nil
}

type connectorsPublish struct {
	remote
	File string `arg:"" help:"Manifest; its cases are in test.yaml beside it."`
}

// Run implements the command.
func (m *connectorsPublish) Run(c *console) error {
	_, _, problems, err := readManifest(m.File)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		if err := problems.Render(c.Err, style(c.Err)); err != nil {
			return err
		}
		return said(exitUsage)
	}
	text, err := readFile(m.File, connector.MaxManifest)
	if err != nil {
		return err
	}
	tests, err := readFile(testsOf(m.File), connector.MaxManifest)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		got, err := x.PublishConnector(ctx, api.ConnectorRequest{Source: string(text), Tests: string(tests)})
		if err != nil {
			return err
		}
		return m.show(c, got, func() {
			fmt.Fprintf(c.Out, "%s has version %s, compared with %s\n", got.Name, got.Version, count(got.Cases, "case"))
		})
	})
}

// lockList shows the connectors of an integration.
func lockList(locks []connector.Lock) *table {
	t := &table{head: []string{"SLOT", "CONNECTOR", "VERSION", "ACTIONS", "DIGEST"}}
	for i := range locks {
		l := &locks[i]
		t.add(l.Slot, l.Name, l.Version, strconv.Itoa(len(l.Actions)), l.Digest)
	}
	return t
}
