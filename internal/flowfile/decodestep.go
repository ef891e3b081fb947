package flowfile

import (
	"regexp"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// steps reads a list of steps.
func (d *decoder) steps(dst *[]flow.Step) source.Reader {
	return d.List("steps", flow.MaxSteps, func(n *source.Node, path string) {
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

func (d *decoder) step(n *source.Node, path string, s *flow.Step) {
	var (
		uses, code   string
		with, result flow.Value
		steps, try   []flow.Step
		catch        flow.Catch
		each         flow.For
	)
	ok := d.Object(
		n, path, "step",
		source.Required("id", d.Matching(&s.ID, "an id", idPattern(), idRule)),
		source.Optional("title", d.text(&s.Title)),
		source.Optional("note", d.text(&s.Note)),
		source.Optional("if", d.expression(&s.If, "a condition such as ${{ trigger.body.paid }}", flow.Bool)),
		source.Optional("uses", d.uses(&uses)),
		source.Optional("with", d.objectValue(&with, "inputs")),
		source.Optional("code", d.code(&code)),
		source.Optional("set", d.valuePointer(&s.Set)),
		source.Optional("switch", d.NonEmpty("cases", d.List("cases", flow.MaxCases, d.switchCase(&s.Switch)))),
		source.Optional("for", d.forEach(&each)),
		source.Optional("steps", d.NonEmpty("steps", d.steps(&steps))),
		source.Optional("result", d.value(&result)),
		source.Optional("fork", d.fork(&s.Fork)),
		source.Optional("try", d.NonEmpty("steps", d.steps(&try))),
		source.Optional("catch", func(n *source.Node, path string) {
			d.Object(
				n, path, "catch",
				source.Optional("when", d.expression(&catch.When, "a condition such as ${{ error.status == 404 }}", flow.Bool)),
				source.Required("steps", d.NonEmpty("steps", d.steps(&catch.Steps))),
			)
		}),
		source.Optional("wait", d.wait(&s.Wait)),
		source.Optional("call", d.call(&s.Call)),
		source.Optional("respond", d.respond(&s.Respond)),
		source.Optional("return", d.valuePointer(&s.Return)),
		source.Optional("raise", d.raise(&s.Raise)),
		source.Optional("state", d.state(&s.State)),
		source.Optional("timeout", d.duration(&s.Timeout, flow.MaxStepTimeout)),
		source.Optional("once", d.Boolean(&s.Once)),
		source.Optional("retry", d.retry(&s.Retry)),
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
func (d *decoder) stepKind(n *source.Node, path string) []flow.StepKind {
	var names []string
	var kinds []flow.StepKind
	for _, k := range flow.StepKinds() {
		names = append(names, string(k))
		if n.Get(string(k)) != nil {
			kinds = append(kinds, k)
		}
	}
	d.oneKey(n, path, "a step", names)
	if len(kinds) != 1 {
		return kinds
	}
	for i, k := range n.Keys {
		owners, ok := companions()[k.Value]
		if ok && !slices.Contains(owners, kinds[0]) {
			words := make([]string, len(owners))
			for i, o := range owners {
				words[i] = string(o)
			}
			d.Problem(n.Keys[i], source.Join(path, k.Value), "", "the key %q belongs to a step with %s, this one has %s", k.Value, source.OneOf(words), kinds[0])
		}
	}
	if kinds[0] == flow.StepFor && n.Get("steps") == nil {
		d.Missing(n, path, "steps")
	}
	if kinds[0] == flow.StepTry && n.Get("catch") == nil {
		d.Missing(n, path, "catch")
	}
	return kinds
}

func (d *decoder) retry(dst **flow.Retry) source.Reader {
	return func(n *source.Node, path string) {
		r := &flow.Retry{}
		*dst = r
		d.Object(
			n, path, "retry",
			source.Optional("attempts", d.Integer(&r.Attempts, 1, flow.MaxAttempts)),
			source.Optional("delay", d.duration(&r.Delay, flow.MaxRetryDelay)),
			source.Optional("backoff", source.Enum(d.Decoder, &r.Backoff, flow.BackoffConstant, flow.BackoffExponential)),
			source.Optional("max_delay", d.duration(&r.MaxDelay, flow.MaxRetryDelay)),
			source.Optional("jitter", d.Boolean(&r.Jitter)),
			source.Optional("when", d.expression(&r.When, "a condition such as ${{ error.status >= 500 }}", flow.Bool)),
		)
	}
}

// code reads a program. It is not a template: ${{ means nothing there.
func (d *decoder) code(dst *string) source.Reader {
	return func(n *source.Node, path string) {
		if s, ok := d.PlainText(n, path, "a program", flow.MaxCodeBytes); ok {
			*dst = s
			if !regexp.MustCompile(`\bexport\b`).MatchString(s) {
				d.Problem(n, path, "write export default ({name}) => result", "the program exports nothing: its default export is the function that is called")
			}
		}
	}
}

func (d *decoder) switchCase(dst *[]flow.Case) source.Reader {
	return func(n *source.Node, path string) {
		var c flow.Case
		if d.Object(
			n, path, "case",
			source.Optional("when", d.expression(&c.When, "a condition such as ${{ steps.order.body.paid }}", flow.Bool)),
			source.Optional("else", d.Truth(&c.Else)),
			source.Required("steps", d.NonEmpty("steps", d.steps(&c.Steps))),
		) {
			d.oneKey(n, path, "a case", []string{"when", "else"})
		}
		if i := len(*dst) - 1; i >= 0 && (*dst)[i].Else {
			d.ProblemKey(source.Join(source.Parent(path)+"["+itoa(i)+"]", "else"), "", "only the last case may be the else case")
		}
		*dst = append(*dst, c)
	}
}

func (d *decoder) forEach(f *flow.For) source.Reader {
	return func(n *source.Node, path string) {
		d.Object(
			n, path, "for",
			source.Required("each", d.each(&f.Each)),
			source.Optional("as", d.Matching(&f.As, "a name", idPattern(), idRule)),
			source.Optional("batch", d.Integer(&f.Batch, 1, flow.MaxBatch)),
			source.Optional("parallel", d.Integer(&f.Parallel, 1, flow.MaxParallel)),
			source.Optional("on_error", source.Enum(d.Decoder, &f.OnError, flow.OnErrorStop, flow.OnErrorContinue)),
		)
	}
}

func (d *decoder) each(dst *flow.Each) source.Reader {
	return func(n *source.Node, path string) {
		switch {
		case n.Kind == source.Map && n.Get("rows") != nil:
			r := &flow.Rows{}
			dst.Rows = r
			d.rows(n, path, r)
		case n.Kind == source.Map && (n.Get("uses") != nil || n.Get("with") != nil):
			p := &flow.Pages{}
			dst.Pages = p
			var uses string
			d.Object(
				n, path, "pages",
				source.Required("uses", d.uses(&uses)),
				source.Optional("with", d.objectValue(&p.Action.With, "inputs")),
				source.Optional("items", d.expression(&p.Items, "an expression such as ${{ result.body.items }}")),
				source.Optional("cursor", d.expression(&p.Cursor, "an expression such as ${{ result.body.next }}")),
			)
			p.Action.Slot, p.Action.Action, _ = flow.SplitUses(uses)
		case n.Kind == source.Map:
			d.At[path] = n
			d.Problem(n, path, "write uses: slot.action for all pages of an action, or rows: and format: for a file", "expected a list, an expression, pages or rows, found a map")
		default:
			d.expression(&dst.List, "a list, or an expression such as ${{ steps.order.body.lines }}", flow.List)(n, path)
		}
	}
}

func (d *decoder) rows(n *source.Node, path string, r *flow.Rows) {
	header := true
	d.Object(
		n, path, "rows",
		source.Required("rows", d.expression(&r.Rows, "an expression such as ${{ steps.file.body }}")),
		source.Required("format", source.Enum(d.Decoder, &r.Format, flow.FormatCSV, flow.FormatJSONLines)),
		source.Optional("delimiter", func(n *source.Node, path string) {
			d.Str(&r.Delimiter, "one character")(n, path)
			if s := []rune(r.Delimiter); r.Delimiter != "" && (len(s) != 1 || s[0] == '"' || s[0] == '\n' || s[0] == '\r') {
				d.Problem(n, path, `write "\t" for a tab`, "expected one character that is no quote or line break, found %s", source.Describe(n))
			}
		}),
		source.Optional("encoding", source.Enum(d.Decoder, &r.Encoding, encodings()...)),
		source.Optional("header", func(n *source.Node, path string) {
			d.Boolean(&header)(n, path)
			r.Header = &header
		}),
	)
	if r.Format == flow.FormatJSONLines {
		for _, key := range []string{"delimiter", "header"} {
			if n.Get(key) != nil {
				d.ProblemKey(source.Join(path, key), "", "the key %q belongs to the format csv", key)
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

func (d *decoder) fork(dst **flow.Fork) source.Reader {
	return func(n *source.Node, path string) {
		f := &flow.Fork{}
		*dst = f
		d.Object(
			n, path, "fork",
			source.Optional("settle", d.Boolean(&f.Settle)),
			source.Required("branches", func(n *source.Node, path string) {
				if n.Kind == source.Map && len(n.Keys) == 0 {
					d.Problem(n, path, "", "expected at least one branch")
				}
				d.Entries(n, path, "branches", flow.MaxBranches, idPattern(), idRule, func(key string, n *source.Node, path string) {
					b := flow.Branch{Name: key}
					d.NonEmpty("steps", d.steps(&b.Steps))(n, path)
					f.Branches = append(f.Branches, b)
				})
			}),
		)
	}
}

func (d *decoder) wait(dst **flow.Wait) source.Reader {
	return func(n *source.Node, path string) {
		w := &flow.Wait{}
		*dst = w
		if d.Object(
			n, path, "wait",
			source.Optional("for", d.textValue(&w.For, "a duration such as PT1H")),
			source.Optional("until", d.textValue(&w.Until, "a time such as 2027-01-31T09:00:00Z")),
			source.Optional("callback", func(n *source.Node, path string) {
				c := &flow.Callback{}
				w.Callback = c
				d.Object(
					n, path, "callback",
					source.Required("timeout", d.duration(&c.Timeout, flow.MaxWait)),
					source.Optional("notify", d.NonEmpty("steps", d.steps(&c.Notify))),
				)
			}),
			source.Optional("event", func(n *source.Node, path string) {
				e := &flow.Await{}
				w.Event = e
				d.Object(
					n, path, "wait_event",
					source.Required("uses", d.uses(&e.Uses)),
					source.Optional("with", d.objectValue(&e.With, "inputs")),
					source.Optional("match", d.objectValue(&e.Match, "fields")),
					source.Required("timeout", d.duration(&e.Timeout, flow.MaxWait)),
				)
			}),
		) {
			d.oneKey(n, path, "a wait", []string{"for", "until", "callback", "event"})
		}
	}
}

func (d *decoder) call(dst **flow.Call) source.Reader {
	return func(n *source.Node, path string) {
		c := &flow.Call{Wait: true}
		*dst = c
		d.Object(
			n, path, "call",
			source.Required("flow", d.Str(&c.Flow, "the name of a flow")),
			source.Optional("with", d.value(&c.With)),
			source.Optional("wait", d.Boolean(&c.Wait)),
		)
	}
}

func (d *decoder) respond(dst **flow.Respond) source.Reader {
	return func(n *source.Node, path string) {
		r := &flow.Respond{}
		*dst = r
		d.Object(
			n, path, "respond",
			source.Optional("status", d.expression(&r.Status, "a status from 200 to 599", flow.Number)),
			source.Optional("headers", d.objectValue(&r.Headers, "headers")),
			source.Optional("body", d.value(&r.Body)),
		)
	}
}

func (d *decoder) raise(dst **flow.Raise) source.Reader {
	return func(n *source.Node, path string) {
		r := &flow.Raise{}
		*dst = r
		d.Object(
			n, path, "raise",
			source.Required("type", d.Matching(&r.Type, "a type of error", namePattern(), errorRule)),
			source.Optional("message", d.textValue(&r.Message, "a text")),
			source.Optional("retry", d.Boolean(&r.Retry)),
		)
	}
}

func (d *decoder) state(dst **flow.State) source.Reader {
	return func(n *source.Node, path string) {
		s := &flow.State{}
		*dst = s
		key := func(v *flow.Value) source.Reader { return d.textValue(v, "the name of a value") }
		if !d.Object(
			n, path, "state",
			source.Optional("get", key(&s.Get)), source.Optional("default", d.value(&s.Default)),
			source.Optional("put", key(&s.Put)), source.Optional("value", d.value(&s.Value)),
			source.Optional("increment", key(&s.Increment)), source.Optional("by", d.expression(&s.By, "a number", flow.Number)),
			source.Optional("delete", key(&s.Delete)),
		) {
			return
		}
		d.oneKey(n, path, "state", []string{"get", "put", "increment", "delete"})
		for companion, owner := range map[string]string{"default": "get", "value": "put", "by": "increment"} {
			if n.Get(companion) != nil && n.Get(owner) == nil {
				d.ProblemKey(source.Join(path, companion), "", "the key %q belongs to %q", companion, owner)
			}
		}
		if n.Get("put") != nil && n.Get("value") == nil {
			d.Missing(n, path, "value")
		}
	}
}
