package flow

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// ErrTrigger is wrapped by the errors of [Integration.Expand].
var ErrTrigger = errors.New("trigger of a connector")

// EventTrigger finds the trigger of a connector that slot.trigger names, with the lock that it is in.
func (i *Integration) EventTrigger(uses string) (*connector.Lock, *connector.Trigger) {
	slot, name, _ := strings.Cut(uses, ".")
	l := i.Lock(slot)
	if l == nil {
		return nil, nil
	}
	return l, l.Trigger(name)
}

// Recipe finds the trigger of a slot's connector that says how its webhooks prove their sender, or nil.
func (i *Integration) Recipe(slot string) *connector.Trigger {
	l := i.Lock(slot)
	if l == nil {
		return nil
	}
	for n := range l.Triggers {
		if t := &l.Triggers[n]; t.Type != connector.TriggerPoll && t.Verify != nil && t.Verify.Type != "none" {
			return t
		}
	}
	return nil
}

// Expand makes ordinary flows of what the triggers of connectors need: a trigger that asks now and then becomes a poll, and
// one with a subscription brings along the flows that make, renew and remove it. What they keep is in the instance's state,
// so that they go on after a crash as every flow does. It is called when an integration is published, behind its locks; a
// second time changes nothing.
func (i *Integration) Expand() error {
	var added []Flow
	for n := range i.Flows {
		f := &i.Flows[n]
		if f.Trigger.Event == nil || i.Flow(f.Name+SubscribeSuffix) != nil {
			continue
		}
		lock, t := i.EventTrigger(f.Trigger.Event.Uses)
		if t == nil {
			return fmt.Errorf("%w: flow %s: there is no trigger %s", ErrTrigger, f.Name, f.Trigger.Event.Uses)
		}
		var err error
		switch x := (&expansion{flow: f, lock: lock, t: t, with: &f.Trigger.Event.With}); t.Type {
		case connector.TriggerPoll:
			f.Trigger, err = x.poll()
		case connector.TriggerWebhook:
			var own []Flow
			own, err = x.subscription()
			added = append(added, own...)
		}
		if err != nil {
			return fmt.Errorf("%w: flow %s: %w", ErrTrigger, f.Name, err)
		}
	}
	i.Flows = append(i.Flows, added...)
	return nil
}

// expansion is one flow with a trigger of a connector.
type expansion struct {
	flow *Flow
	lock *connector.Lock
	t    *connector.Trigger
	with *Value
}

// expression is the value of one expression.
func expression(format string, args ...any) Value {
	v, issues := ParseString("${{ " + fmt.Sprintf(format, args...) + " }}")
	if len(issues) > 0 { // they are written below
		panic("flow: " + issues[0].Message)
	}
	return v
}

func object(keys []string, items ...Value) Value {
	return Value{Kind: Object, Keys: keys, Items: items}
}

// text is a text as it is, whatever stands in it.
func text(s string) Value {
	v, _ := ParseString(strings.ReplaceAll(s, "${{", "$${{")) // a text without expressions always parses
	return v
}

func ptr[T any](v T) *T { return &v }

// path is what stands behind a name in an expression for a path into JSON.
func path(p string) (string, error) {
	if p == "" {
		return "", nil
	}
	segments, err := connector.Segments(p)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, s := range segments {
		if s.List {
			b.WriteString("[" + strconv.Itoa(s.Index) + "]")
		} else {
			b.WriteString("[" + strconv.Quote(s.Key) + "]")
		}
	}
	return b.String(), nil
}

// input is what the flow gives for an input of the trigger, its default, or null.
func (x *expansion) input(name string) (Value, error) {
	for k, key := range x.with.Keys {
		if key == name {
			return x.with.Items[k], nil
		}
	}
	for k := range x.t.Inputs {
		if in := &x.t.Inputs[k]; in.Name == name && len(in.Default) > 0 {
			return literal(in.Default)
		}
	}
	return NullValue(), nil
}

// literal is JSON of a manifest as a value. Its texts are taken as they are.
func literal(raw json.RawMessage) (Value, error) {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return Value{}, fmt.Errorf("read value: %w", err)
	}
	return fromAny(v, func(s string) (Value, error) { return text(s), nil })
}

func fromAny(v any, texts func(string) (Value, error)) (Value, error) {
	switch v := v.(type) {
	case nil:
		return NullValue(), nil
	case bool:
		return Value{Kind: Bool, Bool: v}, nil
	case float64:
		return Value{Kind: Number, Text: strconv.FormatFloat(v, 'f', -1, 64)}, nil
	case string:
		return texts(v)
	case []any:
		out := Value{Kind: List}
		for _, item := range v {
			one, err := fromAny(item, texts)
			if err != nil {
				return Value{}, err
			}
			out.Items = append(out.Items, one)
		}
		return out, nil
	case map[string]any:
		out := Value{Kind: Object}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			one, err := fromAny(v[key], texts)
			if err != nil {
				return Value{}, err
			}
			out.Keys, out.Items = append(out.Keys, key), append(out.Items, one)
		}
		return out, nil
	}
	return Value{}, fmt.Errorf("a %T is no JSON", v)
}

// poll makes a poll of a trigger that asks now and then.
func (x *expansion) poll() (Trigger, error) {
	p := x.t.Poll
	if x.lock.Action(p.Action) == nil {
		return Trigger{}, fmt.Errorf("there is no action %s", p.Action)
	}
	with := Value{Kind: Object}
	for _, w := range p.With {
		v, err := x.passed(w)
		if err != nil {
			return Trigger{}, err
		}
		with.Keys, with.Items = append(with.Keys, w.Name), append(with.Items, v)
	}
	every := p.Every.Std()
	if every == 0 {
		every = DefaultEventPoll
	}
	out := &Poll{Uses: x.lock.Slot + "." + p.Action, With: with, Every: text(seconds(every)), Start: StartNow}
	key, err := joined(p.Key)
	if err != nil {
		return Trigger{}, err
	}
	out.Key = key
	for _, part := range []struct {
		to   *Value
		name string
		path string
	}{{&out.Items, "result.body", p.Items}, {&out.Cursor, "item", p.Cursor}} {
		if part.path == "" {
			continue
		}
		at, err := path(part.path)
		if err != nil {
			return Trigger{}, err
		}
		*part.to = expression("orElse(%s%s, null)", part.name, at)
	}
	if p.Window > 0 && p.Items != "" {
		if out.Items, err = recent(p); err != nil {
			return Trigger{}, err
		}
	}
	return Trigger{Poll: out}, nil
}

// isTime is whether there is a time at a place: what is none must not keep a poll from all others.
func isTime(place string) string {
	return `string(orElse(` + place + `, "")).matches("^[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]|^[0-9]+$")`
}

// recent is the items of a first page that lie within the window, and those without a time. What is older is not new: it
// comes into the first page when others leave it.
func recent(p *connector.PollRecipe) (Value, error) {
	items, err := path(p.Items)
	if err != nil {
		return Value{}, err
	}
	at, err := path(p.Cursor)
	if err != nil {
		return Value{}, err
	}
	return expression(`orElse(result.body%s, []).filter(i, %s ? parseTime(i%s) >= %s : true)`, items, isTime("i"+at), at, oldest(p)), nil
}

// oldest is the time at which the window of a poll begins.
func oldest(p *connector.PollRecipe) string {
	return fmt.Sprintf("now() - duration(%q)", seconds(p.Window.Std()))
}

// joined is the key of an item: what stands at a path, or at each of several with a + between them. The parts are told
// apart by a line end, which ids and times do not hold. The first part is there in every item; providers leave out what
// follows, such as the time of a change of what was deleted, and an item without it is known by the rest.
func joined(paths string) (Value, error) {
	var parts []string
	for p := range strings.SplitSeq(paths, "+") {
		at, err := path(p)
		if err != nil {
			return Value{}, err
		}
		part := "item" + at
		if len(parts) > 0 {
			part = "orElse(" + part + `, "")`
		}
		parts = append(parts, "${{ "+part+" }}")
	}
	v, issues := ParseString(strings.Join(parts, "\n"))
	if len(issues) > 0 {
		return Value{}, fmt.Errorf("the key %q: %s", paths, issues[0].Message)
	}
	return v, nil
}

func (x *expansion) passed(w connector.Passed) (Value, error) {
	switch w.From {
	case "":
		return literal(w.Value)
	case "cursor":
		if p := x.t.Poll; p != nil && p.Window > 0 {
			return expression(`(%s ? parseTime(cursor) < %s : true) ? string(%s) : cursor`, isTime("cursor"), oldest(p), oldest(p)), nil
		}
		return expression("cursor"), nil
	}
	return x.input(w.From)
}

func seconds(d time.Duration) string { return "PT" + strconv.Itoa(int(d/time.Second)) + "S" }
