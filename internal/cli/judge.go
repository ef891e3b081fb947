package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Names of the flows that a test adds to an integration to set and read its state:
// only a flow of the instance can, because only its worker has the key.
const (
	putStateFlow = "bulkhead-test-put-state"
	getStateFlow = "bulkhead-test-get-state"
)

// withStateFlows is the integration with the flows that set and read its state.
func withStateFlows(i *flow.Integration) *flow.Integration {
	expression := func(s string) flow.Value {
		v, _ := flow.ParseString("${{ " + s + " }}") // the texts below, which parse
		return v
	}
	each := func(name string, state *flow.State, result flow.Value) flow.Flow {
		return flow.Flow{Name: name, Trigger: flow.Trigger{Manual: &flow.Input{}}, Steps: []flow.Step{{ID: "all", For: &flow.For{
			Each: flow.Each{List: expression("trigger.body")}, Steps: []flow.Step{{ID: "one", State: state}}, Result: result,
		}}}}
	}
	out := *i
	out.Flows = append(slices.Clone(i.Flows),
		each(putStateFlow, &flow.State{Put: expression("item.name"), Value: expression("item.value")}, flow.Value{}),
		each(getStateFlow, &flow.State{Get: expression("item"), Default: flow.NullValue()}, expression("steps.one")))
	return &out
}

// putState sets the state that the case begins with.
func (c *caseRun) putState(ctx context.Context) error {
	if len(c.test.State.Keys) == 0 {
		return nil
	}
	var body []any
	for name, value := range literals(&c.test.State) {
		body = append(body, map[string]any{"name": name, "value": value})
	}
	_, err := c.help(ctx, putStateFlow, body)
	return err
}

// help runs one of the flows of a test and returns its output.
func (c *caseRun) help(ctx context.Context, name string, body []any) (any, error) {
	f := c.integration.Flow(name)
	e := newEvent(f, nil)
	e["body"] = body
	x, err := c.begin(ctx, c.instance, f, e)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	var result []byte
	for {
		e, err := c.next(ctx, x)
		if err != nil {
			return nil, err
		}
		switch {
		case e.Kind == api.EventView && e.Path == "":
			if result, err = x.Open(e); err != nil {
				return nil, err
			}
		case e.Kind == api.EventStatus && e.Status == "completed":
			return decodeJSON(result)
		case e.Kind == api.EventStatus && e.Status != "waiting":
			return nil, fmt.Errorf("set or read the state: %s", result)
		}
	}
}

// judge compares how a case has ended with what it expects.
func (c *caseRun) judge(ctx context.Context) error {
	for _, m := range c.mocks {
		c.problems = append(c.problems, m.found()...)
		c.problems = append(c.problems, m.missing()...)
	}
	for i := range c.test.Callbacks {
		if s := c.test.Callbacks[i].Step; !c.asked[s] {
			c.add(problem{What: fmt.Sprintf("step %s did not wait for a callback", s)})
		}
	}
	if err := c.judgeEnd(); err != nil {
		return err
	}
	c.judgeReply()
	return c.judgeState(ctx)
}

func (c *caseRun) judgeEnd() error {
	var f fault
	if c.status == "faulted" {
		if err := json.Unmarshal(c.result, &f); err != nil {
			return fmt.Errorf("read fault: %w", err)
		}
	}
	want := c.test.Fault
	switch {
	case c.status == "cancelled":
		c.add(problem{What: "the execution was cancelled"})
	case want == nil && c.status == "faulted":
		c.add(problem{What: fmt.Sprintf("the flow faulted: %s", f.String())})
	case want == nil && c.test.Output != nil:
		got, err := decodeJSON(c.result)
		if err != nil {
			return fmt.Errorf("read output: %w", err)
		}
		if d := differences("", literal(c.test.Output), got); len(d) > 0 {
			c.add(problem{What: "the output is another", Differences: d})
		}
	case want != nil && c.status == "completed":
		c.add(problem{What: fmt.Sprintf("the flow completed, but should fault with %s", want.Type), Differences: []difference{{"output", "", oneLine(string(c.result))}}})
	case want != nil:
		var list []difference
		if want.Type != f.Type {
			list = append(list, difference{"type", inJSON(want.Type), inJSON(f.Type)})
		}
		if want.Message != "" && want.Message != f.Message {
			list = append(list, difference{"message", inJSON(want.Message), inJSON(f.Message)})
		}
		if want.Step != "" && want.Step != flow.StepOf(f.Step) {
			list = append(list, difference{"step", inJSON(want.Step), inJSON(f.Step)})
		}
		if len(list) > 0 {
			c.add(problem{What: "the fault is another: " + f.String(), Differences: list})
		}
	}
	return nil
}

// String is the fault for people.
func (f *fault) String() string {
	s := f.Type
	if f.Step != "" {
		s += " at step " + f.Step
	}
	if f.Message != "" {
		s += ": " + f.Message
	}
	return s
}

func (c *caseRun) judgeReply() {
	want := c.test.Answer
	switch {
	case want == nil:
		return
	case c.reply == nil:
		c.add(problem{What: "no respond step has answered"})
		return
	}
	var list []difference
	if uint32(want.Status) != c.reply.Status {
		list = append(list, difference{"status", inJSON(want.Status), inJSON(c.reply.Status)})
	}
	list = append(list, compareNamed("headers", lower(texts(&want.Headers)), replyHeaders(c.reply))...)
	if !want.Body.IsZero() {
		list = append(list, differences("body", literal(&want.Body), readBody(c.reply.ContentType, c.reply.Body))...)
	}
	if len(list) > 0 {
		c.add(problem{What: "the answer is another", Differences: list})
	}
}

func replyHeaders(m *wire.ReplyBody) map[string]any {
	out := map[string]any{}
	for _, h := range m.Headers {
		out[strings.ToLower(h.Name)] = h.Value
	}
	if m.ContentType != "" {
		out["content-type"] = m.ContentType
	}
	return out
}

func (c *caseRun) judgeState(ctx context.Context) error {
	want := literals(&c.test.StateAfter)
	if len(want) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(want))
	body := make([]any, len(names))
	for i, name := range names {
		body[i] = name
	}
	got, err := c.help(ctx, getStateFlow, body)
	if err != nil {
		return err
	}
	list, _ := got.([]any)
	after := map[string]any{}
	for i, name := range names {
		after[name] = item(list, i)
	}
	if d := differences("", want, after); len(d) > 0 {
		c.add(problem{What: "the state after it is another", Differences: d})
	}
	return nil
}

// queryOf is a query of a test file as part of an address.
func queryOf(v *flow.Value) string {
	q := url.Values{}
	for k, x := range texts(v) {
		q.Set(k, x.(string))
	}
	return q.Encode()
}
