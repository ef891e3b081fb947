package egress

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/dial"
)

// maxDrain is how much of a redirect's body is read to keep its connection.
const maxDrain = 4 << 10

// move is a redirect that may be followed.
type move struct {
	method string
	to     target
	same   bool // within the origin: the credential goes along
}

// redirect decides on a 3xx answer; nil means that it is the answer. A redirect within the origin is followed with
// the credential when the binding permits its path. One to another origin is followed once, and only of a GET, over
// https, to a host that the binding names for this action, and without the credential; else it is denied.
// Its address may be a secret of its own: no message repeats it.
func (x *exchange) redirect(resp *http.Response) (*move, error) {
	method, follow := redirectMethod(x.method, resp.StatusCode)
	location := resp.Header.Get("Location")
	if !follow || location == "" || statusListed(x.call.Expect, resp.StatusCode) {
		return nil, nil
	}
	if x.hops >= MaxRedirects {
		return nil, &Fault{Type: Upstream, Message: "too many redirects"}
	}
	to, ok := resolve(x.at, location)
	if !ok {
		return nil, deny("a redirect leads to an address that cannot be used")
	}
	m := &move{method: method, to: to, same: to.sameOrigin(x.origin) && x.credential}
	if m.same {
		m.to.query = x.reinject(to.query)
	}
	if err := x.mayFollow(m, location); err != nil {
		return nil, err
	}
	_, _ = io.CopyN(io.Discard, &x.wire, maxDrain)
	return m, nil
}

// follow makes the exchange describe the next request.
func (x *exchange) follow(m *move) {
	if m.method != x.method {
		x.dropBody()
	}
	if !m.same {
		x.leaveOrigin()
	}
	x.method, x.at = m.method, m.to
	x.hops++
}

// redirectMethod is RFC 9110 section 15.4 as browsers and this program apply it.
func redirectMethod(method string, status int) (string, bool) {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound:
		if method == http.MethodPost {
			return http.MethodGet, true
		}
		return method, true
	case http.StatusSeeOther:
		if method == http.MethodHead {
			return method, true
		}
		return http.MethodGet, true
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return method, true
	}
	return method, false
}

// statusListed reports whether the author expects this very status and so wants to see it.
func statusListed(expect []string, status int) bool {
	text := strconv.Itoa(status)
	for _, e := range expect {
		if e == text || strings.EqualFold(e, text[:1]+"xx") {
			return true
		}
	}
	return false
}

// resolve makes a target of a Location, with the same canonical form and checks as every other.
func resolve(from target, location string) (target, bool) {
	base, ok := from.url()
	if !ok || len(location) > MaxPath+MaxHeaderBytes {
		return target{}, false
	}
	ref, err := url.Parse(location)
	if err != nil || strings.ContainsAny(location, "\\ \t") {
		return target{}, false
	}
	u := base.ResolveReference(ref)
	if u.User != nil || u.Opaque != "" || u.Scheme != "http" && u.Scheme != "https" {
		return target{}, false
	}
	host := u.Hostname()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	t := target{scheme: u.Scheme, port: defaultPort(u.Scheme), path: u.EscapedPath(), query: u.RawQuery}
	if t.host, err = dial.CanonicalHost(host); err != nil {
		return target{}, false
	}
	if u.Port() != "" {
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || port == 0 {
			return target{}, false
		}
		t.port = uint16(port)
	}
	if t.path == "" {
		t.path = "/"
	}
	return t, checkPath(t.path) == nil && queryBytes(t.query)
}

// queryBytes accepts what RFC 3986 allows in a query, and the brackets and bars that servers really send.
func queryBytes(q string) bool {
	for i := 0; i < len(q); i++ {
		if !pathByte(q[i]) && strings.IndexByte("%?[]|{}\"<>^`", q[i]) < 0 {
			return false
		}
	}
	return true
}

func (x *exchange) mayFollow(m *move, location string) error {
	l := x.call.Lease
	if x.at.scheme == "https" && m.to.scheme == "http" {
		return deny("a redirect leads from https to http")
	}
	if m.method == x.method && !x.body.replay() {
		return &Fault{Type: Upstream, Message: "a redirect asks for a body that was streamed and cannot be sent again"}
	}
	if m.same {
		if !x.bound.permits(m.method, m.to.path) {
			return deny("a redirect leads to a path outside of the connection's binding")
		}
		if x.call.within != nil && !x.bound.allows(x.call.within, x.call.Base, m.method, m.to.path) {
			return deny("a redirect leads to a request that is not one of the action for which the connection is shared")
		}
		return nil
	}
	if x.away() {
		return deny("a download server redirects once more")
	}
	if !x.bound.follows(x.call.Action, m.to) {
		return deny("a redirect leads to another origin, which the connection's binding does not name for this action")
	}
	if x.method != http.MethodGet || m.method != http.MethodGet {
		return deny("a redirect would take a request that is no GET to another origin")
	}
	if _, hits := l.scrub.String(location); hits > 0 {
		return deny("a redirect would take the credential to another origin")
	}
	return nil
}

// follows reports whether the binding names this origin for redirects of an action.
func (b *bound) follows(action string, t target) bool {
	if t.scheme != "https" || t.port != defaultPort("https") {
		return false
	}
	return off(hostsFollowed) || slices.ContainsFunc(b.follow[action], func(h hostRule) bool { return h.match(t.host) })
}

// away reports whether the call has left the origin that the credential is for.
func (x *exchange) away() bool { return !x.credential }

// reinject puts the credential's query parameter back: a redirect within the origin may or may not repeat it.
func (x *exchange) reinject(query string) string {
	in := x.call.Lease.inject
	if in.param == "" {
		return query
	}
	var b strings.Builder
	for part := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); part == "" || err != nil || in.ownsParam(plain) {
			continue
		}
		b.WriteString(part)
		b.WriteByte('&')
	}
	return b.String() + in.paramPair
}

func (x *exchange) dropBody() {
	x.body = &payload{}
	h := x.header.Clone()
	for _, name := range []string{"Content-Type", keyHeader, "idempotency-key", "Content-Language", "Content-Location"} {
		delete(h, name)
	}
	x.header = h
}

// leaveOrigin drops the credential, a client certificate too, and every header of the author.
func (x *exchange) leaveOrigin() {
	x.credential, x.body = false, &payload{}
	if off(originLeft) {
		return
	}
	if l := x.call.Lease; l.inject.cert != nil {
		x.via = x.client.pool.get(poolKey{customer: l.customer, connection: l.connection, version: l.version, away: true}, nil)
	}
	x.header = http.Header{"Accept-Encoding": x.client.gzip, "User-Agent": x.client.userAgent}
}

// download makes the answer of a download server one that tells nothing of its address: of a file, headers that describe it; of
// anything else, nothing but the status, since such servers repeat the signed address in what they say is wrong with it.
func (x *exchange) download(resp *http.Response) error {
	if resp.StatusCode/100 == 2 {
		described := http.Header{}
		for _, name := range describing() {
			if v, ok := resp.Header[name]; ok {
				described[name] = v
			}
		}
		resp.Header = described
		return nil
	}
	f := statusFault(&Answer{Status: resp.StatusCode, Headers: resp.Header}, time.Now())
	f.Answer, f.Message = nil, strings.Replace(f.Message, "the service", "the download server", 1)
	if f.Type == Auth {
		f.Type = Upstream // it says nothing of the connection's credential
	}
	return f
}

// describing are the headers that a file from a download server keeps, in their canonical spelling.
func describing() []string {
	return []string{"Content-Type", "Content-Disposition", "Content-Encoding", "Content-Length", "Content-Language", "Last-Modified", "Etag"}
}
