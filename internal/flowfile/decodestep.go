package flowfile

import (
	"regexp"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/flow"
)

// steps reads a list of steps.
func (d *decoder) steps(dst *[]flow.Step) reader {
	return d.list("steps", flow.MaxSteps, func(n *node, path string) {
		var s flow.Step
		d.step(n, path, &s)
		*dst = append(*dst, s)
	})
}

// companions are keys that belong to a kind of step and stand beside its own key.
func companions() map[string][]flow.StepKind {
	return map[string][]flow.StepKind{
		"with":   {flow.StepAction, flow.StepCode},
		"steps":  {flow.StepFor},
		"result": {flow.StepFor},
		"catch":  {flow.StepTry},
	}
}

func (d *decoder) step(n *node, path string, s *flow.Step) {
	var (
		uses, code   string
		with, result flow.Value
		steps, try   []flow.Step
		catch        flow.Catch
		each         flow.For
	)
	ok := d.object(
		n, path, "step",
		required("id", d.matching(&s.ID, "an id", idPattern(), idRule)),
		optional("title", d.text(&s.Title)),
		optional("note", d.text(&s.Note)),
		optional("if", d.expression(&s.If, "a condition such as ${{ trigger.body.paid }}", flow.Bool)),
		optional("uses", d.uses(&uses)),
		optional("with", d.objectValue(&with, "inputs")),
		optional("code", d.code(&code)),
		optional("set", d.valuePointer(&s.Set)),
		optional("switch", d.nonEmpty("cases", d.list("cases", flow.MaxCases, d.switchCase(&s.Switch)))),
		optional("for", d.forEach(&each)),
		optional("steps", d.nonEmpty("steps", d.steps(&steps))),
		optional("result", d.value(&result)),
		optional("fork", d.fork(&s.Fork)),
		optional("try", d.nonEmpty("steps", d.steps(&try))),
		optional("catch", func(n *node, path string) {
			d.object(
				n, path, "catch",
				optional("when", d.expression(&catch.When, "a condition such as ${{ error.status == 404 }}", flow.Bool)),
				required("steps", d.nonEmpty("steps", d.steps(&catch.Steps))),
			)
		}),
		optional("wait", d.wait(&s.Wait)),
		optional("call", d.call(&s.Call)),
		optional("respond", d.respond(&s.Respond)),
		optional("return", d.valuePointer(&s.Return)),
		optional("raise", d.raise(&s.Raise)),
		optional("state", d.state(&s.State)),
		optional("timeout", d.duration(&s.Timeout, flow.MaxStepTimeout)),
		optional("once", d.boolean(&s.Once)),
		optional("retry", d.retry(&s.Retry)),
	)
	if !ok {
		return
	}
	kinds := d.stepKind(n, path)
	if slices.Contains(kinds, flow.StepAction) {
		slot, action, _ := flow.SplitUses(uses)
		s.Action = &flow.Action{Slot: slot, Action: action, With: with}
	}
	if slices.Contains(kinds, flow.StepCode) {
		s.Code = &flow.Code{Source: code, With: with}
	}
	if slices.Contains(kinds, flow.StepFor) {
		each.Steps, each.Result = steps, result
		s.For = &each
	}
	if slices.Contains(kinds, flow.StepTry) {
		s.Try = &flow.Try{Steps: try, Catch: catch}
	}
}

// stepKind checks that a step does one thing and that the keys beside fit it. It returns the kinds that are written.
func (d *decoder) stepKind(n *node, path string) []flow.StepKind {
	var names []string
	var kinds []flow.StepKind
	for _, k := range flow.StepKinds() {
		names = append(names, string(k))
		if n.get(string(k)) != nil {
			kinds = append(kinds, k)
		}
	}
	d.oneKey(n, path, "a step", names)
	if len(kinds) != 1 {
		return kinds
	}
	for i, k := range n.keys {
		owners, ok := companions()[k.value]
		if ok && !slices.Contains(owners, kinds[0]) {
			words := make([]string, len(owners))
			for i, o := range owners {
				words[i] = string(o)
			}
			d.problem(n.keys[i], join(path, k.value), "", "the key %q belongs to a step with %s, this one has %s", k.value, oneOf(words), kinds[0])
		}
	}
	if kinds[0] == flow.StepFor && n.get("steps") == nil {
		d.missing(n, path, "steps")
	}
	if kinds[0] == flow.StepTry && n.get("catch") == nil {
		d.missing(n, path, "catch")
	}
	return kinds
}

func (d *decoder) retry(dst **flow.Retry) reader {
	return func(n *node, path string) {
		r := &flow.Retry{}
		*dst = r
		d.object(
			n, path, "retry",
			optional("attempts", d.integer(&r.Attempts, 1, flow.MaxAttempts)),
			optional("delay", d.duration(&r.Delay, flow.MaxRetryDelay)),
			optional("backoff", enum(d, &r.Backoff, flow.BackoffConstant, flow.BackoffExponential)),
			optional("max_delay", d.duration(&r.MaxDelay, flow.MaxRetryDelay)),
			optional("jitter", d.boolean(&r.Jitter)),
			optional("when", d.expression(&r.When, "a condition such as ${{ error.status >= 500 }}", flow.Bool)),
		)
	}
}

// code reads a program. It is not a template: ${{ means nothing there.
func (d *decoder) code(dst *string) reader {
	return func(n *node, path string) {
		if s, ok := d.plainText(n, path, "a program", flow.MaxCodeBytes); ok {
			*dst = s
			if !regexp.MustCompile(`\bexport\b`).MatchString(s) {
				d.problem(n, path, "write export default ({name}) => result", "the program exports nothing: its default export is the function that is called")
			}
		}
	}
}

func (d *decoder) switchCase(dst *[]flow.Case) reader {
	return func(n *node, path string) {
		var c flow.Case
		if d.object(
			n, path, "case",
			optional("when", d.expression(&c.When, "a condition such as ${{ steps.order.body.paid }}", flow.Bool)),
			optional("else", d.truth(&c.Else)),
			required("steps", d.nonEmpty("steps", d.steps(&c.Steps))),
		) {
			d.oneKey(n, path, "a case", []string{"when", "else"})
		}
		if i := len(*dst) - 1; i >= 0 && (*dst)[i].Else {
			d.problemKey(join(parent(path)+"["+itoa(i)+"]", "else"), "", "only the last case may be the else case")
		}
		*dst = append(*dst, c)
	}
}

func (d *decoder) forEach(f *flow.For) reader {
	return func(n *node, path string) {
		d.object(
			n, path, "for",
			required("each", d.each(&f.Each)),
			optional("as", d.matching(&f.As, "a name", idPattern(), idRule)),
			optional("batch", d.integer(&f.Batch, 1, flow.MaxBatch)),
			optional("parallel", d.integer(&f.Parallel, 1, flow.MaxParallel)),
			optional("on_error", enum(d, &f.OnError, flow.OnErrorStop, flow.OnErrorContinue)),
		)
	}
}

func (d *decoder) each(dst *flow.Each) reader {
	return func(n *node, path string) {
		switch {
		case n.kind == mapNode && n.get("rows") != nil:
			r := &flow.Rows{}
			dst.Rows = r
			d.rows(n, path, r)
		case n.kind == mapNode && (n.get("uses") != nil || n.get("with") != nil):
			p := &flow.Pages{}
			dst.Pages = p
			var uses string
			d.object(
				n, path, "pages",
				required("uses", d.uses(&uses)),
				optional("with", d.objectValue(&p.Action.With, "inputs")),
				optional("items", d.expression(&p.Items, "an expression such as ${{ result.body.items }}")),
				optional("cursor", d.expression(&p.Cursor, "an expression such as ${{ result.body.next }}")),
			)
			p.Action.Slot, p.Action.Action, _ = flow.SplitUses(uses)
		case n.kind == mapNode:
			d.at[path] = n
			d.problem(n, path, "write uses: slot.action for all pages of an action, or rows: and format: for a file", "expected a list, an expression, pages or rows, found a map")
		default:
			d.expression(&dst.List, "a list, or an expression such as ${{ steps.order.body.lines }}", flow.List)(n, path)
		}
	}
}

func (d *decoder) rows(n *node, path string, r *flow.Rows) {
	header := true
	d.object(
		n, path, "rows",
		required("rows", d.expression(&r.Rows, "an expression such as ${{ steps.file.body }}")),
		required("format", enum(d, &r.Format, flow.FormatCSV, flow.FormatJSONLines)),
		optional("delimiter", func(n *node, path string) {
			d.str(&r.Delimiter, "one character")(n, path)
			if s := []rune(r.Delimiter); r.Delimiter != "" && (len(s) != 1 || s[0] == '"' || s[0] == '\n' || s[0] == '\r') {
				d.problem(n, path, `write "\t" for a tab`, "expected one character that is no quote or line break, found %s", describe(n))
			}
		}),
		optional("encoding", enum(d, &r.Encoding, encodings()...)),
		optional("header", func(n *node, path string) {
			d.boolean(&header)(n, path)
			r.Header = &header
		}),
	)
	if r.Format == flow.FormatJSONLines {
		for _, key := range []string{"delimiter", "header"} {
			if n.get(key) != nil {
				d.problemKey(join(path, key), "", "the key %q belongs to the format csv", key)
			}
		}
	}
}

// encodings are the WHATWG names of the encodings that rows may have.
func encodings() []string {
	return []string{
		"utf-8", "utf-16le", "utf-16be", "windows-1252", "iso-8859-1", "iso-8859-2", "iso-8859-15", "windows-1250", "windows-1251",
		"windows-1253", "windows-1254", "windows-1257", "koi8-r", "macintosh", "shift_jis", "euc-jp", "euc-kr", "gbk", "gb18030", "big5",
	}
}

func (d *decoder) fork(dst **flow.Fork) reader {
	return func(n *node, path string) {
		f := &flow.Fork{}
		*dst = f
		d.object(
			n, path, "fork",
			optional("settle", d.boolean(&f.Settle)),
			required("branches", func(n *node, path string) {
				if n.kind == mapNode && len(n.keys) == 0 {
					d.problem(n, path, "", "expected at least one branch")
				}
				d.entries(n, path, "branches", flow.MaxBranches, idPattern(), idRule, func(key string, n *node, path string) {
					b := flow.Branch{Name: key}
					d.nonEmpty("steps", d.steps(&b.Steps))(n, path)
					f.Branches = append(f.Branches, b)
				})
			}),
		)
	}
}

func (d *decoder) wait(dst **flow.Wait) reader {
	return func(n *node, path string) {
		w := &flow.Wait{}
		*dst = w
		if d.object(
			n, path, "wait",
			optional("for", d.textValue(&w.For, "a duration such as PT1H")),
			optional("until", d.textValue(&w.Until, "a time such as 2027-01-31T09:00:00Z")),
			optional("callback", func(n *node, path string) {
				c := &flow.Callback{}
				w.Callback = c
				d.object(
					n, path, "callback",
					required("timeout", d.duration(&c.Timeout, flow.MaxWait)),
					optional("notify", d.nonEmpty("steps", d.steps(&c.Notify))),
				)
			}),
			optional("event", func(n *node, path string) {
				e := &flow.Await{}
				w.Event = e
				d.object(
					n, path, "wait_event",
					required("uses", d.uses(&e.Uses)),
					optional("with", d.objectValue(&e.With, "inputs")),
					optional("match", d.objectValue(&e.Match, "fields")),
					required("timeout", d.duration(&e.Timeout, flow.MaxWait)),
				)
			}),
		) {
			d.oneKey(n, path, "a wait", []string{"for", "until", "callback", "event"})
		}
	}
}

func (d *decoder) call(dst **flow.Call) reader {
	return func(n *node, path string) {
		c := &flow.Call{Wait: true}
		*dst = c
		d.object(
			n, path, "call",
			required("flow", d.str(&c.Flow, "the name of a flow")),
			optional("with", d.value(&c.With)),
			optional("wait", d.boolean(&c.Wait)),
		)
	}
}

func (d *decoder) respond(dst **flow.Respond) reader {
	return func(n *node, path string) {
		r := &flow.Respond{}
		*dst = r
		d.object(
			n, path, "respond",
			optional("status", d.expression(&r.Status, "a status from 200 to 599", flow.Number)),
			optional("headers", d.objectValue(&r.Headers, "headers")),
			optional("body", d.value(&r.Body)),
		)
	}
}

func (d *decoder) raise(dst **flow.Raise) reader {
	return func(n *node, path string) {
		r := &flow.Raise{}
		*dst = r
		d.object(
			n, path, "raise",
			required("type", d.matching(&r.Type, "a type of error", namePattern(), errorRule)),
			optional("message", d.textValue(&r.Message, "a text")),
			optional("retry", d.boolean(&r.Retry)),
		)
	}
}

func (d *decoder) state(dst **flow.State) reader {
	return func(n *node, path string) {
		s := &flow.State{}
		*dst = s
		key := func(v *flow.Value) reader { return d.textValue(v, "the name of a value") }
		if !d.object(
			n, path, "state",
			optional("get", key(&s.Get)), optional("default", d.value(&s.Default)),
			optional("put", key(&s.Put)), optional("value", d.value(&s.Value)),
			optional("increment", key(&s.Increment)), optional("by", d.expression(&s.By, "a number", flow.Number)),
			optional("delete", key(&s.Delete)),
		) {
			return
		}
		d.oneKey(n, path, "state", []string{"get", "put", "increment", "delete"})
		for companion, owner := range map[string]string{"default": "get", "value": "put", "by": "increment"} {
			if n.get(companion) != nil && n.get(owner) == nil {
				d.problemKey(join(path, companion), "", "the key %q belongs to %q", companion, owner)
			}
		}
		if n.get("put") != nil && n.get("value") == nil {
			d.missing(n, path, "value")
		}
	}
}
