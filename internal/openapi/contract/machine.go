package contract

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/openapi"
)

// Failure is why an operation does not pass.
type Failure struct {
	Operation string `json:"operation"` // operationId, or METHOD path
	Action    string `json:"action"`
	Stage     string `json:"stage"`  // build, send, judge, answer
	Reason    string `json:"reason"` // the same text for failures of one kind
	Detail    string `json:"detail"` // with the names and values of this one
}

// Report is what a document came to.
type Report struct {
	Operations int       `json:"operations"` // in the document
	Compiled   int       `json:"compiled"`   // became actions
	Passed     int       `json:"passed"`     // and were called as the document asks for
	ByType     int       `json:"by_type"`    // of those, with a body that the judge cannot read: its type and arrival were checked
	Placed     int       `json:"placed"`     // of those, with a credential that egress placed and the mock server found once
	Failures   []Failure `json:"failures,omitempty"`
}

// variants is how many values of alternatives are tried: of "one of", the judge may take the first in another sense.
const variants = 4

// Machine calls the actions of one connector against a mock server made of its document.
type Machine struct {
	manifest *connector.Manifest
	result   *openapi.Result
	judge    *judge
	server   *mock
	client   *egress.Client
	leases   map[string]*lease
	base     string // path of the base URL
}

// New makes a machine of a document and what was imported of it. The error says that the judge cannot read the document.
func New(document []byte, r *openapi.Result) (*Machine, error) {
	m, err := r.Connector()
	if err != nil {
		return nil, err
	}
	j, err := newJudge(document, m.BaseURL)
	if err != nil {
		return nil, err
	}
	base, err := basePath(m)
	if err != nil {
		return nil, err
	}
	s := newMock(j)
	c, err := egress.New(egress.Options{Dialer: s, Recorder: egress.RecorderFunc(func(egress.Flow) {})})
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return &Machine{manifest: m, result: r, judge: j, server: s, client: c, leases: map[string]*lease{}, base: base}, nil
}

// Close ends the mock server.
func (m *Machine) Close() error {
	m.client.Close()
	return m.server.close()
}

// basePath is the path of the base URL, with a value for every variable.
func basePath(m *connector.Manifest) (string, error) {
	base := m.BaseURL
	for name, v := range m.Vars {
		value := "v"
		switch {
		case len(v.Enum) > 0:
			value = v.Enum[0]
		case len(v.Suffixes) > 0:
			value = strings.TrimPrefix(v.Suffixes[0], ".")
		}
		base = strings.ReplaceAll(base, "{"+name+"}", value)
	}
	u, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("read base URL: %w", err)
	}
	return strings.TrimRight(u.EscapedPath(), "/"), nil
}

// Run calls every action.
func (m *Machine) Run(ctx context.Context) *Report {
	report := &Report{Operations: m.result.Operations, Compiled: len(m.result.Actions)}
	for _, o := range m.result.Actions {
		if ctx.Err() != nil {
			report.Failures = append(report.Failures, Failure{Operation: o.Operation, Action: o.Action, Stage: "time", Reason: "the time is over"})
			continue
		}
		a := m.manifest.Action(o.Action)
		placed, f := m.operation(ctx, a, o)
		if f != nil {
			f.Operation, f.Action = o.Operation, o.Action
			report.Failures = append(report.Failures, *f)
			continue
		}
		report.Passed++
		if a.Body == connector.BodyText || a.Body == connector.BodyFile {
			report.ByType++
		}
		if placed {
			report.Placed++
		}
	}
	return report
}

// operation calls an action with all inputs, then with the required ones.
func (m *Machine) operation(ctx context.Context, a *connector.Action, o openapi.Origin) (placed bool, f *Failure) {
	l := m.lease(a)
	for _, full := range []bool{true, false} {
		for variant := range variants {
			if f = m.call(ctx, a, o, l, full, variant); f == nil || f.Stage != "judge" && f.Stage != "answer" {
				break
			}
		}
		if f != nil {
			if !full {
				f.Reason = "with required inputs only: " + f.Reason
			}
			return false, f
		}
	}
	return len(l.wants) > 0, nil
}

func failf(stage, reason, format string, args ...any) *Failure {
	return &Failure{Stage: stage, Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

func (m *Machine) call(ctx context.Context, a *connector.Action, o openapi.Origin, l *lease, full bool, variant int) *Failure {
	given, f := m.inputs(a, full, variant)
	if f != nil {
		return f
	}
	raw, err := json.Marshal(given)
	if err != nil {
		return failf("build", "values cannot be written", "%v", err)
	}
	in, err := expr.ParseJSON(raw)
	if err != nil {
		return failf("build", "values cannot be read", "%v", err)
	}
	request, err := connector.Build(a, &m.manifest.Defaults, in, isFile, nil)
	if err != nil {
		var bad *connector.InputError
		if errors.As(err, &bad) {
			return failf("build", "the builder refuses a value: "+bad.Problem, "%v", err)
		}
		return failf("build", "the builder refuses the values", "%v", err)
	}
	answer := m.answer(a, full, variant)
	m.server.expect(&exchange{origin: o, action: a, given: given, lease: l, base: m.base, answer: answer})
	got, err := m.client.Do(ctx, m.egressCall(request, l))
	verdict := m.server.verdict()
	switch {
	case verdict != nil:
		return verdict
	case err != nil:
		var fault *egress.Fault
		if errors.As(err, &fault) {
			return failf("send", "egress refuses the request: "+fault.Message, "%v", err)
		}
		return failf("send", "egress refuses the request", "%v", err)
	case answer != nil && (got.Format != egress.ModeJSON || len(got.Body) == 0):
		return failf("answer", "the answer is not read as JSON", "format %s", got.Format)
	}
	return nil
}

const fileKey = "$file"

// isFile takes an object that the inputs below stand for.
func isFile(v expr.Value) bool {
	if expr.Kind(v) != expr.KindObject {
		return false
	}
	_, ok := expr.Lookup(v, fileKey)
	return ok
}

const fileContent = "content of a file"

// inputs makes a value for every input.
func (m *Machine) inputs(a *connector.Action, full bool, variant int) (map[string]any, *Failure) {
	given := map[string]any{}
	for i := range a.Inputs {
		in := &a.Inputs[i]
		if !in.Required && !full {
			continue
		}
		if in.Type == connector.TypeFile {
			given[in.Name] = object{fileKey: "f"}
			continue
		}
		schema, ok := decode(in.Schema).(object)
		if !ok {
			schema = object{}
		}
		merged := object{}
		for k, v := range schema {
			merged[k] = v
		}
		if _, has := merged["type"]; !has && in.Type != connector.TypeAny && len(in.Schema) == 0 {
			merged["type"] = string(in.Type)
		}
		if len(in.Enum) > 0 && in.Type != connector.TypeArray {
			merged["enum"] = enumOf(in)
		}
		mk := &maker{schemas: m.manifest.Schemas, parsed: m.judge.parsed, full: full, variant: variant, steps: maxSteps, hidden: "readOnly"}
		v := mk.value(merged, nil, 0, 0)
		if in.Required || full {
			given[in.Name] = v
		}
	}
	return given, nil
}

func enumOf(in *connector.Input) []any {
	var out []any
	for _, e := range in.Enum {
		if in.Type == connector.TypeInteger || in.Type == connector.TypeNumber {
			out = append(out, json.Number(e))
		} else {
			out = append(out, e)
		}
	}
	return out
}

// answer is an example of what the action says that it returns; nil when it says nothing.
func (m *Machine) answer(a *connector.Action, full bool, variant int) []byte {
	if len(a.Output) == 0 {
		return nil
	}
	mk := &maker{schemas: m.manifest.Schemas, parsed: m.judge.parsed, full: full, variant: variant, steps: maxSteps, hidden: "writeOnly"}
	raw, err := json.Marshal(mk.value(decode(a.Output), nil, 0, 0))
	if err != nil {
		return nil
	}
	return raw
}

// egressCall is a built request as egress takes it; the product's worker does the same over the wire.
func (m *Machine) egressCall(r *connector.Request, l *lease) *egress.Call {
	c := &egress.Call{Lease: l.lease, Method: r.Method, Path: r.Path, ContentType: r.ContentType, Expect: r.Expect, Timeout: 20 * time.Second, Response: egress.Mode(r.Response)}
	for _, q := range r.Query {
		c.Query = append(c.Query, egress.Pair(q))
	}
	for _, h := range r.Headers {
		c.Headers = append(c.Headers, egress.Pair(h))
	}
	switch {
	case r.File != nil:
		c.Body = []byte(fileContent)
		if c.ContentType == "" {
			c.ContentType = "application/octet-stream"
		}
	case r.HasBody:
		c.Body = r.Body
	case r.Parts != nil:
		c.Multipart = []egress.Part{}
		for _, p := range r.Parts {
			part := egress.Part{Name: p.Name, ContentType: p.ContentType, Data: p.Data}
			if p.File != nil {
				part.FileName, part.ContentType, part.Data = "file.bin", "application/octet-stream", []byte(fileContent)
			}
			c.Multipart = append(c.Multipart, part)
		}
	}
	return c
}

// lease returns the lease for the first method that an action takes.
func (m *Machine) lease(a *connector.Action) *lease {
	ids := a.Auth
	if len(ids) == 0 {
		for i := range m.manifest.Auth {
			ids = append(ids, m.manifest.Auth[i].ID)
		}
	}
	key := strings.Join(ids, " ")
	if l, ok := m.leases[key]; ok {
		return l
	}
	l := &lease{}
	for _, id := range ids {
		if method := m.manifest.Method(id); method != nil && l.lease == nil {
			l = plant(method, m.base)
		}
	}
	if l.lease == nil {
		l = plant(nil, m.base)
	}
	m.leases[key] = l
	return l
}

func spec(c egress.Credential, base string) egress.LeaseSpec {
	now := time.Now()
	return egress.LeaseSpec{
		Customer: id.NewCustomer(now), Connection: id.NewConnection(now),
		Binding:    egress.Binding{Scheme: "http", Host: mockHost, BasePath: base},
		Credential: c, Budget: egress.Budget{Requests: 1 << 40, Bytes: 1 << 50},
	}
}

// Groups counts failures by stage and reason, the most frequent first.
func (r *Report) Groups() []Group {
	index := map[string]*Group{}
	for _, f := range r.Failures {
		key := f.Stage + ": " + f.Reason
		if index[key] == nil {
			index[key] = &Group{Reason: key, Example: f}
		}
		index[key].Count++
	}
	var out []Group
	for _, g := range index {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Group) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return strings.Compare(a.Reason, b.Reason)
	})
	return out
}

// Group is failures of one reason.
type Group struct {
	Reason  string  `json:"reason"`
	Count   int     `json:"count"`
	Example Failure `json:"example"`
}
