package worker

import (
	"context"
	"net/url"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// pages are the items of every page of an action. Each page is an effect of its own, at the path of the loop with .page[n]
// behind it, so a resume does not ask for it again.
//
// With a cursor expression the next page's inputs see its value as cursor, until it is null. Without one the next page is what
// the answer's Link header with rel=next says (RFC 8288): its query replaces the query of the request. The host and, because
// the connection may have a base path, the path stay those of the request. An action of a connector is read by the
// connector's own recipe, unless the flow says where its items and its cursor are.
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
	recipe *connector.Paginate                    // the connector's own, when it is used
	named  bool                                   // what is asked sees the cursor of the page as cursor
}

// pageAt is where a page is.
type pageAt struct {
	cursor expr.Value
	query  []wire.Pair // instead of the request's own; nil for the first page
	linked bool
	page   *connector.Page // by the connector's recipe; nil: there is none
}

func (x *execution) pages(e *env, s *flow.Step, in place) *pages {
	p := &pages{x: x, e: e, s: s, in: in, named: true, coming: &pageAt{cursor: expr.Null()}}
	if spec := s.For.Each.Pages; spec.Cursor.IsZero() {
		if p.recipe = e.recipe(&spec.Action); p.recipe != nil {
			p.coming.page = &connector.Page{}
		}
	}
	return p
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
	if p.recipe != nil {
		p.coming = m.recipePage(cursor)
	}
	if m.Linked && p.coming.query == nil {
		p.coming.query = []wire.Pair{}
	}
	return nil
}

// fetch gets one page and finds out where the next one is. The retry of the loop's step is that of each page.
func (p *pages) fetch(ctx context.Context) error {
	spec := p.s.For.Each.Pages
	at := p.coming
	e := &env{f: p.e.f, path: pagePath(p.in.round, p.page), page: at}
	if p.named {
		e.names = []binding{{"cursor", at.cursor}}
	}
	step := &flow.Step{ID: p.s.ID, Retry: p.s.Retry, Once: p.in.once, Action: &spec.Action}
	result, err := p.x.tries(ctx, e, step)
	if f, ok := caught(err); ok {
		f.final = true // its own tries are used up
	}
	if err != nil {
		return err
	}
	e.names = append(e.names, binding{"result", result})
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
	lock := e.f.x.in.definition.Lock(spec.Action.Slot)
	if lock == nil || lock.Action(spec.Action.Action) == nil {
		return body, nil
	}
	list, err := lock.Defaults.List(lock.Action(spec.Action.Action), orNull(body))
	if err != nil {
		return nil, faultf(typeInvalidInput, "%s", err)
	}
	return list, nil
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
	if p.recipe != nil {
		return nextPage(p.recipe, at.page, e.built, result)
	}
	if e.f.x.in.definition.Lock(spec.Action.Slot) != nil {
		return nil, nil // a connector without a recipe has one page
	}
	headers, _ := expr.Lookup(result, "headers")
	link, _ := expr.Lookup(headers, "link")
	text, _ := expr.Str(orNull(link))
	target, ok := connector.NextLink(text)
	if !ok {
		return nil, nil
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, faultf(typeUpstream, "the Link header names no address")
	}
	next := &pageAt{cursor: expr.Null(), linked: true, query: wirePairs(connector.ParseQuery(u.RawQuery))}
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
