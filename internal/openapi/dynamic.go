package openapi

import (
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// dynamic reads what Power Platform documents say of values and schemas that an action lists. The actions are named by
// operationId here, and by name once all are known.
func (s *schemas) dynamic(in *connector.Input, about, schema *node) {
	find := func(key string) *node {
		for _, n := range []*node{about, schema, s.d.deref(schema)} {
			if v := n.get(key); v.is(kindMap) && v.get("operationId").str() != "" {
				return v
			}
		}
		return nil
	}
	if l := find("x-ms-dynamic-list"); l != nil {
		in.Choices = &connector.Choices{
			Action: l.get("operationId").str(), With: passed(l.get("parameters")),
			Items: slashes(l.get("itemsPath")), Value: slashes(l.get("itemValuePath")), Label: slashes(l.get("itemTitlePath")),
		}
	} else if v := find("x-ms-dynamic-values"); v != nil {
		in.Choices = &connector.Choices{
			Action: v.get("operationId").str(), With: passed(v.get("parameters")),
			Items: slashes(v.get("value-collection")), Value: slashes(v.get("value-path")), Label: slashes(v.get("value-title")),
		}
	}
	if p := find("x-ms-dynamic-properties"); p != nil {
		in.SchemaFrom = &connector.SchemaFrom{Action: p.get("operationId").str(), With: passed(p.get("parameters")), Path: slashes(p.get("itemValuePath"))}
	} else if v := find("x-ms-dynamic-schema"); v != nil {
		in.SchemaFrom = &connector.SchemaFrom{Action: v.get("operationId").str(), With: passed(v.get("parameters")), Path: slashes(v.get("value-path"))}
	}
}

// slashes makes a path with dots of one with slashes.
func slashes(n *node) string { return strings.ReplaceAll(strings.Trim(n.str(), "/"), "/", ".") }

// passed reads parameters: literals, {parameter: name}, {parameterReference: "body/name"} and {value: literal}.
func passed(n *node) []connector.Passed {
	var out []connector.Passed
	n.each(func(name string, v *node) {
		p := connector.Passed{Name: inputName(name)}
		switch {
		case v.is(kindMap) && v.get("parameter").str() != "":
			p.From = inputName(v.get("parameter").str())
		case v.is(kindMap) && v.get("parameterReference").str() != "":
			r := v.get("parameterReference").str()
			p.From = inputName(r[strings.LastIndexByte(r, '/')+1:])
		case v.is(kindMap) && v.get("value") != nil:
			p.Value = v.get("value").json()
		case v.is(kindMap):
			return
		default:
			p.Value = v.json()
		}
		out = append(out, p)
	})
	return out
}

// settle replaces operationIds of choices by the names of actions, and drops those that lead nowhere, and what is passed to
// inputs that the action does not have.
func settle(m *connector.Manifest, names map[string]string, drop func(action, input, operation string)) {
	known := func(target string, with []connector.Passed) []connector.Passed {
		a := m.Action(target)
		return slices.DeleteFunc(with, func(p connector.Passed) bool { return a == nil || a.Input(p.Name) == nil })
	}
	for a := range m.Actions {
		for n := range m.Actions[a].Inputs {
			in := &m.Actions[a].Inputs[n]
			if in.Choices != nil {
				if name, ok := names[in.Choices.Action]; ok && in.Choices.Value != "" {
					in.Choices.Action, in.Choices.With = name, known(name, in.Choices.With)
				} else {
					drop(m.Actions[a].Name, in.Name, in.Choices.Action)
					in.Choices = nil
				}
			}
			if in.SchemaFrom != nil {
				if name, ok := names[in.SchemaFrom.Action]; ok {
					in.SchemaFrom.Action, in.SchemaFrom.With = name, known(name, in.SchemaFrom.With)
				} else {
					drop(m.Actions[a].Name, in.Name, in.SchemaFrom.Action)
					in.SchemaFrom = nil
				}
			}
		}
	}
}
