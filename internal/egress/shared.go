package egress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/lease"
)

var (
	errAction   = errors.New("the request is not one of the action that it names, for which the connection is shared")
	errOverride = errors.New("the request asks for another method than the one that was checked")
)

// permitted is what the requests of a shared action look like.
type permitted struct {
	method string         // lease.AnyMethod is any
	base   string         // the name of a place of the binding; lease.AnyBase is any
	path   *regexp.Regexp // of the decoded path behind the base path, without its first slash; nil is any
	deep   bool           // a part of it may hold slashes
}

// compileShared reads for which actions a connection is shared; nil for all. Errors wrap [ErrBinding].
func compileShared(list []lease.SharedAction) (map[string][]permitted, error) {
	if len(list) == 0 {
		return nil, nil //nolint:nilnil // it is shared for all
	}
	out := map[string][]permitted{}
	for i := range list {
		a := &list[i]
		p := permitted{method: a.Method, base: a.Base}
		if a.Method != lease.AnyMethod && !methodAllowed(a.Method) || a.Name == "" {
			return nil, fmt.Errorf("%w: an action without a name or a method", ErrBinding)
		}
		if a.Path != lease.AnyPath {
			var err error
			if p.path, p.deep, err = compileTemplate(a.Path); err != nil {
				return nil, err
			}
		}
		out[a.Name] = append(out[a.Name], p)
	}
	return out, nil
}

// maxNamed is the most actions that the error about another one names.
const maxNamed = 10

// notShared says for which actions a connection is shared instead of the one that somebody asks for, and who can change that.
func notShared(sharing map[string][]permitted, action string) string {
	names := slices.Sorted(maps.Keys(sharing))
	more := ""
	if n := len(names) - maxNamed; n > 0 {
		names, more = names[:maxNamed], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("the connection is not shared for the action %q, but for %s%s; its owner can share it for that one when its credential is entered again",
		action, strings.Join(names, ", "), more)
}

// compileTemplate makes the expression of a template of paths, see [lease.SharedAction].
func compileTemplate(template string) (re *regexp.Regexp, deep bool, err error) {
	if template != "" && template[0] != '/' || len(template) > MaxPath {
		return nil, false, fmt.Errorf("%w: the path of an action begins with a slash", ErrBinding)
	}
	var b strings.Builder
	b.WriteString(`\A`)
	for rest := strings.TrimPrefix(template, "/"); rest != ""; {
		literal, after, more := strings.Cut(rest, "{")
		b.WriteString(regexp.QuoteMeta(percentDecode(literal)))
		if !more {
			break
		}
		name, tail, ok := strings.Cut(after, "}")
		if !ok || name == "" {
			return nil, false, fmt.Errorf("%w: a brace in the path of an action is not closed", ErrBinding)
		}
		if strings.HasSuffix(name, "+") {
			deep = true
			b.WriteString(`(?s:.+)`)
		} else {
			b.WriteString(`[^/]+`)
		}
		rest = tail
	}
	b.WriteString(`\z`)
	if re, err = regexp.Compile(b.String()); err != nil {
		return nil, false, fmt.Errorf("%w: the path of an action", ErrBinding)
	}
	return re, deep, nil
}

// allows reports whether a request is one of the action for which the connection is shared: at a place of the binding, by a method, with
// an escaped, checked path that includes the place's base path.
func (b *bound) allows(only []permitted, base, method, path string) bool {
	rest, below := strings.CutPrefix(path, b.base)
	if !below {
		return false
	}
	rest = strings.TrimPrefix(rest, "/")
	return slices.ContainsFunc(only, func(p permitted) bool {
		if p.method != lease.AnyMethod && p.method != method || p.base != lease.AnyBase && p.base != base {
			return false
		}
		if p.path == nil {
			return true
		}
		// What some services take for a slash is none that the template has.
		if !p.deep && slices.ContainsFunc(strings.Split(rest, "/"), hasEncodedSlash) {
			return false
		}
		return p.path.MatchString(percentDecode(rest))
	})
}

// methodParam is the parameter by which frameworks take a request for one of another method.
const methodParam = "_method"

// namesMethod reports whether a name is that parameter's to some framework: PHP leaves out blanks at its beginning, takes what cannot
// stand in names of variables for an underscore, and a name ends for it at a bracket or a zero byte.
func namesMethod(name string) bool {
	name = strings.TrimLeft(name, " \t\r\n\v\f")
	if name != "" && strings.ContainsRune(".[", rune(name[0])) {
		name = "_" + name[1:]
	}
	if end := strings.IndexAny(name, "[\x00"); end >= 0 {
		name = name[:end]
	}
	return strings.EqualFold(strings.TrimSpace(name), methodParam)
}

// holdsMethod reports whether a body in parts, as somebody has put it together, may have that parameter.
func holdsMethod(body []byte) bool {
	lower := bytes.ToLower(body)
	return slices.ContainsFunc([]string{methodParam, `"[method`, `".method`, `=[method`, `=.method`}, func(s string) bool { return bytes.Contains(lower, []byte(s)) })
}

// overrides reports whether a request asks frameworks to take it for one of another method, where the method was what it was
// allowed for: in a parameter, or in a member of the body. Headers that do so are never sent, nor are forms and JSON that are a
// file and so cannot be read before.
func (x *exchange) overrides() bool {
	if x.method != http.MethodPost || !x.limited() {
		return false
	}
	for _, list := range [][]Pair{x.call.Query, x.call.Form} {
		if slices.ContainsFunc(list, func(p Pair) bool { return namesMethod(p.Name) }) {
			return true
		}
	}
	if slices.ContainsFunc(x.call.Multipart, func(p Part) bool { return namesMethod(p.Name) }) {
		return true
	}
	kind := x.body.contentType
	if v := x.header["Content-Type"]; len(v) > 0 {
		kind = v[0]
	}
	switch kind = strings.ToLower(kind); {
	case strings.Contains(kind, "form-urlencoded"):
		for _, part := range strings.FieldsFunc(string(x.body.bytes), func(r rune) bool { return r == '&' || r == ';' }) {
			name, _, _ := strings.Cut(part, "=")
			if plain, err := url.QueryUnescape(name); err != nil || namesMethod(plain) {
				return true
			}
		}
		return x.body.stream != nil
	case strings.Contains(kind, "multipart"):
		return x.call.Multipart == nil && (x.body.stream != nil || holdsMethod(x.body.bytes))
	case strings.Contains(kind, "json"):
		return x.body.stream != nil || jsonHasMethod(x.body.bytes)
	}
	return false
}

// jsonHasMethod reports whether a body of JSON, or of one JSON value behind the other, may have that member. One that is not JSON
// here may be to who is less strict: it is taken for its bytes, and an escape in it, or a character of two bytes, for anything.
func jsonHasMethod(body []byte) bool {
	for d := json.NewDecoder(bytes.NewReader(body)); ; {
		var value json.RawMessage
		switch err := d.Decode(&value); {
		case errors.Is(err, io.EOF):
			return false
		case err != nil:
			return holdsMethod(body) || bytes.ContainsAny(body, "\\\x00")
		}
		var members map[string]json.RawMessage
		if json.Unmarshal(value, &members) != nil {
			continue // a list or a value has no members
		}
		for name := range members {
			if namesMethod(name) {
				return true
			}
		}
	}
}

// limited reports whether the request was allowed for its method.
func (x *exchange) limited() bool {
	return slices.ContainsFunc(x.call.Lease.bound.rules, func(r rule) bool { return r.method != lease.AnyMethod }) ||
		slices.ContainsFunc(x.call.within, func(p permitted) bool { return p.method != lease.AnyMethod })
}
