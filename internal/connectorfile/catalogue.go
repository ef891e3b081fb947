package connectorfile

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// Entry is a manifest of a catalogue.
type Entry struct {
	Manifest *connector.Manifest
	Version  connector.Version
	Digest   [32]byte
	Cases    int // of its test file: how many requests, answers and events of the vendor it was compared with
}

// Catalogue is a set of manifests by name and version.
type Catalogue struct {
	entries []Entry // by name, newest version first
}

// ErrNoConnector is wrapped where a name and a range of versions match no manifest.
var ErrNoConnector = errors.New("there is no such connector")

// New makes a catalogue of manifests; no two are of one name and version.
func New(list ...*connector.Manifest) (*Catalogue, error) {
	c := &Catalogue{}
	for _, m := range list {
		v, err := connector.ParseVersion(m.Version)
		if err != nil {
			return nil, fmt.Errorf("connector %s: %w", m.Name, err)
		}
		if err := c.add(Entry{Manifest: m, Version: v, Digest: m.Digest()}); err != nil {
			return nil, err
		}
	}
	c.sort()
	return c, nil
}

func (c *Catalogue) add(e Entry) error {
	if slices.ContainsFunc(c.entries, func(o Entry) bool { return o.Manifest.Name == e.Manifest.Name && o.Version == e.Version }) {
		return fmt.Errorf("connector %s: version %s is there twice", e.Manifest.Name, e.Version)
	}
	c.entries = append(c.entries, e)
	return nil
}

func (c *Catalogue) sort() {
	slices.SortFunc(c.entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Manifest.Name, b.Manifest.Name), b.Version.Compare(a.Version))
	})
}

// Read reads a catalogue from a directory: NAME/connector.yaml and the cases in NAME/test.yaml. A directory may hold older
// versions as NAME/connector-VERSION.yaml. A manifest that is not valid is an error, which names all of its problems.
func Read(files fs.FS) (*Catalogue, error) {
	names, err := fs.Glob(files, "*/connector*.yaml")
	if err != nil {
		return nil, fmt.Errorf("read catalogue: %w", err)
	}
	c := &Catalogue{}
	for _, name := range names {
		e, err := readEntry(files, name)
		if err != nil {
			return nil, err
		}
		if err := c.add(e); err != nil {
			return nil, err
		}
	}
	c.sort()
	return c, nil
}

func readEntry(files fs.FS, name string) (Entry, error) {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return Entry{}, fmt.Errorf("read manifest: %w", err)
	}
	doc, problems := Decode(name, text)
	if doc == nil {
		return Entry{}, fmt.Errorf("read manifest %s: %w", name, problems)
	}
	m := doc.Manifest
	if dir := path.Dir(name); dir != m.Name {
		return Entry{}, fmt.Errorf("read manifest %s: the connector is called %s, its directory %s", name, m.Name, dir)
	}
	v, err := connector.ParseVersion(m.Version)
	if err != nil {
		return Entry{}, fmt.Errorf("read manifest %s: %w", name, err)
	}
	e := Entry{Manifest: m, Version: v, Digest: m.Digest()}
	tests := path.Join(path.Dir(name), "test.yaml")
	if text, err = fs.ReadFile(files, tests); err == nil {
		var cases *Tests
		if cases, problems = DecodeTests(tests, text, m); cases == nil {
			return Entry{}, fmt.Errorf("read tests %s: %w", tests, source.Problems(problems))
		}
		e.Cases = len(cases.Cases)
	}
	return e, nil
}

// Entries are all manifests, by name, the newest version of each first. The caller must not change them.
func (c *Catalogue) Entries() []Entry { return c.entries }

// Resolve returns the newest version of a name that a range takes. versions is such as ^1; empty takes the newest release.
// The error wraps [ErrNoConnector], or [connector.ErrVersion].
func (c *Catalogue) Resolve(name, versions string) (*connector.Manifest, error) {
	r, err := connector.ParseRange(versions)
	if err != nil {
		return nil, err
	}
	known := false
	for _, e := range c.entries {
		if e.Manifest.Name != name {
			continue
		}
		known = true
		if r.Contains(e.Version) {
			return e.Manifest, nil
		}
	}
	if known {
		return nil, fmt.Errorf("%w: no version of %q is in the range %s", ErrNoConnector, name, versions)
	}
	return nil, fmt.Errorf("%w: nothing is called %q", ErrNoConnector, name)
}

// Names are the names of all connectors, each once, in order.
func (c *Catalogue) Names() []string {
	var names []string
	for _, e := range c.entries {
		names = append(names, e.Manifest.Name)
	}
	return slices.Compact(names)
}
