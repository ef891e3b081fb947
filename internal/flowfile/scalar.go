package flowfile

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
)

// scalarType is what a plain scalar means.
type scalarType uint8

const (
	textScalar scalarType = iota
	nullScalar
	boolScalar
	numberScalar
	unclearScalar // other versions of YAML read it as something else
)

// resolve says what a scalar means: as JSON does where it is written as in JSON, and a text otherwise. Words and numbers that
// versions of YAML disagree about are unclear.
func resolve(n *node) scalarType {
	if n.style != plainStyle {
		return textScalar
	}
	switch n.value {
	case "", "~", "null", "Null", "NULL":
		return nullScalar
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return boolScalar
	}
	switch strings.ToLower(n.value) {
	case "yes", "no", "on", "off", ".inf", "+.inf", "-.inf", ".nan":
		return unclearScalar
	}
	if c := n.value[0]; c != '-' && c != '+' && c != '.' && (c < '0' || c > '9') {
		return textScalar
	}
	if json.Valid([]byte(n.value)) {
		return numberScalar
	}
	if regexp.MustCompile(`^[-+]?(0[xX][0-9a-fA-F_]+|0[oO]?[0-7_]+|0b[01_]+|[0-9][0-9_]*|([0-9][0-9_]*)?\.[0-9_]*([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+)$`).MatchString(n.value) &&
		strings.ContainsAny(n.value, "0123456789") {
		return unclearScalar
	}
	return textScalar
}

// describe names what stands there, for a message.
func describe(n *node) string {
	switch {
	case n.kind == mapNode:
		return "a map"
	case n.kind == listNode:
		return "a list"
	}
	switch resolve(n) {
	case nullScalar:
		if n.value == "" {
			return "nothing"
		}
		return "null"
	case boolScalar:
		return n.value
	case numberScalar:
		return "the number " + cut(n.value, 40)
	}
	return fmt.Sprintf("the text %q", cut(n.value, 60))
}

// unclear reports a scalar that versions of YAML read differently.
func (d *decoder) unclear(n *node, path string) {
	suggestion := fmt.Sprintf("write %q in quotes for a text", cut(n.value, 40))
	switch strings.ToLower(n.value) {
	case "yes", "on":
		suggestion = fmt.Sprintf("write true, or %q in quotes for a text", n.value)
	case "no", "off":
		suggestion = fmt.Sprintf("write false, or %q in quotes for a text", n.value)
	}
	d.problem(n, path, suggestion, "%s is read differently by versions of YAML", cut(n.value, 40))
}

// plainText reads a text in which nothing is evaluated. ok is false when a problem was reported.
func (d *decoder) plainText(n *node, path, what string, limit int) (s string, ok bool) {
	d.at[path] = n
	if n.kind != scalarNode {
		d.problem(n, path, "", "expected %s, found %s", what, describe(n))
		return "", false
	}
	switch resolve(n) {
	case nullScalar:
		d.problem(n, path, "", "expected %s, found %s", what, describe(n))
		return "", false
	case boolScalar, numberScalar:
		d.problem(n, path, fmt.Sprintf("write %q in quotes", cut(n.value, 40)), "expected %s, found %s", what, describe(n))
		return "", false
	}
	if len(n.value) > limit {
		d.problem(n, path, "", "%s may have %d bytes at most, this has %d", what, limit, len(n.value))
		return "", false
	}
	return n.value, true
}

// noExpression reports a ${{ where nothing is evaluated.
func (d *decoder) noExpression(n *node, path, what string) bool {
	i := strings.Index(n.value, "${{")
	if i < 0 {
		return true
	}
	d.problem(n, path, "", "%s takes no expression", what)
	return false
}

// str reads a short text that is not for people.
func (d *decoder) str(dst *string, what string) reader {
	return func(n *node, path string) {
		if s, ok := d.plainText(n, path, what, flow.MaxTextBytes); ok && d.noExpression(n, path, what) {
			if s == "" {
				d.problem(n, path, "", "expected %s, found an empty text", what)
				return
			}
			*dst = s
		}
	}
}

// matching reads a text of a pattern.
func (d *decoder) matching(dst *string, what string, pattern *regexp.Regexp, rule string) reader {
	return func(n *node, path string) {
		s, ok := d.plainText(n, path, what, flow.MaxTextBytes)
		if !ok {
			return
		}
		if !pattern.MatchString(s) {
			d.problem(n, path, nameSuggestion(s, pattern), "%q is not %s: %s", cut(s, 80), what, rule)
			return
		}
		*dst = s
	}
}

// enum reads one of a few words.
func enum[T ~string](d *decoder, dst *T, words ...T) reader {
	return func(n *node, path string) {
		names := make([]string, len(words))
		for i, w := range words {
			names[i] = string(w)
		}
		s, ok := d.plainText(n, path, oneOf(names), flow.MaxTextBytes)
		if !ok {
			return
		}
		if !slices.Contains(names, s) {
			suggestion := ""
			if near := nearest(s, names); near != "" {
				suggestion = fmt.Sprintf("did you mean %q?", near)
			}
			d.problem(n, path, suggestion, "expected %s, found %s", oneOf(names), describe(n))
			return
		}
		*dst = T(s)
	}
}

// boolean reads true or false.
func (d *decoder) boolean(dst *bool) reader {
	return func(n *node, path string) {
		d.at[path] = n
		if n.kind == scalarNode {
			switch resolve(n) {
			case boolScalar:
				*dst = strings.EqualFold(n.value, "true")
				return
			case unclearScalar:
				d.unclear(n, path)
				return
			}
		}
		d.problem(n, path, "", "expected true or false, found %s", describe(n))
	}
}

// truth reads a key that is only ever written as true.
func (d *decoder) truth(dst *bool) reader {
	return func(n *node, path string) {
		d.boolean(dst)(n, path)
		if n.kind == scalarNode && resolve(n) == boolScalar && !*dst {
			d.problem(n, path, "", "expected true, found false")
		}
	}
}

// integer reads a whole number between two bounds, both included.
func (d *decoder) integer(dst *int, low, high int) reader {
	return func(n *node, path string) {
		d.at[path] = n
		what := fmt.Sprintf("a whole number from %d to %d", low, high)
		if n.kind == scalarNode && resolve(n) == unclearScalar {
			d.unclear(n, path)
			return
		}
		if n.kind != scalarNode || resolve(n) != numberScalar {
			d.problem(n, path, "", "expected %s, found %s", what, describe(n))
			return
		}
		i, err := strconv.Atoi(n.value)
		if err != nil || i < low || i > high {
			d.problem(n, path, "", "expected %s, found %s", what, describe(n))
			return
		}
		*dst = i
	}
}

// duration reads an ISO 8601 duration up to a longest.
func (d *decoder) duration(dst *flow.Duration, longest time.Duration) reader {
	return func(n *node, path string) {
		s, ok := d.plainText(n, path, "a duration such as PT30S or P2D", flow.MaxTextBytes)
		if !ok || !d.noExpression(n, path, "this duration") {
			return
		}
		parsed, err := flow.ParseDuration(s)
		switch {
		case err != nil:
			d.problem(n, path, durationSuggestion(s), "expected a duration such as PT30S, PT15M or P2D, found %s", describe(n))
		case parsed.Std() > longest:
			d.problem(n, path, "", "expected a duration of %s at most, found %s", flow.Duration(longest), s)
		default:
			*dst = parsed
		}
	}
}

// durationSuggestion understands the short forms of other tools.
func durationSuggestion(s string) string {
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return "write " + flow.Duration(d).String()
	}
	if m := regexp.MustCompile(`^(\d{1,4}) ?d(ays?)?$`).FindStringSubmatch(s); m != nil {
		return "write P" + m[1] + "D"
	}
	if upper := strings.ToUpper(s); upper != s {
		if d, err := flow.ParseDuration(upper); err == nil {
			return "write " + d.String()
		}
	}
	if strings.HasPrefix(s, "P") && strings.ContainsAny(s, "YM") && !strings.Contains(s, "T") {
		return "years and months have no fixed length: write days"
	}
	return ""
}

// text reads what people see: a text, or one per locale.
func (d *decoder) text(dst *flow.Text) reader {
	return func(n *node, path string) {
		if n.kind != mapNode {
			if s, ok := d.plainText(n, path, "a text, or one per locale", flow.MaxTextBytes); ok && d.noExpression(n, path, "a text for people") {
				dst.Plain = s
			}
			return
		}
		locale := regexp.MustCompile(`^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$`)
		texts := map[string]string{}
		d.entries(n, path, "texts", flow.MaxLocales, locale, "locales are written as en or de-AT", func(key string, n *node, path string) {
			if s, ok := d.plainText(n, path, "a text", flow.MaxTextBytes); ok && d.noExpression(n, path, "a text for people") {
				texts[key] = s
			}
		})
		if len(n.keys) == 0 {
			d.problem(n, path, "", "expected a text, or one per locale, found an empty map")
			return
		}
		dst.Locale = maps.Clone(texts)
	}
}
