package connector

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
)

// Lock is what a published integration carries of a connector: enough to run its flows, and the digest of the
// manifest that it was tested with.
type Lock struct {
	Slot     string                     `json:"slot"`
	Name     string                     `json:"connector"`
	Version  string                     `json:"version"`
	Digest   string                     `json:"digest"` // hex
	Defaults Defaults                   `json:"defaults,omitzero"`
	Actions  []Action                   `json:"actions,omitempty"`  // those that the flows use, by name, without what only a builder sees: texts, choices, schemas of answers
	Triggers []Trigger                  `json:"triggers,omitempty"` // likewise
	Schemas  map[string]json.RawMessage `json:"schemas,omitempty"`  // those that they refer to
}

// Action returns the action of a name, or nil.
func (l *Lock) Action(name string) *Action {
	for i := range l.Actions {
		if l.Actions[i].Name == name {
			return &l.Actions[i]
		}
	}
	return nil
}

// Trigger returns the trigger of a name, or nil.
func (l *Lock) Trigger(name string) *Trigger {
	for i := range l.Triggers {
		if l.Triggers[i].Name == name {
			return &l.Triggers[i]
		}
	}
	return nil
}

// Lock makes what an integration carries of the connector for a slot: the actions and triggers that it uses, by name, and
// the actions that those triggers use. Names that the manifest does not have are left out.
func (m *Manifest) Lock(slot string, actions, triggers []string) Lock {
	digest := m.Digest()
	l := Lock{Slot: slot, Name: m.Name, Version: m.Version, Digest: hex.EncodeToString(digest[:]), Defaults: m.Defaults}
	wanted := map[string]bool{}
	for _, name := range actions {
		wanted[name] = true
	}
	for i := range m.Triggers {
		t := m.Triggers[i]
		if !slices.Contains(triggers, t.Name) {
			continue
		}
		for _, name := range t.uses() {
			wanted[name] = true
		}
		t.Title, t.Description, t.Docs, t.Payload, t.Scopes, t.Data = "", "", "", nil, nil, nil
		t.Inputs = bare(t.Inputs)
		l.Triggers = append(l.Triggers, t)
	}
	var schemas []json.RawMessage
	for i := range m.Actions {
		a := m.Actions[i]
		if !wanted[a.Name] {
			continue
		}
		a.Title, a.Description, a.Docs, a.Output, a.Scopes, a.Data, a.Visibility, a.Deprecated, a.Auth = "", "", "", nil, nil, nil, "", "", nil
		a.Inputs = bare(a.Inputs)
		for k := range a.Inputs {
			schemas = append(schemas, a.Inputs[k].Schema)
		}
		l.Actions = append(l.Actions, a)
	}
	slices.SortFunc(l.Actions, func(a, b Action) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(l.Triggers, func(a, b Trigger) int { return strings.Compare(a.Name, b.Name) })
	for _, name := range m.Closure(schemas...) {
		if l.Schemas == nil {
			l.Schemas = map[string]json.RawMessage{}
		}
		l.Schemas[name] = m.Schemas[name]
	}
	return l
}

// uses are the actions that a trigger calls.
func (t *Trigger) uses() []string {
	var names []string
	if w := t.Webhook; w != nil {
		for _, c := range []*SubscribeCall{&w.Subscribe, w.Unsubscribe, w.Renew} {
			if c != nil {
				names = append(names, c.Action)
			}
		}
		if w.Find != nil {
			names = append(names, w.Find.Action)
		}
	}
	if t.Poll != nil {
		names = append(names, t.Poll.Action)
	}
	return names
}

// bare copies inputs without what only a builder sees.
func bare(list []Input) []Input {
	list = slices.Clone(list)
	for i := range list {
		in := &list[i]
		in.Title, in.Description, in.Example, in.Deprecated, in.Visibility, in.Choices, in.SchemaFrom = "", "", nil, "", "", nil, nil
	}
	return list
}
