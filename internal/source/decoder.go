package source

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Decoder reads nodes into a model, and collects what is wrong with them. At and KeyAt remember where each path's value and
// key stand. It is for one goroutine.
type Decoder struct {
	Src      *Text
	Problems Problems
	At       map[string]*Node
	KeyAt    map[string]*Node
	Order    map[string][]string                // where set, gets each known object's keys by path
	Observe  func(object string, keys []string) // told of every object that is read; tests compare with the schema
}

// NewDecoder returns a decoder of a text, beginning with the problems that reading it found.
func NewDecoder(src *Text, problems Problems) *Decoder {
	return &Decoder{Src: src, Problems: problems, At: map[string]*Node{}, KeyAt: map[string]*Node{}}
}

// MaxText bounds a text in bytes, such as a title or a name.
const MaxText = 4 << 10

// MaxProblems bounds what one file may report.
const MaxProblems = 200

// Add keeps a problem, up to MaxProblems.
func (d *Decoder) Add(p Problem) {
	if len(d.Problems) < MaxProblems {
		d.Problems = append(d.Problems, p)
	}
}

// Problem reports something wrong with a value: the whole of a scalar, the first character of anything else.
func (d *Decoder) Problem(n *Node, path, suggestion, format string, args ...any) {
	d.Add(d.Src.Problem(SeverityError, n.Start, Marked(n), path, suggestion, fmt.Sprintf(format, args...)))
}

// ProblemAt reports something wrong with the value of a path, or with the nearest value around it.
func (d *Decoder) ProblemAt(path, suggestion, format string, args ...any) {
	d.Add(d.Placed(SeverityError, path, suggestion, fmt.Sprintf(format, args...)))
}

// Placed makes a problem of the value of a path, or of the nearest value around it.
func (d *Decoder) Placed(severity Severity, path, suggestion, message string) Problem {
	for at := path; ; at = Parent(at) {
		if n, ok := d.At[at]; ok {
			return d.Src.Problem(severity, n.Start, Marked(n), path, suggestion, message)
		}
		if at == "" {
			return d.Src.Problem(severity, 0, 1, path, suggestion, message)
		}
	}
}

// Marked is how many bytes of a value a problem underlines: the whole of a scalar, the first character of anything else.
func Marked(n *Node) int {
	if n.Kind == Scalar && n.Form != LiteralForm && n.Form != FoldedForm {
		return n.End - n.Start
	}
	return 1
}

// Parent is the path around a path.
func Parent(path string) string {
	if strings.HasSuffix(path, `"]`) {
		return path[:max(0, strings.LastIndex(path, `["`))]
	}
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// ProblemKey reports something at a key.
func (d *Decoder) ProblemKey(path, suggestion, format string, args ...any) {
	if k, ok := d.KeyAt[path]; ok {
		d.Problem(k, path, suggestion, format, args...)
		return
	}
	d.ProblemAt(path, suggestion, format, args...)
}

// Reader reads the value at a path.
type Reader func(n *Node, path string)

// Field is one key of an object.
type Field struct {
	key      string
	required bool
	read     Reader
}

// Optional is a key that may be left out; nothing is written as its value only by leaving it out.
func Optional(key string, read Reader) Field { return Field{key, false, read} }

// Required is a key that must be there.
func Required(key string, read Reader) Field { return Field{key, true, read} }

// Object reads a map with known keys. name is the object's name in the JSON Schema.
func (d *Decoder) Object(n *Node, path, name string, fields ...Field) bool {
	d.At[path] = n
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	if d.Observe != nil {
		d.Observe(name, keys)
	}
	if d.Order != nil {
		d.Order[path] = keys
	}
	if n.Kind != Map {
		d.Problem(n, path, "", "expected a map with the keys %s, found %s", OneOf(keys), Describe(n))
		return false
	}
	for i, k := range n.Keys {
		at := Join(path, k.Value)
		d.KeyAt[at], d.At[at] = k, n.Items[i]
		f := slices.IndexFunc(fields, func(f Field) bool { return f.key == k.Value })
		if f < 0 {
			d.Problem(k, at, DidYouMean(k.Value, keys), "unknown key %q", Cut(k.Value, 80))
			continue
		}
		fields[f].read(n.Items[i], at)
	}
	for _, f := range fields {
		if f.required && n.Get(f.key) == nil {
			d.Missing(n, path, f.key)
		}
	}
	return true
}

// Missing reports a key that must be there, at the key of the object, or at the object's first key.
func (d *Decoder) Missing(n *Node, path, key string) {
	at, ok := d.KeyAt[path]
	if !ok && len(n.Keys) > 0 {
		at, ok = n.Keys[0], true
	}
	if !ok {
		at = n
	}
	d.Problem(at, Join(path, key), "", "the key %q is missing", key)
}

// Entries reads a map whose keys are names that the builder chose.
func (d *Decoder) Entries(n *Node, path, what string, limit int, name *regexp.Regexp, rule string, read func(key string, n *Node, path string)) {
	d.At[path] = n
	if n.Kind != Map {
		d.Problem(n, path, "", "expected a map of %s by name, found %s", what, Describe(n))
		return
	}
	if len(n.Keys) > limit {
		d.Problem(n.Keys[limit], path, "", "at most %d %s are allowed, found %d", limit, what, len(n.Keys))
		return
	}
	for i, k := range n.Keys {
		at := Join(path, k.Value)
		d.KeyAt[at], d.At[at] = k, n.Items[i]
		if !name.MatchString(k.Value) {
			d.Problem(k, at, NameSuggestion(k.Value, name), "the name %q is not allowed: %s", Cut(k.Value, 80), rule)
		}
		read(k.Value, n.Items[i], at)
	}
}

// List reads a list.
func (d *Decoder) List(what string, limit int, read Reader) Reader {
	return func(n *Node, path string) {
		d.At[path] = n
		if n.Kind != List {
			d.Problem(n, path, "", "expected a list of %s, found %s", what, Describe(n))
			return
		}
		if len(n.Items) > limit {
			d.Problem(n.Items[limit], path, "", "at most %d %s are allowed, found %d", limit, what, len(n.Items))
			return
		}
		for i, item := range n.Items {
			at := fmt.Sprintf("%s[%d]", path, i)
			d.At[at] = item
			read(item, at)
		}
	}
}

// NonEmpty wraps a reader of a list that must have an element.
func (d *Decoder) NonEmpty(what string, read Reader) Reader {
	return func(n *Node, path string) {
		if n.Kind == List && len(n.Items) == 0 {
			d.Problem(n, path, "", "expected at least one of %s", what)
		}
		read(n, path)
	}
}

// NameSuggestion turns a name into one that the pattern allows, where that is simple.
func NameSuggestion(name string, allowed *regexp.Regexp) string {
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
