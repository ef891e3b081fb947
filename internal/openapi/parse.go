package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// LimitError says which limit a document exceeds.
type LimitError struct {
	What  string
	Limit int
}

// Error names the limit.
func (e *LimitError) Error() string {
	return fmt.Sprintf("the document has more than %d %s", e.Limit, e.What)
}

// counter bounds what a tree may hold.
type counter struct{ nodes, refs int }

func (c *counter) count(depth int) error {
	c.nodes++
	switch {
	case c.nodes > MaxNodes:
		return &LimitError{"values", MaxNodes}
	case depth > MaxNesting:
		return &LimitError{"levels of nesting", MaxNesting}
	}
	return nil
}

func (c *counter) key(k string) error {
	if k == "$ref" {
		c.refs++
		if c.refs > MaxReferences {
			return &LimitError{"references", MaxReferences}
		}
	}
	return nil
}

// parse reads JSON or YAML.
func parse(document []byte) (*node, error) {
	if len(document) > MaxDocument {
		return nil, &LimitError{"bytes", MaxDocument}
	}
	document = bytes.TrimPrefix(document, []byte("\ufeff"))
	trimmed := bytes.TrimLeft(document, " \t\r\n")
	if len(trimmed) == 0 {
		return nil, errors.New("the document is empty")
	}
	if trimmed[0] == '{' {
		n, err := parseJSON(document)
		var limit *LimitError
		if err == nil || errors.As(err, &limit) {
			return n, err
		}
		if n, yamlErr := parseYAML(document); yamlErr == nil { // YAML's flow style
			return n, nil
		}
		return nil, err
	}
	return parseYAML(document)
}

type jsonReader struct {
	dec *json.Decoder
	counter
}

func parseJSON(document []byte) (*node, error) {
	r := jsonReader{dec: json.NewDecoder(bytes.NewReader(document))}
	r.dec.UseNumber()
	n, err := r.value(0)
	if err != nil {
		return nil, r.explain(document, err)
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the document")
	}
	return n, nil
}

func (r *jsonReader) explain(document []byte, err error) error {
	var limit *LimitError
	if errors.As(err, &limit) {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends too early")
	}
	line := 1 + bytes.Count(document[:min(len(document), int(r.dec.InputOffset()))], []byte("\n"))
	return fmt.Errorf("read JSON: line %d: %w", line, err)
}

func (r *jsonReader) value(depth int) (*node, error) {
	t, err := r.dec.Token()
	if err != nil {
		return nil, err
	}
	if err := r.count(depth); err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case string:
		return textNode(t), nil
	case json.Number:
		return &node{kind: kindNumber, text: t.String()}, nil
	case bool:
		return boolNode(t), nil
	case json.Delim:
		if t == '[' {
			return r.list(depth)
		}
		return r.object(depth)
	}
	return &node{}, nil
}

func (r *jsonReader) list(depth int) (*node, error) {
	n := &node{kind: kindList}
	for r.dec.More() {
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, v)
	}
	_, err := r.dec.Token()
	return n, err
}

func (r *jsonReader) object(depth int) (*node, error) {
	n := mapNode()
	for r.dec.More() {
		t, err := r.dec.Token()
		if err != nil {
			return nil, err
		}
		k, ok := t.(string)
		if !ok {
			return nil, errors.New("a key of an object is not a text")
		}
		if err := r.key(k); err != nil {
			return nil, err
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.set(k, v)
	}
	_, err := r.dec.Token()
	return n, err
}

type yamlReader struct{ counter }

func parseYAML(document []byte) (*node, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(document, &root); err != nil {
		return nil, fmt.Errorf("read YAML: %w", err)
	}
	if len(root.Content) == 0 {
		return nil, errors.New("the document is empty")
	}
	var r yamlReader
	return r.value(root.Content[0], 0)
}

// value copies a tree. Aliases are expanded, and count as often as they are used: that bounds what they can blow up to.
func (r *yamlReader) value(y *yaml.Node, depth int) (*node, error) {
	if err := r.count(depth); err != nil {
		return nil, err
	}
	switch y.Kind {
	case yaml.AliasNode:
		return r.value(y.Alias, depth+1)
	case yaml.SequenceNode:
		n := &node{kind: kindList, line: y.Line}
		for _, c := range y.Content {
			v, err := r.value(c, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, v)
		}
		return n, nil
	case yaml.MappingNode:
		return r.object(y, depth)
	}
	return scalar(y), nil
}

func (r *yamlReader) object(y *yaml.Node, depth int) (*node, error) {
	n := &node{kind: kindMap, line: y.Line}
	var merged []*node
	for i := 0; i+1 < len(y.Content); i += 2 {
		k := y.Content[i]
		if k.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("read YAML: line %d: a key of a map is not a text", k.Line)
		}
		if err := r.key(k.Value); err != nil {
			return nil, err
		}
		v, err := r.value(y.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		if k.Tag == "!!merge" {
			if v.is(kindList) {
				merged = append(merged, v.items...)
			} else {
				merged = append(merged, v)
			}
			continue
		}
		n.set(k.Value, v)
	}
	for _, m := range merged {
		m.each(func(k string, v *node) {
			if _, ok := n.find(k); !ok {
				n.set(k, v)
			}
		})
	}
	return n, nil
}

// scalar reads a plain value by the core schema of YAML 1.2: what is no JSON number is a text.
func scalar(y *yaml.Node) *node {
	n := &node{kind: kindString, text: y.Value, line: y.Line}
	switch y.ShortTag() {
	case "!!null":
		return &node{line: y.Line}
	case "!!bool":
		n.kind, n.text = kindBool, strings.ToLower(y.Value)
		if n.text != "true" && n.text != "false" {
			n.kind, n.text = kindString, y.Value
		}
	case "!!int", "!!float":
		if json.Valid([]byte(y.Value)) {
			n.kind = kindNumber
		}
	}
	return n
}
