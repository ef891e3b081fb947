package flowfile

import (
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// await checks a wait for an event of a connector, and returns what is known of that.
func (c *checker) await(a *flow.Await, path string, e env) expr.Type {
	c.checkUses(a.Uses, path+".uses", "triggers")
	m, t := c.connectorTrigger(a.Uses, path+".uses")
	body := expr.Dyn()
	if t == nil {
		c.value(&a.With, path+".with", e)
		c.value(&a.Match, path+".match", e)
	} else {
		body = c.eventType(a.Uses)
		c.awaited(a, path+".uses", m, t)
		c.compared(&a.With, path+".with", t, e)
		c.matched(&a.Match, path+".match", t, body, e)
	}
	s := expr.StringType()
	return expr.ObjectType(map[string]expr.Type{
		"body": body, "headers": expr.MapType(s), "headers_all": expr.MapType(expr.ListType(s)), "query": expr.MapType(s), "time": expr.Dyn(),
	})
}

// awaited checks that events of a trigger come without being asked for.
func (c *checker) awaited(a *flow.Await, path string, m *connector.Manifest, t *connector.Trigger) {
	switch {
	case t.Type == connector.TriggerPoll:
		var names []string
		for i := range m.Triggers {
			if m.Triggers[i].Type != connector.TriggerPoll {
				names = append(names, strings.TrimSuffix(a.Uses, t.Name)+m.Triggers[i].Name)
			}
		}
		suggestion := "use a flow with this trigger"
		if len(names) > 0 {
			suggestion = "possible here: " + strings.Join(names, ", ")
		}
		c.d.ProblemAt(path, suggestion, "%s asks now and then, and nothing can wait for what it finds", t.Name)
	case t.Type == connector.TriggerWebhook && !slices.ContainsFunc(c.i.Flows, func(f flow.Flow) bool { return f.Trigger.Event != nil && f.Trigger.Event.Uses == a.Uses }):
		c.d.ProblemAt(path, "add a flow with trigger: {event: {uses: "+a.Uses+", with: {…}}}", "no flow of this integration subscribes to %s, so its events do not come", t.Name)
	}
}

// compared checks the inputs of a trigger that a wait compares. None is required: one that is not given excludes nothing.
func (c *checker) compared(with *flow.Value, path string, t *connector.Trigger, e env) {
	if with.Kind != flow.Object {
		c.value(with, path, e)
		return
	}
	var names []string
	for i := range t.Inputs {
		if len(t.Compared(t.Inputs[i].Name)) > 0 {
			names = append(names, t.Inputs[i].Name)
		}
	}
	for i, key := range with.Keys {
		at := source.Join(path, key)
		n := slices.IndexFunc(t.Inputs, func(in connector.Input) bool { return in.Name == key })
		switch {
		case slices.Contains(names, key):
			c.input(&t.Inputs[n], &with.Items[i], at, e)
			if list := &with.Items[i]; list.Kind == flow.List && len(list.Items) != 1 {
				c.d.ProblemAt(at, "", "a wait compares one value: expected a list of one, found %d", len(list.Items))
			}
		case n >= 0:
			c.value(&with.Items[i], at, e)
			c.d.ProblemKey(at, "", "the input %q says what is subscribed to, not what an event has: the flow with the trigger gives it", key)
		default:
			c.value(&with.Items[i], at, e)
			c.d.ProblemKey(at, source.DidYouMean(key, names), "the trigger %s has no input %q", t.Name, source.Cut(key, 80))
		}
	}
}

// matched checks the fields of an event that a wait compares.
func (c *checker) matched(match *flow.Value, path string, t *connector.Trigger, body expr.Type, e env) {
	if match.Kind != flow.Object {
		c.value(match, path, e)
		return
	}
	for i, key := range match.Keys {
		at := source.Join(path, key)
		v := &match.Items[i]
		c.want(v, at, "a text, a number, true or false", e, expr.KindString, expr.KindNumber, expr.KindBool)
		places, err := t.Places(key)
		if err != nil {
			c.d.ProblemKey(at, "write a path such as user.id, or header:NAME", "this is no place in an event: %s", err)
			continue
		}
		if field, ok := strings.CutPrefix(places[0], "body:"); ok && len(t.Compared(key)) == 0 {
			c.field(field, at, t, body)
		}
	}
}

// field checks that an event has a field, as far as is known: the description of an event names seldom all of it, so that a
// name which it has not is only pointed out.
func (c *checker) field(name, at string, t *connector.Trigger, body expr.Type) {
	segments, err := connector.Segments(name)
	if err != nil {
		return
	}
	for n, s := range segments {
		if s.List {
			body = body.Elem()
			continue
		}
		known := body.FieldNames()
		next, ok := body.Field(s.Key)
		if !ok {
			c.d.ProblemKey(at, source.DidYouMean(s.Key, known), "an event of %s has no field %q", t.Name, source.Cut(s.Key, 80))
			return
		}
		if len(known) > 0 && !slices.Contains(known, s.Key) {
			names := known
			if n == 0 {
				for i := range t.Inputs {
					if len(t.Compared(t.Inputs[i].Name)) > 0 {
						names = append(names, t.Inputs[i].Name)
					}
				}
			}
			c.d.Add(c.d.Placed(source.SeverityWarning, at, source.DidYouMean(s.Key, names), "the connector's description of "+t.Name+" has no field \""+source.Cut(s.Key, 80)+"\": without it nothing is ever resumed"))
			return
		}
		body = next
	}
}
