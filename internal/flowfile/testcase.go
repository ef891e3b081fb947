package flowfile

import (
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// Tests are the cases of a NAME.test.yaml file.
type Tests struct {
	Cases []TestCase
}

// TestCase is one run of one flow with mocked connections, and what is expected of it. Exactly one of Output and Fault is
// set, or none: then the flow must complete and its output does not matter.
type TestCase struct {
	Name        string
	Line        int // of the case in its file
	Flow        string
	Trigger     TestTrigger
	Config      flow.Value       // an object, or absent; secrets are given here in clear, for the test only
	State       flow.Value       // an object, or absent: the instance's state at the start
	Connections []TestConnection // in the order written; a slot that is not named takes no call
	Callbacks   []TestCallback   // answers of the waits, in the order written
	Events      []TestCallback   // events for the waits, in the order written
	Now         time.Time        // zero: a fixed time of the runner
	Seed        uint64           // of uuid() and Math.random
	Output      *flow.Value
	Fault       *TestFault
	Answer      *TestAnswer // of a respond step: status, headers named and body are compared
	mocks       []testMock
	StateAfter  flow.Value // an object, or absent; only the keys named are compared
}

// TestTrigger is what starts the flow. Absent values are empty.
type TestTrigger struct {
	Method  string
	Headers flow.Value // an object
	Query   flow.Value // an object
	Body    flow.Value
}

// TestConnection are the requests that one connection must get, each once, and nothing else.
type TestConnection struct {
	Slot     string
	AnyOrder bool // the requests may come in any order, as with `parallel` and `fork`
	Calls    []TestCall
}

// TestCall is one expected request and its answer.
type TestCall struct {
	Line   int // in its file
	Times  int // how often it comes, at least 1
	Expect TestRequest
	Answer TestAnswer
}

// TestRequest says what a request must be. What is absent is not compared; of query and headers, only the names written.
// The body is compared as JSON.
type TestRequest struct {
	Method  string
	Path    string
	Pattern string // where set, of the escaped path, instead of Path
	Query   flow.Value
	Headers flow.Value
	Body    flow.Value // absent: not compared
}

// TestAnswer is what a connection answers, or what a respond step must answer.
type TestAnswer struct {
	Status  int // 200 where it was not written
	Headers flow.Value
	Body    flow.Value
	Fail    string // instead of an answer, the request ends with this type of error: timeout, upstream, egress-denied or auth
}

// TestCallback answers the wait of a step for a callback or an event, or lets its time run out.
type TestCallback struct {
	Step    string
	Timeout bool
	Headers flow.Value
	Query   flow.Value
	Body    flow.Value
}

// TestFault is how an execution must end. What is empty is not compared.
type TestFault struct {
	Type    string
	Message string
	Step    string
}

// MaxTestCases bounds the cases of one file, MaxTestCalls the calls of one connection.
const (
	MaxTestCases = 500
	MaxTestCalls = 1000
)

// DecodeTests reads the cases of an integration. Where i is given, the names in the cases are checked against it. Either the
// result is valid, or the problems say everything that is wrong and the result is nil.
func DecodeTests(file string, text []byte, i *flow.Integration) (*Tests, source.Problems) {
	root, d := open(file, text)
	if root == nil {
		return nil, source.Sort(d.Problems)
	}
	tests := d.tests(root, i)
	if len(d.Problems) > 0 {
		return nil, source.Sort(d.Problems)
	}
	return tests, nil
}

func (d *decoder) tests(root *source.Node, i *flow.Integration) *Tests {
	tests := &Tests{}
	d.Object(root, "", "tests", source.Required("cases", d.NonEmpty("cases", d.List("cases", MaxTestCases, func(n *source.Node, path string) {
		var c TestCase
		c.Line, _ = d.Src.Position(n.Start)
		d.testCase(n, path, &c)
		if slices.ContainsFunc(tests.Cases, func(o TestCase) bool { return o.Name == c.Name && c.Name != "" }) {
			d.ProblemAt(path+".name", "", "there is another case of this name")
		}
		if i != nil {
			d.play(&c, i)
			d.checkCase(&c, path, i)
		}
		tests.Cases = append(tests.Cases, c)
	}))))
	return tests
}

func (d *decoder) testCase(n *source.Node, path string, c *TestCase) {
	d.Object(
		n, path, "test_case",
		source.Required("name", d.Str(&c.Name, "a name")),
		source.Required("flow", d.Str(&c.Flow, "the name of a flow")),
		source.Optional("trigger", func(n *source.Node, path string) {
			d.Object(
				n, path, "test_trigger",
				source.Optional("method", source.Enum(d.Decoder, &c.Trigger.Method, webhookMethods()...)),
				source.Optional("headers", d.texts(&c.Trigger.Headers, "headers")),
				source.Optional("query", d.texts(&c.Trigger.Query, "parameters")),
				source.Optional("body", d.literal(&c.Trigger.Body, "test data")),
			)
		}),
		source.Optional("config", d.literalObject(&c.Config, "values by config variable")),
		source.Optional("state", d.literalObject(&c.State, "values by name")),
		source.Optional("connections", func(n *source.Node, path string) {
			d.Entries(n, path, "calls", flow.MaxConnections, slotPattern(), nameRule, func(key string, n *source.Node, path string) {
				t := TestConnection{Slot: key}
				d.testConnection(n, path, &t)
				c.Connections = append(c.Connections, t)
			})
		}),
		source.Optional("mocks", d.mocks(c)),
		source.Optional("callbacks", d.testCallbacks(&c.Callbacks, "answers")),
		source.Optional("events", d.testCallbacks(&c.Events, "events")),
		source.Optional("now", d.moment(&c.Now)),
		source.Optional("seed", d.seed(&c.Seed)),
		source.Optional("output", d.literalPointer(&c.Output)),
		source.Optional("fault", func(n *source.Node, path string) {
			c.Fault = &TestFault{}
			d.Object(
				n, path, "test_fault",
				source.Required("type", d.Matching(&c.Fault.Type, "a type of error", namePattern(), errorRule)),
				source.Optional("message", d.Str(&c.Fault.Message, "a text")),
				source.Optional("step", d.Matching(&c.Fault.Step, "the id of a step", idPattern(), idRule)),
			)
		}),
		source.Optional("answer", func(n *source.Node, path string) {
			c.Answer = &TestAnswer{}
			d.testAnswer(n, path, c.Answer, "test_respond")
		}),
		source.Optional("state_after", d.literalObject(&c.StateAfter, "values by name")),
	)
	if c.Output != nil && c.Fault != nil {
		d.ProblemKey(path+".fault", "", `a case expects "output" or "fault", not both`)
	}
}

func (d *decoder) testConnection(n *source.Node, path string, t *TestConnection) {
	calls := d.List("calls", MaxTestCalls, func(n *source.Node, path string) {
		call := TestCall{Times: 1}
		call.Line, _ = d.Src.Position(n.Start)
		d.Object(
			n, path, "test_call",
			source.Optional("times", d.Integer(&call.Times, 1, MaxTestCalls)),
			source.Optional("expect", func(n *source.Node, path string) {
				r := &call.Expect
				d.Object(
					n, path, "test_request",
					source.Optional("method", source.Enum(d.Decoder, &r.Method, requestMethods()...)),
					source.Optional("path", d.Matching(&r.Path, "a path", regexp.MustCompile(`^/`), "it begins with /")),
					source.Optional("query", d.texts(&r.Query, "parameters")),
					source.Optional("headers", d.texts(&r.Headers, "headers")),
					source.Optional("body", d.literal(&r.Body, "test data")),
				)
			}),
			source.Optional("answer", func(n *source.Node, path string) { d.testAnswer(n, path, &call.Answer, "test_answer") }),
		)
		if call.Answer.Status == 0 {
			call.Answer.Status = flow.DefaultStatus
		}
		t.Calls = append(t.Calls, call)
	})
	if n.Kind == source.List {
		calls(n, path)
		return
	}
	d.Object(n, path, "test_connection", source.Optional("any_order", d.Boolean(&t.AnyOrder)), source.Required("calls", calls))
}

func (d *decoder) testAnswer(n *source.Node, path string, a *TestAnswer, name string) {
	a.Status = flow.DefaultStatus
	fields := []source.Field{
		source.Optional("status", d.Integer(&a.Status, 100, 599)),
		source.Optional("headers", d.texts(&a.Headers, "headers")),
		source.Optional("body", d.literal(&a.Body, "test data")),
	}
	if name == "test_answer" {
		fields = append(fields, source.Optional("fail", source.Enum(d.Decoder, &a.Fail, "timeout", "upstream", "egress-denied", "auth")))
	}
	d.Object(n, path, name, fields...)
	if a.Fail != "" && len(n.Keys) > 1 {
		d.ProblemKey(path+".fail", "", `an answer is either "fail" or the rest`)
	}
}

// testCallbacks reads what answers waits, by step.
func (d *decoder) testCallbacks(dst *[]TestCallback, what string) source.Reader {
	return func(n *source.Node, path string) {
		d.Entries(n, path, what, flow.MaxSteps, idPattern(), idRule, func(key string, n *source.Node, path string) {
			t := TestCallback{Step: key}
			d.testCallback(n, path, &t)
			*dst = append(*dst, t)
		})
	}
}

func (d *decoder) testCallback(n *source.Node, path string, t *TestCallback) {
	d.Object(
		n, path, "test_callback",
		source.Optional("timeout", d.Truth(&t.Timeout)),
		source.Optional("headers", d.texts(&t.Headers, "headers")),
		source.Optional("query", d.texts(&t.Query, "parameters")),
		source.Optional("body", d.literal(&t.Body, "test data")),
	)
}

// literalObject reads a map without expressions.
func (d *decoder) literalObject(dst *flow.Value, what string) source.Reader {
	return func(n *source.Node, path string) {
		d.literal(dst, what)(n, path)
		if dst.Kind != flow.Object {
			d.Problem(n, path, "", "expected a map of %s, found %s", what, source.Describe(n))
		}
	}
}

func (d *decoder) literalPointer(dst **flow.Value) source.Reader {
	return func(n *source.Node, path string) {
		var v flow.Value
		d.literal(&v, "test data")(n, path)
		*dst = &v
	}
}

// texts reads a map of texts; numbers and truths stand for their text.
func (d *decoder) texts(dst *flow.Value, what string) source.Reader {
	return func(n *source.Node, path string) {
		d.literalObject(dst, what)(n, path)
		for i, k := range dst.Keys {
			switch v := dst.Items[i]; v.Kind {
			case flow.String, flow.Number, flow.Bool:
			default:
				d.ProblemAt(source.Join(path, k), "", "expected a text, found %s", v.Kind)
			}
		}
	}
}

func (d *decoder) moment(dst *time.Time) source.Reader {
	return func(n *source.Node, path string) {
		s, ok := d.PlainText(n, path, "a time such as 2027-01-31T09:00:00Z", flow.MaxTextBytes)
		if !ok {
			return
		}
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			d.Problem(n, path, "", "expected a time such as 2027-01-31T09:00:00Z, found %s", source.Describe(n))
			return
		}
		*dst = t
	}
}

func (d *decoder) seed(dst *uint64) source.Reader {
	return func(n *source.Node, path string) {
		d.At[path] = n
		u, err := strconv.ParseUint(n.Value, 10, 64)
		if err != nil || n.Kind != source.Scalar || source.Resolve(n) != source.NumberScalar {
			d.Problem(n, path, "", "expected a whole number, found %s", source.Describe(n))
			return
		}
		*dst = u
	}
}

// checkCase checks the names of a case against the integration.
func (d *decoder) checkCase(c *TestCase, path string, i *flow.Integration) {
	f := i.Flow(c.Flow)
	if f == nil && c.Flow != "" {
		var names []string
		for _, g := range i.Flows {
			names = append(names, g.Name)
		}
		d.ProblemAt(path+".flow", source.DidYouMean(c.Flow, names), "there is no flow %q", c.Flow)
	}
	check := checker{d: d, i: i}
	for _, k := range c.Config.Keys {
		if i.ConfigVar(k) == nil {
			d.ProblemKey(source.Join(path+".config", k), source.DidYouMean(k, check.configNames()), "there is no config variable %q", k)
		}
	}
	for _, t := range c.Connections {
		if i.Slot(t.Slot) == nil {
			d.ProblemKey(source.Join(path+".connections", t.Slot), source.DidYouMean(t.Slot, check.slots()), "there is no connection %q", t.Slot)
		}
	}
	var waits, events, steps []string
	for n := range i.Flows {
		for _, s := range flow.Walk("", i.Flows[n].Steps) {
			steps = append(steps, s.ID)
			if s.Wait != nil && s.Wait.Callback != nil {
				waits = append(waits, s.ID)
			}
			if s.Wait != nil && s.Wait.Event != nil {
				events = append(events, s.ID)
			}
		}
	}
	for _, t := range c.Callbacks {
		if !slices.Contains(waits, t.Step) {
			d.ProblemKey(source.Join(path+".callbacks", t.Step), source.DidYouMean(t.Step, waits), "no step %q waits for a callback", t.Step)
		}
	}
	for _, t := range c.Events {
		if !slices.Contains(events, t.Step) {
			d.ProblemKey(source.Join(path+".events", t.Step), source.DidYouMean(t.Step, events), "no step %q waits for an event", t.Step)
		}
	}
	if c.Fault != nil && c.Fault.Step != "" && !slices.Contains(steps, c.Fault.Step) {
		d.ProblemAt(path+".fault.step", source.DidYouMean(c.Fault.Step, steps), "there is no step %q", c.Fault.Step)
	}
}
