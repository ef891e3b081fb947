package connect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Limits of lists of choices.
const (
	// ChoicesFor is how long a list is given again without asking.
	ChoicesFor = 30 * time.Second
	// MaxKept is how many lists are kept in memory for that.
	MaxKept = 128
	// MaxValue is the longest value, as JSON, and MaxLabel the longest label, in bytes; longer values are left out, longer
	// labels are cut.
	MaxValue = 1 << 10
	MaxLabel = 300
	// maxSchema is the largest schema, in bytes.
	maxSchema = 256 << 10
)

// Choice is one value that can be chosen.
type Choice struct {
	Value json.RawMessage `json:"value"` // a text, a number, true or false
	Label string          `json:"label"`
}

// Choices are the values that can be chosen.
type Choices struct {
	List      []Choice
	More      bool // there are more than flow.MaxChoices, which are not listed
	Execution id.Execution
}

// listed and described are parts of an answer, see flow.Probe.
type (
	listed struct {
		Value json.RawMessage `json:"value"`
		Label any             `json:"label"`
	}
	described struct {
		Name  any `json:"name"`
		Type  any `json:"type"`
		Label any `json:"label"`
	}
)

// InputQuery asks about an input of an action or a trigger of the connector of a connection.
type InputQuery struct {
	Org        id.Org
	Connection id.Connection
	Action     string // or a trigger
	Input      string
	With       map[string]json.RawMessage // the other inputs, as far as they are known
}

// inputOf finds the input, and those beside it.
func (q *InputQuery) inputOf(m *connector.Manifest) (*connector.Input, []connector.Input, error) {
	var list []connector.Input
	if a := m.Action(q.Action); a != nil {
		list = a.Inputs
	} else if t := m.Trigger(q.Action); t != nil {
		list = t.Inputs
	} else {
		return nil, nil, invalid("action", "%s has no such action or trigger", m.Name)
	}
	for name := range q.With {
		if !slices.ContainsFunc(list, func(in connector.Input) bool { return in.Name == name }) {
			return nil, nil, invalid("with", "%s has no input %q", q.Action, name)
		}
	}
	for n := range list {
		if list[n].Name == q.Input {
			return &list[n], list, nil
		}
	}
	return nil, nil, invalid("input", "%s has no such input", q.Action)
}

// subject is what a query is about: an input, and those beside it.
type subject struct {
	query      *InputQuery
	connection *store.ConnectionInfo
	manifest   *connector.Manifest
	input      *connector.Input
	beside     []connector.Input
}

// subject finds what a query is about; what names in an error what it asks for.
func (s *Service) subject(ctx context.Context, q *InputQuery, what string) (*subject, error) {
	x, m, err := s.connection(ctx, q.Org, q.Connection)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, fmt.Errorf("%w: the built-in connector http describes no %s", ErrNoChoices, what)
	}
	in, beside, err := q.inputOf(m)
	if err != nil {
		return nil, err
	}
	return &subject{query: q, connection: x, manifest: m, input: in, beside: beside}, nil
}

// passed are the inputs of a recipe's action: literals, and what is known of the other inputs.
func (x *subject) passed(action string, list []connector.Passed) (map[string]json.RawMessage, error) {
	asked := x.manifest.Action(action)
	if asked == nil {
		return nil, fmt.Errorf("%w: the connector has no action %s", ErrNoChoices, action)
	}
	body, wrong := map[string]json.RawMessage{}, InvalidError(nil)
	for _, p := range list {
		value := p.Value
		if p.From != "" {
			if value = x.query.With[p.From]; len(value) == 0 || string(value) == "null" {
				value = nil
				for n := range x.beside {
					if x.beside[n].Name == p.From {
						value = x.beside[n].Default
					}
				}
			}
		}
		if in := asked.Input(p.Name); len(value) > 0 {
			body[p.Name] = value
		} else if p.From != "" && in != nil && in.Required && len(in.Default) == 0 {
			wrong = append(wrong, Wrong{"with." + p.From, "it decides on what can be chosen: give a value first"})
		}
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return body, nil
}

// Choices lists the values that an input may have, as the connector's recipe says. A list is given again for [ChoicesFor].
//
// Errors: [InvalidError]; [ErrNoChoices]; [*AskedError]; [ErrConflict]; [ErrAsking]; store.ErrNotFound; or one of the engine,
// the vault or the store.
func (s *Service) Choices(ctx context.Context, q *InputQuery) (*Choices, error) {
	x, err := s.subject(ctx, q, "choices")
	if err != nil {
		return nil, err
	}
	c := x.input.Choices
	if c == nil {
		return nil, fmt.Errorf("%w: what the input %s may be is not listed by an action", ErrNoChoices, q.Input)
	}
	name := flow.ProbeChoices(c)
	body, err := x.passed(c.Action, c.With)
	if err != nil {
		return nil, err
	}
	return s.asking.kept.get(keyOf(x.connection, name, body), func() (*Choices, error) {
		a, execution, err := s.put(ctx, q.Org, x.connection, x.manifest, name, body)
		if err != nil {
			return nil, err
		}
		return choicesOf(a, execution, false), nil
	})
}

// keyOf tells questions apart. An entered credential makes new ones.
func keyOf(x *store.ConnectionInfo, name string, body any) [32]byte {
	text, _ := json.Marshal(body) // JSON always prints
	changed, _ := x.Changed.MarshalBinary()
	return sha256.Sum256(seal.Tuple(nil, []byte("choices/1"), x.Customer[:], x.ID[:], changed, x.ConnectorDigest[:], []byte(name), text))
}

// choicesOf reads an answer: each value once, in the order in which they came, as a text where one is wanted.
func choicesOf(a *asked, execution id.Execution, texts bool) *Choices {
	out := &Choices{List: []Choice{}, More: len(a.List) >= flow.MaxChoices, Execution: execution}
	seen := map[string]bool{}
	for _, one := range a.List {
		value := bytes.TrimSpace(one.Value)
		if texts && len(value) > 0 && value[0] != '"' && value[0] != '{' && value[0] != '[' && string(value) != "null" {
			value = []byte(strconv.Quote(string(value))) // a number, true or false
		}
		if len(value) == 0 || len(value) > MaxValue || value[0] == '{' || value[0] == '[' || string(value) == "null" || seen[string(value)] {
			continue
		}
		seen[string(value)] = true
		label := label(one.Label)
		if label == "" {
			label = plain(value)
		}
		out.List = append(out.List, Choice{Value: value, Label: label})
	}
	return out
}

// plain is a value as people read it.
func plain(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) != nil {
		text = string(value)
	}
	return label(text)
}

// label is a text of one line that is not too long; other values have none.
func label(v any) string {
	var text string
	switch v := v.(type) {
	case string:
		text = v
	case float64, bool:
		text = fmt.Sprint(v)
	}
	text = strings.Join(strings.Fields(text), " ")
	for cut := MaxLabel; len(text) > MaxLabel; cut-- {
		if utf8.RuneStart(text[cut]) {
			text = text[:cut]
		}
	}
	return text
}

// Schema is the JSON Schema of an input that the other side describes.
//
// Errors: as of [Service.Choices].
func (s *Service) Schema(ctx context.Context, q *InputQuery) (json.RawMessage, id.Execution, error) {
	x, err := s.subject(ctx, q, "schemas")
	if err != nil {
		return nil, id.Execution{}, err
	}
	f := x.input.SchemaFrom
	if f == nil {
		return nil, id.Execution{}, fmt.Errorf("%w: the schema of the input %s is not described by an action", ErrNoChoices, q.Input)
	}
	body, err := x.passed(f.Action, f.With)
	if err != nil {
		return nil, id.Execution{}, err
	}
	a, execution, err := s.put(ctx, q.Org, x.connection, x.manifest, flow.ProbeSchema(f), body)
	if err != nil {
		return nil, execution, err
	}
	schema := a.Schema
	if f.Name != "" {
		schema = schemaOf(a.Fields)
	}
	if len(schema) == 0 || schema[0] != '{' || len(schema) > maxSchema {
		return nil, execution, &AskedError{Execution: execution, Type: "invalid-input"}
	}
	return schema, execution, nil
}

// schemaOf is the schema of an object with fields. Types are taken over where JSON Schema has them.
func schemaOf(fields []described) json.RawMessage {
	properties := map[string]map[string]string{}
	for _, f := range fields {
		name := label(f.Name)
		if name == "" {
			continue
		}
		p := map[string]string{}
		if title := label(f.Label); title != "" {
			p["title"] = title
		}
		if t := label(f.Type); slices.Contains([]string{"string", "number", "integer", "boolean", "object", "array"}, t) {
			p["type"] = t
		}
		properties[name] = p
	}
	out, _ := json.Marshal(map[string]any{"type": "object", "properties": properties}) // texts always print
	return out
}

// OptionsQuery asks what a config variable of an instance may be set to.
type OptionsQuery struct {
	Org      id.Org
	Instance id.Instance
	Variable string
	Side     string // flow.SideFrom or flow.SideTo of a mapping
	// Config are values that decide on what can be chosen, as a JSON object without secrets: what is stored cannot be read.
	Config json.RawMessage
}

// Options lists what a config variable of an instance may be set to, by the action that its integration names. The instance
// may lack config: it needs the connection that is asked. The errors are those of [Service.Choices].
func (s *Service) Options(ctx context.Context, q *OptionsQuery) (*Choices, error) {
	x, err := s.db.Org(ctx, q.Org).Instance(q.Instance)
	if err != nil {
		return nil, err
	}
	v, err := s.db.Org(ctx, q.Org).VersionOf(x.Integration, x.Version)
	if err != nil {
		return nil, err
	}
	whole, err := flow.Decode(v.Definition)
	if err != nil {
		return nil, err
	}
	i, err := whole.Options(q.Variable, q.Side)
	if errors.Is(err, flow.ErrNoOptions) {
		return nil, fmt.Errorf("%w: %s", ErrNoChoices, after(err, flow.ErrNoOptions))
	}
	if err != nil {
		return nil, err
	}
	d := &engine.Deployment{Customer: x.Customer}
	if d.Config, err = optionsConfig(i, q.Config); err != nil {
		return nil, err
	}
	n, err := s.slotOf(ctx, x, i.Connections[0].Name, d)
	if err != nil {
		return nil, err
	}
	i.Name = hiddenName(store.TestPrefix, "options")
	definition, err := i.Encode()
	if err != nil {
		return nil, err
	}
	// What lists a variable is the definition, and what is passed the config.
	return s.asking.kept.get(keyOf(n, string(definition), [2]any{x.Customer, d.Config}), func() (*Choices, error) {
		return s.options(ctx, q.Org, definition, d, whole.ConfigVar(q.Variable).Type != flow.ConfigList)
	})
}

// optionsConfig checks the values that decide on what can be chosen.
func optionsConfig(i *flow.Integration, given json.RawMessage) ([]byte, error) {
	values := map[string]json.RawMessage{}
	if len(given) > 0 && (json.Unmarshal(given, &values) != nil || values == nil) {
		return nil, invalid("config", "want an object")
	}
	config, err := i.PartialConfigJSON(values)
	if err != nil {
		return nil, invalid("config", "%s", err)
	}
	return config, nil
}

// slotOf fills the slot of a deployment as the instance does.
func (s *Service) slotOf(ctx context.Context, x *store.InstanceInfo, slot string, d *engine.Deployment) (*store.ConnectionInfo, error) {
	for _, f := range x.Slots {
		if f.Name != slot {
			continue
		}
		n, err := s.db.Customer(ctx, f.Owner).Connection(f.Connection)
		if errors.Is(err, store.ErrNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		d.Slots = []store.Slot{f}
		return n, usable(n)
	}
	return nil, fmt.Errorf("%w: the instance has no connection in the slot %s", ErrConflict, slot)
}

// options asks by an instance that is removed behind it: it has config of its own, which the next question may not share.
func (s *Service) options(ctx context.Context, o id.Org, definition []byte, d *engine.Deployment, texts bool) (*Choices, error) {
	if !s.asking.take(d.Customer) {
		return nil, ErrAsking
	}
	defer s.asking.give(d.Customer)
	i, err := s.deployHidden(ctx, o, definition, d)
	if err != nil {
		return nil, err
	}
	a, execution, err := s.ask(ctx, &question{d.Customer, i, flow.OptionsFlow, struct{}{}})
	if gone := s.unprobe(context.WithoutCancel(ctx), d.Customer, i); gone != nil {
		s.log.ErrorContext(ctx, "instance of a question is not removed", "instance", i.String(), "err", gone)
	}
	if err != nil {
		return nil, err
	}
	return choicesOf(a, execution, texts), nil
}

// keptChoices keeps lists for a short time. Safe for concurrent use.
type keptChoices struct {
	mu   sync.Mutex
	list map[[32]byte]*keptList
}

type keptList struct {
	choices *Choices
	until   time.Time
}

// get gives a list that is kept, or asks for it.
func (k *keptChoices) get(key [32]byte, ask func() (*Choices, error)) (*Choices, error) {
	k.mu.Lock()
	got := k.list[key]
	k.mu.Unlock()
	if got != nil && time.Now().Before(got.until) {
		return got.choices, nil
	}
	c, err := ask()
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for other, l := range k.list {
		if now.After(l.until) {
			delete(k.list, other)
		}
	}
	if k.list == nil {
		k.list = map[[32]byte]*keptList{}
	}
	if len(k.list) < MaxKept {
		k.list[key] = &keptList{c, now.Add(ChoicesFor)}
	}
	return c, nil
}
