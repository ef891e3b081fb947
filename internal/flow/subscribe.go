package flow

import (
	"encoding/json"
	"fmt"
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

// TypeSubscriptionLeft is the fault with which the flow ends that removes a subscription, where one may be left that nobody
// knows. What is known is removed by then.
const TypeSubscriptionLeft = "subscription-left"

// Names of the state values of a subscription, behind which the name of its flow stands. No flow of a document can use them.
const (
	// SubscriptionState is {id, url, inputs, mark, until, open, left}. Open is written before a call goes out that makes one: until
	// it is taken back, one may be left at the address whose id was in an answer that nobody took. Left are the addresses of the
	// subscriptions before at which one may be left so.
	SubscriptionState  = "$sub."
	SubscriptionSecret = "$key." // the secret with which the other side signs
)

// Derived says whether a flow was brought along by a trigger of a connector, and which flow has it.
func Derived(name string) (of string, ok bool) {
	of, _, ok = strings.Cut(name, "$")
	return of, ok
}

// Turn is the flow whose executions a flow takes turns with, where it has concurrency without a key: itself, or of the flows
// that renew and remove a subscription the one that makes it. The first two make one where none is left, and end what another
// has made at the address: side by side each would end the other's. And what removes it must see what was made.
func Turn(name string) string {
	for _, suffix := range []string{RenewSuffix, UnsubscribeSuffix} {
		if of, ok := strings.CutSuffix(name, suffix); ok {
			return of + SubscribeSuffix
		}
	}
	return name
}

// subscription makes the flows that make, renew and remove a subscription.
func (x *expansion) subscription() ([]Flow, error) {
	s := x.t.Webhook
	subscribe, err := x.subscribe()
	if err != nil {
		return nil, err
	}
	one := Concurrency{Limit: 1, Order: OrderFIFO} // see Turn
	out := []Flow{{
		Name: x.flow.Name + SubscribeSuffix, Trigger: Trigger{Deploy: &Empty{}}, Concurrency: &one, Steps: subscribe,
	}}
	remove, err := x.unsubscribe()
	if err != nil {
		return nil, err
	}
	out = append(out, Flow{Name: x.flow.Name + UnsubscribeSuffix, Trigger: Trigger{Remove: &Empty{}}, Concurrency: &one, Steps: remove})
	if s.RenewEvery > 0 {
		renew, err := x.renew()
		if err != nil {
			return nil, err
		}
		every := Schedule{Every: text(seconds(s.RenewEvery.Std())), Jitter: Duration(min(s.RenewEvery.Std()/20, time.Minute))}
		out = append(out, Flow{Name: x.flow.Name + RenewSuffix, Trigger: Trigger{Schedule: &every}, Concurrency: &one, Steps: renew})
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

// about is which subscription a call is about: expressions for its address, its id, the inputs that it has, and the addresses
// before it at which one may be left.
type about struct{ url, id, inputs, left string }

// known is the subscription that is known.
var known = about{url: "steps.kept.url", id: `orElse(steps.kept.id, "")`, inputs: "steps.kept.inputs", left: "orElse(steps.kept.left, [])"}

// maxLeft bounds the addresses that are kept because a subscription may be left at them.
const maxLeft = 8

// template is the text of a template of the recipe: a template of a flow.
func (x *expansion) template(s string, of about) (Value, error) {
	names := map[string]string{
		"{url}": of.url, "{secret}": "subscription.secret", "{id}": of.id,
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
			x, known = of.inputs+"["+strconv.Quote(strings.TrimSuffix(input, "}"))+"]", true
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

// action is an action of the recipe.
func (x *expansion) action(c *connector.SubscribeCall, of about) (Action, error) {
	if x.lock.Action(c.Action) == nil {
		return Action{}, fmt.Errorf("there is no action %s", c.Action)
	}
	with := Value{Kind: Object}
	for _, f := range c.With {
		var raw any
		if err := json.Unmarshal(f.Value, &raw); err != nil {
			return Action{}, fmt.Errorf("value of %s: %w", f.At, err)
		}
		v, err := fromAny(raw, func(s string) (Value, error) { return x.template(s, of) })
		if err != nil {
			return Action{}, err
		}
		with.Keys, with.Items = append(with.Keys, f.At), append(with.Items, v)
	}
	return Action{Slot: x.lock.Slot, Action: c.Action, With: with}, nil
}

// call is a call of an action of the recipe.
func (x *expansion) call(step string, c *connector.SubscribeCall, of about) (Step, error) {
	a, err := x.action(c, of)
	if err != nil {
		return Step{}, err
	}
	return Step{ID: step, Action: &a, Retry: again("!(" + gone + ")")}, nil
}

// again is how what does not succeed is tried again.
func again(when string) *Retry {
	return &Retry{
		Attempts: 6, Delay: Duration(5 * time.Second), Backoff: BackoffExponential, MaxDelay: Duration(10 * time.Minute), Jitter: true,
		When: expression("%s", when),
	}
}

// Faults of subscriptions: one that is no more, and one that is there already.
const (
	gone  = `error.status == 404 || error.status == 410`
	taken = `error.status == 409 || error.status == 422`
)

// remove takes the subscription back that is known, if there is one; that it is gone already is as good.
func (x *expansion) remove() ([]Step, error) {
	if x.t.Webhook.Unsubscribe == nil {
		return nil, nil
	}
	call, err := x.call("old_call", x.t.Webhook.Unsubscribe, known)
	if err != nil {
		return nil, err
	}
	return []Step{{
		ID: "old", If: expression("steps.kept != null && orElse(steps.kept.id, null) != null"),
		Try: &Try{Steps: []Step{call}, Catch: Catch{When: expression(gone), Steps: []Step{{ID: "old_gone", Set: ptr(NullValue())}}}},
	}}, nil
}

// create makes a subscription, and keeps what is known of it. Before that it keeps that one may be there. Where the other
// side lists them, it is made once more when it was refused and what may be left there of a call whose answer was lost is
// ended: GitHub takes no two of the same events.
func (x *expansion) create(of about, mark string) ([]Step, error) {
	begun := []Step{x.put("begun", expression("orElse(steps.kept.id, null)"), of, "null", "true")}
	first, err := x.made("", of, mark)
	if err != nil || !x.finds() {
		return append(begun, first...), err
	}
	others, err := x.endOthers("_first", of, "")
	if err != nil {
		return nil, err
	}
	second, err := x.made("_again", of, mark)
	if err != nil {
		return nil, err
	}
	return append(begun, Step{ID: "create", Try: &Try{
		Steps: first, Catch: Catch{When: expression(taken), Steps: append(others, second...)},
	}}), nil
}

// made makes a subscription by steps whose names have a suffix. The secret is kept before the other side can use it.
func (x *expansion) made(suffix string, of about, mark string) ([]Step, error) {
	s := x.t.Webhook
	made, err := x.call("made"+suffix, &s.Subscribe, of)
	if err != nil {
		return nil, err
	}
	if x.finds() && suffix == "" {
		made.Retry.When = expression("!(" + gone + " || " + taken + ")")
	}
	secret := text(SubscriptionSecret + x.flow.Name)
	keeps := x.t.Challenge != nil && x.t.Challenge.Keep
	var steps []Step
	switch {
	case keeps: // the other side sends it to the address while the subscription is made
		steps = append(steps, Step{ID: "secret" + suffix, State: &State{Delete: secret}}, made)
	case s.Secret == "":
		steps = append(steps, Step{ID: "secret" + suffix, State: &State{Put: secret, Value: expression("subscription.secret")}}, made)
	default:
		at, err := answer(made.ID, s.Secret)
		if err != nil {
			return nil, err
		}
		steps = append(steps, made, Step{ID: "secret" + suffix, State: &State{Put: secret, Value: expression("%s", at)}})
	}
	subscription := "null"
	if s.ID != "" {
		if subscription, err = answer(made.ID, s.ID); err != nil {
			return nil, err
		}
	}
	if !x.finds() {
		return append(steps, x.put("keep"+suffix, expression("%s", subscription), of, mark, "subscription.repeated")), nil
	}
	others, err := x.endOthers(suffix, of, subscription)
	if err != nil {
		return nil, err
	}
	sure := x.put("sure"+suffix, expression("%s", subscription), of, mark, "false")
	sure.If = expression("steps.others%s", suffix)
	return append(append(append(steps, x.put("keep"+suffix, expression("%s", subscription), of, mark, "true")), others...), sure), nil
}

// finds says whether what is at the other side can be found there, and ended.
func (x *expansion) finds() bool {
	s := x.t.Webhook
	return s.Find != nil && s.Unsubscribe != nil && s.ID != ""
}

// endOthers ends every subscription at an address but the one with an id, if there is one: what a call has left whose answer
// was lost. It gives whether there is none any more: when they cannot be listed or ended, they stay, and so does the one that
// was made.
func (x *expansion) endOthers(suffix string, of about, id string) ([]Step, error) {
	f := x.t.Webhook.Find
	list, err := x.action(&connector.SubscribeCall{Action: f.Action, With: f.With}, about{url: of.url, id: `""`, inputs: of.inputs})
	if err != nil {
		return nil, err
	}
	pages := &Pages{Action: list}
	if f.Items != "" {
		at, err := path(f.Items)
		if err != nil {
			return nil, err
		}
		pages.Items = expression("orElse(result.body%s, [])", at)
	}
	at, err := path(f.URL)
	if err != nil {
		return nil, err
	}
	is, err := path(f.ID)
	if err != nil {
		return nil, err
	}
	call, err := x.call("other_call"+suffix, x.t.Webhook.Unsubscribe, about{url: of.url, id: "item" + is, inputs: of.inputs})
	if err != nil {
		return nil, err
	}
	end := Step{ID: "other" + suffix, Try: &Try{
		Steps: []Step{call}, Catch: Catch{When: expression(gone), Steps: []Step{{ID: "other_gone" + suffix, Set: ptr(NullValue())}}},
	}}
	if end.If = expression(`orElse(item%s, null) == %s`, at, of.url); id != "" {
		end.If = expression(`orElse(item%s, null) == %s && string(orElse(item%s, %s)) != string(%s)`, at, of.url, is, id, id)
	}
	return []Step{{ID: "others" + suffix, Try: &Try{
		Steps: []Step{
			{ID: "listed" + suffix, For: &For{Each: Each{Pages: pages}, OnError: OnErrorContinue, Steps: []Step{end}}},
			{ID: "none" + suffix, Set: ptr(expression("steps.listed%s.failed == 0", suffix))},
		},
		Catch: Catch{Steps: []Step{{ID: "stay" + suffix, Set: ptr(Value{Kind: Bool})}}},
	}}}, nil
}

// put keeps what is known of the subscription. Open says whether another may be there.
func (x *expansion) put(step string, subscription Value, of about, mark, open string) Step {
	until := NullValue()
	if x.t.Webhook.RenewEvery > 0 {
		until = expression("string(now() + duration(%q))", seconds(x.life()))
	}
	return Step{ID: step, State: &State{Put: text(SubscriptionState + x.flow.Name), Value: object(
		[]string{"id", "url", "inputs", "mark", "until", "open", "left"},
		subscription, expression("%s", of.url), expression("%s", of.inputs), expression("%s", mark), until, expression("%s", open),
		expression("%s", of.left),
	)}}
}

// answer is the expression for what is at a path of the answer to a step. Of an address in a header the last part counts.
func answer(step, p string) (string, error) {
	if name, ok := strings.CutPrefix(p, "header:"); ok {
		return fmt.Sprintf("last(steps.%s.headers[%q].split(\"/\"))", step, strings.ToLower(name)), nil
	}
	at, err := path(p)
	return "steps." + step + ".body" + at, err
}

// subscribe makes the subscription, unless there is one already of this address, connection and inputs that still holds.
func (x *expansion) subscribe() ([]Step, error) {
	inputs, err := x.inputs()
	if err != nil {
		return nil, err
	}
	old, err := x.remove()
	if err != nil {
		return nil, err
	}
	create, err := x.create(about{url: "trigger.body.url", id: known.id, inputs: "steps.inputs", left: "steps.leaves"}, "steps.mark")
	if err != nil {
		return nil, err
	}
	for k := range old { // it cannot be removed: that must not keep the new one from being made
		old[k].Try.Catch.When = Value{}
	}
	if x.finds() { // nor must this, where another address or other inputs had one
		left, err := x.endOthers("_before", known, "")
		if err != nil {
			return nil, err
		}
		left[0].If = expression(open)
		old = append(old, left...)
	}
	old = append(old, x.leaves())
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

// leaves gives the addresses at which a subscription may be left when one is made at another address: those of before, and the
// one that is known, where what may be there is not ended.
func (x *expansion) leaves() Step {
	stays := open + " && steps.kept.url != trigger.body.url"
	if x.finds() {
		stays += " && !orElse(steps.others_before, false)"
	}
	return Step{ID: "leaves", Set: ptr(expression(
		"%[2]s && !(steps.kept.url in %[1]s) && size(%[1]s) < %[3]d ? %[1]s + [steps.kept.url] : %[1]s", known.left, stays, maxLeft,
	))}
}

// open says whether a subscription may be there that is not known.
const open = `steps.kept != null && orElse(steps.kept.open, false)`

// straggle is how long a call may go on of which nobody waits for the answer any more: as long as an action may take.
const straggle = DefaultStepTimeout

// unsubscribe ends what is known, and what may be left. What cannot be found is told by a fault, when the rest is done: whose
// webhooks are left at the other side should know.
func (x *expansion) unsubscribe() ([]Step, error) {
	old, err := x.remove()
	if err != nil {
		return nil, err
	}
	steps := []Step{x.kept()}
	why := "the service does not list them"
	none := "false"
	if x.finds() {
		why, none = "they could not be listed or ended", "steps.left"
		first, err := x.endOthers("_first", known, "")
		if err != nil {
			return nil, err
		}
		last, err := x.endOthers("_last", known, "")
		if err != nil {
			return nil, err
		}
		for _, list := range [][]Step{first, last} {
			page := again("!(" + gone + ")")
			page.Attempts = 3 // a removal has not much time
			list[0].Try.Steps[0].Retry = page
		}
		// The second time, what was under way has arrived.
		steps = append(steps, Step{ID: "left", Switch: []Case{{
			When:  expression(open),
			Steps: append(append(first, Step{ID: "straggle", Wait: &Wait{For: text(seconds(straggle))}}), last...),
		}}})
	}
	return append(append(
		append(steps, old...),
		Step{ID: "forget", State: &State{Delete: text(SubscriptionState + x.flow.Name)}},
		Step{ID: "unkey", State: &State{Delete: text(SubscriptionSecret + x.flow.Name)}},
		Step{ID: "at", Set: ptr(expression("(%s && !%s ? [steps.kept.url] : []) + %s", open, none, known.left))},
		Step{ID: "tell", If: expression("size(steps.at) > 0"), Raise: &Raise{Type: TypeSubscriptionLeft, Message: x.left(why)}},
	), Step{ID: "done", Return: ptr(NullValue())}), nil
}

// left is the message about a subscription that may be left.
func (x *expansion) left(why string) Value {
	v, _ := ParseString("the answer to a call was lost that makes a webhook at " + x.lock.Name + ", and " + why +
		": look there for webhooks that send to ${{ steps.at.join(\" or \") }}, where nothing is taken any more, and delete them")
	return v // a template that is written here always parses
}

// renew has the other side keep the subscription. One that is gone is made again, and one that was never made is not renewed.
func (x *expansion) renew() ([]Step, error) {
	create, err := x.create(known, "steps.kept.mark")
	if err != nil {
		return nil, err
	}
	steps := create
	if r := x.t.Webhook.Renew; r != nil {
		call, err := x.call("renewed", r, known)
		if err != nil {
			return nil, err
		}
		longer := x.put("longer", expression("steps.kept.id"), known, "steps.kept.mark", "orElse(steps.kept.open, false)")
		steps = []Step{{ID: "try", Try: &Try{Steps: []Step{call, longer}, Catch: Catch{When: expression(gone), Steps: create}}}}
	}
	return []Step{
		x.kept(),
		{ID: "todo", Switch: []Case{{When: expression("steps.kept != null && !(" + open + " && steps.kept.id == null)"), Steps: steps}}},
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
