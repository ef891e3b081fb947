package flowfile

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// testMock is one answer of an action of a connector.
type testMock struct {
	slot, action string
	path         string // in the file
	line, times  int
	with         flow.Value // inputs that it must get; absent: any
	answer       TestAnswer
}

// mocks reads answers by connection and action.
func (d *decoder) mocks(c *TestCase) source.Reader {
	return func(n *source.Node, path string) {
		d.Entries(n, path, "mocks", flow.MaxConnections, slotPattern(), nameRule, func(slot string, n *source.Node, path string) {
			action := regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,62}$`)
			d.Entries(n, path, "actions", MaxTestCalls, action, "the name of an action", func(name string, n *source.Node, path string) {
				one := d.mock(c, slot, name)
				if n.Kind == source.List {
					d.List("answers", MaxTestCalls, one)(n, path)
				} else {
					one(n, path)
				}
			})
		})
	}
}

func (d *decoder) mock(c *TestCase, slot, action string) source.Reader {
	return func(n *source.Node, path string) {
		m := testMock{slot: slot, action: action, path: path, times: 1}
		m.line, _ = d.Src.Position(n.Start)
		d.Object(
			n, path, "test_mock",
			source.Optional("times", d.Integer(&m.times, 1, MaxTestCalls)),
			source.Optional("with", d.literalObject(&m.with, "inputs")),
			source.Optional("answer", func(n *source.Node, path string) { d.testAnswer(n, path, &m.answer, "test_answer") }),
		)
		if m.answer.Status == 0 {
			m.answer.Status = flow.DefaultStatus
		}
		c.mocks = append(c.mocks, m)
	}
}

// play turns the mocks of a case into calls of its connections.
func (d *decoder) play(c *TestCase, i *flow.Integration) {
	for n := range c.mocks {
		m := &c.mocks[n]
		l := i.Lock(m.slot)
		if l == nil {
			if i.Slot(m.slot) != nil {
				d.ProblemAt(m.path, "write connections: with calls", "the connection %q has no connector whose actions are known", m.slot)
			} else {
				d.ProblemAt(m.path, "", "there is no connection %q", m.slot)
			}
			continue
		}
		a := l.Action(m.action)
		if a == nil {
			var names []string
			for k := range l.Actions {
				names = append(names, l.Actions[k].Name)
			}
			d.ProblemAt(m.path, source.DidYouMean(m.action, names), "no flow uses the action %q of %s", m.action, m.slot)
			continue
		}
		call := TestCall{Line: m.line, Times: m.times, Answer: m.answer, Expect: TestRequest{Method: a.Method, Path: a.Path, Pattern: pathPattern(a.Path)}}
		if !m.with.IsZero() && !d.expected(&call.Expect, l, a, m) {
			continue
		}
		t := c.connection(m.slot)
		t.AnyOrder = true
		t.Calls = append(t.Calls, call)
	}
}

// connection is that of a slot, made where the case has none.
func (c *TestCase) connection(slot string) *TestConnection {
	for i := range c.Connections {
		if c.Connections[i].Slot == slot {
			return &c.Connections[i]
		}
	}
	c.Connections = append(c.Connections, TestConnection{Slot: slot})
	return &c.Connections[len(c.Connections)-1]
}

// pathPattern matches the escaped paths that an action can have.
func pathPattern(path string) string {
	var b strings.Builder
	b.WriteString("^")
	for path != "" {
		before, after, ok := strings.Cut(path, "{")
		b.WriteString(regexp.QuoteMeta(before))
		if !ok {
			break
		}
		_, path, _ = strings.Cut(after, "}")
		b.WriteString(".+")
	}
	b.WriteString("$")
	return b.String()
}

// expected says what the request is that an action makes of the inputs that a mock must get.
func (d *decoder) expected(r *TestRequest, l *connector.Lock, a *connector.Action, m *testMock) bool {
	raw, err := m.with.MarshalJSON()
	if err != nil {
		d.ProblemAt(m.path+".with", "", "%s", err)
		return false
	}
	in, err := expr.ParseJSON(raw)
	if err != nil {
		d.ProblemAt(m.path+".with", "", "%s", err)
		return false
	}
	req, err := connector.Build(a, &l.Defaults, in, nil, nil)
	if err != nil {
		d.ProblemAt(m.path+".with", "", "%s", err)
		return false
	}
	r.Path, r.Pattern = req.Path, ""
	r.Query = pairs(req.Query)
	switch {
	case req.ContentType == "application/x-www-form-urlencoded":
		r.Body = pairs(connector.ParseQuery(string(req.Body)))
	case len(req.Body) > 0 && json.Valid(req.Body):
		if err := json.Unmarshal(req.Body, &r.Body); err != nil {
			d.ProblemAt(m.path+".with", "", "%s", err)
			return false
		}
	case len(req.Body) > 0:
		r.Body = flow.Value{Kind: flow.String, Text: string(req.Body)}
	}
	return true
}

// pairs are the fields of a query or form: a text each, or a list where one is repeated.
func pairs(list []connector.Fixed) flow.Value {
	v := flow.Value{Kind: flow.Object}
	for _, f := range list {
		item := flow.Value{Kind: flow.String, Text: f.Value}
		if had := v.Get(f.Name); had != nil {
			if had.Kind != flow.List {
				*had = flow.Value{Kind: flow.List, Items: []flow.Value{*had}}
			}
			had.Items = append(had.Items, item)
			continue
		}
		v.Keys, v.Items = append(v.Keys, f.Name), append(v.Items, item)
	}
	return v
}
