package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// caseTimeout is how long one case may take.
	caseTimeout = 30 * time.Second
	// childGrace is how long requests of flows that nobody waits for may take to come.
	childGrace = 5 * time.Second
	// skipTries and skipPause bound how often the wait of a step is looked for: a viewer may hear of it before it is stored.
	skipTries = 200
	skipPause = 10 * time.Millisecond
	// retryPath, behind the path of a step, is where its pauses between tries wait.
	retryPath = ".retry"
	// maxLogs is how many lines of logs of one case are kept.
	maxLogs = 100
	// madeUp is the value of a secret that a case does not give.
	madeUp = "made up for a test"
)

// errUnexpected ends a case early: a request came that it does not know.
var errUnexpected = errors.New("a request came that the case does not expect")

// rehearsal runs the cases of one integration, each on an instance of its own.
type rehearsal struct {
	*session
	integration *flow.Integration // with the flows that set and read the state
	callbacks   *regexp.Regexp
	waits       map[string]string     // step in a notify → step that waits
	steps       map[string]*flow.Step // by flow and id
	calledWait  bool                  // a called flow may have timers, which no view shows
}

func newRehearsal(s *session, i *flow.Integration) *rehearsal {
	r := &rehearsal{
		session: s, integration: withStateFlows(i), waits: map[string]string{}, steps: map[string]*flow.Step{},
		callbacks: callbackPattern(s),
	}
	for n := range i.Flows {
		f := &i.Flows[n]
		for _, step := range flow.Walk("", f.Steps) {
			r.steps[f.Name+"."+step.ID] = step
			r.calledWait = r.calledWait || f.Trigger.Call != nil && (step.Wait != nil || step.Retry != nil)
			if step.Wait == nil || step.Wait.Callback == nil {
				continue
			}
			for _, inner := range flow.Walk("", step.Wait.Callback.Notify) {
				r.waits[f.Name+"."+inner.ID] = step.ID
			}
		}
	}
	return r
}

// caseRun is one case while it runs.
type caseRun struct {
	*rehearsal
	test      *flowfile.TestCase
	mocks     []*mock
	instance  id.Instance
	execution id.Execution
	started   chan<- id.Execution // gets the execution once
	problems  []problem
	logs      []string

	urls  map[string][]string // addresses of callbacks by step that waits, which nobody has answered
	seen  map[string]bool     // pauses that were dealt with
	asked map[string]bool     // steps whose callback was answered
	last  string              // what the flow did last

	status string
	result []byte // output or fault
	reply  *wire.ReplyBody
}

// run runs one case. An error means that the platform failed, not the case.
func (r *rehearsal) run(ctx context.Context, test *flowfile.TestCase) (*caseResult, error) {
	began := now()
	result := &caseResult{Name: test.Name, Line: test.Line, Flow: test.Flow}
	c := &caseRun{rehearsal: r, test: test, urls: map[string][]string{}, seen: map[string]bool{}, asked: map[string]bool{}}
	err := c.play(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if _, ok := errors.AsType[*client.Error](err); ok {
		c.add(problem{What: err.Error()})
	} else if err != nil {
		return nil, fmt.Errorf("case %q: %w", test.Name, err)
	}
	result.Duration = now().Sub(began)
	result.Millis = float64(result.Duration.Microseconds()) / 1e3
	result.Problems, result.Logs, result.Passed = c.problems, c.logs, len(c.problems) == 0
	return result, nil
}

func (c *caseRun) add(p problem) { c.problems = append(c.problems, p) }

func (c *caseRun) play(ctx context.Context) error {
	for _, t := range slices.Concat(c.test.Callbacks, c.test.Events) {
		if s := t.Step; c.steps[c.test.Flow+"."+s] == nil {
			c.add(problem{What: fmt.Sprintf("step %s is not in flow %s", s, c.test.Flow), Hint: "a case answers the waits of its own flow: test a called flow by itself"})
			return nil
		}
	}
	config, err := c.config()
	if err != nil {
		c.add(problem{What: err.Error()})
		return nil
	}
	limited, stop := context.WithTimeout(ctx, caseTimeout)
	defer stop()
	running, unexpected := context.WithCancelCause(limited)
	defer unexpected(nil)
	connections, err := c.connect(func() { unexpected(errUnexpected) })
	defer func() {
		for _, m := range c.mocks {
			m.close()
		}
	}()
	if err != nil {
		return err
	}
	if c.instance, err = c.deploy(ctx, c.integration, config, connections); err != nil {
		return err
	}
	if err := c.putState(limited); err != nil {
		return err
	}
	var hurrying sync.WaitGroup
	defer hurrying.Wait()
	defer unexpected(nil) // ends it
	started := make(chan id.Execution, 1)
	c.started = started
	if c.calledWait {
		hurrying.Go(func() { c.hurryCalled(running, started) })
	}
	switch err := c.follow(running); {
	case errors.Is(context.Cause(running), errUnexpected):
		c.cancelExecution(ctx)
	case limited.Err() != nil && ctx.Err() == nil:
		c.cancelExecution(ctx)
		c.add(problem{What: fmt.Sprintf("the flow did not end within %v; last: %s", caseTimeout, c.last), Hint: "a called flow may wait for a callback: test that flow by itself"})
	case err != nil:
		return err
	case c.status == "":
		c.cancelExecution(ctx)
	default:
		c.awaitCalls(running)
		return c.judge(limited)
	}
	for _, m := range c.mocks {
		c.problems = append(c.problems, m.found()...)
	}
	return nil
}

// cancelExecution ends what a case has left running.
func (c *caseRun) cancelExecution(ctx context.Context) {
	if !c.execution.IsZero() {
		_ = c.Cancel(ctx, c.execution) // it may have ended by itself
	}
}

// config are the values of the case; a secret that it does not give is made up.
func (c *caseRun) config() ([]byte, error) {
	values := map[string]json.RawMessage{}
	for n := range c.integration.Config {
		if v := &c.integration.Config[n]; v.Type == flow.ConfigSecret {
			values[v.Name] = json.RawMessage(strconv.Quote(madeUp))
		}
	}
	for i, name := range c.test.Config.Keys {
		b, err := json.Marshal(literal(&c.test.Config.Items[i]))
		if err != nil {
			return nil, fmt.Errorf("config %s: %w", name, err)
		}
		values[name] = b
	}
	return c.integration.ConfigJSON(values)
}

// connect starts a mock for every slot.
func (c *caseRun) connect(unexpected func()) (map[string]connection, error) {
	out := map[string]connection{}
	for n := range c.integration.Connections {
		slot := c.integration.Connections[n].Name
		var calls *flowfile.TestConnection
		if i := slices.IndexFunc(c.test.Connections, func(t flowfile.TestConnection) bool { return t.Slot == slot }); i >= 0 {
			calls = &c.test.Connections[i]
		}
		m, err := startMock(slot, calls, c.callbacks, unexpected)
		if err != nil {
			return nil, err
		}
		c.mocks = append(c.mocks, m)
		b, err := egress.ParseBinding(m.url)
		if err != nil {
			return nil, fmt.Errorf("connect mock of %s: %w", slot, err)
		}
		out[slot] = connection{binding: b, kind: lease.KindNone}
	}
	return out, nil
}

// event is what the flow sees as trigger, with what the case fixes.
func (c *caseRun) event(f *flow.Flow) map[string]any {
	t := &c.test.Trigger
	e := newEvent(f, nil)
	at := c.test.Now
	if at.IsZero() {
		at = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	}
	e["time"], e["source"] = at.UTC().Format(time.RFC3339Nano), "bulkhead test"
	e["test"] = map[string]any{"now": e["time"], "seed": strconv.FormatUint(c.test.Seed, 10), "hurry": true}
	if !t.Body.IsZero() {
		e["body"] = literal(&t.Body)
	}
	if f.Trigger.Webhook != nil {
		e["method"] = methods(f)[0]
		headers, all := lower(texts(&t.Headers)), map[string]any{}
		for k, v := range headers {
			all[k] = []any{v}
		}
		e["headers"], e["headers_all"], e["query"] = headers, all, texts(&t.Query)
	}
	if t.Method != "" {
		e["method"] = t.Method
	}
	return e
}

// follow runs the flow to its end, answering what it waits for.
func (c *caseRun) follow(ctx context.Context) error {
	f := c.integration.Flow(c.test.Flow)
	x, err := c.begin(ctx, c.instance, f, c.event(f))
	if err != nil {
		return err
	}
	defer x.Close()
	for c.status == "" {
		e, page, err := c.nextPage(ctx, x)
		if err != nil {
			return err
		}
		if more, err := c.take(ctx, e, page); err != nil || !more {
			return err
		}
	}
	return nil
}

// take handles one event. more is false when the case cannot go on.
func (c *caseRun) take(ctx context.Context, e *api.Event, page []byte) (more bool, err error) {
	if c.execution.IsZero() {
		c.execution = e.Execution
		c.started <- e.Execution
	}
	switch e.Kind {
	case api.EventProgress:
		c.last = fmt.Sprintf("%s %s", e.Path, stateNames[wire.StepState(e.State)])
		if wire.StepState(e.State) == wire.StepSleeping {
			return c.paused(ctx, e)
		}
	case api.EventView:
		switch kind := wire.ViewKind(e.ViewKind); {
		case e.Path == "" && (kind == wire.ViewResult || kind == wire.ViewError):
			c.result = page
		case kind == wire.ViewInput:
			c.heard(e.Path, page)
		case kind == wire.ViewLog && len(c.logs) < maxLogs:
			var l struct{ Text string }
			if json.Unmarshal(page, &l) == nil {
				c.logs = append(c.logs, e.Path+": "+oneLine(l.Text))
			}
		}
	case api.EventReply:
		m := &wire.ReplyBody{}
		if err := wire.ParseBody(page, m); err != nil {
			return false, fmt.Errorf("read answer: %w", err)
		}
		if c.reply == nil {
			c.reply = m
		}
	case api.EventStatus:
		switch e.Status {
		case "completed", "faulted", "cancelled":
			c.status = e.Status
		}
	}
	return true, nil
}

// heard notes the address of a callback when a step is given it.
func (c *caseRun) heard(path string, page []byte) {
	wait, ok := c.waits[c.test.Flow+"."+flow.StepOf(path)]
	if !ok {
		return
	}
	for _, url := range c.callbacks.FindAll(page, -1) {
		if !slices.Contains(c.urls[wait], string(url)) {
			c.urls[wait] = append(c.urls[wait], string(url))
		}
	}
}

// paused deals with a step that waits: time passes at once, callbacks are answered as
// the case says, and called flows end by themselves.
func (c *caseRun) paused(ctx context.Context, e *api.Event) (more bool, err error) {
	key := fmt.Sprintf("%s %d", e.Path, e.Attempt)
	step := c.steps[c.test.Flow+"."+flow.StepOf(e.Path)]
	if c.seen[key] || step == nil {
		return true, nil
	}
	c.seen[key] = true
	switch {
	case e.Attempt > 0:
		return true, c.skip(ctx, e.Path+retryPath)
	case step.Call != nil:
		return true, nil
	case step.Wait != nil && step.Wait.Event != nil:
		return c.deliver(ctx, e.Path, step)
	case step.Wait == nil || step.Wait.Callback == nil:
		return true, c.skip(ctx, e.Path)
	}
	i := slices.IndexFunc(c.test.Callbacks, func(t flowfile.TestCallback) bool { return t.Step == step.ID })
	if i < 0 {
		c.add(problem{
			What: fmt.Sprintf("step %s waits for a callback that the case does not answer", step.ID),
			Hint: fmt.Sprintf("write callbacks: {%s: {body: …}}, or {%s: {timeout: true}}", step.ID, step.ID),
		})
		return false, nil
	}
	t := &c.test.Callbacks[i]
	c.asked[step.ID] = true
	if t.Timeout {
		return true, c.skip(ctx, e.Path)
	}
	if len(c.urls[step.ID]) == 0 {
		c.add(problem{What: fmt.Sprintf("step %s waits for a callback, but no step in its notify was given callback.url", step.ID)})
		return false, nil
	}
	url := c.urls[step.ID][0]
	c.urls[step.ID] = c.urls[step.ID][1:]
	return true, c.answer(ctx, url, t)
}

// skip lets the time of a wait come.
func (c *caseRun) skip(ctx context.Context, path string) error {
	if err := untilStored(ctx, func() error { return c.Skip(ctx, c.execution, path) }); err != nil {
		return fmt.Errorf("skip the wait of step %s: %w", path, err)
	}
	return nil
}

// untilStored answers a wait. One that is not stored yet is not found: then it is tried again.
func untilStored(ctx context.Context, answer func() error) error {
	tick := time.NewTicker(skipPause)
	defer tick.Stop()
	var err error
	for range skipTries {
		if err = answer(); !client.IsCode(err, api.CodeNotFound) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// hurryCalled lets the time of the timers of called flows come, until the case ends.
func (c *caseRun) hurryCalled(ctx context.Context, started <-chan id.Execution) {
	tick := time.NewTicker(skipPause)
	defer tick.Stop()
	var x id.Execution
	for {
		select {
		case <-ctx.Done():
			return
		case x = <-started:
		case <-tick.C:
			if !x.IsZero() && c.Skip(ctx, x, "") != nil {
				return // the case says what is wrong when it does not end
			}
		}
	}
}

// answer posts to a callback.
func (c *caseRun) answer(ctx context.Context, url string, t *flowfile.TestCallback) error {
	headers := http.Header{}
	for k, v := range texts(&t.Headers) {
		headers.Set(k, v.(string))
	}
	var body []byte
	switch {
	case t.Body.IsZero():
	case t.Body.Kind == flow.String && headers.Get("Content-Type") != "" && !strings.Contains(headers.Get("Content-Type"), "json"):
		body = []byte(t.Body.Text)
	default:
		var err error
		if body, err = json.Marshal(literal(&t.Body)); err != nil {
			return fmt.Errorf("make answer: %w", err)
		}
		if headers.Get("Content-Type") == "" {
			headers.Set("Content-Type", "application/json")
		}
	}
	if q := queryOf(&t.Query); q != "" {
		url += "?" + q
	}
	return c.Answer(ctx, url, headers, body)
}

// awaitCalls waits for requests of flows that were started and that nobody waits for.
func (c *caseRun) awaitCalls(ctx context.Context) {
	timer := time.NewTimer(childGrace)
	defer timer.Stop()
	for _, m := range c.mocks {
		for len(m.missing()) > 0 && c.leavesChildren() {
			select {
			case <-m.changed:
				continue
			case <-timer.C:
			case <-ctx.Done():
			}
			return
		}
	}
}

// leavesChildren says whether flows may still run when the execution has ended.
func (c *caseRun) leavesChildren() bool {
	for n := range c.integration.Flows {
		f := &c.integration.Flows[n]
		if f.Name == c.test.Flow && f.OnFault != "" && c.status == "faulted" {
			return true
		}
		for _, s := range flow.Walk("", f.Steps) {
			if s.Call != nil && !s.Call.Wait {
				return true
			}
		}
	}
	return false
}
