package flow

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/canon"
	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// ErrNotCanonical is the error of Decode for bytes that Encode would not write.
var ErrNotCanonical = errors.New("integration is not in canonical form")

// Encode returns the canonical JSON of i: an integration document with a fixed order of keys, defaults left out where
// they were not written, and no white space.
func (i *Integration) Encode() ([]byte, error) {
	b, err := canon.Marshal(i)
	if err != nil {
		return nil, fmt.Errorf("encode integration: %w", err)
	}
	if len(b) > MaxFileBytes {
		return nil, fmt.Errorf("encode integration: %d bytes are more than %d", len(b), MaxFileBytes)
	}
	return b, nil
}

// Digest returns the SHA-256 of the canonical JSON: it names the definition. An integration that cannot be encoded, which
// no decoder makes, has the zero digest.
func (i *Integration) Digest() [sha256.Size]byte {
	b, err := i.Encode()
	if err != nil {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(b)
}

// Decode reads canonical JSON as Encode writes it, and nothing else: unknown or repeated keys, another order, white space
// and documents over a limit are errors. It does not check that names refer to something.
func Decode(b []byte) (*Integration, error) {
	if len(b) > MaxFileBytes {
		return nil, fmt.Errorf("decode integration: %d bytes are more than %d", len(b), MaxFileBytes)
	}
	if err := checkDepth(b); err != nil {
		return nil, fmt.Errorf("decode integration: %w", err)
	}
	i := new(Integration)
	if err := canon.Unmarshal(b, i); err != nil {
		return nil, fmt.Errorf("decode integration: %w", err)
	}
	if err := i.checkLimits(); err != nil {
		return nil, fmt.Errorf("decode integration: %w", err)
	}
	again, err := i.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(b, again) {
		return nil, fmt.Errorf("decode integration: %w", ErrNotCanonical)
	}
	return i, nil
}

// checkDepth refuses deep nesting before anything recursive sees the bytes.
func checkDepth(b []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > MaxDocumentDepth {
				return fmt.Errorf("document is nested deeper than %d", MaxDocumentDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// checkLimits refuses a model whose lists are longer than the worker is prepared for.
func (i *Integration) checkLimits() error {
	if i.Format != FormatVersion {
		return fmt.Errorf("format version %d is not %d", i.Format, FormatVersion)
	}
	if i.written() > MaxFlows || len(i.Flows) > 5*MaxFlows || len(i.Config) > MaxConfig || len(i.Connections) > MaxConnections || len(i.Wizard) > MaxWizardPages {
		return errors.New("too many flows, config variables, connections or pages")
	}
	if err := i.checkLocks(); err != nil {
		return err
	}
	for n := range i.Flows {
		f := &i.Flows[n]
		if f.Trigger.Kind() == TriggerNone {
			return fmt.Errorf("flow %q has no trigger", f.Name)
		}
		steps := 0
		for path, s := range Walk("", f.Steps) {
			if steps++; steps > MaxSteps {
				return fmt.Errorf("flow %q has more than %d steps", f.Name, MaxSteps)
			}
			if s.Kind() == StepNone {
				return fmt.Errorf("step %s of flow %q does nothing", path, f.Name)
			}
		}
	}
	return nil
}

// written is how many flows the document has, without those that triggers of connectors brought along.
func (i *Integration) written() (n int) {
	for k := range i.Flows {
		if _, derived := Derived(i.Flows[k].Name); !derived {
			n++
		}
	}
	return n
}

// checkLocks refuses locks that are not one for a slot.
func (i *Integration) checkLocks() error {
	seen := map[string]bool{}
	for n := range i.Locks {
		l := &i.Locks[n]
		if i.Slot(l.Slot) == nil || seen[l.Slot] {
			return fmt.Errorf("lock %q is of no slot, or repeated", l.Slot)
		}
		seen[l.Slot] = true
		if len(l.Actions) > connector.MaxActions || len(l.Triggers) > connector.MaxTriggers || len(l.Schemas) > connector.MaxSchemas {
			return fmt.Errorf("lock %q has too many actions, triggers or schemas", l.Slot)
		}
		for k := range l.Actions {
			if len(l.Actions[k].Inputs) > connector.MaxInputs {
				return fmt.Errorf("action %q of lock %q has too many inputs", l.Actions[k].Name, l.Slot)
			}
		}
	}
	return nil
}

// named is a JSON object whose keys keep their order.
type named[T any] struct {
	keys  []string
	items []T
}

// IsZero leaves an empty object out.
func (n named[T]) IsZero() bool { return len(n.keys) == 0 }

// MarshalJSON writes the object in its order.
func (n named[T]) MarshalJSON() ([]byte, error) {
	out := []byte("{")
	for i, key := range n.keys {
		if i > 0 {
			out = append(out, ',')
		}
		out, _ = appendText(out, key)
		b, err := canon.Marshal(n.items[i])
		if err != nil {
			return nil, err
		}
		out = append(append(out, ':'), b...)
	}
	return append(out, '}'), nil
}

// UnmarshalJSON reads an object and refuses repeated keys.
func (n *named[T]) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.New("an object is expected")
	}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		key, _ := t.(string)
		if seen[key] {
			return fmt.Errorf("key %q is repeated", key)
		}
		seen[key] = true
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return err
		}
		var item T
		if err := canon.Unmarshal(raw, &item); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		n.keys, n.items = append(n.keys, key), append(n.items, item)
	}
	return nil
}

type integrationJSON struct {
	Format         int              `json:"bulkhead"`
	ProfileVersion int              `json:"expressions,omitempty"`
	Name           string           `json:"integration"`
	Title          Text             `json:"title,omitzero"`
	Description    Text             `json:"description,omitzero"`
	Config         named[ConfigVar] `json:"config,omitzero"`
	Connections    named[Slot]      `json:"connections,omitzero"`
	Locks          []connector.Lock `json:"locks,omitempty"`
	Wizard         []Page           `json:"wizard,omitempty"`
	Flows          named[Flow]      `json:"flows"`
}

// MarshalJSON writes i as a document.
func (i *Integration) MarshalJSON() ([]byte, error) {
	j := integrationJSON{
		Format: i.Format, ProfileVersion: i.ProfileVersion, Name: i.Name, Title: i.Title, Description: i.Description, Wizard: i.Wizard,
		Locks: i.Locks,
	}
	for _, c := range i.Config {
		j.Config.keys, j.Config.items = append(j.Config.keys, c.Name), append(j.Config.items, c)
	}
	for _, s := range i.Connections {
		j.Connections.keys, j.Connections.items = append(j.Connections.keys, s.Name), append(j.Connections.items, s)
	}
	for _, f := range i.Flows {
		j.Flows.keys, j.Flows.items = append(j.Flows.keys, f.Name), append(j.Flows.items, f)
	}
	return canon.Marshal(j)
}

// UnmarshalJSON reads a document.
func (i *Integration) UnmarshalJSON(b []byte) error {
	var j integrationJSON
	if err := canon.Unmarshal(b, &j); err != nil {
		return err
	}
	*i = Integration{
		Format: j.Format, ProfileVersion: j.ProfileVersion, Name: j.Name, Title: j.Title, Description: j.Description,
		Config: j.Config.items, Connections: j.Connections.items, Wizard: j.Wizard, Flows: j.Flows.items,
		Locks: j.Locks,
	}
	for n, key := range j.Config.keys {
		i.Config[n].Name = key
	}
	for n, key := range j.Connections.keys {
		i.Connections[n].Name = key
	}
	for n, key := range j.Flows.keys {
		i.Flows[n].Name = key
	}
	return nil
}

// Labels are the labels of a flow, unique names in the order written.
type Labels []Label

// MarshalJSON writes an object.
func (l Labels) MarshalJSON() ([]byte, error) {
	var n named[Value]
	for _, label := range l {
		n.keys, n.items = append(n.keys, label.Name), append(n.items, label.Value)
	}
	return n.MarshalJSON()
}

// UnmarshalJSON reads an object.
func (l *Labels) UnmarshalJSON(b []byte) error {
	var n named[Value]
	if err := n.UnmarshalJSON(b); err != nil {
		return err
	}
	*l = nil
	for i, key := range n.keys {
		*l = append(*l, Label{Name: key, Value: n.items[i]})
	}
	return nil
}
