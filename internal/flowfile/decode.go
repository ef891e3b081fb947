package flowfile

import (
	"regexp"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// Document is a valid integration file.
type Document struct {
	Integration *flow.Integration
	Warnings    source.Problems // what a reviewer should see; the file is valid
	d           *decoder
}

// Position is a place in a file, from 1.
type Position struct{ Line, Column int }

// Find returns where the value of a path such as flows.order-paid.steps[0].with is written.
func (doc *Document) Find(path string) (Position, bool) {
	n, ok := doc.d.At[path]
	if !ok {
		return Position{}, false
	}
	line, column := doc.d.Src.Position(n.Start)
	return Position{line, column}, true
}

// NotYet returns what of the integration this release does not run, with places: see [flow.Integration.NotYet].
func (doc *Document) NotYet() source.Problems {
	var list source.Problems
	for _, n := range doc.Integration.NotYet() {
		list = append(list, doc.d.Placed(source.SeverityWarning, n.Path, "", n.What))
	}
	return source.Sort(list)
}

// anyIntegration reads a document for what it shows about its objects; problems do not matter.
func (d *decoder) anyIntegration(root *source.Node) { d.integration(root, &flow.Integration{}) }

// Decode reads an integration file in YAML or JSON. file is its name in problems. Either the Document is valid, or the
// problems say everything that is wrong; then the Document is nil.
func Decode(file string, text []byte) (*Document, source.Problems) {
	return DecodeWith(file, text, nil)
}

func (d *decoder) document(root *source.Node) (*Document, source.Problems) {
	if root == nil {
		return nil, source.Sort(d.Problems)
	}
	i := &flow.Integration{}
	d.integration(root, i)
	d.check(i)
	all := source.Sort(d.Problems)
	if all.Invalid() {
		return nil, all
	}
	if _, err := i.Encode(); err != nil {
		d.Problem(root, "", "", "the integration is too large: %s", err)
		return nil, d.Problems
	}
	return &Document{Integration: i, Warnings: all, d: d}, nil
}

// decoder reads the nodes of an integration file, a platform file or test cases.
type decoder struct {
	*source.Decoder
	connectors Connectors                     // nil: slots of connectors are not checked
	manifests  map[string]*connector.Manifest // by slot, once they are checked
}

// open reads a document.
func open(file string, text []byte) (*source.Node, *decoder) {
	root, src, problems := load(file, text)
	return root, &decoder{Decoder: source.NewDecoder(src, problems)}
}

func load(file string, text []byte) (*source.Node, *source.Text, Problems) {
	return source.Load(file, text, source.Limits{Bytes: flow.MaxFileBytes, Depth: flow.MaxDocumentDepth, Nodes: flow.MaxDocumentNodes})
}

const (
	nameRule   = "lower-case letters, digits and dashes, a letter first, at most 63 characters"
	idRule     = "lower-case letters, digits and underscores, a letter first, at most 63 characters"
	configRule = idRule
	errorRule  = "lower-case letters, digits and dashes, a letter first"
)

// patterns are compiled once per decoding: this package has no variables.
func namePattern() *regexp.Regexp { return regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`) }
func idPattern() *regexp.Regexp   { return regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`) }
func slotPattern() *regexp.Regexp { return regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`) }

// expressionIssues reports what is wrong with a string's expressions, each at its place in the source.
func (d *decoder) expressionIssues(n *source.Node, path string, shift int, issues []expr.Issue) {
	offsets, _, ok := source.Trace(d.Src.Text, n)
	for _, issue := range issues {
		start, length := n.Start, source.Marked(n)
		if from := issue.Offset + shift; ok && from >= 0 && from < len(offsets) {
			start = offsets[from]
			length = offsets[min(len(offsets)-1, from+max(1, issue.Length))] - start
		}
		d.Add(d.Src.Problem(source.SeverityError, start, length, path, issue.Suggestion, issue.Message))
	}
}
