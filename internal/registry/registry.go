// Package registry finds connectors: those of the catalogue of this release, and those that an organization has published
// itself.
//
// Authority: it decides which manifest a name and a range of versions mean, and what may be published: a valid manifest
// whose name is not one of the catalogue's, under a version that is not there yet. Versions never change.
//
// Concurrency: a [Registry] is safe for concurrent use. A connector of the catalogue is read when it is first needed.
//
// Failure: a manifest of the catalogue that cannot be read, which no build has, is an error of every call that needs it.
package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/connectors"
	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/connectorfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/source"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Errors of this package. A name or range that means nothing is [connectorfile.ErrNoConnector].
var (
	// ErrTaken means that the catalogue has a connector of the name.
	ErrTaken = errors.New("the catalogue has a connector of this name")
	// ErrPublished means that the version is there already, with other content.
	ErrPublished = errors.New("this version is published already, with other content")
)

// Registry finds connectors.
type Registry struct {
	db        *store.Store
	catalogue func() (*connectorfile.Catalogue, error)
}

// New makes a registry of the catalogue of this release and the connectors in db.
func New(db *store.Store) *Registry { return &Registry{db: db, catalogue: Catalogue()} }

// Catalogue opens the catalogue of this release when the result is first called.
func Catalogue() func() (*connectorfile.Catalogue, error) {
	return sync.OnceValues(func() (*connectorfile.Catalogue, error) { return connectorfile.Open(connectors.Files) })
}

// Connector is a version of a connector, and how far it is proved.
type Connector struct {
	Name    string
	Version string
	Title   string
	Tier    connector.Tier
	Digest  [32]byte
	Own     bool // published by the organization; else of the catalogue
	Cases   int  // of the vendor's requests, answers and events with which it was compared
	// Retrieved is the full-date (RFC 3339) of the vendor's copy that it was compared with or made of, or empty.
	Retrieved string
	Actions   int // of those in the catalogue
	Triggers  int
}

// List lists connectors by name, the newest version of each first.
func (r *Registry) List(ctx context.Context, o id.Org) ([]Connector, error) {
	c, err := r.catalogue()
	if err != nil {
		return nil, err
	}
	var list []Connector
	entries, err := c.All()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		m := e.Manifest
		list = append(list, Connector{m.Name, m.Version, m.Title, m.Tier, e.Digest, false, e.Cases, m.Provenance.Retrieved, len(m.Actions), len(m.Triggers)})
	}
	rows, err := r.db.Org(ctx, o).Connectors("")
	if err != nil {
		return nil, fmt.Errorf("list connectors: %w", err)
	}
	for i := range rows {
		x := &rows[i]
		list = append(list, Connector{Name: x.Name, Version: x.Version, Title: x.Title, Tier: connector.Tier(x.Tier), Digest: x.Digest, Own: true, Cases: x.Cases, Retrieved: x.Retrieved})
	}
	slices.SortStableFunc(list, func(a, b Connector) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return compareVersions(b.Version, a.Version)
	})
	return list, nil
}

func compareVersions(a, b string) int {
	v, errV := connector.ParseVersion(a)
	w, errW := connector.ParseVersion(b)
	if errV != nil || errW != nil {
		return strings.Compare(a, b)
	}
	return v.Compare(w)
}

// Manifest is the newest version of a name that a range takes: 1.2.0, ^1, ~1.2, or the newest release where it is empty.
// The error wraps [connectorfile.ErrNoConnector], or [connector.ErrVersion].
func (r *Registry) Manifest(ctx context.Context, o id.Org, name, versions string) (*connector.Manifest, error) {
	c, err := r.catalogue()
	if err != nil {
		return nil, err
	}
	if slices.Contains(c.Names(), name) {
		return c.Manifest(name, versions)
	}
	wanted, err := connector.ParseRange(versions)
	if err != nil {
		return nil, err
	}
	rows, err := r.db.Org(ctx, o).Connectors(name)
	if err != nil {
		return nil, fmt.Errorf("find connector: %w", err)
	}
	newest := ""
	for i := range rows {
		v, err := connector.ParseVersion(rows[i].Version)
		if err == nil && name != "" && wanted.Contains(v) && (newest == "" || compareVersions(rows[i].Version, newest) > 0) {
			newest = rows[i].Version
		}
	}
	switch {
	case newest != "":
		return r.own(ctx, o, name, newest)
	case len(rows) > 0 && name != "":
		return nil, fmt.Errorf("%w: no version of %q is in the range %q", connectorfile.ErrNoConnector, name, versions)
	}
	text := ""
	if all, err := r.db.Org(ctx, o).Connectors(""); err == nil {
		names := slices.Clone(c.Names())
		for i := range all {
			names = append(names, all[i].Name)
		}
		if near := source.Nearest(source.Cut(name, connector.MaxName), names); near != "" {
			text = fmt.Sprintf("; did you mean %q?", near)
		}
	}
	return nil, fmt.Errorf("%w: nothing is called %q%s", connectorfile.ErrNoConnector, name, text)
}

func (r *Registry) own(ctx context.Context, o id.Org, name, version string) (*connector.Manifest, error) {
	b, err := r.db.Org(ctx, o).ConnectorManifest(name, version)
	if err != nil {
		return nil, fmt.Errorf("read connector: %w", err)
	}
	m, err := connector.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("read connector %s %s: %w", name, version, err)
	}
	return m, nil
}

// Names are the names of all connectors of an organization.
func (r *Registry) Names(ctx context.Context, o id.Org) ([]string, error) {
	c, err := r.catalogue()
	if err != nil {
		return nil, err
	}
	rows, err := r.db.Org(ctx, o).Connectors("")
	if err != nil {
		return nil, fmt.Errorf("list connectors: %w", err)
	}
	names := slices.Clone(c.Names())
	for i := range rows {
		names = append(names, rows[i].Name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Publish publishes a manifest of an organization, which [connectorfile.Decode] has read. cases is how many cases of its
// tests hold. Publishing the same again is no error. The error wraps [ErrTaken] or [ErrPublished].
func (r *Registry) Publish(ctx context.Context, o id.Org, m *connector.Manifest, cases int, by string, now time.Time) error {
	c, err := r.catalogue()
	if err != nil {
		return err
	}
	if slices.Contains(c.Names(), m.Name) || m.Name == "http" {
		return fmt.Errorf("%w: %s", ErrTaken, m.Name)
	}
	text, err := m.Encode()
	if err != nil {
		return err
	}
	row := &store.Connector{Name: m.Name, Version: m.Version, Digest: m.Digest(), Tier: string(m.Tier), Title: m.Title, Cases: cases, Retrieved: m.Provenance.Retrieved, CreatedBy: by}
	published := false
	err = r.db.Write(ctx, func(tx *store.Tx) error {
		published, err = tx.Org(o).PutConnector(row, text, now)
		return err
	})
	if err != nil || published {
		return err
	}
	there, err := r.own(ctx, o, m.Name, m.Version)
	if err != nil {
		return err
	}
	if there.Digest() != m.Digest() {
		return fmt.Errorf("%w: %s %s", ErrPublished, m.Name, m.Version)
	}
	return nil
}
