package expr

import (
	"maps"
	"slices"
	"strings"
)

// Type is what is known about a value before it exists. The zero Type is Dyn: nothing is known,
// anything goes. Types are immutable.
type Type struct {
	kind   typeKind
	elem   *Type           // of a list (nil of an empty one), of a map's values, of an optional
	fields map[string]Type // of an object
	open   bool            // of an object: it may have other fields, of which nothing is known
	null   bool            // the value may also be null
}

type typeKind int

const (
	kDyn typeKind = iota
	kNull
	kBool
	kInt
	kNumber
	kString
	kBytes
	kTime
	kDuration
	kList
	kObject
	kOptional
)

// Dyn is the type of a value of which nothing is known.
func Dyn() Type { return Type{} }

// NullType is the type of null.
func NullType() Type { return Type{kind: kNull} }

// BoolType is the type of true and false.
func BoolType() Type { return Type{kind: kBool} }

// IntType is the type of whole numbers.
func IntType() Type { return Type{kind: kInt} }

// NumberType is the type of numbers.
func NumberType() Type { return Type{kind: kNumber} }

// StringType is the type of strings.
func StringType() Type { return Type{kind: kString} }

// BytesType is the type of byte strings, which hex and base64 functions work on.
func BytesType() Type { return Type{kind: kBytes} }

// TimeType is the type of points in time.
func TimeType() Type { return Type{kind: kTime} }

// DurationType is the type of lengths of time.
func DurationType() Type { return Type{kind: kDuration} }

// ListType is the type of lists of elem.
func ListType(elem Type) Type { return Type{kind: kList, elem: &elem} }

// ObjectType is the type of an object with exactly these fields: any other is an error when an
// expression is compiled. The map is copied.
func ObjectType(fields map[string]Type) Type {
	return Type{kind: kObject, fields: maps.Clone(fields)}
}

// OpenObjectType is the type of an object with these fields and possibly others, of which
// nothing is known. The map is copied and may be nil.
func OpenObjectType(fields map[string]Type) Type {
	return Type{kind: kObject, fields: maps.Clone(fields), open: true}
}

// MapType is the type of an object with any keys, whose values are all of type elem.
func MapType(elem Type) Type { return Type{kind: kObject, open: true, elem: &elem} }

func optionalType(t Type) Type { return Type{kind: kOptional, elem: &t} }

// OrNull returns t for a value that may also be null.
func (t Type) OrNull() Type {
	t.null = true
	return t
}

// IsDyn reports whether nothing is known.
func (t Type) IsDyn() bool { return t.kind == kDyn }

// Kind returns the kind of values of the type, KindOther for Dyn and for an optional value.
func (t Type) Kind() ValueKind {
	switch t.kind {
	case kNull:
		return KindNull
	case kBool:
		return KindBool
	case kInt, kNumber:
		return KindNumber
	case kString:
		return KindString
	case kBytes:
		return KindBytes
	case kTime:
		return KindTime
	case kDuration:
		return KindDuration
	case kList:
		return KindList
	case kObject:
		return KindObject
	}
	return KindOther
}

// Elem returns the type of a list's items or of a map's values, Dyn where unknown.
func (t Type) Elem() Type {
	if t.elem == nil {
		return Dyn()
	}
	return *t.elem
}

// Field returns the type of an object's field; false when the type has no such field. Dyn has
// every field.
func (t Type) Field(name string) (Type, bool) {
	if t.kind == kOptional {
		return t.Elem().Field(name)
	}
	if f, ok := t.fields[name]; ok {
		return f, true
	}
	if t.kind == kDyn || t.kind == kObject && t.open {
		return t.Elem(), true
	}
	return Dyn(), false
}

// FieldNames returns the known fields of an object, sorted.
func (t Type) FieldNames() []string { return slices.Sorted(maps.Keys(t.fields)) }

// String returns the type as messages call it.
func (t Type) String() string {
	switch t.kind {
	case kDyn:
		return "value"
	case kInt:
		return "whole number"
	case kList:
		if t.Elem().IsDyn() {
			return "list"
		}
		return "list of " + t.Elem().String() + "s"
	case kOptional:
		return "optional " + t.Elem().String()
	}
	return t.Kind().String()
}

// withArticle is String with its article.
func (t Type) withArticle() string {
	s := t.String()
	switch {
	case s == "null" || s == "bytes":
		return s
	case strings.IndexByte("aeiou", s[0]) >= 0:
		return "an " + s
	}
	return "a " + s
}

// joiner finds common types. A type that holds one part many times is small in memory and
// endless to walk, so after left steps nothing is known any more.
type joiner struct{ left int }

// maxJoinSteps is how many types one compilation joins.
const maxJoinSteps = 10_000

// join is the type of a value that is of one type or the other.
func (j *joiner) join(a, b Type) Type {
	if j.left--; j.left < 0 {
		return Dyn()
	}
	null := a.null || b.null
	switch {
	case a.kind == kNull:
		return b.OrNull()
	case b.kind == kNull:
		return a.OrNull()
	case a.kind == kDyn || b.kind == kDyn:
		return Dyn()
	}
	if a.Kind() == KindNumber && b.Kind() == KindNumber && a.kind != b.kind {
		return Type{kind: kNumber, null: null}
	}
	if a.kind != b.kind {
		return Dyn()
	}
	switch a.kind {
	case kList, kOptional:
		if a.elem == nil || b.elem == nil { // the empty list
			if a.elem == nil {
				a = b
			}
			a.null = null
			return a
		}
		e := j.join(a.Elem(), b.Elem())
		return Type{kind: a.kind, elem: &e, null: null}
	case kObject:
		return j.objects(a, b, null)
	}
	a.null = null
	return a
}

// objects keeps the fields of both; one that is missing on either side may be absent.
func (j *joiner) objects(a, b Type, null bool) Type {
	t := Type{kind: kObject, open: a.open || b.open, null: null, fields: map[string]Type{}}
	for k, f := range a.fields {
		switch g, ok := b.fields[k]; {
		case ok:
			t.fields[k] = j.join(f, g)
		case b.open:
			t.fields[k] = Dyn()
		default:
			t.fields[k] = f
		}
	}
	for k, g := range b.fields {
		if _, ok := a.fields[k]; ok {
			continue
		}
		if t.fields[k] = g; a.open {
			t.fields[k] = Dyn()
		}
	}
	if a.elem != nil && b.elem != nil {
		e := j.join(*a.elem, *b.elem)
		t.elem = &e
	}
	return t
}

// Scope is the set of names an expression may use, with their types. It is immutable and safe
// for use by several goroutines. All scopes derived from one NewScope share its CEL environment.
type Scope struct {
	base *base
	vars map[string]Type
}

// NewScope returns an empty scope. The environment that compiles its expressions is built on
// first use, in less than a millisecond; derive every scope of a process from one.
func NewScope() *Scope { return &Scope{base: newBase()} }

// With returns a scope in which name, an identifier, also stands for a value of type t. It
// hides an outer variable of that name.
func (s *Scope) With(name string, t Type) *Scope {
	vars := make(map[string]Type, len(s.vars)+1)
	maps.Copy(vars, s.vars)
	vars[name] = t
	return &Scope{base: s.base, vars: vars}
}

// Lookup returns the type of a name in scope.
func (s *Scope) Lookup(name string) (Type, bool) {
	t, ok := s.vars[name]
	return t, ok
}

// Names returns the names in scope, sorted.
func (s *Scope) Names() []string { return slices.Sorted(maps.Keys(s.vars)) }

// Issue is something wrong with a source.
type Issue struct {
	Offset     int    // where it starts, in bytes into the source
	Length     int    // how many bytes it spans, at least 1 unless at the end
	Message    string // what is wrong, in words for whoever wrote it
	Suggestion string // what to write instead, empty when nothing comes to mind
}

// String returns message and suggestion in one line.
func (i Issue) String() string {
	if i.Suggestion == "" {
		return i.Message
	}
	return i.Message + " (" + i.Suggestion + ")"
}

// didYouMean is a clause for the nearest name, or nothing.
func didYouMean(name string, names []string) string {
	if near := nearest(name, names); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// nearest returns the name with the smallest edit distance, if it is small enough to be a slip.
func nearest(name string, names []string) string {
	best, limit := "", max(1, len(name)/3)+1
	lower := strings.ToLower(name)
	for _, n := range names[:min(len(names), 1000)] {
		if len(n) > 100 || strings.HasPrefix(n, "@") {
			continue
		}
		if d := distance(lower, strings.ToLower(n), limit); d < limit {
			best, limit = n, d
		}
	}
	return best
}

// distance is the number of inserted, deleted, replaced or swapped bytes between two words,
// or limit when it is not less.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	var older []int
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		cur := make([]int, len(b)+1)
		cur[0] = i + 1
		for j := range len(b) {
			c := prev[j]
			if a[i] != b[j] {
				c++
			}
			c = min(c, prev[j+1]+1, cur[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				c = min(c, older[j-1]+1)
			}
			cur[j+1] = c
		}
		older, prev = prev, cur
	}
	return min(prev[len(b)], limit)
}
