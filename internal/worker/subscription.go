package worker

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/seal"
)

// derived says whether the flow was brought along by a trigger of a connector. Such a flow repeats what was interrupted, also
// where the other side does not recognise it: a subscription too many is better than none, and its events are known by their
// keys. Nobody sees what its steps give, since secrets are among it.
func (x *execution) derived() bool {
	_, ok := flow.Derived(x.unit.Flow)
	return ok
}

// noteRepeated notes when a request goes out, or went out, more than once though the other side does not recognise it: a try
// began that nobody knows the end of.
func (x *execution) noteRepeated(rec *record, t *tries) {
	begun, ended := 0, t.done
	if rec != nil {
		begun = rec.past + len(rec.intents)
		if rec.result != nil || rec.fault != nil {
			ended++
		}
	}
	if begun > ended || t.done > int(t.epoch) {
		x.repeated.Store(true)
	}
}

// subscriptionValue is what a flow that makes a subscription sees as subscription: a secret that belongs to this execution,
// the same again on resume; and whether its request was repeated, so that there may be another one. The server cannot know the
// secret: it is made with a key of the instance.
func (x *execution) subscriptionValue() (expr.Value, bool) {
	if !x.derived() {
		return nil, false
	}
	h := hmac.New(sha256.New, x.in.hmacKey)
	h.Write(seal.Tuple(nil, []byte("subscription/1"), x.in.instance[:], []byte(x.unit.Flow), x.unit.Execution[:]))
	return native([]string{"secret", "repeated"}, expr.String(hex.EncodeToString(h.Sum(nil)[:20])), expr.Bool(x.repeated.Load())), true
}

// taken says whether an event is one of the flow's trigger. What the server could compare, it did; here the inputs count that
// depend on the config. An event that is not taken ends the execution with nothing done.
func (x *execution) taken(ctx context.Context, f *frame) (bool, error) {
	if x.flow.Trigger.Event == nil || x.flow.Trigger.Event.With.Literal() {
		return true, nil
	}
	_, t := x.in.definition.EventTrigger(x.flow.Trigger.Event.Uses)
	if t == nil || len(t.Match) == 0 {
		return true, nil
	}
	in, err := (&env{f: f, path: "trigger"}).value(ctx, &x.flow.Trigger.Event.With)
	if err != nil {
		return false, err
	}
	return t.Takes(x.eventDelivery(), in), nil
}

// eventDelivery is the event as the recipes of connectors see it.
func (x *execution) eventDelivery() *connector.Delivery {
	body, _ := expr.Lookup(x.trigger, "body")
	named := func(field string) func(string) string {
		list, _ := expr.Lookup(x.trigger, field)
		return func(name string) string {
			v, _ := expr.Lookup(orNull(list), strings.ToLower(name))
			s, _ := expr.Str(orNull(v))
			return s
		}
	}
	return &connector.Delivery{Header: named("headers"), Query: named("query"), Body: orNull(body)}
}
