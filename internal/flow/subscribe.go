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

// The flows that a trigger of a connector brings along are called after its flow, with one of these behind it. No document
// can hold such a name.
const (
	SubscribeSuffix   = "$subscribe"   // makes the subscription, or makes it anew when it is not what is wanted
	UnsubscribeSuffix = "$unsubscribe" // removes it
	RenewSuffix       = "$renew"
	KeepSuffix        = "$keep" // takes the secret that the other side sends to the address
)

// Names of the state values of a subscription, behind which the name of its flow stands. No flow of a document can use them.
const (
	SubscriptionState  = "$sub." // {id, url, mark, until}
	SubscriptionSecret = "$key." // the secret with which the other side signs
)

// Derived says whether a flow was brought along by a trigger of a connector, and which flow has it.
func Derived(name string) (of string, ok bool) {
	of, _, ok = strings.Cut(name, "$")
	return of, ok
}

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
	return Trigger{Poll: out}, nil
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
			oldest := fmt.Sprintf("now() - duration(%q)", seconds(p.Window.Std()))
			return expression(`parseTime(orElse(cursor, "1970-01-01")) < %s ? string(%s) : cursor`, oldest, oldest), nil
		}
		return expression("cursor"), nil
	}
	return x.input(w.From)
}

func seconds(d time.Duration) string { return "PT" + strconv.Itoa(int(d/time.Second)) + "S" }

// subscription makes the flows that make, renew and remove a subscription.
func (x *expansion) subscription() ([]Flow, error) {
	s := x.t.Webhook
	subscribe, err := x.subscribe()
	if err != nil {
		return nil, err
	}
	out := []Flow{{
		Name: x.flow.Name + SubscribeSuffix, Trigger: Trigger{Deploy: &Empty{}}, Concurrency: &Concurrency{Limit: 1, Order: OrderFIFO}, Steps: subscribe,
	}}
	remove, err := x.unsubscribe()
	if err != nil {
		return nil, err
	}
	out = append(out, Flow{Name: x.flow.Name + UnsubscribeSuffix, Trigger: Trigger{Remove: &Empty{}}, Steps: remove})
	if s.RenewEvery > 0 {
		renew, err := x.renew()
		if err != nil {
			return nil, err
		}
		every := Schedule{Every: text(seconds(s.RenewEvery.Std())), Jitter: Duration(min(s.RenewEvery.Std()/20, time.Minute))}
		out = append(out, Flow{Name: x.flow.Name + RenewSuffix, Trigger: Trigger{Schedule: &every}, Steps: renew})
	}
	if x.t.Challenge != nil && x.t.Challenge.Keep {
		out = append(out, Flow{Name: x.flow.Name + KeepSuffix, Trigger: Trigger{Call: &Input{}}, Steps: x.keep()})
	}
	return out, nil
}

// kept reads what is known of the subscription, as steps.kept.
func (x *expansion) kept() Step {
	return Step{ID: "kept", State: &State{Get: text(SubscriptionState + x.flow.Name), Default: NullValue()}}
}

// inputs is what the flow gives, as steps.inputs.
func (x *expansion) inputs() (Step, error) {
	in := Value{Kind: Object}
	for k := range x.t.Inputs {
		v, err := x.input(x.t.Inputs[k].Name)
		if err != nil {
			return Step{}, err
		}
		in.Keys, in.Items = append(in.Keys, x.t.Inputs[k].Name), append(in.Items, v)
	}
	return Step{ID: "inputs", Set: &in}, nil
}

// template is the text of a template of the recipe: a template of a flow.
func (x *expansion) template(s, url string) (Value, error) {
	names := map[string]string{
		"{url}": url, "{secret}": "subscription.secret", "{id}": "orElse(steps.kept.id, \"\")",
		"{expires}": "string(now() + duration(" + strconv.Quote(seconds(x.life())) + "))",
	}
	var out, literal strings.Builder
	flush := func() {
		out.WriteString(strings.ReplaceAll(literal.String(), "${{", "$${{"))
		literal.Reset()
	}
	for rest := s; rest != ""; {
		i := strings.IndexByte(rest, '{')
		if i < 0 {
			literal.WriteString(rest)
			break
		}
		end := strings.IndexByte(rest[i:], '}')
		name := ""
		if end > 0 {
			name = rest[i : i+end+1]
		}
		x, known := names[name]
		if input, ok := strings.CutPrefix(name, "{input."); ok {
			x, known = "steps.inputs["+strconv.Quote(strings.TrimSuffix(input, "}"))+"]", true
		}
		if !known {
			literal.WriteString(rest[:i+1])
			rest = rest[i+1:]
			continue
		}
		literal.WriteString(rest[:i])
		flush()
		out.WriteString("${{ " + x + " }}")
		rest = rest[i+end+1:]
	}
	flush()
	v, issues := ParseString(out.String())
	if len(issues) > 0 {
		return Value{}, fmt.Errorf("the template %q: %s", s, issues[0].Message)
	}
	return v, nil
}

// life is how long a subscription is asked for: half as long again as the time until it is renewed.
func (x *expansion) life() time.Duration {
	if e := x.t.Webhook.RenewEvery.Std(); e > 0 {
		return e + e/2
	}
	return 365 * 24 * time.Hour
}

// call is a call of an action of the recipe.
func (x *expansion) call(id string, c *connector.SubscribeCall, url string) (Step, error) {
	if x.lock.Action(c.Action) == nil {
		return Step{}, fmt.Errorf("there is no action %s", c.Action)
	}
	with := Value{Kind: Object}
	for _, f := range c.With {
		var raw any
		if err := json.Unmarshal(f.Value, &raw); err != nil {
			return Step{}, fmt.Errorf("value of %s: %w", f.At, err)
		}
		v, err := fromAny(raw, func(s string) (Value, error) { return x.template(s, url) })
		if err != nil {
			return Step{}, err
		}
		with.Keys, with.Items = append(with.Keys, f.At), append(with.Items, v)
	}
	return Step{
		ID: id, Action: &Action{Slot: x.lock.Slot, Action: c.Action, With: with},
		Retry: &Retry{Attempts: 6, Delay: Duration(5 * time.Second), Backoff: BackoffExponential, MaxDelay: Duration(10 * time.Minute), Jitter: true, When: expression("!(" + gone + ")")},
	}, nil
}

// gone is the fault of a subscription that is no more.
const gone = `error.status == 404 || error.status == 410`

// remove takes a subscription back, if there is one; that it is gone already is as good.
func (x *expansion) remove(id string) ([]Step, error) {
	if x.t.Webhook.Unsubscribe == nil {
		return nil, nil
	}
	call, err := x.call(id+"_call", x.t.Webhook.Unsubscribe, "steps.kept.url")
	if err != nil {
		return nil, err
	}
	return []Step{{
		ID: id, If: expression("steps.kept != null && orElse(steps.kept.id, null) != null"),
		Try: &Try{Steps: []Step{call}, Catch: Catch{When: expression(gone), Steps: []Step{{ID: id + "_gone", Set: ptr(NullValue())}}}},
	}}, nil
}

// create makes a subscription at an address, and keeps what is known of it. The secret is kept before the other side can
// use it.
func (x *expansion) create(url, mark string) ([]Step, error) {
	s := x.t.Webhook
	made, err := x.call("made", &s.Subscribe, url)
	if err != nil {
		return nil, err
	}
	secret := text(SubscriptionSecret + x.flow.Name)
	keeps := x.t.Challenge != nil && x.t.Challenge.Keep
	var steps []Step
	switch {
	case keeps: // the other side sends it to the address while the subscription is made
		steps = append(steps, Step{ID: "secret", State: &State{Delete: secret}}, made)
	case s.Secret == "":
		steps = append(steps, Step{ID: "secret", State: &State{Put: secret, Value: expression("subscription.secret")}}, made)
	default:
		at, err := x.answer(s.Secret)
		if err != nil {
			return nil, err
		}
		steps = append(steps, made, Step{ID: "secret", State: &State{Put: secret, Value: at}})
	}
	subscription := NullValue()
	if s.ID != "" {
		if subscription, err = x.answer(s.ID); err != nil {
			return nil, err
		}
	}
	return append(steps, x.put(subscription, url, mark)), nil
}

// put keeps what is known of the subscription.
func (x *expansion) put(subscription Value, url, mark string) Step {
	until := NullValue()
	if x.t.Webhook.RenewEvery > 0 {
		until = expression("string(now() + duration(%q))", seconds(x.life()))
	}
	return Step{ID: "keep", State: &State{Put: text(SubscriptionState + x.flow.Name), Value: object(
		[]string{"id", "url", "mark", "until"}, subscription, expression("%s", url), expression("%s", mark), until,
	)}}
}

// answer is what is at a path of the answer to the subscription. Of an address in a header the last part counts.
func (x *expansion) answer(p string) (Value, error) {
	if name, ok := strings.CutPrefix(p, "header:"); ok {
		return expression("last(steps.made.headers[%q].split(\"/\"))", strings.ToLower(name)), nil
	}
	at, err := path(p)
	if err != nil {
		return Value{}, err
	}
	return expression("steps.made.body%s", at), nil
}

// subscribe makes the subscription, unless there is one already of this address, connection and inputs that still holds.
func (x *expansion) subscribe() ([]Step, error) {
	inputs, err := x.inputs()
	if err != nil {
		return nil, err
	}
	old, err := x.remove("old")
	if err != nil {
		return nil, err
	}
	create, err := x.create("trigger.body.url", "steps.mark")
	if err != nil {
		return nil, err
	}
	for k := range old { // it cannot be removed: that must not keep the new one from being made
		old[k].Try.Catch.When = Value{}
	}
	return []Step{
		x.kept(), inputs,
		{ID: "mark", Set: ptr(expression("hex(sha256(toJson([trigger.body.url, trigger.body.connection, steps.inputs])))"))},
		{ID: "todo", Switch: []Case{{
			When: expression(
				`steps.kept == null || steps.kept.mark != steps.mark || parseTime(orElse(steps.kept.until, "9999-12-31T00:00:00Z")) < now()`,
			),
			Steps: append(old, create...),
		}}},
		{ID: "done", Return: ptr(NullValue())},
	}, nil
}

func (x *expansion) unsubscribe() ([]Step, error) {
	remove, err := x.remove("old")
	if err != nil {
		return nil, err
	}
	inputs, err := x.inputs()
	if err != nil {
		return nil, err
	}
	steps := append([]Step{x.kept(), inputs}, remove...)
	return append(
		steps,
		Step{ID: "forget", State: &State{Delete: text(SubscriptionState + x.flow.Name)}},
		Step{ID: "unkey", State: &State{Delete: text(SubscriptionSecret + x.flow.Name)}},
		Step{ID: "done", Return: ptr(NullValue())},
	), nil
}

// renew has the other side keep the subscription. One that is gone is made again.
func (x *expansion) renew() ([]Step, error) {
	inputs, err := x.inputs()
	if err != nil {
		return nil, err
	}
	again, err := x.create("steps.kept.url", "steps.kept.mark")
	if err != nil {
		return nil, err
	}
	steps := again
	if r := x.t.Webhook.Renew; r != nil {
		call, err := x.call("renewed", r, "steps.kept.url")
		if err != nil {
			return nil, err
		}
		longer := x.put(expression("steps.kept.id"), "steps.kept.url", "steps.kept.mark")
		longer.ID = "longer"
		steps = []Step{{ID: "try", Try: &Try{Steps: []Step{call, longer}, Catch: Catch{When: expression(gone), Steps: again}}}}
	}
	return []Step{
		x.kept(), inputs,
		{ID: "todo", Switch: []Case{{When: expression("steps.kept != null"), Steps: steps}}},
		{ID: "done", Return: ptr(NullValue())},
	}, nil
}

// keep takes a secret that came to the address, unless there is one already: whoever learns the address later changes nothing.
func (x *expansion) keep() []Step {
	name := text(SubscriptionSecret + x.flow.Name)
	return []Step{
		{ID: "known", State: &State{Get: name, Default: NullValue()}},
		{ID: "todo", Switch: []Case{{When: expression("steps.known == null"), Steps: []Step{
			{ID: "secret", State: &State{Put: name, Value: expression("trigger.body.secret")}},
		}}}},
		{ID: "done", Return: ptr(NullValue())},
	}
}
