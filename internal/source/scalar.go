package source

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ScalarType is what a plain scalar means.
type ScalarType uint8

// The meanings.
const (
	TextScalar ScalarType = iota
	NullScalar
	BoolScalar
	NumberScalar
	UnclearScalar // other versions of YAML read it as something else
)

// Resolve says what a scalar means: as JSON does where it is written as in JSON, and a text otherwise. Words and numbers that
// versions of YAML disagree about are unclear.
func Resolve(n *Node) ScalarType {
	if n.Form != PlainForm {
		return TextScalar
	}
	switch n.Value {
	case "", "~", "null", "Null", "NULL":
		return NullScalar
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return BoolScalar
	}
	switch strings.ToLower(n.Value) {
	case "yes", "no", "on", "off", ".inf", "+.inf", "-.inf", ".nan":
		return UnclearScalar
	}
	if c := n.Value[0]; c != '-' && c != '+' && c != '.' && (c < '0' || c > '9') {
		return TextScalar
	}
	if json.Valid([]byte(n.Value)) {
		return NumberScalar
	}
	if regexp.MustCompile(`^[-+]?(0[xX][0-9a-fA-F_]+|0[oO]?[0-7_]+|0b[01_]+|[0-9][0-9_]*|([0-9][0-9_]*)?\.[0-9_]*([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+)$`).MatchString(n.Value) &&
		strings.ContainsAny(n.Value, "0123456789") {
		return UnclearScalar
	}
	return TextScalar
}

// Describe names what stands there, for a message.
func Describe(n *Node) string {
	switch {
	case n.Kind == Map:
		return "a map"
	case n.Kind == List:
		return "a list"
	}
	switch Resolve(n) {
	case NullScalar:
		if n.Value == "" {
			return "nothing"
		}
		return "null"
	case BoolScalar:
		return n.Value
	case NumberScalar:
		return "the number " + Cut(n.Value, 40)
	}
	return fmt.Sprintf("the text %q", Cut(n.Value, 60))
}

// Unclear reports a scalar that versions of YAML read differently.
func (d *Decoder) Unclear(n *Node, path string) {
	suggestion := fmt.Sprintf("write %q in quotes for a text", Cut(n.Value, 40))
	switch strings.ToLower(n.Value) {
	case "yes", "on":
		suggestion = fmt.Sprintf("write true, or %q in quotes for a text", n.Value)
	case "no", "off":
		suggestion = fmt.Sprintf("write false, or %q in quotes for a text", n.Value)
	}
	d.Problem(n, path, suggestion, "%s is read differently by versions of YAML", Cut(n.Value, 40))
}

// PlainText reads a text in which nothing is evaluated. ok is false when a problem was reported.
func (d *Decoder) PlainText(n *Node, path, what string, limit int) (s string, ok bool) {
	d.At[path] = n
	if n.Kind != Scalar {
		d.Problem(n, path, "", "expected %s, found %s", what, Describe(n))
		return "", false
	}
	switch Resolve(n) {
	case NullScalar:
		d.Problem(n, path, "", "expected %s, found %s", what, Describe(n))
		return "", false
	case BoolScalar, NumberScalar:
		d.Problem(n, path, fmt.Sprintf("write %q in quotes", Cut(n.Value, 40)), "expected %s, found %s", what, Describe(n))
		return "", false
	}
	if len(n.Value) > limit {
		d.Problem(n, path, "", "%s may have %d bytes at most, this has %d", what, limit, len(n.Value))
		return "", false
	}
	return n.Value, true
}

// NoExpression reports a ${{ where nothing is evaluated.
func (d *Decoder) NoExpression(n *Node, path, what string) bool {
	i := strings.Index(n.Value, "${{")
	if i < 0 {
		return true
	}
	d.Problem(n, path, "", "%s takes no expression", what)
	return false
}

// Str reads a short text that is not for people.
func (d *Decoder) Str(dst *string, what string) Reader {
	return func(n *Node, path string) {
		if s, ok := d.PlainText(n, path, what, MaxText); ok && d.NoExpression(n, path, what) {
			if s == "" {
				d.Problem(n, path, "", "expected %s, found an empty text", what)
				return
			}
			*dst = s
		}
	}
}

// Matching reads a text of a pattern.
func (d *Decoder) Matching(dst *string, what string, pattern *regexp.Regexp, rule string) Reader {
	return func(n *Node, path string) {
		s, ok := d.PlainText(n, path, what, MaxText)
		if !ok {
			return
		}
		if !pattern.MatchString(s) {
			d.Problem(n, path, NameSuggestion(s, pattern), "%q is not %s: %s", Cut(s, 80), what, rule)
			return
		}
		*dst = s
	}
}

// Enum reads one of a few words.
func Enum[T ~string](d *Decoder, dst *T, words ...T) Reader {
	return func(n *Node, path string) {
		names := make([]string, len(words))
		for i, w := range words {
			names[i] = string(w)
		}
		s, ok := d.PlainText(n, path, OneOf(names), MaxText)
		if !ok {
			return
		}
		if !slices.Contains(names, s) {
			suggestion := ""
			if near := Nearest(s, names); near != "" {
				suggestion = fmt.Sprintf("did you mean %q?", near)
			}
			d.Problem(n, path, suggestion, "expected %s, found %s", OneOf(names), Describe(n))
			return
		}
		*dst = T(s)
	}
}

// Boolean reads true or false.
func (d *Decoder) Boolean(dst *bool) Reader {
	return func(n *Node, path string) {
		d.At[path] = n
		if n.Kind == Scalar {
			switch Resolve(n) {
			case BoolScalar:
				*dst = strings.EqualFold(n.Value, "true")
				return
			case UnclearScalar:
				d.Unclear(n, path)
				return
			}
		}
		d.Problem(n, path, "", "expected true or false, found %s", Describe(n))
	}
}

// Truth reads a key that is only ever written as true.
func (d *Decoder) Truth(dst *bool) Reader {
	return func(n *Node, path string) {
		d.Boolean(dst)(n, path)
		if n.Kind == Scalar && Resolve(n) == BoolScalar && !*dst {
			d.Problem(n, path, "", "expected true, found false")
		}
	}
}

// Integer reads a whole number between two bounds, both included.
func (d *Decoder) Integer(dst *int, low, high int) Reader {
	return func(n *Node, path string) {
		d.At[path] = n
		what := fmt.Sprintf("a whole number from %d to %d", low, high)
		if n.Kind == Scalar && Resolve(n) == UnclearScalar {
			d.Unclear(n, path)
			return
		}
		if n.Kind != Scalar || Resolve(n) != NumberScalar {
			d.Problem(n, path, "", "expected %s, found %s", what, Describe(n))
			return
		}
		i, err := strconv.Atoi(n.Value)
		if err != nil || i < low || i > high {
			d.Problem(n, path, "", "expected %s, found %s", what, Describe(n))
			return
		}
		*dst = i
	}
}
