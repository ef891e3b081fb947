package connector

import "encoding/json"

// Lock is what a published integration carries of a connector: enough to run its flows, and the digest of the
// manifest that it was tested with.
type Lock struct {
	Slot     string                     `json:"slot"`
	Name     string                     `json:"connector"`
	Version  string                     `json:"version"`
	Digest   string                     `json:"digest"` // hex
	Defaults Defaults                   `json:"defaults,omitzero"`
	Actions  []Action                   `json:"actions,omitempty"`  // those that the flows use, by name, without descriptions and examples
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
