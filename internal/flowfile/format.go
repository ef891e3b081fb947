package flowfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	if root.style == flowStyle && json.Valid(src.text) {
		var out bytes.Buffer
		if err := json.Indent(&out, bytes.TrimSpace(src.text), "", "  "); err != nil {
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
func keyOrder(root *node, src *source) map[string][]string {
	order := map[string][]string{}
	for _, key := range root.keys {
		if key.value == "cases" {
			d := &decoder{src: src, at: map[string]*node{}, keyAt: map[string]*node{}, order: order}
			d.tests(root, nil)
			return order
		}
	}
	d := &decoder{src: src, at: map[string]*node{}, keyAt: map[string]*node{}, order: order}
	d.anyIntegration(root)
	return order
}

// sameMeaning reads what was written and compares.
func sameMeaning(root *node, before, after []byte, order map[string][]string, notes []comment) error {
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
func same(a, b *node, path string, order map[string][]string) (string, bool) {
	if a.kind != b.kind || len(a.items) != len(b.items) {
		return path, false
	}
	switch a.kind {
	case scalarNode:
		return path, sameScalar(a, b)
	case listNode:
		for i := range a.items {
			if at, ok := same(a.items[i], b.items[i], fmt.Sprintf("%s[%d]", path, i), order); !ok {
				return at, false
			}
		}
		return "", true
	}
	_, known := order[path]
	for i, k := range a.keys {
		at := join(path, k.value)
		other := b.get(k.value)
		if other == nil || !known && b.keys[i].value != k.value {
			return at, false
		}
		if at, ok := same(a.items[i], other, at, order); !ok {
			return at, false
		}
	}
	return "", true
}

func sameScalar(a, b *node) bool {
	t := resolve(a)
	if t != resolve(b) {
		return false
	}
	switch t {
	case nullScalar:
		return true
	case boolScalar:
		return strings.EqualFold(a.value, b.value)
	}
	block := func(n *node) bool { return n.style == literalStyle || n.style == foldedStyle }
	return a.value == b.value && block(a) == block(b)
}
