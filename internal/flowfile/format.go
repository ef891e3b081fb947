package flowfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/source"
)

// ErrFormat is the cause of an error of [Format] for a file that it cannot write again without a risk to its meaning or its
// comments. The file is fine; its layout stays the builder's.
var ErrFormat = errors.New("this file cannot be formatted safely")

// Format writes an integration or test-case file in the canonical layout: keys in the order of the format's documentation,
// two spaces of indentation, quotes where they are needed and around expressions, single-line maps and lists kept where they
// are short, at most one empty line in a row, comments kept at what they stand at. A JSON file stays JSON and is only
// indented.
//
// The result has the same meaning: it is read again and compared, values and digest alike, and an error is returned instead
// of anything else. A file that is not YAML gives its [Problems] as the error; one that is YAML but not a valid integration is
// formatted all the same. Formatting twice changes nothing more.
func Format(text []byte) ([]byte, error) {
	root, src, problems := load("", text)
	if root == nil || len(problems) > 0 {
		return nil, problems
	}
	if root.Form == source.FlowForm && json.Valid(src.Text) {
		var out bytes.Buffer
		if err := json.Indent(&out, bytes.TrimSpace(src.Text), "", "  "); err != nil {
			return nil, fmt.Errorf("format JSON: %w", err)
		}
		out.WriteByte('\n')
		return out.Bytes(), nil
	}
	order := keyOrder(root, src)
	notes := findComments(root, src)
	e := &emitter{src: src, order: order, notes: attach(root, src, notes)}
	out := e.document(root)
	if err := sameMeaning(root, text, out, order, notes); err != nil {
		return nil, err
	}
	return out, nil
}

// keyOrder returns for each path of a known object its keys in the order of the format.
func keyOrder(root *source.Node, src *source.Text) map[string][]string {
	order := map[string][]string{}
	for _, key := range root.Keys {
		if key.Value == "cases" {
			d := &decoder{Decoder: source.NewDecoder(src, nil)}
			d.Order = order
			d.tests(root, nil)
			return order
		}
	}
	d := &decoder{Decoder: source.NewDecoder(src, nil)}
	d.Order = order
	d.anyIntegration(root)
	return order
}

// sameMeaning reads what was written and compares.
func sameMeaning(root *source.Node, before, after []byte, order map[string][]string, notes []comment) error {
	again, src, problems := load("", after)
	if again == nil || len(problems) > 0 {
		return fmt.Errorf("%w: the result is not readable: %s", ErrFormat, problems.Error())
	}
	if path, ok := same(root, again, "", order); !ok {
		return fmt.Errorf("%w: %s would change", ErrFormat, path)
	}
	if !slices.Equal(commentTexts(notes), commentTexts(findComments(again, src))) {
		return fmt.Errorf("%w: a comment would be lost", ErrFormat)
	}
	old, _ := Decode("", before)
	if old == nil {
		return nil
	}
	if written, _ := Decode("", after); written == nil || written.Integration.Digest() != old.Integration.Digest() {
		return fmt.Errorf("%w: the digest would change", ErrFormat)
	}
	return nil
}

func commentTexts(notes []comment) []string {
	texts := make([]string, len(notes))
	for i, c := range notes {
		texts[i] = c.text
	}
	slices.Sort(texts)
	return texts
}

// same compares two nodes; keys of known objects may stand in another order.
func same(a, b *source.Node, path string, order map[string][]string) (string, bool) {
	if a.Kind != b.Kind || len(a.Items) != len(b.Items) {
		return path, false
	}
	switch a.Kind {
	case source.Scalar:
		return path, sameScalar(a, b)
	case source.List:
		for i := range a.Items {
			if at, ok := same(a.Items[i], b.Items[i], fmt.Sprintf("%s[%d]", path, i), order); !ok {
				return at, false
			}
		}
		return "", true
	}
	_, known := order[path]
	for i, k := range a.Keys {
		at := source.Join(path, k.Value)
		other := b.Get(k.Value)
		if other == nil || !known && b.Keys[i].Value != k.Value {
			return at, false
		}
		if at, ok := same(a.Items[i], other, at, order); !ok {
			return at, false
		}
	}
	return "", true
}

func sameScalar(a, b *source.Node) bool {
	t := source.Resolve(a)
	if t != source.Resolve(b) {
		return false
	}
	switch t {
	case source.NullScalar:
		return true
	case source.BoolScalar:
		return strings.EqualFold(a.Value, b.Value)
	}
	block := func(n *source.Node) bool { return n.Form == source.LiteralForm || n.Form == source.FoldedForm }
	return a.Value == b.Value && block(a) == block(b)
}
