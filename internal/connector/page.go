package connector

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// Page is which page of a list is asked for. The zero Page is the first one. It is plain data: whoever keeps one for later
// keeps its fields.
type Page struct {
	Cursor expr.Value // of type cursor; nil for the first page
	Count  int        // of offset and page: how far it is from the recipe's start
	Linked bool       // Query and Below count
	Query  []Fixed    // of type link: the query of the page, instead of the request's own
	Below  string     // and what is behind the request's path, with its slash
}

// Reply is what came back for a page.
type Reply struct {
	Header func(name string) string // value of a header by its lower-case name; empty for none
	Body   expr.Value
}

// Errors of a list that cannot be read to its end.
var (
	// ErrNoAdvance means that two pages in a row name the same next page.
	ErrNoAdvance = errors.New("the next page is the page itself: the list does not advance")
	// ErrNoList means that the answer has no list where the recipe says.
	ErrNoList = errors.New("the answer has no list of items")
)

// Pages is the recipe by which all pages of an action are read: its own, or the default; nil for none.
func (d *Defaults) Pages(a *Action) *Paginate {
	p := a.Paginate
	if p == nil {
		p = d.Paginate
	}
	if p == nil || p.Type == PageNone || p.Type == "" {
		return nil
	}
	return p
}

// ItemsPath is where the items of a page are in the body of an answer: of the recipe of the action, or of the default one
// even where the action is not read in pages.
func (d *Defaults) ItemsPath(a *Action) string {
	if p := a.Paginate; p != nil && (p.Type != PageNone || p.Items != "") {
		return p.Items
	}
	if d.Paginate != nil && a.Paginate == nil {
		return d.Paginate.Items
	}
	return ""
}

// List is the items of an answer of an action, wherever its own recipe or the default one says that they are.
func (d *Defaults) List(a *Action, body expr.Value) (expr.Value, error) {
	return (&Paginate{Items: d.ItemsPath(a)}).List(body)
}

// List is the items of an answer: the list at the recipe's path. Null, and nothing, are no items.
func (p *Paginate) List(body expr.Value) (expr.Value, error) {
	v, ok := At(body, p.Items)
	if !ok || expr.Kind(v) == expr.KindNull {
		return expr.NewList(nil), nil
	}
	if expr.Kind(v) != expr.KindList {
		return nil, fmt.Errorf("%w: %q is %s", ErrNoList, p.Items, expr.Kind(v))
	}
	return v, nil
}

// ask sets the parameters of a page among the inputs of a request.
func (p *Paginate) ask(given []part, page *Page) []part {
	set := func(in Place, name string, v expr.Value) {
		for i := range given {
			if given[i].In == in && given[i].Key() == name {
				given[i].value = v
				return
			}
		}
		given = append(given, part{&Input{Name: name, In: in, Type: TypeAny}, v})
	}
	if s := p.Size; s != nil && s.Name != "" && s.Value > 0 && !has(given, s.In.or(), s.Name) {
		set(s.In.or(), s.Name, expr.Int(int64(s.Value)))
	}
	switch p.Type {
	case PageCursor:
		if page.Cursor != nil && expr.Kind(page.Cursor) != expr.KindNull {
			set(p.In.or(), p.Name, page.Cursor)
		}
	case PageOffset, PageNumber:
		if page.Count > 0 || !has(given, p.In.or(), p.Name) {
			set(p.In.or(), p.Name, expr.Int(int64(p.Start+page.Count)))
		}
	}
	return given
}

// or is the place, by default the query.
func (p Place) or() Place {
	if p == "" {
		return InQuery
	}
	return p
}

func has(given []part, in Place, name string) bool {
	return slices.ContainsFunc(given, func(g part) bool { return g.In == in && g.Key() == name })
}

// follow makes a request that of a linked page: host and path stay those of the request.
func (p *Page) follow(r *Request) {
	if !p.Linked {
		return
	}
	r.Query = slices.Clone(p.Query)
	if p.Below != "" {
		r.Path = strings.TrimSuffix(r.Path, "/") + p.Below
	}
}

// Next says where the page behind a page is, or returns nil behind the last one. in are the inputs that the page was asked
// with, and r the request that Build made of them.
//
// The next page stays on the request's own host and path, whatever the answer says: of a URL only the query is taken, and,
// where the recipe says so, what is below the path.
func (p *Paginate) Next(at *Page, r *Request, answer Reply) (*Page, error) {
	list, err := p.List(answer.Body)
	if err != nil {
		return nil, err
	}
	n := expr.Len(list)
	if p.More != "" {
		path, no := strings.CutPrefix(p.More, "!")
		v, ok := p.from(answer, path)
		if more := ok && truthy(v); more == no {
			return nil, nil //nolint:nilnil // nil is the end
		}
	}
	switch p.Type {
	case PageLink:
		return p.nextLink(at, r, answer)
	case PageCursor:
		return p.nextCursor(at, answer, list, n)
	case PageOffset:
		return p.nextCount(at, r, answer, n, n)
	case PageNumber:
		return p.nextCount(at, r, answer, n, 1)
	}
	return nil, nil //nolint:nilnil // nil is the end
}

// from is what is at a path of the body, or the header:NAME.
func (p *Paginate) from(answer Reply, path string) (expr.Value, bool) {
	if name, ok := strings.CutPrefix(path, "header:"); ok {
		s := answer.Header(strings.ToLower(name))
		return expr.String(s), s != ""
	}
	return At(answer.Body, path)
}

func (p *Paginate) nextCursor(at *Page, answer Reply, list expr.Value, n int) (*Page, error) {
	var v expr.Value
	var ok bool
	if p.Last != "" {
		if n == 0 || p.More == "" && p.Size != nil && n < p.Size.Value {
			return nil, nil //nolint:nilnil // nil is the end
		}
		last, _ := expr.Index(list, n-1)
		v, ok = At(last, p.Last)
	} else {
		v, ok = p.from(answer, p.From)
	}
	if !ok || !truthy(v) && expr.Kind(v) != expr.KindNumber {
		return nil, nil //nolint:nilnil // nil is the end
	}
	if k := expr.Kind(v); k != expr.KindString && k != expr.KindNumber {
		return nil, fmt.Errorf("the next cursor is %s, not a text or number", k)
	}
	if at.Cursor != nil && expr.Equal(at.Cursor, v) {
		if n == 0 {
			return nil, nil //nolint:nilnil // an empty page that names itself is the end of what is there so far
		}
		return nil, ErrNoAdvance
	}
	return &Page{Cursor: v}, nil
}

func (p *Paginate) nextCount(at *Page, r *Request, answer Reply, n, step int) (*Page, error) {
	if n == 0 {
		return nil, nil //nolint:nilnil // nil is the end
	}
	if at.Count > math.MaxInt32-step {
		return nil, ErrNoAdvance
	}
	next := &Page{Count: at.Count + step}
	if p.Total != "" {
		if v, ok := At(answer.Body, p.Total); ok {
			if total, ok := expr.IsInt(v); ok && int64(next.Count) >= total {
				return nil, nil //nolint:nilnil // nil is the end
			}
			return next, nil
		}
	}
	if p.More == "" && p.Size != nil && n < p.asked(r) {
		return nil, nil //nolint:nilnil // nil is the end
	}
	return next, nil
}

// asked is how many items a full page has: what the recipe asks for, or less where the flow asked for less.
func (p *Paginate) asked(r *Request) int {
	size := p.Size.Value
	var v expr.Value
	if p.Size.In.or() == InQuery {
		for _, q := range r.Query {
			if q.Name == p.Size.Name {
				v, _ = expr.ParseJSON([]byte(q.Value)) //nolint:errcheck // no number is none
			}
		}
	} else if r.Content != nil {
		v, _ = At(r.Content, p.Size.Name)
	}
	if v != nil {
		if n, ok := expr.IsInt(v); ok && n > 0 && (size == 0 || n < int64(size)) {
			size = int(n)
		}
	}
	return size
}

func (p *Paginate) nextLink(at *Page, r *Request, answer Reply) (*Page, error) {
	var target string
	if p.From == "" {
		target, _ = NextLink(answer.Header("link"))
	} else if v, ok := p.from(answer, p.From); ok {
		if target = scalar(v); strings.HasPrefix(target, "<") { // a header of links, by another name
			target, _ = NextLink(target)
		}
	}
	if target == "" {
		return nil, nil //nolint:nilnil // nil is the end
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, errors.New("the next page has no address that can be read")
	}
	next := &Page{Linked: true, Query: ParseQuery(u.RawQuery)}
	if p.Below {
		if next.Below, err = below(r, at, u.EscapedPath()); err != nil {
			return nil, err
		}
	}
	if at.Linked && slices.Equal(at.Query, next.Query) && at.Below == next.Below {
		return nil, ErrNoAdvance
	}
	return next, nil
}

// below is what a URL's path has behind the action's own. The connection's base path, which nobody here knows, may stand
// before it.
func below(r *Request, at *Page, path string) (string, error) {
	own := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(r.Path, "/"), at.Below), "/")
	for from := len(path); from >= 0; {
		i := strings.LastIndex(path[:from], own)
		if i < 0 {
			break
		}
		rest := path[i+len(own):]
		if rest == "" || rest[0] == '/' {
			for segment := range strings.SplitSeq(rest, "/") {
				if plain, err := url.PathUnescape(segment); err != nil || plain == "." || plain == ".." || strings.ContainsAny(plain, "/\\") {
					return "", errors.New("the next page's address has a segment that is no name")
				}
			}
			return strings.TrimSuffix(rest, "/"), nil
		}
		from = i + len(own) - 1
	}
	return "", errors.New("the next page is not below the path of the action")
}

// ParseQuery takes a query apart, in its order. What does not decode is left out.
func ParseQuery(raw string) []Fixed {
	list := []Fixed{}
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		n, err1 := url.QueryUnescape(name)
		v, err2 := url.QueryUnescape(value)
		if err1 == nil && err2 == nil {
			list = append(list, Fixed{Name: n, Value: v})
		}
	}
	return list
}

// NextLink finds the target of the first link with relation next in a Link header (RFC 8288 section 3).
func NextLink(header string) (string, bool) {
	for rest := header; ; {
		start := strings.IndexByte(rest, '<')
		if start < 0 {
			return "", false
		}
		target, after, ok := strings.Cut(rest[start+1:], ">")
		if !ok {
			return "", false
		}
		var parameters string
		parameters, rest = linkParameters(after)
		if isNext(parameters) {
			return target, true
		}
	}
}

// linkParameters splits off what belongs to one link: up to a comma outside of quotes.
func linkParameters(s string) (parameters, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func isNext(parameters string) bool {
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "rel") {
			continue
		}
		for relation := range strings.FieldsSeq(strings.Trim(strings.TrimSpace(value), `"`)) {
			if strings.EqualFold(relation, "next") {
				return true
			}
		}
		return false // RFC 8288 section 3.3: the first rel counts
	}
	return false
}
