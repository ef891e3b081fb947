package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Kind is what a node is.
type Kind uint8

// The kinds.
const (
	Scalar Kind = iota
	Map
	List
)

// Form is how a node is written.
type Form uint8

// The forms.
const (
	PlainForm Form = iota
	SingleForm
	DoubleForm
	LiteralForm
	FoldedForm
	BlockForm // of maps and lists
	FlowForm  // of maps and lists
)

// Node is one piece of a document with its place in the source.
type Node struct {
	Kind       Kind
	Form       Form
	Start, End int     // byte offsets
	Value      string  // of a scalar, decoded
	Keys       []*Node // of a map, scalars, one per item
	Items      []*Node
	index      map[string]int // of a map: key → index
}

// Get returns the item of a key, or nil.
func (n *Node) Get(key string) *Node {
	if n == nil {
		return nil
	}
	if i, ok := n.index[key]; ok {
		return n.Items[i]
	}
	return nil
}

// loader turns bytes into nodes and collects what is wrong with the document as such.
type loader struct {
	src      *Text
	problems Problems
	limits   Limits
	nodes    int // read so far
	// The last place that was looked up: places come in order, and a line can be as long as the file.
	line, column, offset int
}

// at returns the byte offset of a place, fast where it follows the one before in the same line.
func (l *loader) at(line, column int) int {
	if line == l.line && column >= l.column {
		for ; l.column < column && l.offset < len(l.src.Text) && l.src.Text[l.offset] != '\n'; l.column++ {
			_, size := utf8.DecodeRune(l.src.Text[l.offset:])
			l.offset += size
		}
		return l.offset
	}
	l.line, l.column, l.offset = line, column, l.src.Offset(line, column)
	return l.offset
}

// count says whether another node may be read.
func (l *loader) count(at int, path string) bool {
	l.nodes++
	if l.nodes == l.limits.Nodes+1 {
		l.problem(at, 1, path, "", "a file may have %d values at most", l.limits.Nodes)
	}
	return l.nodes <= l.limits.Nodes
}

func (l *loader) problem(offset, length int, path, suggestion, format string, args ...any) {
	if len(l.problems) < MaxProblems {
		l.problems = append(l.problems, l.src.Problem(SeverityError, offset, length, path, suggestion, fmt.Sprintf(format, args...)))
	}
}

// Problem makes a Problem of a place in the source; length is in bytes and is cut at the end of the line.
func (s *Text) Problem(severity Severity, offset, length int, path, suggestion, message string) Problem {
	line, column := s.Position(offset)
	end := max(offset, min(offset+length, s.LineEnd(line)))
	_, endColumn := s.Position(end)
	p := Problem{
		Severity: severity, File: s.File, Line: line, Column: column, Length: max(1, endColumn-column),
		Path: path, Message: message, Suggestion: suggestion,
	}
	if s.LineEnd(line)-s.start[line-1] <= maxSourceLine {
		p.Source = s.Line(line)
	}
	return p
}

// Limits bound a document before it is interpreted.
type Limits struct {
	Bytes int
	Depth int // nesting of maps and lists
	Nodes int // maps, lists and scalars
}

// Load reads a document in YAML or JSON. The node is nil when nothing of it could be read.
func Load(file string, text []byte, limits Limits) (*Node, *Text, Problems) {
	text = WithoutMark(text)
	src := New(file, text)
	l := &loader{src: src, limits: limits}
	if len(text) > l.limits.Bytes {
		l.problem(0, 1, "", "", "the file has %d bytes, at most %d are allowed", len(text), l.limits.Bytes)
		return nil, src, l.problems
	}
	if at, message := BadCharacter(text); at >= 0 {
		l.problem(at, 1, "", "", "%s", message)
		return nil, src, l.problems
	}
	var root *Node
	if first := bytes.TrimLeft(text, " \t\r\n"); len(first) > 0 && (first[0] == '{' || first[0] == '[') && json.Valid(text) {
		root = l.loadJSON()
	} else {
		root = l.loadYAML()
	}
	if root == nil && len(l.problems) == 0 {
		l.problem(0, 1, "", "", "the file is empty")
	}
	return root, src, l.problems
}

func (l *loader) loadYAML() *Node {
	for n := 1; n <= len(l.src.start); n++ {
		line := l.src.Line(n)
		if strings.HasPrefix(line, "%") {
			l.problem(l.src.start[n-1], len(line), "", "", "directives are not allowed")
			return nil
		}
		if text := strings.TrimSpace(line); text != "" && text[0] != '#' {
			break
		}
	}
	dec := yaml.NewDecoder(bytes.NewReader(l.src.Text))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			l.syntax(err)
		}
		return nil
	}
	var next yaml.Node
	switch err := dec.Decode(&next); {
	case err == nil:
		l.problem(l.src.Offset(next.Line, next.Column), 1, "", "", "a file holds one document: a second one begins here")
	case !errors.Is(err, io.EOF):
		l.syntax(err)
	}
	if len(doc.Content) == 0 {
		return nil
	}
	return l.convert(doc.Content[0], "", 0)
}

// convert copies a node of the YAML parser and refuses what the format leaves out.
func (l *loader) convert(y *yaml.Node, path string, depth int) *Node {
	n := &Node{Start: l.at(y.Line, y.Column)}
	n.End = n.Start
	if !l.count(n.Start, path) {
		return n
	}
	if depth > l.limits.Depth {
		l.problem(n.Start, 1, path, "", "maps and lists may be nested %d deep at most", l.limits.Depth)
		return n
	}
	switch {
	case y.Kind == yaml.AliasNode:
		l.problem(n.Start, len(y.Value)+1, path, "write the value out", "aliases are not allowed")
		return n
	case y.Anchor != "":
		l.problem(n.Start, len(y.Anchor)+1, path, "write the value out where it is needed", "anchors are not allowed")
	case y.Style&yaml.TaggedStyle != 0:
		l.problem(n.Start, len(y.Tag), path, "", "tags are not allowed")
	}
	switch y.Kind {
	case yaml.MappingNode:
		n.Kind, n.Form = Map, collectionStyle(y)
		l.convertMap(n, y, path, depth)
	case yaml.SequenceNode:
		n.Kind, n.Form = List, collectionStyle(y)
		for i, item := range y.Content {
			n.Items = append(n.Items, l.convert(item, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
	default:
		n.Value, n.Form = y.Value, scalarStyle(y)
		_, n.End, _ = Trace(l.src.Text, n)
		return n
	}
	if n.Form == FlowForm {
		n.End = l.flowEnd(n)
	} else if len(n.Items) > 0 {
		n.End = n.Items[len(n.Items)-1].End
	}
	return n
}

func (l *loader) convertMap(n *Node, y *yaml.Node, path string, depth int) {
	for i := 0; i+1 < len(y.Content); i += 2 {
		key := l.convert(y.Content[i], path, depth+1)
		if y.Content[i].Kind != yaml.ScalarNode && y.Content[i].Kind != yaml.AliasNode {
			l.problem(key.Start, 1, path, "", "a key must be a text")
			continue
		}
		if key.Value == "<<" && key.Form == PlainForm {
			l.problem(key.Start, 2, path, "write the keys out", "merge keys are not allowed")
			continue
		}
		item := l.convert(y.Content[i+1], Join(path, key.Value), depth+1)
		l.addKey(n, key, item, path)
	}
}

// addKey appends an entry and refuses an empty or repeated key.
func (l *loader) addKey(n, key, item *Node, path string) {
	if key.Value == "" {
		l.problem(key.Start, 1, path, "", "a key is missing")
		return
	}
	if i, ok := n.index[key.Value]; ok {
		line, _ := l.src.Position(n.Keys[i].Start)
		l.problem(key.Start, key.End-key.Start, Join(path, key.Value), "", "the key %q is there twice, first in line %d", Cut(key.Value, 80), line)
		return
	}
	if n.index == nil {
		n.index = map[string]int{}
	}
	n.index[key.Value] = len(n.Keys)
	n.Keys, n.Items = append(n.Keys, key), append(n.Items, item)
}

// flowEnd finds the closing bracket of a collection whose items are known.
func (l *loader) flowEnd(n *Node) int {
	at := n.Start + 1
	if len(n.Items) > 0 {
		at = max(at, n.Items[len(n.Items)-1].End, n.Start+1)
	}
	if len(n.Keys) > 0 {
		at = max(at, n.Keys[len(n.Keys)-1].End)
	}
	closing := byte(']')
	if n.Kind == Map {
		closing = '}'
	}
	for comment := false; at < len(l.src.Text); at++ {
		switch c := l.src.Text[at]; {
		case c == '\n':
			comment = false
		case comment:
		case c == '#':
			comment = true
		case c == closing:
			return at + 1
		}
	}
	return len(l.src.Text)
}

func collectionStyle(y *yaml.Node) Form {
	if y.Style&yaml.FlowStyle != 0 {
		return FlowForm
	}
	return BlockForm
}

func scalarStyle(y *yaml.Node) Form {
	switch {
	case y.Style&yaml.DoubleQuotedStyle != 0:
		return DoubleForm
	case y.Style&yaml.SingleQuotedStyle != 0:
		return SingleForm
	case y.Style&yaml.LiteralStyle != 0:
		return LiteralForm
	case y.Style&yaml.FoldedStyle != 0:
		return FoldedForm
	}
	return PlainForm
}

// Join appends a key to a path. Keys that are not names are quoted.
func Join(path, key string) string {
	plain := key != "" && len(key) <= 200
	for _, r := range key {
		plain = plain && (r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '$')
	}
	switch {
	case !plain:
		return fmt.Sprintf("%s[%q]", path, Cut(key, 200))
	case path == "":
		return key
	}
	return path + "." + key
}

// Cut shortens a text for a message.
func Cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
