package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

type stream = client.Stream

// progress shows how an execution goes.
type progress struct {
	c       *console
	paint   paint
	json    bool
	explain bool
	errors  map[string]fault  // of the steps, by path
	pages   map[string]string // what --explain shows below the line of a step, by path
	waits   map[string]bool   // steps that were shown as waiting
	heard   *callbacks        // addresses that steps were given
}

// fault is an error as flows see it.
type fault struct {
	Type     string `json:"type"`
	Message  string `json:"message"`
	Step     string `json:"step,omitempty"`
	Status   int    `json:"status,omitempty"`
	Attempts int    `json:"attempts,omitempty"`
}

// source is where the events of an execution come from.
type source interface {
	// nextPage waits for the next event and opens its page, if it has one.
	nextPage(ctx context.Context, x *stream) (*api.Event, []byte, error)
	// callbacks matches addresses of callbacks that are this source's.
	callbacks() *regexp.Regexp
}

// platform is the source of what a platform runs.
type platform struct{}

func (platform) callbacks() *regexp.Regexp { return anyCallback() }

func (platform) nextPage(ctx context.Context, x *stream) (*api.Event, []byte, error) {
	stop := context.AfterFunc(ctx, x.Close)
	defer stop()
	e, err := x.Next()
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, nil, errors.New("the platform ended before the execution did: it goes on when the platform is back; see bulkhead executions")
	case err != nil || len(e.Sealed) == 0:
		return e, nil, err
	}
	page, err := x.Open(e)
	return e, page, err
}

// follow shows every event until the execution ends. onReply gets the answer of a
// synchronous webhook. The error says how it ended.
func (p *progress) follow(ctx context.Context, s source, x *stream, onReply func(*wire.ReplyBody)) error {
	p.errors, p.pages, p.waits, p.heard = map[string]fault{}, map[string]string{}, map[string]bool{}, newCallbacks(s.callbacks())
	var result []byte
	for {
		e, page, err := s.nextPage(ctx, x)
		if err != nil {
			return err
		}
		if p.json {
			p.event(e, page)
		}
		switch e.Kind {
		case api.EventProgress:
			p.step(e)
		case api.EventView:
			if p.page(e, page) {
				result = page
			}
		case api.EventReply:
			var m wire.ReplyBody
			if err := wire.ParseBody(page, &m); err != nil {
				return fmt.Errorf("read answer: %w", err)
			}
			if onReply != nil {
				onReply(&m)
			}
		case api.EventStatus:
			if done, err := p.end(e, result); done {
				return err
			}
		}
	}
}

// event prints one event for a machine.
func (p *progress) event(e *api.Event, page []byte) {
	m := map[string]any{"kind": e.Kind, "execution": e.Execution}
	put := func(k string, v any, ok bool) {
		if ok {
			m[k] = v
		}
	}
	put("path", e.Path, e.Path != "")
	put("state", stateNames[wire.StepState(e.State)], e.State != 0)
	put("attempt", e.Attempt, e.Attempt != 0)
	put("duration_ms", float64(e.Duration)/1e6, e.Duration != 0)
	put("error_type", e.ErrorType, e.ErrorType != "")
	put("status", e.Status, e.Status != "")
	put("page", viewNames[wire.ViewKind(e.ViewKind)], e.ViewKind != 0)
	put("value", json.RawMessage(page), e.Kind == api.EventView && json.Valid(page))
	b, err := json.Marshal(m)
	if err == nil {
		fmt.Fprintf(p.c.Err, "%s\n", b)
	}
}

var stateNames = map[wire.StepState]string{
	wire.StepStarted: "started", wire.StepDone: "done", wire.StepFailed: "failed", wire.StepRetrying: "retrying",
	wire.StepSkipped: "skipped", wire.StepSleeping: "waiting", wire.StepReplayed: "replayed",
}

var viewNames = map[wire.ViewKind]string{
	wire.ViewInput: "input", wire.ViewOutput: "output", wire.ViewError: "error", wire.ViewLog: "log", wire.ViewResult: "result",
}

// step prints the line of a step. One that begins has no line: its end has.
func (p *progress) step(e *api.Event) {
	state := wire.StepState(e.State)
	if p.json || state == wire.StepStarted || state == wire.StepReplayed || state == wire.StepSleeping && p.waits[e.Path] {
		return
	}
	p.waits[e.Path] = state == wire.StepSleeping // it says so again whenever the execution resumes
	mark, colour := "✓", green
	switch state {
	case wire.StepFailed:
		mark, colour = "✗", red
	case wire.StepRetrying:
		mark, colour = "↻", yellow
	case wire.StepSkipped, wire.StepSleeping:
		mark, colour = "·", grey
	}
	line := fmt.Sprintf("%s %-28s %-9s", p.paint.in(colour, mark), e.Path, stateNames[state])
	if state != wire.StepSkipped && state != wire.StepSleeping {
		line += fmt.Sprintf(" %8s", round(e.Duration))
	}
	if e.Attempt > 1 || state == wire.StepRetrying {
		line += fmt.Sprintf("  attempt %d", e.Attempt)
	}
	if e.ErrorType != "" {
		line += "  " + p.paint.in(colour, e.ErrorType)
		if f := p.errors[e.Path]; f.Message != "" {
			line += ": " + oneLine(f.Message)
		}
	}
	fmt.Fprintln(p.c.Err, strings.TrimRight(line, " "))
	fmt.Fprint(p.c.Err, p.pages[e.Path])
	delete(p.pages, e.Path)
	if state == wire.StepSleeping {
		for _, url := range p.heard.take() {
			fmt.Fprintf(p.c.Err, "  %s curl -X POST %s -H 'Content-Type: application/json' -d '{…}'\n", p.paint.in(yellow, "answer it:"), url)
		}
	}
}

func round(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.1fms", float64(d)/1e6)
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}

// page takes a page of the view. It reports whether it is the end's.
func (p *progress) page(e *api.Event, page []byte) (result bool) {
	kind := wire.ViewKind(e.ViewKind)
	if e.Path == "" {
		return kind == wire.ViewResult || kind == wire.ViewError
	}
	switch kind {
	case wire.ViewError:
		var f fault
		if json.Unmarshal(page, &f) == nil {
			p.errors[e.Path] = f
		}
	case wire.ViewInput:
		p.heard.hear(page)
		p.show(e.Path, "got ", page)
	case wire.ViewOutput:
		p.show(e.Path, "gave", page)
	case wire.ViewLog:
		var l struct{ Level, Text string }
		if json.Unmarshal(page, &l) == nil && !p.json {
			fmt.Fprintf(p.c.Err, "  %s %s: %s\n", p.paint.in(grey, "log"), e.Path, oneLine(l.Text))
		}
	}
	return false
}

// show keeps a page for the line of its step.
func (p *progress) show(path, what string, page []byte) {
	if p.explain && !p.json {
		p.pages[path] += fmt.Sprintf("    %s %s\n", p.paint.in(grey, what), indent(page))
	}
}

// oneLine keeps text that others wrote from moving the cursor, faking lines, or being read in
// another order than it is in.
func oneLine(s string) string { return strings.ReplaceAll(visible(s), "\n", " ") }

// visible is oneLine for text of several lines.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r)) {
			return ' '
		}
		return r
	}, s)
}

// maxPageLine is the longest page that is shown on one line, in bytes.
const maxPageLine = 90

func indent(page []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, page) == nil && b.Len() <= maxPageLine {
		return oneLine(b.String())
	}
	b.Reset()
	if json.Indent(&b, page, "         ", "  ") != nil {
		return oneLine(string(page))
	}
	return visible(b.String())
}

// end handles a change of status. The execution may wait and go on.
func (p *progress) end(e *api.Event, result []byte) (done bool, err error) {
	switch e.Status {
	case "completed":
		if len(result) == 0 {
			result = []byte("null")
		}
		return true, p.output(result)
	case "faulted", "cancelled":
		f := fault{Type: e.ErrorType, Step: e.ErrorStep, Message: endings[e.ErrorType]}
		if f.Message == "" || e.Status == "cancelled" {
			f.Message = "the execution was " + e.Status
		}
		if len(result) > 0 {
			if err := json.Unmarshal(result, &f); err != nil {
				return true, fmt.Errorf("read fault: %w", err)
			}
		}
		return true, p.fault(&f)
	default:
		return false, nil
	}
}

func (p *progress) output(result []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, result, "", "  "); err != nil {
		return fmt.Errorf("read output: %w", err)
	}
	b.WriteByte('\n')
	if _, err := b.WriteTo(p.c.Out); err != nil {
		return fmt.Errorf("print output: %w", err)
	}
	return nil
}

// fault prints the error as JSON, and for people what to do about it.
func (p *progress) fault(f *fault) error {
	b, err := json.Marshal(map[string]any{"error": f})
	if err != nil {
		return fmt.Errorf("print fault: %w", err)
	}
	fmt.Fprintf(p.c.Err, "%s\n", b)
	if hint := hints[f.Type]; hint != "" && !p.json {
		where := ""
		if f.Step != "" {
			where = "step " + f.Step + ": "
		}
		fmt.Fprintf(p.c.Err, "%s %s%s\n", p.paint.in(yellow, "hint:"), where, hint)
	}
	return said(exitFailed)
}

// endings are the messages of faults that the server makes itself: it seals their own to the customer, not to a viewer.
var endings = map[string]string{
	"interrupted": "the worker of this execution was lost three times in a row",
	"limit":       "the worker ran out of memory or processor time each time, or the execution became too large to go on",
	"timeout":     "the execution has expired",
}

// hints say what to do about each type of error.
var hints = map[string]string{
	"auth":          "the other side refused the credential: check --connection-secret and what it may do there.",
	"timeout":       "it took too long: is the address right and the server up? A step's timeout can be set longer.",
	"rate-limited":  "the other side wants fewer requests: add retry, which waits as told, or lower parallel.",
	"not-found":     "the path does not exist there: run with --explain to see it; list 404 in expect if it is a normal answer.",
	"invalid-input": "what was sent or received does not fit: --explain shows both, and what the other side says.",
	"upstream":      "the other side failed or is not there: is it up at the address of --connection? retry helps if it recovers.",
	"egress-denied": "the message says what is not allowed: path or host (see --connection), a private address (--allow-net, such as 127.0.0.0/8), " +
		"or an action that the connection is not shared for (bulkhead connections put … --share-for).",
	"limit":            "a limit was reached, the message says which: batch helps with large lists, files with large bodies.",
	"code":             "the code failed: the message says where, or that its sandbox ended.",
	"expression":       "an expression met a value it did not expect: --explain shows what earlier steps gave.",
	"journal-mismatch": "the flow computed something else than before the interruption: it depends on more than its input.",
	"interrupted":      "a step with once was interrupted, or workers were lost: find out whether its effect happened, then run again.",
}
