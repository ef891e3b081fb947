package flow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/canon"
	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// Kind says what a [Value] is.
type Kind uint8

// Kinds of values.
const (
	Absent     Kind = iota // nothing was written
	Null                   // null
	Bool                   // true or false
	Number                 // a number, with its digits as written
	String                 // a text without expressions
	Template               // a text with expressions inside
	Expression             // exactly one expression, which keeps the type of its result
	Object                 // ordered keys and their values
	List                   // values
)

// String names the kind as error messages do.
func (k Kind) String() string {
	names := [...]string{"nothing", "null", "true or false", "a number", "a text", "a text with expressions", "an expression", "an object", "a list"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// Value is the tree of an input: literals, templates and expressions in objects and lists. It is read-only once built.
type Value struct {
	Kind   Kind
	Bool   bool     // of Bool
	Text   string   // of Number the literal as written; of String the text, `$${{` already read as `${{`
	Source string   // of String, Template and Expression: the string as written
	Parts  []Part   // of Template, and the one part of Expression
	Keys   []string // of Object, unique, in the order written
	Items  []Value  // of Object one per key, of List the elements
}

// Part is a piece of a template: Text, or an expression when Expr is set.
type Part struct {
	Text string
	Expr *Expr
}

// Expr is one CEL expression inside a string.
type Expr struct {
	Source    string   // without the braces
	Offset    int      // byte offset of Source in the string as written
	Reference []string // path of a pure reference such as trigger.body.id, which needs no evaluator; else nil
}

// RawPath says whether the expression is one call of rawPath and nothing else, which in a request's path puts the value in
// without escaping. inner is the call's argument, offset where it begins in Source.
func (x *Expr) RawPath() (inner string, offset int, ok bool) {
	const open = "rawPath("
	rest, ok := strings.CutPrefix(x.Source, open)
	if !ok || !strings.HasSuffix(rest, ")") {
		return "", 0, false
	}
	depth := 1
	var quoted byte
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case quoted != 0 && c == '\\':
			i++
		case quoted != 0 && c == quoted:
			quoted = 0
		case quoted != 0:
		case c == '"' || c == '\'':
			quoted = c
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth == 0 {
				return rest[:i], len(open), i == len(rest)-1
			}
		}
	}
	return "", 0, false
}

// IsZero says that nothing was written.
func (v Value) IsZero() bool { return v.Kind == Absent }

// Literal says that v contains no expression at any depth.
func (v *Value) Literal() bool {
	for range v.Expressions() {
		return false
	}
	return true
}

// Expressions yields every expression in v, depth first, in the order written.
func (v *Value) Expressions() func(yield func(*Expr) bool) {
	return func(yield func(*Expr) bool) { v.expressions(yield) }
}

func (v *Value) expressions(yield func(*Expr) bool) bool {
	for i := range v.Parts {
		if e := v.Parts[i].Expr; e != nil && !yield(e) {
			return false
		}
	}
	for i := range v.Items {
		if !v.Items[i].expressions(yield) {
			return false
		}
	}
	return true
}

// Get returns the value of an object's key, or nil.
func (v *Value) Get(key string) *Value {
	for i, k := range v.Keys {
		if k == key {
			return &v.Items[i]
		}
	}
	return nil
}

// Constructors of literals.

// NullValue is the literal null.
func NullValue() Value { return Value{Kind: Null} }

// BoolValue is a literal true or false.
func BoolValue(b bool) Value { return Value{Kind: Bool, Bool: b} }

// NumberValue is a literal number; literal must match the grammar of RFC 8259 section 6.
func NumberValue(literal string) (Value, error) {
	if !isNumber(literal) {
		return Value{}, fmt.Errorf("number %q is not written as in JSON", literal)
	}
	return Value{Kind: Number, Text: literal}, nil
}

func isNumber(s string) bool {
	return s != "" && (s[0] == '-' || s[0] >= '0' && s[0] <= '9') && json.Valid([]byte(s))
}

// ParseString reads a string as written in a document: a text, a template or one expression. The issues' offsets are
// byte offsets into s; with issues the Value is a String of s.
func ParseString(s string) (Value, []expr.Issue) {
	text := Value{Kind: String, Text: s, Source: s}
	if !strings.Contains(s, "${{") {
		return text, nil
	}
	if len(s) > MaxTemplateBytes {
		return text, []expr.Issue{{Offset: 0, Length: len(s), Message: fmt.Sprintf("a text with expressions may have %d bytes at most, this one has %d", MaxTemplateBytes, len(s))}}
	}
	parts, issues := expr.ParseTemplate(s)
	if len(issues) > 0 {
		return text, issues
	}
	v := Value{Kind: Template, Source: s}
	for _, p := range parts {
		if p.Source == "" {
			v.Parts = append(v.Parts, Part{Text: p.Text})
			continue
		}
		if len(p.Source) > MaxExpressionBytes {
			return text, []expr.Issue{{Offset: p.Offset, Length: len(p.Source), Message: fmt.Sprintf("an expression may have %d bytes at most, this one has %d", MaxExpressionBytes, len(p.Source))}}
		}
		e := &Expr{Source: p.Source, Offset: p.Offset}
		if path, ok := expr.IsReference(p.Source); ok {
			e.Reference = path
		}
		v.Parts = append(v.Parts, Part{Expr: e})
	}
	switch {
	case len(v.Parts) == 1 && v.Parts[0].Expr != nil:
		v.Kind = Expression
	case !hasExpression(v.Parts):
		v.Kind, v.Parts = String, nil
		for _, p := range parts {
			v.Text += p.Text
		}
	}
	return v, nil
}

func hasExpression(parts []Part) bool {
	for i := range parts {
		if parts[i].Expr != nil {
			return true
		}
	}
	return false
}

// MarshalJSON writes v as the document has it: strings as written, objects in their order.
func (v Value) MarshalJSON() ([]byte, error) { return v.append(nil) }

func (v *Value) append(dst []byte) ([]byte, error) {
	switch v.Kind {
	case Absent, Null:
		return append(dst, "null"...), nil
	case Bool:
		if v.Bool {
			return append(dst, "true"...), nil
		}
		return append(dst, "false"...), nil
	case Number:
		return append(dst, v.Text...), nil
	case Object, List:
		return v.appendItems(dst)
	default:
		return appendText(dst, v.Source)
	}
}

func (v *Value) appendItems(dst []byte) ([]byte, error) {
	open, closing := byte('['), byte(']')
	if v.Kind == Object {
		open, closing = '{', '}'
	}
	dst = append(dst, open)
	for i := range v.Items {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if v.Kind == Object {
			if dst, err = appendText(dst, v.Keys[i]); err != nil {
				return nil, err
			}
			dst = append(dst, ':')
		}
		if dst, err = v.Items[i].append(dst); err != nil {
			return nil, err
		}
	}
	return append(dst, closing), nil
}

func appendText(dst []byte, s string) ([]byte, error) {
	b, err := canon.Marshal(s)
	return append(dst, b...), err
}

// UnmarshalJSON reads any JSON value. Numbers keep their digits, objects their order; repeated keys and strings whose
// expressions cannot be parsed are errors.
func (v *Value) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	got, err := decodeValue(dec, 0)
	if err != nil {
		return err
	}
	*v = got
	return nil
}

func decodeValue(dec *json.Decoder, depth int) (Value, error) {
	if depth > MaxDocumentDepth {
		return Value{}, errors.New("value is nested too deeply")
	}
	t, err := dec.Token()
	if err != nil {
		return Value{}, err
	}
	switch t := t.(type) {
	case bool:
		return BoolValue(t), nil
	case json.Number:
		return NumberValue(t.String())
	case string:
		v, issues := ParseString(t)
		if len(issues) > 0 {
			return Value{}, fmt.Errorf("expression in %q: %s", t, issues[0].Message)
		}
		return v, nil
	case json.Delim:
		return decodeItems(dec, t, depth)
	default:
		return NullValue(), nil
	}
}

func decodeItems(dec *json.Decoder, open json.Delim, depth int) (Value, error) {
	v := Value{Kind: List}
	seen := map[string]bool{}
	if open == '{' {
		v.Kind = Object
	}
	for dec.More() {
		if v.Kind == Object {
			t, err := dec.Token()
			if err != nil {
				return Value{}, err
			}
			key, ok := t.(string)
			if !ok || seen[key] {
				return Value{}, fmt.Errorf("key %v is repeated", t)
			}
			seen[key] = true
			v.Keys = append(v.Keys, key)
		}
		item, err := decodeValue(dec, depth+1)
		if err != nil {
			return Value{}, err
		}
		v.Items = append(v.Items, item)
	}
	_, err := dec.Token()
	return v, err
}
