package connector

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/credential"
)

// Problem is one thing that is wrong with a manifest, at a place such as actions.createIssue.input.title.
type Problem struct{ At, Message string }

// Problems are all that is wrong with a manifest.
type Problems []Problem

// Error lists the problems, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].At + ": " + p[i].Message
	}
	return strings.Join(lines, "\n")
}

// checker collects what is wrong with one manifest.
type checker struct {
	m           *Manifest
	problems    Problems
	name, input *regexp.Regexp // of names
}

func (c *checker) add(at, format string, args ...any) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, Problem{at, fmt.Sprintf(format, args...)})
	}
}

const maxProblems = 200

// Check reports everything that is wrong with the manifest, but for what its JSON Schemas mean. The places are those of a
// manifest file: what is a list here and a map by name there is named by its names.
func (m *Manifest) Check() Problems {
	c := &checker{m: m, name: namePattern(), input: inputPattern()}
	c.identity()
	c.hosts()
	if err := m.CheckAuth(); err != nil {
		var found credential.Problems
		errors.As(err, &found)
		for _, p := range found {
			c.add(p.At, "%s", p.Message)
		}
	}
	c.tests()
	c.defaults()
	if len(m.Actions) > MaxActions {
		c.add("actions", "at most %d actions", MaxActions)
		return c.problems
	}
	c.followed()
	seen := map[string]bool{}
	for i := range m.Actions {
		a := &m.Actions[i]
		at := Join("actions", a.Name)
		if seen[a.Name] {
			c.add(at, "there is another action of this name")
		}
		seen[a.Name] = true
		c.action(at, a)
	}
	if len(m.Triggers) > MaxTriggers {
		c.add("triggers", "at most %d triggers", MaxTriggers)
		return c.problems
	}
	for i := range m.Triggers {
		c.trigger(Join("triggers", m.Triggers[i].Name), &m.Triggers[i])
	}
	if len(m.Schemas) > MaxSchemas {
		c.add("schemas", "at most %d schemas", MaxSchemas)
	}
	return c.problems
}

// Join appends a name to a place.
func Join(path, name string) string {
	for _, r := range name {
		if r != '-' && r != '_' && r != '$' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return fmt.Sprintf("%s[%q]", path, name)
		}
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

func (c *checker) identity() {
	m := c.m
	if !regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`).MatchString(m.Name) {
		c.add("connector", "a name is small letters, digits and dashes, a letter first, at most %d", MaxName)
	}
	if _, err := ParseVersion(m.Version); err != nil {
		c.add("version", "%s", err)
	}
	c.text("title", m.Title)
	c.text("description", m.Description)
	if m.Title == "" {
		c.add("title", "a title is missing")
	}
	switch m.Tier {
	case TierVerified, TierImported, TierCode:
	default:
		c.add("tier", "verified, imported or code")
	}
	c.web("docs", m.Docs)
	c.web("provenance.source", m.Provenance.Source)
	if k := m.Provenance.Kind; k != "hand" && k != "openapi" {
		c.add("provenance.kind", "hand or openapi")
	}
	if m.Provenance.Kind == "openapi" && m.Tier == TierVerified {
		c.add("tier", "what was made from a document is imported: only what was written and reviewed by hand is verified")
	}
}

func (c *checker) text(at, s string) {
	if len(s) > MaxText || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' }) {
		c.add(at, "a text of at most %d bytes without control characters", MaxText)
	}
}

// web checks the address of a document.
func (c *checker) web(at, s string) {
	if s == "" {
		return
	}
	if u, err := url.Parse(s); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || len(s) > MaxPath {
		c.add(at, "expected a web address such as https://docs.example.com")
	}
}

func (c *checker) hosts() {
	m := c.m
	if len(m.Hosts) == 0 || len(m.Hosts) > MaxHosts {
		c.add("hosts", "from 1 to %d hosts", MaxHosts)
	}
	report := func(err error) {
		var found credential.Problems
		if errors.As(err, &found) {
			for _, p := range found {
				c.add(p.At, "%s", p.Message)
			}
		}
	}
	for i, h := range m.Hosts {
		at := "hosts[" + strconv.Itoa(i) + "]"
		report(m.Vars.CheckHost(at, h))
		if h != strings.ToLower(h) {
			c.add(at, "a host is written in small letters")
		}
	}
	report(m.Vars.CheckURL("base_url", m.BaseURL))
	c.baseURL("base_url", m.BaseURL)
	if len(m.Bases) > MaxBases {
		c.add("bases", "at most %d bases besides base_url", MaxBases)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(m.Bases)) {
		at, url := Join("bases", name), m.Bases[name]
		report(m.Vars.CheckURL(at, url))
		c.baseURL(at, url)
		c.further(at, name, url)
	}
}

// baseURL checks what follows from the paths and hosts that a base URL has to do with.
func (c *checker) baseURL(at, url string) {
	if h := BaseHost(url); !slices.Contains(c.m.Hosts, h) {
		c.add(at, "its host %q is none of hosts", h)
	}
	if strings.HasSuffix(url, "/") || strings.ContainsAny(url, "?#") {
		c.add(at, "it ends without a slash, and has neither query nor fragment: paths of actions begin with a slash")
	}
}

// further checks what a base besides base_url must be.
func (c *checker) further(at, name, url string) {
	if !c.name.MatchString(name) {
		c.add(at, "a name is letters, digits and underscores, a letter first, at most %d", MaxName)
	}
	if !slices.ContainsFunc(c.m.Actions, func(a Action) bool { return a.Base == name }) {
		c.add(at, "no action has this base: a credential is bound to hosts that are called, and to no others")
	}
	scheme, _, _ := strings.Cut(c.m.BaseURL, "://")
	if !strings.HasPrefix(url, scheme+"://") {
		c.add(at, "it begins with %s:// as base_url does", scheme)
	}
	for i := range c.m.Auth {
		if len(c.m.Auth[i].Recipe.Bound()) > 0 && strings.Contains(url, "{") {
			c.add(at, "the answer of the provider decides on the base URL of method %q, so further ones have no variables", c.m.Auth[i].ID)
		}
	}
}

// BaseHost is the host of a URL template, with its port.
func BaseHost(base string) string {
	_, rest, _ := strings.Cut(base, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return rest
}

// tests checks the actions that prove that a connection works.
func (c *checker) tests() {
	for i := range c.m.Auth {
		t := c.m.Auth[i].Test
		if t == nil {
			continue
		}
		at := "auth[" + strconv.Itoa(i) + "].test.action"
		a := c.m.Action(t.Action)
		if a == nil {
			c.add(at, "there is no action %q", t.Action)
			continue
		}
		for _, in := range a.Inputs {
			if in.Required && len(in.Default) == 0 {
				c.add(at, "a connection test has no inputs, and %q needs %q", t.Action, in.Name)
			}
		}
		if a.Method != "GET" && a.Method != "HEAD" && a.Method != "POST" {
			c.add(at, "a connection test changes nothing: GET, HEAD, or a POST that only reads")
		}
	}
}

func (c *checker) defaults() {
	d := &c.m.Defaults
	c.fixed("defaults.headers", d.Headers)
	c.fixed("defaults.query", d.Query)
	c.paginate("defaults.paginate", d.Paginate)
	c.idempotency("defaults.idempotency", d.Idempotency)
	c.limits("defaults.limits", d.Limits)
	if r := d.Retry; r != nil && (r.Pause < 0 || r.Pause.Std() > MaxRetryAfter) {
		c.add("defaults.retry.wait", "at most an hour")
	} else if err := c.m.Rate().Check(); err != nil { // of the defaults, or of actions
		c.add("defaults.limits", "%s", err)
	}
	if r := d.Retry; r != nil {
		for i, s := range r.Statuses {
			if s < 100 || s > 599 {
				c.add("defaults.retry.statuses["+strconv.Itoa(i)+"]", "a status is from 100 to 599")
			}
		}
	}
}

func (c *checker) fixed(at string, list []Fixed) {
	for _, f := range list {
		if strings.ContainsAny(f.Value, "\r\n\x00") || len(f.Value) > MaxText {
			c.add(Join(at, f.Name), "a text of one line, at most %d bytes", MaxText)
		}
		if strings.HasSuffix(at, ".headers") {
			c.header(Join(at, f.Name), f.Name)
		}
	}
}

// header checks the name of a header that a manifest may set.
func (c *checker) header(at, name string) {
	if !regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$").MatchString(name) {
		c.add(at, "%q is no name of a header", name)
		return
	}
	switch strings.ToLower(name) {
	case "host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "keep-alive", "proxy-authorization", "proxy-connection", "expect", "cookie":
		c.add(at, "the header %s is not for a manifest to set", name)
	case "authorization":
		c.add(at, "a credential is placed by the auth method")
	}
}

func (c *checker) idempotency(at string, i *Idempotency) {
	if i == nil {
		return
	}
	if i.Header != "" {
		c.header(at+".header", i.Header)
	}
	if i.Unsafe && i.Header != "" {
		c.add(at+".unsafe", "either a header, or unsafe")
	}
}

func (c *checker) limits(at string, l *Limits) {
	if l != nil && (l.Concurrent < 0 || l.PerSecond < 0 || l.Burst < 0 || *l == (Limits{})) {
		c.add(at, "at least one of concurrent and per_second, and none below zero")
	}
}

func (c *checker) paginate(at string, p *Paginate) {
	if p == nil {
		return
	}
	need := func(name, value string) {
		if value == "" {
			c.add(at+"."+name, "pagination by %s needs %s", p.Type, name)
		}
	}
	switch p.Type {
	case PageNone, PageLink:
	case PageCursor:
		need("name", p.Name)
		if p.From == "" && p.Last == "" {
			need("from", p.From)
		}
	case PageOffset, PageNumber:
		need("name", p.Name)
	default:
		c.add(at+".type", "none, link, cursor, offset or page")
	}
	if p.In != "" && p.In != InQuery && p.In != InBody {
		c.add(at+".in", "query or body")
	}
	if p.Start < 0 || p.Size != nil && (p.Size.Value < 1 || p.Size.Value > 10_000) {
		c.add(at+".size", "a size is from 1 to 10000, and a start is not below zero")
	}
}

// refs reports references of a schema to schemas that the manifest does not have.
func (c *checker) refs(at string, raw json.RawMessage) {
	if len(raw) == 0 {
		return
	}
	if len(raw) > MaxSchema {
		c.add(at, "a schema of at most %d bytes", MaxSchema)
		return
	}
	for _, ref := range Refs(raw) {
		name, ok := strings.CutPrefix(ref, SchemaRef)
		switch {
		case !ok && (ref == "#" || strings.HasPrefix(ref, "#/")):
		case !ok:
			c.add(at, "the reference %q leaves the manifest: expected #/schemas/NAME", cut(ref))
		case c.m.Schemas[name] == nil:
			c.add(at, "there is no schema %q", cut(name))
		}
	}
}

func cut(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
