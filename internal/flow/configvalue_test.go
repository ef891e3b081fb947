package flow

import (
	"encoding/json"
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
