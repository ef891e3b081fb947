package flowfile

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// env is what a list of steps sees.
type env struct {
	scope  *expr.Scope          // every name but steps
	steps  map[string]expr.Type // outputs of finished steps in scope; nil: steps is not a name
	inside string               // "for" or "fork" where a return cannot stand
	depth  int
}

// names is the scope with the steps.
func (e env) names() *expr.Scope {
	if e.steps == nil {
		return e.scope
	}
	return e.scope.With("steps", expr.ObjectType(e.steps))
}

func (e env) with(name string, t expr.Type) env {
	e.scope = e.scope.With(name, t)
	return e
}

// nested is what a list inside a step sees: its own finished steps are not seen from outside.
func (e env) nested() env {
	e.steps = maps.Clone(e.steps)
	e.depth++
	return e
}

// steps checks a list in order and returns the output of its last step. e.steps gains the list's steps.
func (c *checker) steps(steps []flow.Step, path string, e env) expr.Type {
	if e.depth >= flow.MaxStepDepth {
		c.d.ProblemAt(path, "", "lists of steps may be nested %d deep at most", flow.MaxStepDepth)
		return expr.Dyn()
	}
	last, ended := expr.Dyn(), ""
	for n := range steps {
		s := &steps[n]
		at := fmt.Sprintf("%s[%d]", path, n)
		if ended != "" {
			c.warn(at, "this step never runs: the step %q ends the flow", ended)
			ended = ""
		}
		last = c.step(s, at, e)
		if !s.If.IsZero() {
			last = last.OrNull()
		} else if s.Return != nil || s.Raise != nil {
			ended = s.ID
		}
		if s.ID != "" && e.steps != nil {
			e.steps[s.ID] = last
		}
	}
	return last
}

func (c *checker) step(s *flow.Step, path string, e env) expr.Type {
	c.want(&s.If, path+".if", "true or false", e, expr.KindBool)
	if s.Retry != nil {
		c.want(&s.Retry.When, path+".retry.when", "true or false", e.with("error", errorType()), expr.KindBool)
	}
	switch s.Kind() {
	case flow.StepAction:
		return c.action(s.Action, path, e)
	case flow.StepSet:
		return c.value(s.Set, path+".set", e)
	case flow.StepCode:
		c.value(&s.Code.With, path+".with", e)
	case flow.StepSwitch:
		c.switchCases(s, path, e)
	case flow.StepFor:
		return c.forEach(s.For, path, e)
	case flow.StepFork:
		return c.fork(s.Fork, path+".fork", e)
	case flow.StepTry:
		c.steps(s.Try.Steps, path+".try", e.nested())
		catch := e.with("error", errorType())
		c.want(&s.Try.Catch.When, path+".catch.when", "true or false", catch, expr.KindBool)
		c.steps(s.Try.Catch.Steps, path+".catch.steps", catch.nested())
	case flow.StepWait:
		return c.wait(s.Wait, path+".wait", e)
	case flow.StepCall:
		c.value(&s.Call.With, path+".call.with", e)
		c.checkTarget(s.Call.Flow, path+".call.flow")
		c.checkCallInput(s.Call, path+".call")
	case flow.StepRespond:
		c.respond(s.Respond, path+".respond", e)
	case flow.StepReturn:
		if e.inside != "" {
			c.d.ProblemKey(path+".return", "", "a return cannot stand inside a %s: the other items or branches would still run", e.inside)
		}
		c.value(s.Return, path+".return", e)
	case flow.StepRaise:
		c.value(&s.Raise.Message, path+".raise.message", e)
	case flow.StepState:
		return c.state(s.State, path+".state", e)
	}
	return expr.Dyn()
}

func (c *checker) action(a *flow.Action, path string, e env) expr.Type {
	if !c.checkUses(a.Uses(), path+".uses", "action") {
		t, _, _ := c.call(a.Uses(), path+".uses", &a.With, path+".with", e)
		return t
	}
	c.value(&a.With, path+".with", e)
	return responseType(c.request(&a.With, path+".with", c.d.KeyAt[path+".uses"]))
}

func (c *checker) switchCases(s *flow.Step, path string, e env) {
	for n := range s.Switch {
		at := fmt.Sprintf("%s.switch[%d]", path, n)
		c.want(&s.Switch[n].When, at+".when", "true or false", e, expr.KindBool)
		c.steps(s.Switch[n].Steps, at+".steps", e.nested())
	}
}

func (c *checker) forEach(f *flow.For, path string, e env) expr.Type {
	item := c.each(&f.Each, path+".for.each", e)
	if f.Batch > 0 {
		item = expr.ListType(item)
	}
	if f.As != "" && (slices.Contains(reservedNames(), f.As) || celWords().MatchString(f.As)) {
		c.d.ProblemAt(path+".for.as", "", "%q has another meaning in expressions", f.As)
	}
	inner := e.nested().with(f.Variable(), item).with("index", expr.IntType())
	inner.inside = "for"
	c.steps(f.Steps, path+".steps", inner)
	if !f.Result.IsZero() {
		return expr.ListType(c.value(&f.Result, path+".result", inner))
	}
	failure := expr.OpenObjectType(map[string]expr.Type{"index": expr.IntType(), "type": expr.StringType(), "message": expr.StringType()})
	return expr.ObjectType(map[string]expr.Type{"count": expr.IntType(), "failed": expr.IntType(), "errors": expr.ListType(failure)})
}

// each checks what a for goes through and returns what is known of an item.
func (c *checker) each(x *flow.Each, path string, e env) expr.Type {
	switch {
	case x.Pages != nil:
		p := x.Pages
		paged := e.with("cursor", expr.Dyn())
		result, item := c.asked(p.Action.Uses(), path, &p.Action.With, p.Items.IsZero(), true, paged)
		seen := paged.with("result", result)
		c.want(&p.Cursor, path+".cursor", "the next cursor", seen, expr.KindString, expr.KindNumber, expr.KindNull, expr.KindObject)
		if t := c.want(&p.Items, path+".items", "a list", seen, expr.KindList); !p.Items.IsZero() {
			return t.Elem()
		}
		return item
	case x.Rows != nil:
		c.want(&x.Rows.Rows, path+".rows", "a file or a text", e, expr.KindString, expr.KindObject, expr.KindBytes)
		if x.Rows.Format == flow.FormatCSV && x.Rows.Named() {
			return expr.MapType(expr.StringType())
		}
		if x.Rows.Format == flow.FormatCSV {
			return expr.ListType(expr.StringType())
		}
		return expr.Dyn()
	}
	t := c.want(&x.List, path, "a list", e, expr.KindList)
	if t.Kind() == expr.KindList {
		return t.Elem()
	}
	return expr.Dyn()
}

func (c *checker) fork(f *flow.Fork, path string, e env) expr.Type {
	fields := map[string]expr.Type{}
	for n := range f.Branches {
		b := &f.Branches[n]
		inner := e.nested()
		inner.inside = "fork"
		t := c.steps(b.Steps, path+".branches."+b.Name, inner)
		if f.Settle {
			t = expr.OpenObjectType(map[string]expr.Type{"ok": expr.BoolType(), "value": t, "error": errorType()})
		}
		fields[b.Name] = t
	}
	return expr.ObjectType(fields)
}

func (c *checker) wait(w *flow.Wait, path string, e env) expr.Type {
	switch {
	case w.Callback != nil:
		notify := e.nested().with("callback", expr.ObjectType(map[string]expr.Type{"url": expr.StringType()}))
		c.steps(w.Callback.Notify, path+".callback.notify", notify)
		s := expr.MapType(expr.StringType())
		return expr.ObjectType(map[string]expr.Type{"body": expr.Dyn(), "headers": s, "query": s, "time": expr.Dyn()})
	case w.Event != nil:
		return c.await(w.Event, path+".event", e)
	case w.For.Kind == flow.String:
		d, err := flow.ParseDuration(w.For.Text)
		if err != nil {
			c.d.ProblemAt(path+".for", durationSuggestion(w.For.Text), "expected a duration such as PT1H or P2D, found the text %q", source.Cut(w.For.Text, 60))
		} else if d.Std() > flow.MaxWait {
			c.d.ProblemAt(path+".for", "", "a wait may take %s at most", flow.Duration(flow.MaxWait))
		}
	case w.Until.Kind == flow.String:
		if _, err := time.Parse(time.RFC3339, w.Until.Text); err != nil {
			c.d.ProblemAt(path+".until", "", "expected a time such as 2027-01-31T09:00:00Z, found the text %q", source.Cut(w.Until.Text, 60))
		}
	default:
		c.want(&w.For, path+".for", "a duration", e, expr.KindString, expr.KindDuration)
		c.want(&w.Until, path+".until", "a time", e, expr.KindString, expr.KindTime)
	}
	return expr.Dyn()
}

func (c *checker) respond(r *flow.Respond, path string, e env) {
	if w := c.flow.Trigger.Webhook; c.flow.Trigger.Call == nil && c.flow.Trigger.Kind() != flow.TriggerNone && (w == nil || w.Respond != flow.RespondSync) {
		c.warn(path, "nobody waits for this answer: the trigger is not a webhook with respond: sync")
	}
	c.want(&r.Status, path+".status", "a status", e, expr.KindNumber)
	if r.Status.Kind == flow.Number && !validStatus(r.Status.Text) {
		c.d.ProblemAt(path+".status", "", "expected a status from 200 to 599, found the number %s", source.Cut(r.Status.Text, 20))
	}
	c.value(&r.Headers, path+".headers", e)
	c.headers(&r.Headers, path+".headers", answerHeaders())
	c.value(&r.Body, path+".body", e)
}

func validStatus(s string) bool { return len(s) == 3 && s >= "200" && s <= "599" }

func (c *checker) state(s *flow.State, path string, e env) expr.Type {
	for _, key := range []struct {
		v    *flow.Value
		name string
	}{{&s.Get, "get"}, {&s.Put, "put"}, {&s.Increment, "increment"}, {&s.Delete, "delete"}} {
		c.want(key.v, path+"."+key.name, "a text", e, expr.KindString, expr.KindNumber)
	}
	c.value(&s.Default, path+".default", e)
	c.value(&s.Value, path+".value", e)
	c.want(&s.By, path+".by", "a number", e, expr.KindNumber)
	if !s.Increment.IsZero() {
		return expr.NumberType()
	}
	return expr.Dyn()
}

// checkCallInput compares literal keys of what a call passes with what the called flow says it takes.
func (c *checker) checkCallInput(call *flow.Call, path string) {
	f := c.i.Flow(call.Flow)
	if f == nil || f.Trigger.Call == nil || f.Trigger.Call.Schema == nil || call.With.Kind != flow.Object {
		return
	}
	input := readSchema(f.Trigger.Call.Schema)
	for _, name := range input.Required {
		if call.With.Get(name) == nil {
			c.d.ProblemKey(path+".with", "", "the flow %q needs %q", call.Flow, name)
		}
	}
	if input.closed() {
		for _, k := range call.With.Keys {
			if _, ok := input.Properties[k]; !ok {
				c.d.ProblemKey(source.Join(path+".with", k), source.DidYouMean(k, slices.Sorted(maps.Keys(input.Properties))), "the flow %q takes no %q", call.Flow, k)
			}
		}
	}
}
