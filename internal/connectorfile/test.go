package connectorfile

import (
	"bytes"
	_ "embed" // the JSON Schema
	"encoding/json"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

//go:embed test.json
var testJSON []byte

// TestSchema returns the JSON Schema (2020-12) of a file with cases. The caller owns the bytes.
func TestSchema() []byte { return bytes.Clone(testJSON) }

// Tests are the cases of a manifest.
type Tests struct {
	Cases []Case `json:"cases"`

	d *source.Decoder
}

// Case is one request of an action with its answer, or one delivery to a trigger.
type Case struct {
	Name      string          `json:"name"`
	Action    string          `json:"action"`
	Trigger   string          `json:"trigger"`
	With      json.RawMessage `json:"with"`
	Request   *CaseRequest    `json:"request"`
	Answer    *CaseAnswer     `json:"answer"`
	Next      *CaseRequest    `json:"next"`
	Items     *int            `json:"items"`
	Last      bool            `json:"last"`
	Fails     string          `json:"fails"`
	Refused   string          `json:"refused"`
	Event     *CaseEvent      `json:"event"`
	Ignored   bool            `json:"ignored"`
	Challenge string          `json:"challenge"`
}

// CaseRequest is what a request must be, or what is delivered.
type CaseRequest struct {
	Method  string                     `json:"method"`
	Base    string                     `json:"base"`
	Path    string                     `json:"path"`
	URL     string                     `json:"url"`
	Query   map[string]json.RawMessage `json:"query"`
	Headers map[string]string          `json:"headers"`
	Body    json.RawMessage            `json:"body"`
	Form    map[string]json.RawMessage `json:"form"`
	Text    *string                    `json:"text"`
	Secret  string                     `json:"secret"`
	Time    string                     `json:"time"`
}

// CaseAnswer is what the vendor answers.
type CaseAnswer struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    json.RawMessage   `json:"body"`
	Text    *string           `json:"text"`
}

// CaseEvent is what a trigger makes of a delivery.
type CaseEvent struct {
	Key     string          `json:"key"`
	Account string          `json:"account"`
	Body    json.RawMessage `json:"body"`
}

// DecodeTests reads the cases of a manifest. Either the result is valid, or the problems say everything that is wrong.
func DecodeTests(file string, text []byte, m *connector.Manifest) (*Tests, source.Problems) {
	root, src, problems := source.Load(file, text, limits())
	d := source.NewDecoder(src, problems)
	if root == nil {
		return nil, source.Sort(d.Problems)
	}
	schema, err := source.ReadSchema(testJSON)
	if err != nil {
		d.ProblemAt("", "", "the schema of this release cannot be read: %s", err)
		return nil, d.Problems
	}
	t := &Tests{d: d}
	convert(d, root, schema, t)
	if len(d.Problems) > 0 {
		return nil, source.Sort(d.Problems)
	}
	for i := range t.Cases {
		t.Cases[i].check(d, fmt.Sprintf("cases[%d]", i), m)
	}
	if len(d.Problems) > 0 {
		return nil, source.Sort(d.Problems)
	}
	return t, nil
}

func (c *Case) check(d *source.Decoder, at string, m *connector.Manifest) {
	switch {
	case (c.Action == "") == (c.Trigger == ""):
		d.ProblemAt(at, "", "a case has either action or trigger")
	case c.Action != "" && m.Action(c.Action) == nil:
		var names []string
		for i := range m.Actions {
			names = append(names, m.Actions[i].Name)
		}
		d.ProblemAt(at+".action", source.DidYouMean(c.Action, names), "there is no action %q", source.Cut(c.Action, 80))
	case c.Trigger != "" && m.Trigger(c.Trigger) == nil:
		var names []string
		for i := range m.Triggers {
			names = append(names, m.Triggers[i].Name)
		}
		d.ProblemAt(at+".trigger", source.DidYouMean(c.Trigger, names), "there is no trigger %q", source.Cut(c.Trigger, 80))
	case c.Action != "" && c.Refused == "" && (c.Request == nil || c.Answer == nil):
		d.ProblemAt(at, "", "a case of an action has a request and an answer, or says with what the inputs are refused")
	}
	if c.Request != nil && c.Action != "" && c.Request.Method == "" {
		d.ProblemAt(at+".request", "", "the key %q is missing", "method")
	}
}
