package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

type executionsCommand struct {
	List executionsList `cmd:"" default:"withargs" help:"List executions, newest first."`
	Show executionsShow `cmd:"" help:"Show one execution with its steps."`
}

// executionFilter chooses executions.
type executionFilter struct {
	Customer string `placeholder:"CUSTOMER" help:"Id or external id."`
	Instance string `placeholder:"INSTANCE" help:"Id of an instance, or CUSTOMER/INTEGRATION."`
	Flow     string `placeholder:"NAME" help:"Name of a flow."`
	Status   string `enum:",pending,running,waiting,completed,faulted,cancelled" default:"" placeholder:"STATUS" help:"One of pending, running, waiting, completed, faulted, cancelled."`
	Label    string `placeholder:"NAME=VALUE" help:"A label that the flow declares, such as order=4711; needs --customer."`
	Since    string `placeholder:"TIME" help:"Accepted since: 90m, 24h, 7d or 2006-01-02T15:04:05Z."`
	Until    string `placeholder:"TIME" help:"Accepted before, likewise."`
}

// query is the filter as the API takes it.
func (f *executionFilter) query(ctx context.Context, x *client.Client) (q api.ExecutionQuery, err error) {
	q = api.ExecutionQuery{Customer: f.Customer, Flow: f.Flow, Status: f.Status, Label: f.Label}
	if f.Instance != "" {
		if q.Instance, err = findInstance(ctx, x, f.Instance); err != nil {
			return q, err
		}
	}
	if f.Label != "" && (f.Customer == "" || !strings.Contains(f.Label, "=")) {
		return q, usage("--label: want NAME=VALUE, and --customer with it")
	}
	if q.From, err = moment(f.Since); err != nil {
		return q, usage("--since: %w", err)
	}
	if q.Until, err = moment(f.Until); err != nil {
		return q, usage("--until: %w", err)
	}
	return q, nil
}

// moment reads a time, or how long ago it was.
func moment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if d, err := time.ParseDuration(days + "h"); err == nil {
			return now().Add(-24 * d), nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time: want 90m, 24h, 7d or 2006-01-02T15:04:05Z", text)
	}
	return now().Add(-d), nil
}

type executionsList struct {
	remote
	Execution id.Execution `arg:"" optional:"" help:"Show this one with its steps instead."`
	executionFilter
	Limit int `default:"30" help:"Show at most so many; 0: all."`
}

// Run implements the command.
func (m *executionsList) Run(c *console) error {
	if !m.Execution.IsZero() {
		return (&executionsShow{remote: m.remote, Execution: m.Execution}).Run(c)
	}
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		q, err := m.query(ctx, x)
		if err != nil {
			return err
		}
		names := customerNames(ctx, x)
		t := &table{head: []string{"EXECUTION", "STATUS", "CUSTOMER", "INTEGRATION", "FLOW", "ACCEPTED", "TOOK", "ERROR"}}
		t.tint = tint(t, 1)
		return listing(&m.remote, c, m.Limit, "executions", func(cursor string) (*api.Page[api.Execution], error) {
			return x.Executions(ctx, q, client.List{Cursor: cursor})
		}, t, func(k *api.Execution) []string {
			return []string{
				k.ID.String(), k.Status, names(k.Customer), k.Integration, k.Flow, ago(k.Accepted), took(k.Started, k.Finished), failure(k),
			}
		})
	})
}

// failure is the error of an execution and where it was.
func failure(k *api.Execution) string {
	if k.ErrorType == "" || k.ErrorStep == "" {
		return k.ErrorType
	}
	return k.ErrorType + " in " + k.ErrorStep
}

type executionsShow struct {
	remote
	Execution id.Execution `arg:"" optional:"" help:"Id, as bulkhead executions lists it. Default: the newest."`
	Payload   bool         `short:"p" help:"Also open its event, labels, step results and output."`
	Step      string       `placeholder:"PATH" help:"Open what this step got and gave only, such as lines[1].sent."`
}

// newest is an execution that was named, or the one that was accepted last.
func newest(ctx context.Context, x *client.Client, named id.Execution) (*api.Execution, error) {
	if !named.IsZero() {
		return x.Execution(ctx, named)
	}
	page, err := x.Executions(ctx, api.ExecutionQuery{}, client.List{Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(page.Items) == 0 {
		return nil, usage("there is no execution yet")
	}
	return &page.Items[0], nil
}

// shown is an execution as it is shown.
type shown struct {
	*api.Execution
	Steps    []api.Step  `json:"steps"`
	Payloads []wire.Item `json:"payloads,omitempty"`
	Omitted  bool        `json:"omitted,omitempty"` // not every step was opened
}

// Run implements the command.
func (m *executionsShow) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		k, err := newest(ctx, x, m.Execution)
		if err != nil {
			return err
		}
		steps, err := x.Steps(ctx, k.ID)
		if err != nil {
			return err
		}
		v := &shown{Execution: k, Steps: steps.Items}
		if m.Payload || m.Step != "" {
			if v.Payloads, err = payloads(ctx, x, v, m.Step); err != nil {
				return err
			}
		}
		return m.show(c, v, func() {
			showExecution(c, v, customerNames(ctx, x)(k.Customer))
			showPayloads(c, v)
		})
	})
}

func showExecution(c *console, v *shown, customer string) {
	p := paint(terminal(c.Out))
	line := func(name, text string) {
		if text != "" && text != "-" {
			fmt.Fprintf(c.Out, "%s %s\n", p.in(grey, fmt.Sprintf("%-12s", name)), text)
		}
	}
	line("execution", v.ID.String())
	line("status", p.in(statusColour(v.Status), v.Status))
	line("error", oneLine(failure(v.Execution)))
	line("customer", oneLine(customer))
	line("flow", fmt.Sprintf("%s of %s version %d", v.Flow, v.Integration, v.Version))
	line("started by", v.Trigger)
	line("accepted", ago(v.Accepted)+", "+v.Accepted.Local().Format("2006-01-02 15:04:05.000"))
	line("took", took(v.Started, v.Finished))
	if v.Retries > 0 {
		line("retried", fmt.Sprint(v.Retries))
	}
	depth := map[string]int{}
	for i := range v.Steps {
		s := &v.Steps[i]
		depth[s.ID] = 1
		if s.Parent != "" {
			depth[s.ID] = depth[s.Parent] + 1
		}
		if s.State == "" {
			continue // the journal says nothing of it
		}
		mark, text := stepLine(s)
		fmt.Fprintf(c.Out, "%s%s %s\n", strings.Repeat("  ", depth[s.ID]), p.in(markColour(mark), mark), oneLine(text))
	}
	if next := whatNext(v.Execution); next != "" {
		fmt.Fprintf(c.Err, "%s\n", next)
	}
}

// whatNext says what can be done about an execution that faulted.
func whatNext(k *api.Execution) string {
	if k.Status != "faulted" {
		return ""
	}
	look := fmt.Sprintf("What it says of the fault: bulkhead executions show %s --payload, bulkhead logs %s", k.ID, k.ID)
	again := fmt.Sprintf("When the cause is gone: bulkhead retry %s goes on at that step, bulkhead replay %s begins anew", k.ID, k.ID)
	switch k.ErrorType {
	case "auth":
		again = "The credential is refused: enter it again with bulkhead connections put. Then bulkhead retry " + k.ID.String()
	case "egress-denied":
		again = "The connection does not allow this call: look at its hosts, and at what it is shared for, with bulkhead connections show."
	case "expression", "journal-mismatch", "code":
		again = "The integration is at fault: publish a version that is right and upgrade. A retry ends on the old version, bulkhead replay " + k.ID.String() + " runs the same event again"
	case "timeout", "rate-limited", "upstream":
		again = fmt.Sprintf("The other system may only be busy: bulkhead retry %s goes on at that step", k.ID)
	}
	return look + "\n" + again
}

// markColour is the colour of the mark before a step.
func markColour(mark string) string {
	return map[string]string{"✓": green, "✗": red}[mark]
}

// stepLine is what is shown of a step, with the mark before it.
func stepLine(s *api.Step) (mark, text string) {
	mark, text = "·", s.ID
	switch s.State {
	case "done", "passed":
		mark = "✓"
	case "failed":
		mark = "✗"
	default:
		text += " (" + s.State + ")"
	}
	if s.Rounds > 1 {
		text += ", " + count(s.Rounds, "round")
		if s.Failed > 0 {
			text += fmt.Sprintf(", %d failed", s.Failed)
		}
	}
	if s.Attempts > 0 {
		text += fmt.Sprintf(", %s failed", count(s.Attempts, "attempt"))
	}
	if s.Error != "" {
		text += ": " + s.Error
	}
	return mark, text
}

// chosen are executions, named one by one or by a filter.
type chosen struct {
	remote
	Executions []id.Execution `arg:"" optional:"" name:"execution" help:"Ids."`
	executionFilter
	Limit  int  `default:"100" help:"Of those that the filter finds, at most so many."`
	DryRun bool `help:"Only say how many they are."`
	Yes    bool `short:"y" help:"Do not ask."`
}

// bulk asks once, then does what was asked for to every execution that the filter finds.
func (m *chosen) bulk(ctx context.Context, c *console, x *client.Client, verb string, do func(api.BulkRequest) (*api.BulkAnswer, error)) error {
	q, err := m.query(ctx, x)
	if err != nil {
		return err
	}
	if q == (api.ExecutionQuery{}) {
		return usage("name executions, or choose them with --customer, --status faulted and the like")
	}
	found, err := do(api.BulkRequest{Query: q, Limit: m.Limit, DryRun: true})
	if err != nil {
		return err
	}
	text := count(found.Matched, "execution")
	if found.More {
		text = "the first " + text + " of more"
	}
	if m.DryRun || found.Matched == 0 {
		return m.show(c, found, func() { fmt.Fprintf(c.Out, "would %s %s\n", verb, text) })
	}
	if err := c.confirm(m.Yes, fmt.Sprintf("%s%s %s?", strings.ToUpper(verb[:1]), verb[1:], text)); err != nil {
		return err
	}
	done, err := do(api.BulkRequest{Query: q, Limit: m.Limit})
	if err != nil {
		return err
	}
	err = m.show(c, done, func() {
		for _, f := range done.Failed {
			fmt.Fprintf(c.Err, "%s: %s %s\n", f.Execution, f.Code, f.Detail)
		}
		fmt.Fprintf(c.Out, "%s: %d done, %d refused\n", verb, len(done.Executions), len(done.Failed))
	})
	if err == nil && len(done.Failed) > 0 {
		return said(exitFailed)
	}
	return err
}

// each does something to every execution that was named, and goes on after errors.
func (m *chosen) each(c *console, do func(id.Execution) (any, string, error)) error {
	var failed bool
	for _, x := range m.Executions {
		v, text, err := do(x)
		if err == nil {
			err = m.show(c, v, func() { fmt.Fprintln(c.Out, text) })
		}
		if err != nil {
			failed = true
			show(c.Streams, fmt.Errorf("%s: %w", x, advise(err)))
		}
	}
	if failed {
		return said(exitFailed)
	}
	return nil
}

type retryCommand struct{ chosen }

// Run implements the command.
func (m *retryCommand) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		if len(m.Executions) == 0 {
			return m.bulk(ctx, c, x, "retry", func(r api.BulkRequest) (*api.BulkAnswer, error) { return x.BulkRetry(ctx, r) })
		}
		return m.each(c, func(e id.Execution) (any, string, error) {
			k, err := x.Retry(ctx, e)
			return k, fmt.Sprintf("%s goes on where it failed", e), err
		})
	})
}

type replayCommand struct{ chosen }

// Run implements the command.
func (m *replayCommand) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		if len(m.Executions) == 0 {
			return m.bulk(ctx, c, x, "replay", func(r api.BulkRequest) (*api.BulkAnswer, error) { return x.BulkReplay(ctx, r) })
		}
		return m.each(c, func(e id.Execution) (any, string, error) {
			k, err := x.Replay(ctx, e, api.ReplayRequest{})
			if err != nil {
				return nil, "", err
			}
			return k, fmt.Sprintf("%s runs with the event of %s", k.Execution, e), nil
		})
	})
}

type cancelCommand struct{ chosen }

// Run implements the command.
func (m *cancelCommand) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		if len(m.Executions) == 0 {
			return m.bulk(ctx, c, x, "cancel", func(r api.BulkRequest) (*api.BulkAnswer, error) { return cancelAll(ctx, x, &r) })
		}
		return m.each(c, func(e id.Execution) (any, string, error) {
			return map[string]any{"cancelled": e}, fmt.Sprintf("cancelled %s", e), x.Cancel(ctx, e)
		})
	})
}

// cancelAll cancels what a query finds and has not ended. The API knows no such request:
// the executions are found first, and cancelled one by one.
func cancelAll(ctx context.Context, x *client.Client, r *api.BulkRequest) (*api.BulkAnswer, error) {
	out := &api.BulkAnswer{Executions: []id.Execution{}}
	states := []string{"pending", "running", "waiting"}
	if r.Query.Status != "" {
		states = []string{r.Query.Status}
	}
	var found []id.Execution
	q := r.Query
	for _, q.Status = range states {
		for k, err := range client.All(func(cursor string) (*api.Page[api.Execution], error) {
			return x.Executions(ctx, q, client.List{Cursor: cursor})
		}) {
			if err != nil {
				return nil, err
			}
			if len(found) == r.Limit {
				out.More = true
				break
			}
			found = append(found, k.ID)
		}
	}
	out.Matched = len(found)
	if r.DryRun {
		return out, nil
	}
	for _, e := range found {
		err := x.Cancel(ctx, e)
		refused, ok := errors.AsType[*client.Error](err)
		switch {
		case err == nil:
			out.Executions = append(out.Executions, e)
		case ok:
			out.Failed = append(out.Failed, api.BulkFailure{Execution: e, Code: refused.Code, Detail: refused.Detail})
		default:
			return out, err
		}
	}
	return out, nil
}

// confirm asks a question on a terminal. Where nobody can answer, --yes is needed.
func (c *console) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !interactive(c.In) {
		return usage("%s Say --yes where nobody can answer", question)
	}
	fmt.Fprintf(c.Err, "%s [y/N] ", question)
	var answer string
	_, err := fmt.Fscanln(c.In, &answer)
	if a := strings.ToLower(answer); err != nil || a != "y" && a != "yes" {
		return &fail{exitFailed, errors.New("nothing was done")}
	}
	return nil
}
