package egress

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDecodeDepth is how many layers of percent-encoding a path is looked
// through for dot segments. A path with more layers is refused.
const maxDecodeDepth = 3

var (
	errPathForm    = errors.New("a path begins with one slash and has URL path characters only; a query goes in query")
	errPathDots    = errors.New("a path has no . or .. segment, encoded or not")
	errPathControl = errors.New("a path has no encoded control character and is UTF-8")
)

// target is where one request goes, canonical and checked.
type target struct {
	scheme string
	host   string
	port   uint16
	path   string // escaped
	query  string // encoded
}

// sameOrigin compares scheme, host and port (RFC 6454).
func (t target) sameOrigin(u target) bool {
	return t.scheme == u.scheme && t.host == u.host && t.port == u.port
}

// authority is host and, unless it is the scheme's own, port.
func (t target) authority() string {
	host := t.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if t.port == defaultPort(t.scheme) {
		return host
	}
	return host + ":" + strconv.Itoa(int(t.port))
}

// url assembles the URL from the checked parts. RawPath keeps the escaping that
// was checked; ok is false if net/url would send another path.
func (t target) url() (u *url.URL, ok bool) {
	plain, err := url.PathUnescape(t.path)
	if err != nil {
		return nil, false
	}
	u = &url.URL{Scheme: t.scheme, Host: t.authority(), Path: plain, RawPath: t.path, RawQuery: t.query}
	return u, u.EscapedPath() == t.path
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// checkPath accepts an escaped absolute path (RFC 3986 path-absolute) of which
// no server can make another one: no dot segments in any layer of encoding or
// before a ";" parameter, no backslash, no control characters, valid UTF-8.
// Encoded slashes stay allowed, since identifiers contain them; rules treat
// them as unsafe (see [Rule]).
func checkPath(path string) error {
	if path == "" || len(path) > MaxPath || path[0] != '/' || strings.HasPrefix(path, "//") {
		return errPathForm
	}
	encoded, dots := false, false
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '%':
			if i+2 >= len(path) || unhex(path[i+1]) < 0 || unhex(path[i+2]) < 0 {
				return errPathForm
			}
			encoded = true
		case c == '.':
			dots = true
		case !pathByte(c):
			return errPathForm
		}
	}
	if !encoded {
		if dots && dotSegment(path) {
			return errPathDots
		}
		return nil
	}
	return checkLayers(path)
}

// checkLayers looks through every layer of percent-encoding.
func checkLayers(path string) error {
	for range maxDecodeDepth + 1 {
		if dotSegment(path) {
			return errPathDots
		}
		if !utf8.ValidString(path) || strings.ContainsFunc(path, control) {
			return errPathControl
		}
		plain := percentDecode(path)
		if plain == path {
			return nil
		}
		path = plain
	}
	return errPathDots
}

func control(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

// dotSegment reports a "." or ".." between slashes of either kind, with or without ";parameters".
func dotSegment(path string) bool {
	for len(path) > 0 {
		segment := path
		if end := strings.IndexAny(path, `/\`); end >= 0 {
			segment, path = path[:end], path[end+1:]
		} else {
			path = ""
		}
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
			return true
		}
	}
	return false
}

func hasEncodedSlash(segment string) bool {
	for range maxDecodeDepth {
		if !strings.Contains(segment, "%") {
			break
		}
		segment = percentDecode(segment)
	}
	return strings.ContainsAny(segment, `/\`)
}

// percentDecode decodes every valid escape and leaves the rest.
func percentDecode(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	return string(decodePercent(nil, []byte(s), nil))
}

// pathByte reports whether c may stand unescaped in a path (RFC 3986 pchar and slash).
func pathByte(c byte) bool {
	return alphanumeric(c) || strings.IndexByte("/-._~!$&'()*+,;=:@", c) >= 0
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
