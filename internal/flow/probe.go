package flow

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// ProbeSlot is the slot of the integrations that [Probe] makes.
const ProbeSlot = "connection"

// Limits of what the platform itself asks through a connection.
const (
	// MaxProbes is how many questions about choices and schemas one connector may have; more are not offered.
	MaxProbes = MaxFlows - connector.MaxMethods
	// MaxChoices is how many choices one question lists.
	MaxChoices = 1000
	// ProbeTimeout bounds what a question asks for, and ProbeFlowTimeout its flow.
	ProbeTimeout     = 15 * time.Second
	ProbeFlowTimeout = 30 * time.Second
	// ProbeExpires is how long a question may wait for its turn, and ProbeRetention how long its execution can be looked at.
	ProbeExpires   = 10 * time.Minute
	ProbeRetention = 24 * time.Hour
)

// OptionsFlow is the one flow of the integrations that [Integration.Options] makes.
const OptionsFlow = "options"

// ErrNoOptions means that no action lists what a config variable may be set to.
var ErrNoOptions = errors.New("no action lists its values")

// Probe makes the integration by which the platform itself asks something through a connection: the connection test of each
// auth method ([ProbeTest]), the values that an input may have ([ProbeChoices]), the schema of an input ([ProbeSchema]). So
// every such question is an execution, with the same checks and flow records as any other.
//
// Each flow takes the inputs of its action as trigger.body, and answers who waits for it with no more than was asked for:
//   - of a test {status};
//   - of choices {list: [{value, label}]}, at most [MaxChoices];
//   - of a schema {schema}, or {fields: [{name, type, label}]} where the recipe describes a list of fields;
//   - and of any that failed {error: {type, status, message}}, the message only when there was no answer: what the other side
//     says stays in the execution.
//
// Actions that are programs in a query language are left out, because their text must stand in a definition, and so is what
// is beyond [MaxProbes].
func Probe(m *connector.Manifest) (*Integration, error) {
	b := &probe{m: m, i: &Integration{
		Format: FormatVersion, ProfileVersion: 1, Name: "probe-" + m.Name, Connections: []Slot{{Name: ProbeSlot, Connector: m.Name + "@" + m.Version}},
	}}
	for i := range m.Auth {
		if t := m.Auth[i].Test; t != nil {
			b.add(ProbeTest(m.Auth[i].ID), t.Action, func() (asking, error) { return b.test(t.Action), nil })
		}
	}
	for i := range m.Actions {
		b.inputs(m.Actions[i].Inputs)
	}
	for i := range m.Triggers {
		b.inputs(m.Triggers[i].Inputs)
	}
	if b.err != nil {
		return nil, fmt.Errorf("probe %s: %w", m.Name, b.err)
	}
	b.i.Locks = []connector.Lock{m.Lock(ProbeSlot, b.actions, nil)}
	return b.i, nil
}

// ProbeTest names the flow that tests a connection of an auth method.
func ProbeTest(method string) string { return "test." + method }

// ProbeChoices names the flow that lists choices.
func ProbeChoices(c *connector.Choices) string {
	return probeName("choices", c.Action, c.Items, c.Value, c.Label)
}

// ProbeSchema names the flow that describes a schema.
func ProbeSchema(s *connector.SchemaFrom) string {
	return probeName("schema", s.Action, s.Path, s.Name, s.Type, s.Label)
}

// probeName tells recipes of the same action apart by what they are.
func probeName(what, action string, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return what + "." + action + "." + hex.EncodeToString(sum[:4])
}

// probe is an integration that is being made.
type probe struct {
	m       *connector.Manifest
	i       *Integration
	actions []string
	asked   int // questions that are no tests
	err     error
}

// asking are the steps of a question, behind which steps.answer is what was asked for.
type asking struct {
	steps  []Step
	answer Value
}

func (b *probe) inputs(list []connector.Input) {
	for i := range list {
		if c := list[i].Choices; c != nil {
			b.question(ProbeChoices(c), c.Action, func() (asking, error) {
				return listing(&Pages{Action: b.action(c.Action)}, c.Items, c.Value, c.Label)
			})
		}
		if s := list[i].SchemaFrom; s != nil {
			b.question(ProbeSchema(s), s.Action, func() (asking, error) { return b.schema(s) })
		}
	}
}

// question adds a flow that is no test, as far as there is room.
func (b *probe) question(name, action string, how func() (asking, error)) {
	if b.asked < MaxProbes && b.add(name, action, how) {
		b.asked++
	}
}

// add adds a flow, unless it is there.
func (b *probe) add(name, action string, how func() (asking, error)) bool {
	a := b.m.Action(action)
	switch {
	case b.err != nil || b.i.Flow(name) != nil:
		return false
	case a == nil:
		b.err = fmt.Errorf("there is no action %s", action)
		return false
	case slices.ContainsFunc(a.Inputs, func(in connector.Input) bool { return in.Language != "" }):
		return false
	}
	made, err := how()
	if err != nil {
		b.err = fmt.Errorf("%s: %w", name, err)
		return false
	}
	b.actions = append(b.actions, action)
	b.i.Flows = append(b.i.Flows, answering(name, made))
	return true
}

// action calls an action with what the question gives for its inputs.
func (b *probe) action(name string) Action {
	return Action{Slot: ProbeSlot, Action: name, With: expression("trigger.body")}
}

func (b *probe) test(action string) asking {
	return asking{
		[]Step{{ID: "asked", Timeout: Duration(ProbeTimeout), Action: ptr(b.action(action))}},
		object([]string{"status"}, expression("steps.asked.status")),
	}
}

func (b *probe) schema(s *connector.SchemaFrom) (asking, error) {
	at, err := path(s.Path)
	if err != nil {
		return asking{}, err
	}
	out := asking{steps: []Step{{ID: "asked", Timeout: Duration(ProbeTimeout), Action: ptr(b.action(s.Action))}}}
	if s.Name == "" {
		out.answer = object([]string{"schema"}, expression("orElse(steps.asked.body%s, null)", at))
		return out, nil
	}
	var parts []string
	for _, p := range []struct{ name, path string }{{"name", s.Name}, {"type", s.Type}, {"label", s.Label}} {
		part := "null"
		if p.path != "" {
			at, err := path(p.path)
			if err != nil {
				return asking{}, err
			}
			part = "orElse(field" + at + ", null)"
		}
		parts = append(parts, fmt.Sprintf("%q: %s", p.name, part))
	}
	out.answer = object([]string{"fields"}, expression("first(chunk(orElse(steps.asked.body%s, []).map(field, {%s}), %d))", at, strings.Join(parts, ", "), MaxChoices))
	return out, nil
}

// listing are the steps that list the items of an action, and what is value and label of each. items is a path in the
// answer's body; empty: where the action's own recipe says, or the body.
func listing(pages *Pages, items, value, label string) (asking, error) {
	if items != "" {
		at, err := path(items)
		if err != nil {
			return asking{}, err
		}
		pages.Items = expression("orElse(result.body%s, [])", at)
	}
	of := func(p string) (Value, error) {
		at, err := path(p)
		if err != nil || at == "" {
			return expression("item"), err
		}
		return expression("orElse(item%s, null)", at), nil
	}
	one, err := of(value)
	if err != nil {
		return asking{}, err
	}
	two := NullValue()
	if label != "" {
		if two, err = of(label); err != nil {
			return asking{}, err
		}
	}
	return asking{
		[]Step{{ID: "asked", Timeout: Duration(ProbeTimeout), For: &For{Each: Each{Pages: pages}, Max: MaxChoices, Result: object([]string{"value", "label"}, one, two)}}},
		object([]string{"list"}, expression("steps.asked")),
	}, nil
}

// unreached is the message of an error when nothing was answered, in the words of egress: what is made of an answer stays in the
// execution.
const unreached = "error.type == 'upstream' && error.status == 0 && " +
	"['the service', 'the name ', 'the connection ', 'connection trouble'].exists(x, error.message.startsWith(x)) ? error.message : ''"

// answering is the flow of a question: it answers who waits, also when it fails.
func answering(name string, how asking) Flow {
	failed := object([]string{"error"}, object([]string{"type", "status", "message"}, expression("error.type"), expression("error.status"),
		expression(unreached)))
	return Flow{
		Name: name, Trigger: Trigger{Manual: &Input{}}, Timeout: Duration(ProbeFlowTimeout), Expires: Duration(ProbeExpires), Retention: Duration(ProbeRetention),
		Steps: []Step{{ID: "safe", Try: &Try{
			Steps: append(how.steps, Step{ID: "answer", Respond: &Respond{Body: how.answer}}),
			Catch: Catch{Steps: []Step{{ID: "failed", Respond: &Respond{Body: failed}}}},
		}}},
	}
}

// Sides of a config variable of which an action lists the values.
const (
	SideChoices = "choices"
	SideFrom    = "from" // of a mapping
	SideTo      = "to"
)

// choices are those of a side of the variable, or nil. Without a side they are its only ones.
func (v *ConfigVar) choices(side string) *Choices {
	switch side {
	case SideChoices, "":
		return v.Choices
	case SideFrom:
		return v.From
	case SideTo:
		return v.To
	}
	return nil
}

// Options makes the integration that lists what a config variable may be set to, by the action that its definition names;
// side is one of a mapping's, or [SideChoices]. Its one flow [OptionsFlow] answers as the choices of [Probe] do. It has the
// config variables of i, without secrets and none of them required, and the one slot that is asked.
//
// The error wraps [ErrNoOptions].
func (i *Integration) Options(name, side string) (*Integration, error) {
	v := i.ConfigVar(name)
	if v == nil {
		return nil, fmt.Errorf("%w: there is no variable %s", ErrNoOptions, name)
	}
	c := v.choices(side)
	if c == nil {
		if v.Type == ConfigMapping {
			return nil, fmt.Errorf("%w: %s is a mapping: say whether its fields %q or %q are meant", ErrNoOptions, name, SideFrom, SideTo)
		}
		return nil, fmt.Errorf("%w: %s", ErrNoOptions, name)
	}
	slot, action, err := SplitUses(c.Uses)
	if err != nil {
		return nil, err
	}
	s, l := i.Slot(slot), i.Lock(slot)
	if s == nil || !s.BuiltIn() && (l == nil || l.Action(action) == nil) {
		return nil, fmt.Errorf("%w: the connector of %s was not looked up", ErrNoOptions, slot)
	}
	out := &Integration{Format: FormatVersion, ProfileVersion: i.ProfileVersion, Name: "options-" + i.Name, Connections: []Slot{{Name: slot, Connector: s.Connector}}}
	if l != nil {
		out.Locks = []connector.Lock{*l}
	}
	for k := range i.Config {
		if v := &i.Config[k]; v.Type != ConfigSecret {
			out.Config = append(out.Config, ConfigVar{Name: v.Name, Type: v.Type, Default: v.Default})
		}
	}
	how, err := listing(&Pages{Action: Action{Slot: slot, Action: action, With: c.With}}, c.Items, c.Value, c.Label)
	if err != nil {
		return nil, err
	}
	out.Flows = []Flow{answering(OptionsFlow, how)}
	return out, nil
}
