package flowfile

import (
	"maps"
	"regexp"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// duration reads an ISO 8601 duration up to a longest.
func (d *decoder) duration(dst *flow.Duration, longest time.Duration) source.Reader {
	return func(n *source.Node, path string) {
		s, ok := d.PlainText(n, path, "a duration such as PT30S or P2D", flow.MaxTextBytes)
		if !ok || !d.NoExpression(n, path, "this duration") {
			return
		}
		parsed, err := flow.ParseDuration(s)
		switch {
		case err != nil:
			d.Problem(n, path, durationSuggestion(s), "expected a duration such as PT30S, PT15M or P2D, found %s", source.Describe(n))
		case parsed.Std() > longest:
			d.Problem(n, path, "", "expected a duration of %s at most, found %s", flow.Duration(longest), s)
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
func (d *decoder) text(dst *flow.Text) source.Reader {
	return func(n *source.Node, path string) {
		if n.Kind != source.Map {
			if s, ok := d.PlainText(n, path, "a text, or one per locale", flow.MaxTextBytes); ok && d.NoExpression(n, path, "a text for people") {
				dst.Plain = s
			}
			return
		}
		locale := regexp.MustCompile(`^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$`)
		texts := map[string]string{}
		d.Entries(n, path, "texts", flow.MaxLocales, locale, "locales are written as en or de-AT", func(key string, n *source.Node, path string) {
			if s, ok := d.PlainText(n, path, "a text", flow.MaxTextBytes); ok && d.NoExpression(n, path, "a text for people") {
				texts[key] = s
			}
		})
		if len(n.Keys) == 0 {
			d.Problem(n, path, "", "expected a text, or one per locale, found an empty map")
			return
		}
		dst.Locale = maps.Clone(texts)
	}
}
