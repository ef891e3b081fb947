package flowfile

import (
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
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
	Now         time.Time        // zero: a fixed time of the runner
	Seed        uint64           // of uuid() and Math.random
	Output      *flow.Value
	Fault       *TestFault
	Answer      *TestAnswer // of a respond step: status, headers named and body are compared
	StateAfter  flow.Value  // an object, or absent; only the keys named are compared
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

// TestCallback answers the wait of a step, or lets its time run out.
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
func DecodeTests(file string, text []byte, i *flow.Integration) (*Tests, Problems) {
	root, src, problems := load(file, text)
	d := &decoder{src: src, problems: problems, at: map[string]*node{}, keyAt: map[string]*node{}}
	if root == nil {
		return nil, sortProblems(d.problems)
	}
	tests := d.tests(root, i)
	if len(d.problems) > 0 {
		return nil, sortProblems(d.problems)
	}
	return tests, nil
}

func (d *decoder) tests(root *node, i *flow.Integration) *Tests {
	tests := &Tests{}
	d.object(root, "", "tests", required("cases", d.nonEmpty("cases", d.list("cases", MaxTestCases, func(n *node, path string) {
		var c TestCase
		c.Line, _ = d.src.position(n.start)
		d.testCase(n, path, &c)
		if slices.ContainsFunc(tests.Cases, func(o TestCase) bool { return o.Name == c.Name && c.Name != "" }) {
			d.problemAt(path+".name", "", "there is another case of this name")
		}
		if i != nil {
			d.checkCase(&c, path, i)
		}
		tests.Cases = append(tests.Cases, c)
	}))))
	return tests
}

func (d *decoder) testCase(n *node, path string, c *TestCase) {
	d.object(
		n, path, "test_case",
		required("name", d.str(&c.Name, "a name")),
		required("flow", d.str(&c.Flow, "the name of a flow")),
		optional("trigger", func(n *node, path string) {
			d.object(
				n, path, "test_trigger",
				optional("method", enum(d, &c.Trigger.Method, webhookMethods()...)),
				optional("headers", d.texts(&c.Trigger.Headers, "headers")),
				optional("query", d.texts(&c.Trigger.Query, "parameters")),
				optional("body", d.literal(&c.Trigger.Body, "test data")),
			)
		}),
		optional("config", d.literalObject(&c.Config, "values by config variable")),
		optional("state", d.literalObject(&c.State, "values by name")),
		optional("connections", func(n *node, path string) {
			d.entries(n, path, "calls", flow.MaxConnections, slotPattern(), nameRule, func(key string, n *node, path string) {
				t := TestConnection{Slot: key}
				d.testConnection(n, path, &t)
				c.Connections = append(c.Connections, t)
			})
		}),
		optional("callbacks", func(n *node, path string) {
			d.entries(n, path, "answers", flow.MaxSteps, idPattern(), idRule, func(key string, n *node, path string) {
				t := TestCallback{Step: key}
				d.testCallback(n, path, &t)
				c.Callbacks = append(c.Callbacks, t)
			})
		}),
		optional("now", d.moment(&c.Now)),
		optional("seed", d.seed(&c.Seed)),
		optional("output", d.literalPointer(&c.Output)),
		optional("fault", func(n *node, path string) {
			c.Fault = &TestFault{}
			d.object(
				n, path, "test_fault",
				required("type", d.matching(&c.Fault.Type, "a type of error", namePattern(), errorRule)),
				optional("message", d.str(&c.Fault.Message, "a text")),
				optional("step", d.matching(&c.Fault.Step, "the id of a step", idPattern(), idRule)),
			)
		}),
		optional("answer", func(n *node, path string) {
			c.Answer = &TestAnswer{}
			d.testAnswer(n, path, c.Answer, "test_respond")
		}),
		optional("state_after", d.literalObject(&c.StateAfter, "values by name")),
	)
	if c.Output != nil && c.Fault != nil {
		d.problemKey(path+".fault", "", `a case expects "output" or "fault", not both`)
	}
}

func (d *decoder) testConnection(n *node, path string, t *TestConnection) {
	calls := d.list("calls", MaxTestCalls, func(n *node, path string) {
		call := TestCall{Times: 1}
		call.Line, _ = d.src.position(n.start)
		d.object(
			n, path, "test_call",
			optional("times", d.integer(&call.Times, 1, MaxTestCalls)),
			optional("expect", func(n *node, path string) {
				r := &call.Expect
				d.object(
					n, path, "test_request",
					optional("method", enum(d, &r.Method, requestMethods()...)),
					optional("path", d.matching(&r.Path, "a path", regexp.MustCompile(`^/`), "it begins with /")),
					optional("query", d.texts(&r.Query, "parameters")),
					optional("headers", d.texts(&r.Headers, "headers")),
					optional("body", d.literal(&r.Body, "test data")),
				)
			}),
			optional("answer", func(n *node, path string) { d.testAnswer(n, path, &call.Answer, "test_answer") }),
		)
		if call.Answer.Status == 0 {
			call.Answer.Status = flow.DefaultStatus
		}
		t.Calls = append(t.Calls, call)
	})
	if n.kind == listNode {
		calls(n, path)
		return
	}
	d.object(n, path, "test_connection", optional("any_order", d.boolean(&t.AnyOrder)), required("calls", calls))
}

func (d *decoder) testAnswer(n *node, path string, a *TestAnswer, name string) {
	a.Status = flow.DefaultStatus
	fields := []field{
		optional("status", d.integer(&a.Status, 100, 599)),
		optional("headers", d.texts(&a.Headers, "headers")),
		optional("body", d.literal(&a.Body, "test data")),
	}
	if name == "test_answer" {
		fields = append(fields, optional("fail", enum(d, &a.Fail, "timeout", "upstream", "egress-denied", "auth")))
	}
	d.object(n, path, name, fields...)
	if a.Fail != "" && len(n.keys) > 1 {
		d.problemKey(path+".fail", "", `an answer is either "fail" or the rest`)
	}
}

func (d *decoder) testCallback(n *node, path string, t *TestCallback) {
	d.object(
		n, path, "test_callback",
		optional("timeout", d.truth(&t.Timeout)),
		optional("headers", d.texts(&t.Headers, "headers")),
		optional("query", d.texts(&t.Query, "parameters")),
		optional("body", d.literal(&t.Body, "test data")),
	)
}

// literalObject reads a map without expressions.
func (d *decoder) literalObject(dst *flow.Value, what string) reader {
	return func(n *node, path string) {
		d.literal(dst, what)(n, path)
		if dst.Kind != flow.Object {
			d.problem(n, path, "", "expected a map of %s, found %s", what, describe(n))
		}
	}
}

func (d *decoder) literalPointer(dst **flow.Value) reader {
	return func(n *node, path string) {
		var v flow.Value
		d.literal(&v, "test data")(n, path)
		*dst = &v
	}
}

// texts reads a map of texts; numbers and truths stand for their text.
func (d *decoder) texts(dst *flow.Value, what string) reader {
	return func(n *node, path string) {
		d.literalObject(dst, what)(n, path)
		for i, k := range dst.Keys {
			switch v := dst.Items[i]; v.Kind {
			case flow.String, flow.Number, flow.Bool:
			default:
				d.problemAt(join(path, k), "", "expected a text, found %s", v.Kind)
			}
		}
	}
}

func (d *decoder) moment(dst *time.Time) reader {
	return func(n *node, path string) {
		s, ok := d.plainText(n, path, "a time such as 2027-01-31T09:00:00Z", flow.MaxTextBytes)
		if !ok {
			return
		}
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			d.problem(n, path, "", "expected a time such as 2027-01-31T09:00:00Z, found %s", describe(n))
			return
		}
		*dst = t
	}
}

func (d *decoder) seed(dst *uint64) reader {
	return func(n *node, path string) {
		d.at[path] = n
		u, err := strconv.ParseUint(n.value, 10, 64)
		if err != nil || n.kind != scalarNode || resolve(n) != numberScalar {
			d.problem(n, path, "", "expected a whole number, found %s", describe(n))
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
		d.problemAt(path+".flow", didYouMean(c.Flow, names), "there is no flow %q", c.Flow)
	}
	check := checker{d: d, i: i}
	for _, k := range c.Config.Keys {
		if i.ConfigVar(k) == nil {
			d.problemKey(join(path+".config", k), didYouMean(k, check.configNames()), "there is no config variable %q", k)
		}
	}
	for _, t := range c.Connections {
		if i.Slot(t.Slot) == nil {
			d.problemKey(join(path+".connections", t.Slot), didYouMean(t.Slot, check.slots()), "there is no connection %q", t.Slot)
		}
	}
	var waits, steps []string
	for n := range i.Flows {
		for _, s := range flow.Walk("", i.Flows[n].Steps) {
			steps = append(steps, s.ID)
			if s.Wait != nil && s.Wait.Callback != nil {
				waits = append(waits, s.ID)
			}
		}
	}
	for _, t := range c.Callbacks {
		if !slices.Contains(waits, t.Step) {
			d.problemKey(join(path+".callbacks", t.Step), didYouMean(t.Step, waits), "no step %q waits for a callback", t.Step)
		}
	}
	if c.Fault != nil && c.Fault.Step != "" && !slices.Contains(steps, c.Fault.Step) {
		d.problemAt(path+".fault.step", didYouMean(c.Fault.Step, steps), "there is no step %q", c.Fault.Step)
	}
}
