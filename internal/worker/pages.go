package worker

import (
	"context"
	"net/url"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// pages are the items of every page of an action. Each page is an effect of its own, at the path of the loop with .page[n]
// behind it, so a resume does not ask for it again.
//
// With a cursor expression the next page's inputs see its value as cursor, until it is null. Without one the next page is what
// the answer's Link header with rel=next says (RFC 8288): its query replaces the query of the request. The host and, because
// the connection may have a base path, the path stay those of the request.
type pages struct {
	x      *execution
	e      *env
	s      *flow.Step
	in     place
	page   int
	items  *items
	skip   int     // items of the next page that belong to finished rounds
	at     *pageAt // of items
	coming *pageAt
	idle   func(context.Context, *position) error // called before each page but the first
}

// pageAt is where a page is.
type pageAt struct {
	cursor expr.Value
	query  []wire.Pair // instead of the request's own; nil for the first page
	linked bool
}

func (x *execution) pages(e *env, s *flow.Step, in place) *pages {
	return &pages{x: x, e: e, s: s, in: in, coming: &pageAt{cursor: expr.Null()}}
}

func (p *pages) next(ctx context.Context) (expr.Value, bool, error) {
	for {
		if p.items != nil {
			if v, ok, err := p.items.next(ctx); ok || err != nil {
				return v, ok, err
			}
		}
		if p.coming == nil {
			return nil, false, nil
		}
		if p.page >= MaxPages {
			return nil, false, faultf(typeLimit, "a loop reads at most %d pages", MaxPages)
		}
		if p.items != nil {
			if err := p.idle(ctx, &position{p.page, 0, p.coming}); err != nil {
				return nil, false, err
			}
		}
		if err := p.fetch(ctx); err != nil {
			return nil, false, err
		}
	}
}

// position is where the next item is.
func (p *pages) position() *position {
	if p.items == nil {
		return &position{p.page, p.skip, p.coming}
	}
	return &position{p.page - 1, p.items.at, p.at}
}

// seek continues at a page of an earlier stay.
func (p *pages) seek(m *markedPage) error {
	cursor, err := expr.ParseJSON(m.Cursor)
	if err != nil || m.Number < 0 || m.Skip < 0 {
		return faultf(typeMismatch, "a journal entry cannot be read").atStep(p.e.path)
	}
	p.page, p.skip = m.Number, m.Skip
	p.coming = &pageAt{cursor: cursor, query: m.Query, linked: m.Linked}
	if m.Linked && p.coming.query == nil {
		p.coming.query = []wire.Pair{}
	}
	return nil
}

// fetch gets one page and finds out where the next one is. The retry of the loop's step is that of each page.
func (p *pages) fetch(ctx context.Context) error {
	spec := p.s.For.Each.Pages
	at := p.coming
	e := &env{f: p.e.f, path: pagePath(p.in.round, p.page), names: []binding{{"cursor", at.cursor}}, page: at}
	step := &flow.Step{ID: p.s.ID, Retry: p.s.Retry, Once: p.in.once, Action: &spec.Action}
	result, err := p.x.tries(ctx, e, step)
	if f, ok := caught(err); ok {
		f.final = true // its own tries are used up
	}
	if err != nil {
		return err
	}
	e.names = []binding{{"cursor", at.cursor}, {"result", result}}
	list, err := p.list(ctx, e, spec, result)
	if err != nil {
		return err
	}
	if p.items, err = newItems(list); err != nil {
		return err
	}
	p.items.at, p.skip = p.skip, 0
	p.page++
	p.at = at
	p.coming, err = p.after(ctx, e, spec, at, result)
	return err
}

func (p *pages) list(ctx context.Context, e *env, spec *flow.Pages, result expr.Value) (expr.Value, error) {
	if !spec.Items.IsZero() {
		return e.value(ctx, &spec.Items)
	}
	body, _ := expr.Lookup(result, "body")
	return body, nil
}

// after says where the page behind this one is, or nil.
func (p *pages) after(ctx context.Context, e *env, spec *flow.Pages, at *pageAt, result expr.Value) (*pageAt, error) {
	if !spec.Cursor.IsZero() {
		cursor, err := e.value(ctx, &spec.Cursor)
		if err != nil {
			return nil, err
		}
		if s, ok := expr.Str(cursor); ok && s == "" || expr.Kind(cursor) == expr.KindNull {
			return nil, nil
		}
		if expr.Equal(cursor, at.cursor) {
			return nil, faultf(typeUpstream, "the cursor does not advance: two pages in a row have the same")
		}
		return &pageAt{cursor: cursor}, nil
	}
	headers, _ := expr.Lookup(result, "headers")
	link, _ := expr.Lookup(headers, "link")
	text, _ := expr.Str(orNull(link))
	target, ok := nextLink(text)
	if !ok {
		return nil, nil
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, faultf(typeUpstream, "the Link header names no address")
	}
	next := &pageAt{cursor: expr.Null(), linked: true, query: queryPairs(u.RawQuery)}
	if at.linked && samePairs(at.query, next.query) {
		return nil, faultf(typeUpstream, "the Link header does not advance: two pages in a row name the same")
	}
	return next, nil
}

func orNull(v expr.Value) expr.Value {
	if v == nil {
		return expr.Null()
	}
	return v
}

func samePairs(a, b []wire.Pair) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// queryPairs takes a query apart, in its order.
func queryPairs(raw string) []wire.Pair {
	list := []wire.Pair{}
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		n, err1 := url.QueryUnescape(name)
		v, err2 := url.QueryUnescape(value)
		if err1 == nil && err2 == nil {
			list = append(list, wire.Pair{Name: n, Value: v})
		}
	}
	return list
}

// nextLink finds the target of the first link with relation next (RFC 8288 section 3).
func nextLink(header string) (string, bool) {
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
