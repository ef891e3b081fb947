package openapi

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// Import makes a draft manifest of a document. It parses what nobody trusts: call it in a process that can be lost, or
// through a [Reader].
func Import(document []byte, o Options) (*Result, error) {
	d, err := open(document)
	if err != nil {
		return nil, err
	}
	side, err := readSide(o.Side, o.SideName)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(document)
	i := &importer{d: d, o: o, side: side, result: &Result{Version: d.version, SHA256: hex.EncodeToString(sum[:])}}
	if err := i.prepare(); err != nil {
		return nil, err
	}
	for level := detailAll; ; level++ {
		m, err := i.manifest(level)
		if err != nil {
			return nil, err
		}
		raw, err := m.Encode()
		if err == nil {
			i.result.Manifest = raw
			break
		}
		if level == detailNone {
			return nil, fmt.Errorf("the connector would be too large, even without schemas: leave operations out in the side file (skip: true): %w", err)
		}
	}
	i.result.Violations, i.result.Broken = d.violations, d.broken
	return i.result, nil
}

type importer struct {
	d        *document
	o        Options
	side     *SideFile
	endpoint *endpoint
	security *security
	result   *Result
	list     []operation
}

// prepare reads all that does not depend on the size of the result.
func (i *importer) prepare() error {
	i.result.Title = line(i.d.root.at("info", "title").str(), maxTitle)
	i.operations()
	if i.result.Operations > MaxOperations {
		return &LimitError{"operations", MaxOperations}
	}
	if i.result.Operations == 0 {
		return fmt.Errorf("the document has no operation")
	}
	if err := i.side.known(i.list, i.d); err != nil {
		return err
	}
	if i.o.Source == "" {
		i.o.Source = i.side.Source
	}
	i.o.Vendor = append(i.o.Vendor, i.side.Vendor...)
	if u, err := url.Parse(i.o.Source); i.o.Source != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		return fmt.Errorf("%q is no web address that a document can be read from", clip(i.o.Source, maxTitle))
	}
	var err error
	if i.side.BaseURL != "" {
		i.endpoint = &endpoint{base: strings.TrimRight(i.side.BaseURL, "/"), hosts: i.side.Hosts, vars: i.side.Vars}
	} else if i.endpoint, err = readServers(i.d, i.o.Source); err != nil {
		return err
	}
	i.security = readSecurity(i.d, i.service(), i.endpoint.vars)
	i.result.Auth = i.security.dropped
	i.result.Notes = i.endpoint.notes
	return nil
}

// service is the name of the service in signatures of AWS.
func (i *importer) service() string {
	if s := i.d.root.at("info", "x-serviceName").str(); s != "" {
		return s
	}
	host := strings.TrimPrefix(i.endpoint.base, "https://")
	first, _, _ := strings.Cut(host, ".")
	return first
}

// operations lists the operations in the order of the document.
func (i *importer) operations() {
	seen := map[string]bool{}
	for _, key := range []string{"paths", "x-ms-paths"} {
		i.d.root.get(key).each(func(path string, n *node) {
			if strings.HasPrefix(path, "x-") {
				return
			}
			item := i.d.deref(n)
			item.each(func(method string, o *node) {
				if !isMethod(method) || !o.is(kindMap) {
					return
				}
				i.result.Operations++
				id := o.get("operationId").str()
				if id == "" || seen[id] || len(id) > connector.MaxPath {
					if seen[id] {
						i.d.violate(pointer(key, path, method), "the operationId %q is used twice", clip(id, maxTitle))
					}
					id = strings.ToUpper(method) + " " + path
				}
				seen[id] = true
				i.list = append(i.list, operation{key: id, method: method, path: path, item: item, node: o})
			})
		})
	}
	i.d.root.get("webhooks").each(func(name string, _ *node) { i.result.Webhooks = append(i.result.Webhooks, line(name, maxTitle)) })
}

// manifest compiles all operations at a level of detail.
func (i *importer) manifest(level detail) (*connector.Manifest, error) {
	s := newSchemas(i.d, level)
	m := i.head()
	i.result.Actions, i.result.Skipped = nil, nil
	names := i.names()
	for n := range i.list {
		o := i.list[n] // a copy: each level compiles anew
		o.schemas, o.auth, o.names = s, i.security.placesOf(o.node), map[string]connector.Place{}
		o.action = &connector.Action{Name: names[o.key]}
		if err := i.compile(&o); err != nil {
			i.result.Skipped = append(i.result.Skipped, Left{o.key, err.Error()})
			delete(names, o.key)
			continue
		}
		m.Actions = append(m.Actions, *o.action)
		i.result.Actions = append(i.result.Actions, Origin{o.action.Name, o.key, strings.ToUpper(o.method), o.path})
	}
	settle(m, names, func(action, input, operation string) {
		i.d.violate(action, "the values of %s come from %q, which is no operation here: they are left out", input, clip(operation, maxTitle))
	})
	i.triggers(m, s, names)
	if err := i.side.apply(m, names); err != nil {
		return nil, err
	}
	left := s.flush(m)
	if err := i.check(m); err != nil {
		return nil, err
	}
	if left > 0 {
		i.note("schemas that are too large or too many, and stand for any value: %d", left)
	}
	if level > detailAll {
		i.note("%s, because the connector would be larger than %d MiB", [...]string{
			"", "the descriptions in schemas are left out", "schemas say only what kind the values inside are", "the schemas of answers are left out",
			"all schemas, and the descriptions of inputs, are left out",
		}[level], connector.MaxManifest>>20)
	}
	i.result.Hosts = named(m, i.o)
	return m, nil
}

// check leaves out the actions that break the rules of manifests. Anything else that does is an error.
func (i *importer) check(m *connector.Manifest) error {
	for {
		wrong := map[string]string{}
		for _, p := range m.Check() {
			name := actionAt(m, p.At)
			if name == "" {
				return fmt.Errorf("the connector would not be valid: %s: %s", p.At, p.Message)
			}
			if wrong[name] == "" {
				wrong[name] = strings.TrimPrefix(strings.TrimPrefix(p.At, "actions."+name), ".") + ": " + p.Message
			}
		}
		if len(wrong) == 0 {
			return nil
		}
		m.Actions = slices.DeleteFunc(m.Actions, func(a connector.Action) bool { return wrong[a.Name] != "" })
		i.result.Actions = slices.DeleteFunc(i.result.Actions, func(o Origin) bool {
			why := wrong[o.Action]
			if why != "" {
				i.result.Skipped = append(i.result.Skipped, Left{o.Operation, "the action would not be valid: " + why})
			}
			return why != ""
		})
	}
}

// actionAt is the action that a place of a manifest is of; empty for another place.
func actionAt(m *connector.Manifest, at string) string {
	rest, ok := strings.CutPrefix(at, "actions.")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, ".")
	if m.Action(name) == nil {
		return ""
	}
	return name
}

func (i *importer) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(i.result.Notes, text) {
		i.result.Notes = append(i.result.Notes, text)
	}
}

func (i *importer) compile(o *operation) error {
	if side := i.side.Operations[o.key]; side != nil && side.Skip {
		return skip("the side file leaves it out")
	}
	servers := o.node.get("servers")
	if servers == nil {
		servers = o.item.get("servers")
	}
	prefix, ok := "", true
	if i.side.BaseURL == "" {
		prefix, ok = i.endpoint.within(i.d, servers, i.o.Source)
	}
	if !ok {
		return skip("it is served at another address than the others: %s", line(servers.list()[0].get("url").str(), maxTitle))
	}
	if err := o.compile(); err != nil {
		return err
	}
	o.action.Path = prefix + o.action.Path
	o.action.Auth, o.action.Scopes = i.security.operation(o.node)
	return nil
}

// names gives every operation a name of its own: that of the side file, or one made of the operationId, or of method and path.
// Where two would be the same, both get a part that depends on the operation alone, so that names stay when others come and go.
func (i *importer) names() map[string]string {
	out, count := map[string]string{}, map[string]int{}
	made := func(o *operation) string {
		if side := i.side.Operations[o.key]; side != nil && side.Name != "" {
			return side.Name
		}
		if o.node.get("operationId").str() == o.key {
			return lowerFirst(identifier(o.key, o.method))
		}
		return pathName(o.method, o.path)
	}
	for n := range i.list {
		count[made(&i.list[n])]++
	}
	taken := map[string]bool{}
	for n := range i.list {
		o := &i.list[n]
		name := made(o)
		if side := i.side.Operations[o.key]; count[name] > 1 && (side == nil || side.Name == "") || taken[name] {
			name = suffixed(name, strings.ToUpper(o.method)+" "+o.path)
		}
		taken[name] = true
		out[o.key] = name
	}
	return out
}

// lowerFirst writes a name as actions are: with a small first letter, unless it begins with an abbreviation.
func lowerFirst(s string) string {
	if len(s) > 1 && s[0] >= 'A' && s[0] <= 'Z' && !(s[1] >= 'A' && s[1] <= 'Z') {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

var versionPattern = regexp.MustCompile(`^v?([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:\.([0-9]{1,9}))?$`)

// version makes a semantic version of the document's.
func version(s string) string {
	m := versionPattern.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return "1.0.0"
	}
	part := func(s string) string {
		if s = strings.TrimLeft(s, "0"); s == "" {
			return "0"
		}
		return s
	}
	return part(m[1]) + "." + part(m[2]) + "." + part(m[3])
}

// head is the manifest without actions and triggers.
func (i *importer) head() *connector.Manifest {
	info := i.d.root.get("info")
	m := &connector.Manifest{
		Name: i.o.Name, Version: version(info.get("version").str()), Title: i.result.Title, Description: clip(info.get("description").str(), maxDescription),
		Tier:  connector.TierImported,
		Hosts: i.endpoint.hosts, BaseURL: i.endpoint.base, Vars: i.endpoint.vars, Auth: i.security.methods,
		Provenance: connector.Provenance{
			Kind: provenanceKind, Source: i.o.Source, SHA256: i.result.SHA256, Licence: line(info.at("license", "name").str(), maxTitle), Retrieved: i.o.Retrieved,
		},
	}
	if u := i.d.root.at("externalDocs", "url").str(); strings.HasPrefix(u, "https://") && len(u) < connector.MaxPath {
		m.Docs = u
	}
	if m.Name == "" {
		m.Name = connectorName(m.Title)
	}
	if m.Title == "" {
		m.Title = m.Name
	}
	return m
}
