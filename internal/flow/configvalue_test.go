package flow

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestConfigJSON(t *testing.T) {
	t.Parallel()
	var fallback Value
	if err := json.Unmarshal([]byte("100"), &fallback); err != nil {
		t.Fatal(err)
	}
	i := &Integration{Config: []ConfigVar{
		{Name: "min", Type: ConfigNumber, Default: fallback},
		{Name: "key", Type: ConfigSecret, Required: true},
		{Name: "region", Type: ConfigString, Enum: []Option{{Value: "eu"}, {Value: "us"}}},
		{Name: "zone", Type: ConfigTimezone},
		{Name: "day", Type: ConfigDate},
		{Name: "n", Type: ConfigInteger},
	}}
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	for _, c := range []struct {
		name   string
		values map[string]json.RawMessage
		want   string // the JSON, or parts of the error
	}{
		{"defaults", map[string]json.RawMessage{"key": raw(`"s3cret"`)}, `{"min":100,"region":null,"zone":null,"day":null,"n":null}`},
		{"all", map[string]json.RawMessage{"key": raw(`"s"`), "min": raw("1.5"), "region": raw(`"us"`), "zone": raw(`"Europe/Berlin"`), "day": raw(`"2026-02-28"`), "n": raw("7")}, `{"min":1.5,"region":"us","zone":"Europe/Berlin","day":"2026-02-28","n":7}`},
		{"required secret", nil, "config key: a value is required"},
		{
			"everything wrong",
			map[string]json.RawMessage{"key": raw("1"), "min": raw(`"1"`), "region": raw(`"moon"`), "zone": raw(`"Mars/Base"`), "day": raw(`"2026-02-30"`), "n": raw("1.5"), "x": raw("1")},
			"config day: want a date such as 2026-11-21\nconfig key: want text\nconfig min: want a number\nconfig n: want a whole number\nconfig region: want one of eu, us\nconfig x: the integration has no such variable; it has min, key, region, zone, day, n\nconfig zone: want a time zone such as Europe/Berlin",
		},
	} {
		got, err := i.ConfigJSON(c.values)
		if err != nil {
			got = []byte(err.Error())
		}
		if string(got) != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		if strings.Contains(string(got), "s3cret") {
			t.Errorf("%s: the secret is visible", c.name)
		}
	}
}

func TestSecretConfigJSON(t *testing.T) {
	t.Parallel()
	i := &Integration{Config: []ConfigVar{
		{Name: "key", Type: ConfigSecret, Required: true},
		{Name: "old", Type: ConfigSecret},
		{Name: "n", Type: ConfigInteger},
	}}
	got, err := i.SecretConfigJSON(map[string]json.RawMessage{"key": json.RawMessage(`"s3cret"`)})
	if want := `{"key":"s3cret","n":null}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if got, err := i.SecretConfigJSON(nil); err == nil {
		t.Errorf("without the required secret: %s", got)
	}
}

func TestWhatIsChosen(t *testing.T) {
	t.Parallel()
	mapping := ConfigVar{Type: ConfigMapping, To: &Choices{Required: []string{"email"}}}
	list := ConfigVar{Type: ConfigList, Choices: &Choices{}}
	for _, c := range []struct {
		v     ConfigVar
		value string
		want  string
	}{
		{mapping, `{"mail":"email","name":"","sum":"total"}`, ""},
		{mapping, `{"mail":"mail"}`, `a field must be mapped to "email"`},
		{mapping, `{"mail":"email","also":"email"}`, "two fields are mapped to the same one"},
		{mapping, `{"mail":["email"]}`, "want a map from the names of fields to the names of fields"},
		{mapping, `{"mail":null}`, "want a map from the names of fields to the names of fields"},
		{mapping, `{"":"email"}`, "want a map from the names of fields to the names of fields"},
		{mapping, `["email"]`, "want a mapping"},
		{ConfigVar{Type: ConfigMapping}, `{}`, ""},
		{list, `["a",1,true]`, ""},
		{list, `["a",{}]`, "want a list of texts or numbers"},
		{list, `"a"`, "want a list"},
		{ConfigVar{Type: ConfigList}, `[{}]`, ""},
		{ConfigVar{Type: ConfigList, Enum: []Option{{Value: "a"}, {Value: "b"}}}, `["b","a"]`, ""},
		{ConfigVar{Type: ConfigList, Enum: []Option{{Value: "a"}}}, `["b"]`, "want one of a"},
		{ConfigVar{Type: ConfigString, Choices: &Choices{}}, `7`, "want text"},
	} {
		if got := c.v.Check(json.RawMessage(c.value)); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.v.Type, c.value, got, c.want)
		}
	}
}

// What lists a variable's values is an integration of its own, without secrets, and with nothing that is required.
func TestOptions(t *testing.T) {
	t.Parallel()
	i := &Integration{
		Format: FormatVersion, ProfileVersion: 1, Name: "a", Connections: []Slot{{Name: "web", Connector: ConnectorHTTP}, {Name: "crm", Connector: "crm@^1"}},
		Config: []ConfigVar{
			{Name: "key", Type: ConfigSecret, Required: true},
			{Name: "year", Type: ConfigInteger, Required: true},
			{Name: "one", Type: ConfigString, Required: true, Choices: &Choices{Uses: "web.request", With: object([]string{"path"}, text("/x")), Items: "a.b", Value: "id"}},
			{Name: "two", Type: ConfigMapping, From: &Choices{Uses: "web.request", Value: "id"}, To: &Choices{Uses: "crm.list", Value: "id"}},
		},
	}
	for _, c := range [][2]string{{"one", ""}, {"one", SideChoices}, {"two", SideFrom}} {
		got, err := i.Options(c[0], c[1])
		if err != nil {
			t.Fatal(err)
		}
		definition, err := got.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(definition); err != nil {
			t.Errorf("%s: %v", c, err)
		}
		config, err := got.SecretConfigJSON(map[string]json.RawMessage{"year": json.RawMessage("7")})
		if want := `{"year":7,"one":null,"two":null}`; err != nil || string(config) != want || len(got.Connections) != 1 || got.Flow(OptionsFlow) == nil {
			t.Errorf("%s: %s, %v", c, config, err)
		}
	}
	for _, c := range [][2]string{{"year", ""}, {"two", ""}, {"one", SideTo}, {"nothing", ""}, {"two", SideTo}} { // the last has no lock
		if _, err := i.Options(c[0], c[1]); !errors.Is(err, ErrNoOptions) {
			t.Errorf("%s: %v", c, err)
		}
	}
}
