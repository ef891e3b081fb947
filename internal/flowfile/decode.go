package flowfile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
)

// Document is a valid integration file.
type Document struct {
	Integration *flow.Integration
	Warnings    Problems // what a reviewer should see; the file is valid
	d           *decoder
}

// Position is a place in a file, from 1.
type Position struct{ Line, Column int }

// Find returns where the value of a path such as flows.order-paid.steps[0].with is written.
func (doc *Document) Find(path string) (Position, bool) {
	n, ok := doc.d.at[path]
	if !ok {
		return Position{}, false
	}
	line, column := doc.d.src.position(n.start)
	return Position{line, column}, true
}

// NotYet returns what of the integration this release does not run, with places: see [flow.Integration.NotYet].
func (doc *Document) NotYet() Problems {
	var list Problems
	for _, n := range doc.Integration.NotYet() {
		list = append(list, doc.d.at2problem(SeverityWarning, n.Path, "", n.What))
	}
	return sortProblems(list)
}

// anyIntegration reads a document for what it shows about its objects; problems do not matter.
func (d *decoder) anyIntegration(root *node) { d.integration(root, &flow.Integration{}) }

// Decode reads an integration file in YAML or JSON. file is its name in problems. Either the Document is valid, or the
// problems say everything that is wrong; then the Document is nil.
func Decode(file string, text []byte) (*Document, Problems) {
	root, src, problems := load(file, text)
	d := &decoder{src: src, problems: problems, at: map[string]*node{}, keyAt: map[string]*node{}}
	return d.document(root)
}

func (d *decoder) document(root *node) (*Document, Problems) {
	if root == nil {
		return nil, sortProblems(d.problems)
	}
	i := &flow.Integration{}
	d.integration(root, i)
	d.check(i)
	all := sortProblems(d.problems)
	if all.Invalid() {
		return nil, all
	}
	if _, err := i.Encode(); err != nil {
		d.problem(root, "", "", "the integration is too large: %s", err)
		return nil, d.problems
	}
	return &Document{Integration: i, Warnings: all, d: d}, nil
}

// decoder reads nodes into a model. at and keyAt remember where each path's value and key stand.
type decoder struct {
	src      *source
	problems Problems
	at       map[string]*node
	keyAt    map[string]*node
	order    map[string][]string                // where set, gets each known object's keys by path
	observe  func(object string, keys []string) // told of every object that is read; tests compare with the schema
}

// maxProblems bounds what one file may report.
const maxProblems = 200

func (d *decoder) add(p Problem) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, p)
	}
}

// problem reports something wrong with a value: the whole of a scalar, the first character of anything else.
func (d *decoder) problem(n *node, path, suggestion, format string, args ...any) {
	d.add(d.src.problem(SeverityError, n.start, marked(n), path, suggestion, fmt.Sprintf(format, args...)))
}

// problemAt reports something wrong with the value of a path, or with the nearest value around it.
func (d *decoder) problemAt(path, suggestion, format string, args ...any) {
	d.add(d.at2problem(SeverityError, path, suggestion, fmt.Sprintf(format, args...)))
}

func (d *decoder) at2problem(severity Severity, path, suggestion, message string) Problem {
	for at := path; ; at = parent(at) {
		if n, ok := d.at[at]; ok {
			return d.src.problem(severity, n.start, marked(n), path, suggestion, message)
		}
		if at == "" {
			return d.src.problem(severity, 0, 1, path, suggestion, message)
		}
	}
}

func marked(n *node) int {
	if n.kind == scalarNode && n.style != literalStyle && n.style != foldedStyle {
		return n.end - n.start
	}
	return 1
}

func parent(path string) string {
	if strings.HasSuffix(path, `"]`) {
		return path[:max(0, strings.LastIndex(path, `["`))]
	}
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// problemKey reports something at a key.
func (d *decoder) problemKey(path, suggestion, format string, args ...any) {
	if k, ok := d.keyAt[path]; ok {
		d.problem(k, path, suggestion, format, args...)
		return
	}
	d.problemAt(path, suggestion, format, args...)
}

// reader reads the value at a path.
type reader func(n *node, path string)

// field is one key of an object.
type field struct {
	key      string
	required bool
	read     reader
}

// optional is a key that may be left out; nothing is written as its value only by leaving it out.
func optional(key string, read reader) field { return field{key, false, read} }

func required(key string, read reader) field { return field{key, true, read} }

// object reads a map with known keys. name is the object's name in the JSON Schema.
func (d *decoder) object(n *node, path, name string, fields ...field) bool {
	d.at[path] = n
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	if d.observe != nil {
		d.observe(name, keys)
	}
	if d.order != nil {
		d.order[path] = keys
	}
	if n.kind != mapNode {
		d.problem(n, path, "", "expected a map with the keys %s, found %s", oneOf(keys), describe(n))
		return false
	}
	for i, k := range n.keys {
		at := join(path, k.value)
		d.keyAt[at], d.at[at] = k, n.items[i]
		f := slices.IndexFunc(fields, func(f field) bool { return f.key == k.value })
		if f < 0 {
			d.problem(k, at, didYouMean(k.value, keys), "unknown key %q", cut(k.value, 80))
			continue
		}
		fields[f].read(n.items[i], at)
	}
	for _, f := range fields {
		if f.required && n.get(f.key) == nil {
			d.missing(n, path, f.key)
		}
	}
	return true
}

// missing reports a key that must be there, at the key of the object, or at the object's first key.
func (d *decoder) missing(n *node, path, key string) {
	at, ok := d.keyAt[path]
	if !ok && len(n.keys) > 0 {
		at, ok = n.keys[0], true
	}
	if !ok {
		at = n
	}
	d.problem(at, join(path, key), "", "the key %q is missing", key)
}

// entries reads a map whose keys are names that the builder chose.
func (d *decoder) entries(n *node, path, what string, limit int, name *regexp.Regexp, rule string, read func(key string, n *node, path string)) {
	d.at[path] = n
	if n.kind != mapNode {
		d.problem(n, path, "", "expected a map of %s by name, found %s", what, describe(n))
		return
	}
	if len(n.keys) > limit {
		d.problem(n.keys[limit], path, "", "at most %d %s are allowed, found %d", limit, what, len(n.keys))
		return
	}
	for i, k := range n.keys {
		at := join(path, k.value)
		d.keyAt[at], d.at[at] = k, n.items[i]
		if !name.MatchString(k.value) {
			d.problem(k, at, nameSuggestion(k.value, name), "the name %q is not allowed: %s", cut(k.value, 80), rule)
		}
		read(k.value, n.items[i], at)
	}
}

// list reads a list.
func (d *decoder) list(what string, limit int, read reader) reader {
	return func(n *node, path string) {
		d.at[path] = n
		if n.kind != listNode {
			d.problem(n, path, "", "expected a list of %s, found %s", what, describe(n))
			return
		}
		if len(n.items) > limit {
			d.problem(n.items[limit], path, "", "at most %d %s are allowed, found %d", limit, what, len(n.items))
			return
		}
		for i, item := range n.items {
			at := fmt.Sprintf("%s[%d]", path, i)
			d.at[at] = item
			read(item, at)
		}
	}
}

// nonEmpty wraps a reader of a list that must have an element.
func (d *decoder) nonEmpty(what string, read reader) reader {
	return func(n *node, path string) {
		if n.kind == listNode && len(n.items) == 0 {
			d.problem(n, path, "", "expected at least one of %s", what)
		}
		read(n, path)
	}
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

// nameSuggestion turns a name into one that the pattern allows, where that is simple.
func nameSuggestion(name string, allowed *regexp.Regexp) string {
	for _, separator := range []string{"-", "_"} {
		var b strings.Builder
		for i, r := range strings.TrimSpace(name) {
			switch {
			case r >= 'A' && r <= 'Z':
				if i > 0 && !strings.HasSuffix(b.String(), separator) {
					b.WriteString(separator)
				}
				b.WriteRune(r - 'A' + 'a')
			case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
				b.WriteRune(r)
			case !strings.HasSuffix(b.String(), separator):
				b.WriteString(separator)
			}
		}
		if s := strings.Trim(b.String(), separator); allowed.MatchString(s) {
			return fmt.Sprintf("write %q", s)
		}
	}
	return ""
}

// expressionIssues reports what is wrong with a string's expressions, each at its place in the source.
func (d *decoder) expressionIssues(n *node, path string, shift int, issues []expr.Issue) {
	offsets, _, ok := trace(d.src.text, n)
	for _, issue := range issues {
		start, length := n.start, marked(n)
		if from := issue.Offset + shift; ok && from >= 0 && from < len(offsets) {
			start = offsets[from]
			length = offsets[min(len(offsets)-1, from+max(1, issue.Length))] - start
		}
		d.add(d.src.problem(SeverityError, start, length, path, issue.Suggestion, issue.Message))
	}
}
