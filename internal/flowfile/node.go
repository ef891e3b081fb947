package flowfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/bulkheadhq/bulkhead/internal/flow"
)

type nodeKind uint8

const (
	scalarNode nodeKind = iota
	mapNode
	listNode
)

type nodeStyle uint8

const (
	plainStyle nodeStyle = iota
	singleStyle
	doubleStyle
	literalStyle
	foldedStyle
	blockStyle // of maps and lists
	flowStyle  // of maps and lists
)

// node is one piece of a document with its place in the source.
type node struct {
	kind       nodeKind
	style      nodeStyle
	start, end int     // byte offsets
	value      string  // of a scalar, decoded
	keys       []*node // of a map, scalars, one per item
	items      []*node
	index      map[string]int // of a map: key → index
}

// get returns the item of a key, or nil.
func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	if i, ok := n.index[key]; ok {
		return n.items[i]
	}
	return nil
}

// loader turns bytes into nodes and collects what is wrong with the document as such.
type loader struct {
	src      *source
	problems Problems
	nodes    int // read so far
	// The last place that was looked up: places come in order, and a line can be as long as the file.
	line, column, offset int
}

// at returns the byte offset of a place, fast where it follows the one before in the same line.
func (l *loader) at(line, column int) int {
	if line == l.line && column >= l.column {
		for ; l.column < column && l.offset < len(l.src.text) && l.src.text[l.offset] != '\n'; l.column++ {
			_, size := utf8.DecodeRune(l.src.text[l.offset:])
			l.offset += size
		}
		return l.offset
	}
	l.line, l.column, l.offset = line, column, l.src.offset(line, column)
	return l.offset
}

// count says whether another node may be read.
func (l *loader) count(at int, path string) bool {
	l.nodes++
	if l.nodes == flow.MaxDocumentNodes+1 {
		l.problem(at, 1, path, "", "a file may have %d values at most", flow.MaxDocumentNodes)
	}
	return l.nodes <= flow.MaxDocumentNodes
}

func (l *loader) problem(offset, length int, path, suggestion, format string, args ...any) {
	if len(l.problems) < maxProblems {
		l.problems = append(l.problems, l.src.problem(SeverityError, offset, length, path, suggestion, fmt.Sprintf(format, args...)))
	}
}

// problem makes a Problem of a place in the source; length is in bytes and is cut at the end of the line.
func (s *source) problem(severity Severity, offset, length int, path, suggestion, message string) Problem {
	line, column := s.position(offset)
	end := max(offset, min(offset+length, s.lineEnd(line)))
	_, endColumn := s.position(end)
	p := Problem{
		Severity: severity, File: s.file, Line: line, Column: column, Length: max(1, endColumn-column),
		Path: path, Message: message, Suggestion: suggestion,
	}
	if s.lineEnd(line)-s.start[line-1] <= maxSourceLine {
		p.Source = s.line(line)
	}
	return p
}

// load reads a document. The node is nil when nothing of it could be read.
func load(file string, text []byte) (*node, *source, Problems) {
	text = withoutMark(text)
	src := newSource(file, text)
	l := &loader{src: src}
	if len(text) > flow.MaxFileBytes {
		l.problem(0, 1, "", "", "the file has %d bytes, at most %d are allowed", len(text), flow.MaxFileBytes)
		return nil, src, l.problems
	}
	if at, message := badCharacter(text); at >= 0 {
		l.problem(at, 1, "", "", "%s", message)
		return nil, src, l.problems
	}
	var root *node
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

func (l *loader) loadYAML() *node {
	for n := 1; n <= len(l.src.start); n++ {
		line := l.src.line(n)
		if strings.HasPrefix(line, "%") {
			l.problem(l.src.start[n-1], len(line), "", "", "directives are not allowed")
			return nil
		}
		if text := strings.TrimSpace(line); text != "" && text[0] != '#' {
			break
		}
	}
	dec := yaml.NewDecoder(bytes.NewReader(l.src.text))
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
		l.problem(l.src.offset(next.Line, next.Column), 1, "", "", "a file holds one document: a second one begins here")
	case !errors.Is(err, io.EOF):
		l.syntax(err)
	}
	if len(doc.Content) == 0 {
		return nil
	}
	return l.convert(doc.Content[0], "", 0)
}

// convert copies a node of the YAML parser and refuses what the format leaves out.
func (l *loader) convert(y *yaml.Node, path string, depth int) *node {
	n := &node{start: l.at(y.Line, y.Column)}
	n.end = n.start
	if !l.count(n.start, path) {
		return n
	}
	if depth > flow.MaxDocumentDepth {
		l.problem(n.start, 1, path, "", "maps and lists may be nested %d deep at most", flow.MaxDocumentDepth)
		return n
	}
	switch {
	case y.Kind == yaml.AliasNode:
		l.problem(n.start, len(y.Value)+1, path, "write the value out", "aliases are not allowed")
		return n
	case y.Anchor != "":
		l.problem(n.start, len(y.Anchor)+1, path, "write the value out where it is needed", "anchors are not allowed")
	case y.Style&yaml.TaggedStyle != 0:
		l.problem(n.start, len(y.Tag), path, "", "tags are not allowed")
	}
	switch y.Kind {
	case yaml.MappingNode:
		n.kind, n.style = mapNode, collectionStyle(y)
		l.convertMap(n, y, path, depth)
	case yaml.SequenceNode:
		n.kind, n.style = listNode, collectionStyle(y)
		for i, item := range y.Content {
			n.items = append(n.items, l.convert(item, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
	default:
		n.value, n.style = y.Value, scalarStyle(y)
		_, n.end, _ = trace(l.src.text, n)
		return n
	}
	if n.style == flowStyle {
		n.end = l.flowEnd(n)
	} else if len(n.items) > 0 {
		n.end = n.items[len(n.items)-1].end
	}
	return n
}

func (l *loader) convertMap(n *node, y *yaml.Node, path string, depth int) {
	for i := 0; i+1 < len(y.Content); i += 2 {
		key := l.convert(y.Content[i], path, depth+1)
		if y.Content[i].Kind != yaml.ScalarNode && y.Content[i].Kind != yaml.AliasNode {
			l.problem(key.start, 1, path, "", "a key must be a text")
			continue
		}
		if key.value == "<<" && key.style == plainStyle {
			l.problem(key.start, 2, path, "write the keys out", "merge keys are not allowed")
			continue
		}
		item := l.convert(y.Content[i+1], join(path, key.value), depth+1)
		l.addKey(n, key, item, path)
	}
}

// addKey appends an entry and refuses an empty or repeated key.
func (l *loader) addKey(n, key, item *node, path string) {
	if key.value == "" {
		l.problem(key.start, 1, path, "", "a key is missing")
		return
	}
	if i, ok := n.index[key.value]; ok {
		line, _ := l.src.position(n.keys[i].start)
		l.problem(key.start, key.end-key.start, join(path, key.value), "", "the key %q is there twice, first in line %d", cut(key.value, 80), line)
		return
	}
	if n.index == nil {
		n.index = map[string]int{}
	}
	n.index[key.value] = len(n.keys)
	n.keys, n.items = append(n.keys, key), append(n.items, item)
}

// flowEnd finds the closing bracket of a collection whose items are known.
func (l *loader) flowEnd(n *node) int {
	at := n.start + 1
	if len(n.items) > 0 {
		at = max(at, n.items[len(n.items)-1].end, n.start+1)
	}
	if len(n.keys) > 0 {
		at = max(at, n.keys[len(n.keys)-1].end)
	}
	closing := byte(']')
	if n.kind == mapNode {
		closing = '}'
	}
	for comment := false; at < len(l.src.text); at++ {
		switch c := l.src.text[at]; {
		case c == '\n':
			comment = false
		case comment:
		case c == '#':
			comment = true
		case c == closing:
			return at + 1
		}
	}
	return len(l.src.text)
}

func collectionStyle(y *yaml.Node) nodeStyle {
	if y.Style&yaml.FlowStyle != 0 {
		return flowStyle
	}
	return blockStyle
}

func scalarStyle(y *yaml.Node) nodeStyle {
	switch {
	case y.Style&yaml.DoubleQuotedStyle != 0:
		return doubleStyle
	case y.Style&yaml.SingleQuotedStyle != 0:
		return singleStyle
	case y.Style&yaml.LiteralStyle != 0:
		return literalStyle
	case y.Style&yaml.FoldedStyle != 0:
		return foldedStyle
	}
	return plainStyle
}

// join appends a key to a path. Keys that are not names are quoted.
func join(path, key string) string {
	plain := key != "" && len(key) <= 200
	for _, r := range key {
		plain = plain && (r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '$')
	}
	switch {
	case !plain:
		return fmt.Sprintf("%s[%q]", path, cut(key, 200))
	case path == "":
		return key
	}
	return path + "." + key
}

// cut shortens a text for a message.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
