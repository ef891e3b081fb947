package openapi

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/credential"
)

// endpoint is where requests of a connector go: one base URL, whose host may be a choice.
type endpoint struct {
	base  string // template without a slash at the end
	hosts []string
	vars  credential.Vars
	notes []string
}

// readServers makes one base URL of the servers of a document. source is the URL that the document was read from; relative
// servers are relative to it.
func readServers(d *document, source string) (*endpoint, error) {
	if e := parameterizedHost(d); e != nil {
		return e, nil
	}
	var urls []string
	var nodes []*node
	for _, s := range d.root.get("servers").list() {
		u, err := absolute(s.get("url").str(), source)
		if err != nil {
			continue
		}
		urls, nodes = append(urls, u), append(nodes, s)
	}
	if len(urls) == 0 && source != "" && d.root.get("servers").size() == 0 {
		if u, err := absolute("/", source); err == nil {
			urls, nodes = []string{u}, []*node{mapNode()}
		}
	}
	if len(urls) == 0 {
		return nil, errNoHost
	}
	e := &endpoint{vars: credential.Vars{}}
	at := slices.IndexFunc(urls, func(u string) bool { return strings.HasPrefix(u, "https://") })
	if at < 0 {
		at = 0
		if !strings.HasPrefix(urls[0], "http://") {
			return nil, fmt.Errorf("%w: its servers are not of HTTP", errNoHost)
		}
		e.notes = append(e.notes, "the document names http:// only; the connector uses https://")
	}
	return e, e.server(urls[at], nodes[at], urls)
}

var errNoHost = fmt.Errorf("the document names no host: give the URL that it was read from (--source), or base_url and hosts in the side file")

// absolute resolves a server's URL, which may be a template, against the document's.
func absolute(u, source string) (string, error) {
	u = strings.TrimSpace(u)
	if strings.HasPrefix(u, "//") {
		u = "https:" + u
	}
	if strings.Contains(u, "://") || strings.HasPrefix(u, "{") && strings.Contains(u, "}") {
		return u, nil
	}
	if host, _, _ := strings.Cut(u, "/"); strings.Contains(host, ".") && !strings.HasPrefix(u, ".") && hostPattern.MatchString(host) {
		return "https://" + u, nil // a host without its scheme
	}
	from, err := url.Parse(source)
	if err != nil || from.Host == "" {
		return "", errNoHost
	}
	relative, err := url.Parse(u)
	if err != nil {
		return "", fmt.Errorf("read URL of server: %w", err)
	}
	return from.ResolveReference(relative).String(), nil
}

var (
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:[0-9]+)?$`)
	braces      = regexp.MustCompile(`\{([^{}]*)\}`)
)

// server reads one server and its variables.
func (e *endpoint) server(u string, n *node, all []string) error {
	u = strings.TrimRight(u, "/")
	if i := strings.IndexAny(u, "?#"); i >= 0 {
		u = strings.TrimRight(u[:i], "/")
	}
	for _, m := range braces.FindAllStringSubmatch(u, -1) { // what holds a path is no part of the host
		if d := n.at("variables", m[1], "default").str(); strings.HasPrefix(d, "/") {
			u = strings.TrimRight(strings.ReplaceAll(u, m[0], strings.TrimRight(d, "/")), "/")
		}
	}
	scheme, rest, ok := strings.Cut(u, "://")
	if !ok { // the whole is a variable
		if m := braces.FindStringSubmatch(u); m != nil {
			return e.whole(u, m[1], n)
		}
		return errNoHost
	}
	if strings.HasPrefix(scheme, "{") {
		scheme = "https"
	}
	if strings.EqualFold(scheme, "ws") || strings.EqualFold(scheme, "wss") {
		return fmt.Errorf("%w: its servers are not of HTTP", errNoHost)
	}
	host, path, _ := strings.Cut(rest, "/")
	if _, after, ok := strings.Cut(host, "@"); ok {
		host = after
	}
	if path != "" {
		path = "/" + path
	}
	host, path, err := e.variables(host, path, n)
	if err != nil {
		return err
	}
	if len(e.vars) == 0 {
		if host, ok = e.several(host, path, all); !ok {
			e.hosts = []string{strings.ToLower(host)}
		}
	} else {
		e.hosts = append(e.hosts, strings.ToLower(host))
	}
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	e.base = "https://" + host + cleanPath(path)
	if err := e.vars.CheckURL("server", e.base); err != nil {
		return fmt.Errorf("%w: %w", errNoHost, err)
	}
	return nil
}

// variables makes variables of the connector of those in the host, and puts the defaults of those in the path in.
func (e *endpoint) variables(host, path string, n *node) (string, string, error) {
	for _, m := range braces.FindAllStringSubmatch(host, -1) {
		v := n.at("variables", m[1])
		id := variableName(m[1])
		one := credential.Var{Title: line(m[1], maxTitle), Help: clip(v.get("description").str(), maxInputText)}
		fallback := v.get("default").str()
		for _, word := range v.get("enum").list() {
			if word.str() != "" {
				one.Enum = append(one.Enum, word.str())
			}
		}
		switch {
		case strings.Contains(host, ":"+m[0]): // the port
			if fallback == "443" || fallback == "" {
				host = strings.Replace(host, ":"+m[0], "", 1)
			} else {
				host = strings.Replace(host, m[0], fallback, 1)
			}
			continue
		case len(one.Enum) == 0 && host == m[0] || slices.ContainsFunc(one.Enum, func(s string) bool { return strings.Contains(s, ".") }):
			one.Suffixes, one.Enum = one.Enum, nil
			if len(one.Suffixes) == 0 && hostPattern.MatchString(fallback) {
				one.Suffixes = []string{fallback}
			}
			if host != m[0] && len(one.Suffixes) > 0 { // part of a host, with dots: the first is taken
				host = strings.Replace(host, m[0], one.Suffixes[0], 1)
				continue
			}
			if len(one.Suffixes) == 0 {
				return "", "", fmt.Errorf("%w: its host is whatever {%s} says", errNoHost, clip(m[1], 50))
			}
		case len(one.Enum) == 0:
			if strings.Contains(fallback, ".") {
				host = strings.Replace(host, m[0], fallback, 1)
				continue
			}
			one.Default = fallback
		}
		if len(one.Enum) > 0 && slices.Contains(one.Enum, fallback) || len(one.Suffixes) > 0 && slices.Contains(one.Suffixes, fallback) {
			one.Default = fallback
		}
		host = strings.ReplaceAll(host, m[0], "{"+id+"}")
		e.vars[id] = one
	}
	for _, m := range braces.FindAllStringSubmatch(path, -1) {
		v := n.at("variables", m[1])
		fallback := v.get("default").str()
		if fallback == "" {
			id := variableName(m[1])
			e.vars[id] = credential.Var{Title: line(m[1], maxTitle), Type: credential.VarSegment, Help: clip(v.get("description").str(), maxInputText)}
			path = strings.ReplaceAll(path, m[0], "{"+id+"}")
			continue
		}
		path = strings.ReplaceAll(path, m[0], strings.Trim(fallback, "/"))
	}
	path = strings.TrimRight(path, "/")
	if len(e.vars) > credential.MaxVars {
		return "", "", fmt.Errorf("the server has more than %d variables", credential.MaxVars)
	}
	return host, path, nil
}

// several makes a variable of servers that differ in nothing but the host: environments, regions.
func (e *endpoint) several(host, path string, all []string) (string, bool) {
	var hosts []string
	for _, u := range all {
		rest, ok := strings.CutPrefix(strings.TrimRight(u, "/"), "https://")
		h, p, _ := strings.Cut(rest, "/")
		if p = strings.TrimRight(p, "/"); p != "" {
			p = "/" + p
		}
		if ok && p == path && hostPattern.MatchString(h) && !strings.Contains(h, ":") && !slices.Contains(hosts, strings.ToLower(h)) {
			hosts = append(hosts, strings.ToLower(h))
		} else if ok && !slices.Contains(hosts, strings.ToLower(h)) {
			e.notes = append(e.notes, "the server "+line(u, maxTitle)+" is left out")
		}
	}
	if len(hosts) < 2 || len(hosts) > connector.MaxHosts {
		return host, false
	}
	e.vars = credential.Vars{"server": {Title: "Server", Suffixes: hosts, Default: hosts[0]}}
	e.hosts = []string{"{server}"}
	return "{server}", true
}

// whole reads a server that is one variable: only the hosts that the document names are taken.
func (e *endpoint) whole(u, variable string, n *node) error {
	v := n.at("variables", variable)
	fallback := v.get("default").str()
	path := strings.TrimPrefix(u, "{"+variable+"}")
	if !strings.Contains(fallback, "://") {
		if !hostPattern.MatchString(fallback) {
			return fmt.Errorf("%w: its server is whatever {%s} says", errNoHost, clip(variable, 50))
		}
		fallback = "https://" + fallback
	}
	return e.server(strings.TrimRight(fallback, "/")+path, mapNode(), nil)
}

func variableName(s string) string {
	id := strings.ToLower(identifier(s, "var"))
	if slices.Contains(strings.Fields(credential.Names), id) {
		id = "server_" + id
	}
	if len(id) > connector.MaxName {
		id = id[:connector.MaxName]
	}
	return id
}

// parameterizedHost reads x-ms-parameterized-host of AutoRest; nil where there is none that can be used.
func parameterizedHost(d *document) *endpoint {
	h := d.root.get("x-ms-parameterized-host")
	template := h.get("hostTemplate").str()
	if template == "" {
		return nil
	}
	server := mapNode()
	variables := mapNode()
	for _, p := range h.get("parameters").list() {
		t := d.deref(p)
		v := mapNode()
		schema := d.deref(t.get("schema"))
		for _, k := range []string{"default", "enum", "description"} {
			if value := schema.get(k); value != nil {
				v.set(k, value)
			} else if value := t.get(k); value != nil {
				v.set(k, value)
			}
		}
		variables.set(t.get("name").str(), v)
	}
	server.set("variables", variables)
	if !strings.Contains(template, "://") {
		template = "https://" + template
	}
	e := &endpoint{vars: credential.Vars{}}
	if u := d.root.get("servers").list(); len(u) > 0 {
		if base, err := url.Parse(u[0].get("url").str()); err == nil && base.Path != "/" {
			template = strings.TrimRight(template, "/") + base.Path
		}
	}
	if err := e.server(template, server, nil); err != nil {
		return nil
	}
	return e
}

// within is the path of a server of one operation behind the base URL; ok is false when the server is another one.
func (e *endpoint) within(d *document, servers *node, source string) (path string, ok bool) {
	list := servers.list()
	if len(list) == 0 {
		return "", true
	}
	for _, s := range list {
		u, err := absolute(s.get("url").str(), source)
		if err != nil {
			continue
		}
		other := &endpoint{vars: credential.Vars{}}
		if other.server(u, s, nil) != nil {
			continue
		}
		if rest, same := strings.CutPrefix(other.base, e.base); same && (rest == "" || rest[0] == '/') {
			return rest, true
		}
	}
	return "", false
}
