package flowfile

import (
	"fmt"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// choices checks that an action lists what can be chosen, and that its items have what is value and label, as far as the
// connector says what it answers.
func (c *checker) choices(x *flow.Choices, at string, e env) {
	result, _ := c.asked(x.Uses, at, &x.With, false, true, e)
	body, ok := result.Field("body")
	if !ok {
		body = expr.Dyn()
	}
	list := body
	if x.Items != "" {
		list = c.inItem(x.Items, at+".items", body)
	} else if slot, name, err := flow.SplitUses(x.Uses); err == nil && c.manifests[slot] != nil {
		if a := c.manifests[slot].Action(name); a != nil {
			list = listed(c.manifests[slot], a, body)
		}
	}
	if k := list.Kind(); k != expr.KindOther && k != expr.KindList {
		where := at + ".uses"
		if x.Items != "" {
			where = at + ".items"
		}
		c.d.ProblemAt(where, "write items: with the place of the list in the answer's body", "this is not a list: it is %s", withArticle(list))
		return
	}
	for _, f := range []struct{ key, path string }{{"value", x.Value}, {"label", x.Label}} {
		if f.path == "" {
			continue
		}
		switch t := c.inItem(f.path, at+"."+f.key, list.Elem()); t.Kind() {
		case expr.KindObject, expr.KindList:
			c.d.ProblemAt(at+"."+f.key, "", "expected a field with a text or a number, this is %s", withArticle(t))
		}
	}
}

// inItem is what is known at a path of a value. A name that the connector's description does not have, where it has one like
// it, is warned of: descriptions name what people use, not everything.
func (c *checker) inItem(path, at string, t expr.Type) expr.Type {
	segments, err := connector.Segments(path)
	if err != nil {
		c.d.ProblemAt(at, "", "expected a path such as id or name.full: %s", err)
		return expr.Dyn()
	}
	for _, s := range segments {
		if s.List {
			t = t.Elem()
			continue
		}
		known := t.FieldNames()
		field, ok := t.Field(s.Key)
		if near := source.Nearest(s.Key, known); near != "" && !slices.Contains(known, s.Key) {
			c.d.Add(c.d.Placed(source.SeverityWarning, at, fmt.Sprintf("did you mean %q?", near), fmt.Sprintf("the connector's description has no field %q here", source.Cut(s.Key, 80))))
		}
		if !ok {
			return expr.Dyn()
		}
		t = field
	}
	return t
}
