package connectorfile

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"

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

// Catalogue is a set of manifests by name and version. A connector is read when it is first needed. It is safe for concurrent
// use.
type Catalogue struct {
	files fs.FS
	names []string // in order

	mu   sync.Mutex
	read map[string][]Entry // the newest version first
}

// ErrNoConnector is wrapped where a name and a range of versions match no manifest.
var ErrNoConnector = errors.New("there is no such connector")

// Open opens a directory of connectors: NAME/connector.yaml and the cases in NAME/test.yaml. A connector's directory may hold
// older versions as connector-VERSION.yaml.
func Open(files fs.FS) (*Catalogue, error) {
	found, err := fs.Glob(files, "*/connector.yaml")
	if err != nil {
		return nil, fmt.Errorf("open catalogue: %w", err)
	}
	c := &Catalogue{files: files, read: map[string][]Entry{}}
	for _, name := range found {
		c.names = append(c.names, path.Dir(name))
	}
	slices.Sort(c.names)
	return c, nil
}

// Names are the names of all connectors, in order. The caller must not change them.
func (c *Catalogue) Names() []string { return c.names }

// Versions are the versions of a connector, the newest first. A manifest that is not valid is an error, which names all of its
// problems; a name that there is not is [ErrNoConnector].
func (c *Catalogue) Versions(name string) ([]Entry, error) {
	if !slices.Contains(c.names, name) {
		return nil, fmt.Errorf("%w: nothing is called %q", ErrNoConnector, name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if list, ok := c.read[name]; ok {
		return list, nil
	}
	files, err := fs.Glob(c.files, name+"/connector*.yaml")
	if err != nil {
		return nil, fmt.Errorf("read connector %s: %w", name, err)
	}
	var list []Entry
	for _, file := range files {
		e, err := readEntry(c.files, file)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(list, func(o Entry) bool { return o.Version == e.Version }) {
			return nil, fmt.Errorf("read connector %s: version %s is there twice", name, e.Version)
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Entry) int { return b.Version.Compare(a.Version) })
	c.read[name] = list
	return list, nil
}

// All reads every connector, by name, the newest version of each first.
func (c *Catalogue) All() ([]Entry, error) {
	var all []Entry
	for _, name := range c.names {
		list, err := c.Versions(name)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
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

// Manifest returns the newest version of a name that a range takes. versions is such as ^1; empty takes the newest release.
// The error wraps [ErrNoConnector], or [connector.ErrVersion].
func (c *Catalogue) Manifest(name, versions string) (*connector.Manifest, error) {
	r, err := connector.ParseRange(versions)
	if err != nil {
		return nil, err
	}
	list, err := c.Versions(name)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if r.Contains(e.Version) {
			return e.Manifest, nil
		}
	}
	return nil, fmt.Errorf("%w: no version of %q is in the range %s", ErrNoConnector, name, versions)
}
