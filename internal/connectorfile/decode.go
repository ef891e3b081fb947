package connectorfile

import (
	"bytes"
	_ "embed" // the JSON Schema
	"encoding/json"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

//go:embed schema.json
var schemaJSON []byte

// Schema returns the published JSON Schema (2020-12) of a manifest. The caller owns the bytes.
func Schema() []byte { return bytes.Clone(schemaJSON) }

// maxNodes bounds the values of a manifest's file.
const maxNodes = 1_000_000

func limits() source.Limits {
	return source.Limits{Bytes: connector.MaxManifest, Depth: connector.MaxDepth, Nodes: maxNodes}
}

// Document is a valid manifest with the places of its file.
type Document struct {
	Manifest *connector.Manifest
	d        *source.Decoder
}

// Problem makes a problem of a place of the manifest, such as actions.getUser.
func (doc *Document) Problem(path, suggestion, message string) source.Problem {
	return doc.d.Placed(source.SeverityError, path, suggestion, message)
}

// Decode reads a manifest in YAML or JSON. file is its name in problems. Either the Document is valid, or the problems say
// everything that is wrong; then the Document is nil.
func Decode(file string, text []byte) (*Document, source.Problems) {
	root, src, problems := source.Load(file, text, limits())
	d := source.NewDecoder(src, problems)
	if root == nil {
		return nil, source.Sort(d.Problems)
	}
	schema, err := source.ReadSchema(schemaJSON)
	if err != nil {
		d.ProblemAt("", "", "the schema of this release cannot be read: %s", err)
		return nil, d.Problems
	}
	m := &connector.Manifest{}
	convert(d, root, schema, m)
	if len(d.Problems) > 0 {
		return nil, source.Sort(d.Problems)
	}
	fill(m)
	for _, p := range m.Check() {
		d.ProblemAt(p.At, "", "%s", p.Message)
	}
	for _, p := range CheckSchemas(m) {
		d.ProblemAt(p.At, "", "%s", p.Message)
	}
	if len(d.Problems) == 0 {
		if _, err := m.Encode(); err != nil {
			d.ProblemAt("", "", "%s", err)
		}
	}
	if len(d.Problems) > 0 {
		return nil, source.Sort(d.Problems)
	}
	return &Document{Manifest: m, d: d}, nil
}

// convert reads a document by a schema into a value.
func convert(d *source.Decoder, root *source.Node, schema *source.Schema, to any) {
	c := &source.Converter{Decoder: d, Root: schema, Durations: seconds}
	var out bytes.Buffer
	c.Convert(&out, root, "", schema)
	if len(d.Problems) > 0 {
		return
	}
	dec := json.NewDecoder(&out)
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil {
		d.ProblemAt("", "", "the document cannot be read: %s", err)
	}
}

func seconds(text string) (int64, error) {
	d, err := flow.ParseDuration(text)
	return int64(d.Std().Seconds()), err
}

// fill sets what a file may leave out: where an input goes, its type, and the type of a trigger.
func fill(m *connector.Manifest) {
	for n := range m.Actions {
		a := &m.Actions[n]
		names := connector.PathNames(a.Path)
		for i := range a.Inputs {
			in := &a.Inputs[i]
			switch {
			case in.In != "":
			case slices.Contains(names, in.Key()):
				in.In = connector.InPath
			case in.Whole || in.Type == connector.TypeFile || a.Method == "POST" || a.Method == "PUT" || a.Method == "PATCH":
				in.In = connector.InBody
			default:
				in.In = connector.InQuery
			}
			if in.In == connector.InPath && len(in.Default) == 0 {
				in.Required = true
			}
			fillType(in)
		}
	}
	for n := range m.Triggers {
		t := &m.Triggers[n]
		for i := range t.Inputs {
			fillType(&t.Inputs[i])
		}
		switch {
		case t.Type != "":
		case t.Webhook != nil:
			t.Type = connector.TriggerWebhook
		case t.App != nil:
			t.Type = connector.TriggerApp
		case t.Poll != nil:
			t.Type = connector.TriggerPoll
		}
	}
}

func fillType(in *connector.Input) {
	if in.Type == "" {
		in.Type = connector.TypeString
	}
}
