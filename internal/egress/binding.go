package egress

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/dial"
)

// Limits of a binding.
const (
	// MaxRules is the most method-and-path rules a binding may have.
	MaxRules = 1000
	// MaxBases is the most places that a binding may have besides its first.
	MaxBases = 10
	// MaxFollow is the most actions whose redirects are followed to other origins, and the most hosts of one.
	MaxFollow = 50
	// MaxPath is the longest escaped path of a request, base path included, in bytes.
	MaxPath = 8 << 10
	// minPatternLabels keeps a pattern from covering a whole top-level domain.
	minPatternLabels = 2
)

// ErrBinding is wrapped by every error about a [Binding] that cannot be used.
var ErrBinding = errors.New("invalid binding")

// Binding says where a credential may be sent. It is part of the credential's
// sealed record; nothing in a request can widen it.
type Binding struct {
	// Scheme is "https" or "http".
	Scheme string
	// Host is a host name or address, or a pattern "*.example.com" that stands for
	// every name below example.com (not for example.com itself). See [dial.CanonicalHost].
	Host string
	// Port is the port; 0 is the scheme's own.
	Port uint16
	// BasePath is the escaped path in front of every request's path; empty or "/" is the root.
	BasePath string
	// Rules, when not empty, are the only methods and paths allowed.
	Rules []Rule
	// Bases are further places to choose from. Scheme, rules and what is followed are those of the first.
	Bases []Base
	// Follow lists the actions of which a redirect may lead to another origin: download servers. Empty allows none.
	Follow []Follow
}

// Base is a further place where a credential may be sent.
type Base struct {
	// Name is what calls choose it by.
	Name string
	// Host is one host, no pattern. Port is the port; 0 is the scheme's own.
	Host string
	Port uint16
	// BasePath is as in [Binding].
	BasePath string
}

// Follow says where the files of an action are.
type Follow struct {
	// Action is the action of the calls that are redirected.
	Action string
	// Hosts are hosts, exact or patterns, to which a redirect of a GET may lead over https on port 443, without the credential.
	Hosts []string
}

// Rule allows a method on the paths of a template.
type Rule struct {
	// Method is an upper-case method; "*" is any.
	Method string
	// Path is a template below the base path: "/orders/{id}/lines". {name} stands for one
	// segment that is not empty and has no encoded slash; a last segment "**" for one or more segments of any kind.
	Path string
}

// ParseBinding makes the Binding of a base URL such as "https://api.example.com/v2". User
// information, query and fragment are refused: a credential is never part of an address.
func ParseBinding(base string) (Binding, error) {
	u, err := url.Parse(base)
	if err != nil || strings.ContainsAny(base, "\\ ") {
		// The parser's error repeats its input, which may hold a password.
		return Binding{}, fmt.Errorf("%w: not a URL", ErrBinding)
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" || u.Host == "" {
		return Binding{}, fmt.Errorf("%w: a base URL has scheme, host, port and path only", ErrBinding)
	}
	b := Binding{Scheme: strings.ToLower(u.Scheme), Host: u.Hostname(), BasePath: u.EscapedPath()}
	if strings.Contains(b.Host, ":") {
		b.Host = "[" + b.Host + "]"
	}
	if u.Port() != "" {
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || port == 0 {
			return Binding{}, fmt.Errorf("%w: not a port", ErrBinding)
		}
		b.Port = uint16(port)
	} else if strings.HasSuffix(u.Host, ":") {
		return Binding{}, fmt.Errorf("%w: colon without a port", ErrBinding)
	}
	if _, err := compile(b); err != nil {
		return Binding{}, err
	}
	return b, nil
}

// Check reports whether b can be used: an error wraps [ErrBinding].
func (b Binding) Check() error {
	_, err := compile(b)
	return err
}

// hostRule is one canonical host, or every name that ends in suffix.
type hostRule struct{ exact, suffix string }

func (h hostRule) match(host string) bool {
	if h.suffix == "" {
		return host == h.exact
	}
	return len(host) > len(h.suffix) && strings.HasSuffix(host, h.suffix)
}

func compileHost(host string) (hostRule, error) {
	rest, pattern := strings.CutPrefix(host, "*.")
	canonical, err := dial.CanonicalHost(rest)
	if err != nil {
		return hostRule{}, fmt.Errorf("%w: %w", ErrBinding, err)
	}
	if !pattern {
		return hostRule{exact: canonical}, nil
	}
	if strings.Count(canonical, ".") < minPatternLabels-1 || isAddress(canonical) {
		return hostRule{}, fmt.Errorf("%w: a host pattern is \"*.\" and a name of at least two labels", ErrBinding)
	}
	return hostRule{suffix: "." + canonical}, nil
}

// bound is a compiled, canonical Binding.
type bound struct {
	scheme string
	host   hostRule
	port   uint16
	base   string // without a trailing slash
	rules  []rule
	follow map[string][]hostRule // by action
	bases  map[string]*bound
}

// at is the place of a name; nil where the binding has none.
func (b *bound) at(name string) *bound {
	if name == "" {
		return b
	}
	if off(basesNamed) && b.bases[name] == nil {
		return &bound{scheme: b.scheme, host: hostRule{exact: name}, port: b.port}
	}
	return b.bases[name]
}

type rule struct {
	method string
	path   []string
}

func compile(b Binding) (*bound, error) {
	c := &bound{scheme: b.Scheme, port: b.Port}
	if c.scheme != "https" && c.scheme != "http" {
		return nil, fmt.Errorf("%w: the scheme is http or https", ErrBinding)
	}
	if c.port == 0 {
		c.port = defaultPort(c.scheme)
	}
	var err error
	if c.host, err = compileHost(b.Host); err != nil {
		return nil, err
	}
	if b.BasePath != "" {
		if err := checkPath(b.BasePath); err != nil {
			return nil, fmt.Errorf("%w: base path: %w", ErrBinding, err)
		}
		c.base = strings.TrimRight(b.BasePath, "/")
	}
	if len(b.Rules) > MaxRules || len(b.Follow) > MaxFollow {
		return nil, fmt.Errorf("%w: too many rules", ErrBinding)
	}
	for _, r := range b.Rules {
		if r.Method != "*" && !methodAllowed(r.Method) || !strings.HasPrefix(r.Path, "/") {
			return nil, fmt.Errorf("%w: a rule has a method (or *) and a path that begins with a slash", ErrBinding)
		}
		c.rules = append(c.rules, rule{method: r.Method, path: strings.Split(r.Path[1:], "/")})
	}
	if err := c.compileFollow(b.Follow); err != nil {
		return nil, err
	}
	return c, c.compileBases(b)
}

// compileFollow adds the hosts of downloads.
func (b *bound) compileFollow(from []Follow) error {
	b.follow = make(map[string][]hostRule, len(from))
	for _, f := range from {
		if f.Action == "" || b.follow[f.Action] != nil || len(f.Hosts) == 0 || len(f.Hosts) > MaxFollow {
			return fmt.Errorf("%w: redirects are followed for an action, to at most %d hosts", ErrBinding, MaxFollow)
		}
		for _, name := range f.Hosts {
			h, err := compileHost(name)
			if err != nil {
				return err
			}
			b.follow[f.Action] = append(b.follow[f.Action], h)
		}
	}
	return nil
}

// compileBases adds the further places: each is a binding of its own.
func (b *bound) compileBases(from Binding) error {
	if len(from.Bases) > MaxBases {
		return fmt.Errorf("%w: too many bases", ErrBinding)
	}
	b.bases = make(map[string]*bound, len(from.Bases))
	for _, base := range from.Bases {
		if base.Name == "" || b.bases[base.Name] != nil {
			return fmt.Errorf("%w: a base has a name of its own", ErrBinding)
		}
		c, err := compile(Binding{Scheme: from.Scheme, Host: base.Host, Port: base.Port, BasePath: base.BasePath, Rules: from.Rules, Follow: from.Follow})
		if err != nil {
			return err
		}
		if c.host.exact == "" {
			return fmt.Errorf("%w: the host of a base is no pattern", ErrBinding)
		}
		b.bases[base.Name] = c
	}
	return nil
}

func defaultPort(scheme string) uint16 {
	if scheme == "https" {
		return 443
	}
	return 80
}

// permits reports whether a method is allowed on an escaped, checked path that includes the base path.
func (b *bound) permits(method, path string) bool {
	rest, below := strings.CutPrefix(path, b.base)
	if !below || rest != "" && rest[0] != '/' {
		return false
	}
	if len(b.rules) == 0 {
		return true
	}
	segments := strings.Split(strings.TrimPrefix(rest, "/"), "/")
	return slices.ContainsFunc(b.rules, func(r rule) bool {
		return (r.method == "*" || r.method == method) && r.match(segments)
	})
}

func (r rule) match(segments []string) bool {
	for i, want := range r.path {
		if i >= len(segments) {
			return false
		}
		if want == "**" && i == len(r.path)-1 {
			return true
		}
		got := segments[i]
		if strings.HasPrefix(want, "{") && strings.HasSuffix(want, "}") {
			if got == "" || hasEncodedSlash(got) {
				return false
			}
		} else if got != want {
			return false
		}
	}
	return len(segments) == len(r.path)
}
