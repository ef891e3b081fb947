package flow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ConfigError is one config value that an instance cannot have.
type ConfigError struct {
	Name    string // of the variable
	Message string // what was expected
}

// Error implements error.
func (e *ConfigError) Error() string { return "config " + e.Name + ": " + e.Message }

// ParseConfigText reads a value written as text, on a command line, into the JSON of
// its type: numbers and truth values as they are, lists and objects as JSON, all else
// as a string.
func (v *ConfigVar) ParseConfigText(text string) (json.RawMessage, error) {
	switch v.Type {
	case ConfigNumber, ConfigInteger, ConfigBoolean, ConfigList, ConfigObject, ConfigMapping, ConfigSchedule:
		if !json.Valid([]byte(text)) {
			return nil, &ConfigError{v.Name, fmt.Sprintf("want a %s, got %q", v.Type, text)}
		}
		return json.RawMessage(text), nil
	default:
		b, err := json.Marshal(text)
		if err != nil {
			return nil, &ConfigError{v.Name, "want text"}
		}
		return b, nil
	}
}

// ConfigJSON checks the values of an instance against the variables and gives the
// JSON object that expressions see as config: values and defaults in the order of the
// variables, null for what is not set. Secrets are checked and left out. All problems
// are returned at once, each a [*ConfigError].
func (i *Integration) ConfigJSON(values map[string]json.RawMessage) ([]byte, error) {
	return i.configJSON(values, configForm{})
}

// SecretConfigJSON is [Integration.ConfigJSON] with the secrets that are set: what is
// sealed to the vault and stored. It may go nowhere else.
func (i *Integration) SecretConfigJSON(values map[string]json.RawMessage) ([]byte, error) {
	return i.configJSON(values, configForm{secrets: true})
}

// PartialConfigJSON is [Integration.SecretConfigJSON] for an instance that may lack required
// values: they are null.
func (i *Integration) PartialConfigJSON(values map[string]json.RawMessage) ([]byte, error) {
	return i.configJSON(values, configForm{secrets: true, partial: true})
}

// configForm is what becomes of config values.
type configForm struct {
	secrets bool // they are kept
	partial bool // required values may be missing
}

func (i *Integration) configJSON(values map[string]json.RawMessage, form configForm) ([]byte, error) {
	var problems []error
	out := bytes.NewBufferString("{")
	for n := range i.Config {
		v := &i.Config[n]
		value, err := v.value(values[v.Name], form.partial)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if v.Type == ConfigSecret && (!form.secrets || string(value) == "null") {
			continue
		}
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		fmt.Fprintf(out, "%q:%s", v.Name, value)
	}
	for name := range values {
		if i.ConfigVar(name) == nil {
			problems = append(problems, &ConfigError{name, "the integration has no such variable; it has " + i.configNames()})
		}
	}
	if len(problems) > 0 {
		slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return nil, errors.Join(problems...)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

func (i *Integration) configNames() string {
	if len(i.Config) == 0 {
		return "none"
	}
	names := make([]string, len(i.Config))
	for n := range i.Config {
		names[n] = i.Config[n].Name
	}
	return strings.Join(names, ", ")
}

// value is what one variable has: the given value, its default, or null.
func (v *ConfigVar) value(given json.RawMessage, partial bool) (json.RawMessage, error) {
	if len(given) == 0 || string(given) == "null" {
		switch {
		case !v.Default.IsZero():
			b, err := json.Marshal(v.Default)
			if err != nil {
				return nil, &ConfigError{v.Name, "its default cannot be read"}
			}
			return b, nil
		case v.Required && v.If.IsZero() && !partial:
			return nil, &ConfigError{v.Name, "a value is required"}
		default:
			return json.RawMessage("null"), nil
		}
	}
	if err := v.Check(given); err != "" {
		return nil, &ConfigError{v.Name, err}
	}
	return given, nil
}

var clockTime = regexp.MustCompile(`^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$`)

// Check says what is wrong with a value that is not null, or nothing. It never repeats the value.
func (v *ConfigVar) Check(value json.RawMessage) string {
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	var x any
	if err := d.Decode(&x); err != nil || d.More() {
		return "want JSON"
	}
	text, isText := x.(string)
	number, isNumber := x.(json.Number)
	ok, want := true, string(v.Type)
	switch v.Type {
	case ConfigString, ConfigText, ConfigSecret:
		ok, want = isText, "text"
	case ConfigNumber:
		ok = isNumber
	case ConfigInteger:
		_, err := strconv.ParseInt(number.String(), 10, 64)
		ok, want = isNumber && err == nil, "whole number"
	case ConfigBoolean:
		_, ok = x.(bool)
		want = "true or false"
	case ConfigDate:
		ok, want = isText && parses(time.DateOnly, text), "date such as 2026-11-21"
	case ConfigTime:
		ok, want = isText && clockTime.MatchString(text), "time such as 15:04"
	case ConfigDateTime:
		ok, want = isText && parses(time.RFC3339, text), "date and time such as 2026-11-21T15:04:05Z"
	case ConfigTimezone:
		_, err := time.LoadLocation(text)
		ok, want = isText && text != "" && text != "Local" && err == nil, "time zone such as Europe/Berlin"
	case ConfigList:
		_, ok = x.([]any)
	case ConfigObject, ConfigMapping, ConfigSchedule, ConfigFile:
		_, ok = x.(map[string]any)
	}
	if !ok {
		return "want " + article(want)
	}
	list, isList := x.([]any)
	switch {
	case v.Type == ConfigMapping:
		return v.checkMapping(x.(map[string]any))
	case isList && (v.Choices != nil || len(v.Enum) > 0):
		return v.checkChosen(list)
	case isList:
		return ""
	}
	return v.checkEnum(x)
}

// checkEnum says what is wrong with one value of a variable that has an enum.
func (v *ConfigVar) checkEnum(x any) string {
	if len(v.Enum) == 0 || slices.ContainsFunc(v.Enum, func(o Option) bool { return o.Value == scalarText(x) }) {
		return ""
	}
	var all []string
	for _, o := range v.Enum {
		all = append(all, o.Value)
	}
	return "want one of " + strings.Join(all, ", ")
}

// scalarText is a text or a number as it is written.
func scalarText(x any) string {
	switch x := x.(type) {
	case string:
		return x
	case json.Number:
		return x.String()
	}
	return ""
}

// checkChosen says what is wrong with a list of values that were chosen.
func (v *ConfigVar) checkChosen(list []any) string {
	if len(list) > MaxChosen {
		return fmt.Sprintf("want at most %d values", MaxChosen)
	}
	for _, x := range list {
		switch x.(type) {
		case string, json.Number, bool:
		default:
			return "want a list of texts or numbers"
		}
		if wrong := v.checkEnum(x); wrong != "" {
			return wrong
		}
	}
	return ""
}

// checkMapping says what is wrong with a map from source fields to target fields: an empty text maps a field to nothing.
func (v *ConfigVar) checkMapping(fields map[string]any) string {
	if len(fields) > MaxChosen {
		return fmt.Sprintf("want at most %d fields", MaxChosen)
	}
	mapped := map[string]bool{}
	for from, x := range fields {
		to, isText := x.(string)
		switch {
		case !isText || from == "":
			return "want a map from the names of fields to the names of fields"
		case to == "":
			continue
		case mapped[to]:
			return "two fields are mapped to the same one"
		}
		mapped[to] = true
	}
	if v.To == nil {
		return ""
	}
	for _, name := range v.To.Required {
		if !mapped[name] {
			return fmt.Sprintf("a field must be mapped to %q", name)
		}
	}
	return ""
}

func parses(layout, text string) bool {
	_, err := time.Parse(layout, text)
	return err == nil
}

func article(noun string) string {
	switch {
	case noun == "text" || strings.HasPrefix(noun, "true"):
		return noun
	case strings.ContainsRune("aeiou", rune(noun[0])):
		return "an " + noun
	default:
		return "a " + noun
	}
}
