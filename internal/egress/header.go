package egress

import (
	"errors"
	"net/http"
	"net/textproto"
	"strings"
)

// Limits of what a call may add to a request.
const (
	// MaxHeaders is the most header fields of a call.
	MaxHeaders = 100
	// MaxHeaderBytes is the most bytes in the header fields of a call, and in its query.
	MaxHeaderBytes = 32 << 10
	maxMethod      = 20
	keyHeader      = "Idempotency-Key"
)

var (
	errHeaderForm     = errors.New("a header has a name of token characters and a value without control characters")
	errHeaderSize     = errors.New("too many or too large headers or query parameters")
	errHeaderOwned    = errors.New("this header is set by the connection")
	errHeaderReserved = errors.New("this header is set by the platform")
	errQueryOwned     = errors.New("this query parameter is set by the connection")
)

// Pair is a name with a value: a header field, a query parameter, a form field.
type Pair struct{ Name, Value string }

// methodAllowed accepts upper-case methods; those that make a proxy or a debugger of the other side are refused.
func methodAllowed(m string) bool {
	if m == "" || len(m) > maxMethod || m == "CONNECT" || m == "TRACE" || m == "TRACK" {
		return false
	}
	return strings.Trim(m, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == ""
}

// hasEffect reports whether a method is not safe (RFC 9110 section 9.2.1).
func hasEffect(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

// authorHeaders checks the headers of a call and returns them canonical, with room for ours.
func (l *Lease) authorHeaders(fields []Pair) (http.Header, error) {
	if len(fields) > MaxHeaders {
		return nil, errHeaderSize
	}
	const ours = 5
	h := make(http.Header, len(fields)+ours)
	size := 0
	for _, f := range fields {
		size += len(f.Name) + len(f.Value)
		if !token(f.Name) || !fieldValue(f.Value) {
			return nil, errHeaderForm
		}
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		if reserved(name) {
			return nil, errHeaderReserved
		}
		if l.inject.owns(name) {
			return nil, errHeaderOwned
		}
		h[name] = append(h[name], f.Value)
	}
	if size > MaxHeaderBytes {
		return nil, errHeaderSize
	}
	return h, nil
}

// reserved lists what belongs to the connection or would let a call change how
// its message is framed, routed or decoded (RFC 9110 section 7.6.1, RFC 9112 section 6).
func reserved(canonical string) bool {
	switch fold(canonical) {
	case "host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length",
		"expect", "http2-settings", "accept-encoding", "content-encoding", "alt-used", "via", "max-forwards",
		// These make frameworks serve another method or path than the one that was checked.
		"x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url":
		return true
	}
	return strings.HasPrefix(fold(canonical), "proxy-") || strings.HasPrefix(canonical, ":")
}

// fold makes names equal that a CGI-like server would confuse: case, and underscore for hyphen.
func fold(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

// token is RFC 9110 section 5.6.2.
func token(s string) bool {
	if s == "" {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !alphanumeric(s[i]) && strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return true
}

// fieldValue is RFC 9110 section 5.5: no control characters but the tab, no space at an edge.
func fieldValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return s == strings.Trim(s, " \t")
}

// query encodes the parameters of a call and of the credential.
func (l *Lease) query(params []Pair) (string, error) {
	if len(params) == 0 {
		return l.inject.paramPair, nil
	}
	var b strings.Builder
	for _, p := range params {
		if l.inject.ownsParam(p.Name) {
			return "", errQueryOwned
		}
		if b.Len()+len(p.Name)+len(p.Value) > MaxHeaderBytes {
			return "", errHeaderSize
		}
		appendPair(&b, p)
	}
	if l.inject.paramPair != "" {
		b.WriteByte('&')
		b.WriteString(l.inject.paramPair)
	}
	return b.String(), nil
}
