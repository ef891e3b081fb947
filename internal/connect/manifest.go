package connect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/connectorfile"
	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Manifests finds the connectors of an organization.
type Manifests interface {
	// Manifest is a connector by its name, in the newest version that a range such as 1.2.0, ^1
	// or ~1.2 takes; of all when it is empty. connectorfile.ErrNoConnector means that there is
	// none.
	Manifest(ctx context.Context, o id.Org, name, version string) (*connector.Manifest, error)
}

// Errors of this package.
var (
	// ErrUnknown means that there is no such connector, version or auth method.
	ErrUnknown = errors.New("unknown connector")
	// ErrUsed means that a link was used, has expired or was revoked.
	ErrUsed = errors.New("the link was used or has expired")
	// ErrPerson means that an auth method needs a person in a browser.
	ErrPerson = errors.New("the provider must be asked in a browser")
	// ErrConflict means that a change does not fit what there is.
	ErrConflict = errors.New("conflict")
)

// Wrong is one thing that is wrong with what was entered, without the value.
type Wrong struct {
	Place   string // such as fields.token or vars.region
	Message string
}

// InvalidError lists what is wrong with what was entered.
type InvalidError []Wrong

// Error implements error.
func (e InvalidError) Error() string {
	var b strings.Builder
	for n, w := range e {
		if n > 0 {
			b.WriteString("; ")
		}
		b.WriteString(w.Place + ": " + w.Message)
	}
	return b.String()
}

func invalid(place, format string, args ...any) error {
	return InvalidError{{place, fmt.Sprintf(format, args...)}}
}

// offer is what a manifest offers to who connects.
type offer struct {
	manifest *connector.Manifest
	vars     credential.Vars
	methods  []credential.Method
}

// offer reads the connector of a name and version.
func (s *Service) offer(ctx context.Context, o id.Org, name, version string) (*offer, error) {
	if s.o.Manifests == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, name)
	}
	m, err := s.o.Manifests.Manifest(ctx, o, name, version)
	if errors.Is(err, connectorfile.ErrNoConnector) || errors.Is(err, connector.ErrVersion) {
		err = fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	if err != nil {
		return nil, err
	}
	x := &offer{manifest: m, vars: m.Vars, methods: m.Auth}
	if len(x.methods) == 0 {
		x.methods = []credential.Method{{ID: "none", Type: credential.None}}
	}
	return x, nil
}

// method finds an auth method; the first one for an empty id.
func (x *offer) method(id string) (*credential.Method, error) {
	for n := range x.methods {
		if id == "" || x.methods[n].ID == id {
			return &x.methods[n], nil
		}
	}
	return nil, fmt.Errorf("%w: %s has no auth method %q; it has %s", ErrUnknown, x.manifest.Name, id, strings.Join(x.methodIDs(), ", "))
}

func (x *offer) methodIDs() []string {
	var ids []string
	for n := range x.methods {
		ids = append(ids, x.methods[n].ID)
	}
	return ids
}

// free are the variables with which a person may choose any host at all.
func (x *offer) free() []string {
	return slices.DeleteFunc(x.varNames(), func(name string) bool { return !slices.Contains(x.vars[name].Suffixes, credential.AnyHost) })
}

// pinned is what is offered together with an OAuth client: a host that a person may choose is the one for which the client
// was entered. It is so in the sealed records of the client and of what is connected with it: else whoever is given a link
// could name a host of their own, and the client's secret would be sent there.
func (x *offer) pinned(values map[string]string) *offer {
	out := *x
	out.vars = maps.Clone(x.vars)
	for _, name := range x.free() {
		v := x.vars[name]
		v.Suffixes, v.Default = []string{values[name]}, values[name]
		out.vars[name] = v
	}
	return &out
}

// hostPatterns are the hosts of templates with their ports, with "*" for what variables decide.
func hostPatterns(hosts []string, vars credential.Vars) []string {
	var out []string
	add := func(host string) {
		if !slices.Contains(out, host) {
			out = append(out, host)
		}
	}
	for _, h := range hosts {
		end := strings.LastIndexByte(h, '}')
		if end < 0 {
			add(h)
			continue
		}
		if _, rest, ok := strings.Cut(h[end+1:], "."); ok {
			add("*." + rest)
			continue
		}
		bare, port := h[:end+1], h[end+1:]
		for name, v := range vars {
			if bare != "{"+name+"}" {
				continue
			}
			for _, s := range slices.Concat(v.Suffixes, v.Enum) {
				if strings.HasPrefix(s, ".") {
					s = "*" + s
				}
				add(s + port)
			}
		}
	}
	return out
}
