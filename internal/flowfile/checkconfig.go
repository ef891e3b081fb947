package flowfile

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

func itoa(n int) string { return strconv.Itoa(n) }

func (c *checker) checkConfig() {
	for n := range c.i.Config {
		v := &c.i.Config[n]
		path := "config." + v.Name
		c.configKeys(v, path)
		e := env{scope: c.instance}
		c.want(&v.If, path+".if", "true or false", e, expr.KindBool)
		for _, choices := range []struct {
			key string
			c   *flow.Choices
		}{{"choices", v.Choices}, {"from", v.From}, {"to", v.To}} {
			if choices.c != nil {
				c.choices(choices.c, path+"."+choices.key, e)
			}
		}
		if !v.Default.IsZero() {
			c.configDefault(v, path+".default")
		}
	}
}

// configKeys checks that the keys of a variable fit its type.
func (c *checker) configKeys(v *flow.ConfigVar, path string) {
	text := []flow.ConfigType{flow.ConfigString, flow.ConfigList}
	for _, k := range []struct {
		key   string
		there bool
		types []flow.ConfigType
	}{
		{"enum", len(v.Enum) > 0, text},
		{"choices", v.Choices != nil, text},
		{"from", v.From != nil, []flow.ConfigType{flow.ConfigMapping}},
		{"to", v.To != nil, []flow.ConfigType{flow.ConfigMapping}},
		{"schema", v.Schema != nil, []flow.ConfigType{flow.ConfigList, flow.ConfigObject}},
	} {
		if k.there && v.Type != "" && !slices.Contains(k.types, v.Type) {
			names := make([]string, len(k.types))
			for i, t := range k.types {
				names[i] = string(t)
			}
			c.d.ProblemKey(path+"."+k.key, "", "the key %q belongs to the type %s, this one is %s", k.key, source.OneOf(names), v.Type)
		}
	}
	if len(v.Enum) > 0 && v.Choices != nil {
		c.d.ProblemKey(path+".choices", "", `a variable has "enum" or "choices", not both`)
	}
	if v.Type == flow.ConfigSecret && !v.Default.IsZero() {
		c.d.ProblemKey(path+".default", "", "a secret has no default: secrets are never written into a file")
	}
	if v.Type == flow.ConfigFile && !v.Default.IsZero() {
		c.d.ProblemKey(path+".default", "", "a file has no default")
	}
	if v.Type == flow.ConfigMapping {
		for key, there := range map[string]bool{"from": v.From != nil, "to": v.To != nil} {
			if !there {
				c.d.ProblemKey(path, "", "the key %q is missing: a mapping goes from fields to fields", key)
			}
		}
	}
}

// configDefault checks that a default is a value of the variable's type.
func (c *checker) configDefault(v *flow.ConfigVar, path string) {
	x := &v.Default
	if v.Type == flow.ConfigSecret || v.Type == flow.ConfigFile || v.Type == "" {
		return
	}
	what, ok := "", true
	switch v.Type {
	case flow.ConfigNumber:
		what, ok = "a number", x.Kind == flow.Number
	case flow.ConfigInteger:
		what, ok = "a whole number", x.Kind == flow.Number && !strings.ContainsAny(x.Text, ".eE")
	case flow.ConfigBoolean:
		what, ok = "true or false", x.Kind == flow.Bool
	case flow.ConfigList:
		what, ok = "a list", x.Kind == flow.List
	case flow.ConfigObject, flow.ConfigMapping:
		what, ok = "a map", x.Kind == flow.Object
	case flow.ConfigSchedule:
		c.scheduleDefault(x, path)
		return
	default:
		what, ok = textDefault(v.Type, x)
	}
	if !ok {
		c.d.ProblemAt(path, "", "expected %s, as the type is %s", what, v.Type)
		return
	}
	if v.Type == flow.ConfigMapping || v.Choices != nil {
		if b, err := json.Marshal(x); err == nil {
			if wrong := v.Check(b); wrong != "" {
				c.d.ProblemAt(path, "", "%s", wrong)
			}
		}
	}
	c.enumDefault(v, x, path)
}

func textDefault(t flow.ConfigType, x *flow.Value) (what string, ok bool) {
	text := x.Kind == flow.String
	switch t {
	case flow.ConfigDate:
		_, err := time.Parse(time.DateOnly, x.Text)
		return "a date such as 2027-01-31", text && err == nil
	case flow.ConfigTime:
		return "a time such as 15:04", text && regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$`).MatchString(x.Text)
	case flow.ConfigDateTime:
		_, err := time.Parse(time.RFC3339, x.Text)
		return "a time such as 2027-01-31T09:00:00Z", text && err == nil
	case flow.ConfigTimezone:
		return "a time zone such as Europe/Berlin", text && validZone(x.Text)
	}
	return "a text", text
}

func (c *checker) enumDefault(v *flow.ConfigVar, x *flow.Value, path string) {
	if len(v.Enum) == 0 {
		return
	}
	values := make([]string, len(v.Enum))
	for i, o := range v.Enum {
		values[i] = o.Value
	}
	check := func(x *flow.Value, path string) {
		if x.Kind != flow.String || !slices.Contains(values, x.Text) {
			c.d.ProblemAt(path, source.DidYouMean(x.Text, values), "expected one of the values of enum")
		}
	}
	if x.Kind != flow.List {
		check(x, path)
		return
	}
	for i := range x.Items {
		check(&x.Items[i], fmt.Sprintf("%s[%d]", path, i))
	}
}

// scheduleDefault checks {cron, timezone} or {every}.
func (c *checker) scheduleDefault(x *flow.Value, path string) {
	if x.Kind != flow.Object {
		c.d.ProblemAt(path, `write {cron: "0 2 * * *"} or {every: PT1H}`, "expected a schedule, found %s", x.Kind)
		return
	}
	keys := []string{"cron", "timezone", "every"}
	for _, k := range x.Keys {
		if !slices.Contains(keys, k) {
			c.d.ProblemKey(source.Join(path, k), source.DidYouMean(k, keys), "unknown key %q", source.Cut(k, 80))
		}
	}
	e := env{scope: c.empty}
	for _, k := range keys {
		if v := x.Get(k); v != nil && v.Kind != flow.String {
			c.d.ProblemAt(source.Join(path, k), "", "expected a text, found %s", v.Kind)
			return
		}
	}
	if (x.Get("cron") == nil) == (x.Get("every") == nil) {
		c.d.ProblemAt(path, "", "a schedule needs exactly one of the keys cron or every")
		return
	}
	if v := x.Get("cron"); v != nil {
		c.cron(v, path+".cron", e)
	}
	if v := x.Get("every"); v != nil {
		c.every(v, path+".every", e)
	}
	if v := x.Get("timezone"); v != nil {
		c.timezone(v, path+".timezone", e)
	}
}
