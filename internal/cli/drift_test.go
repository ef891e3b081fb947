package cli

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func TestConfigDiff(t *testing.T) {
	t.Parallel()
	i := &flow.Integration{Config: []flow.ConfigVar{
		{Name: "min", Type: flow.ConfigNumber},
		{Name: "region", Type: flow.ConfigString},
		{Name: "key", Type: flow.ConfigSecret},
	}}
	has := func(list ...string) []wire.Item {
		var out []wire.Item
		for n := range list {
			if list[n] != "" {
				out = append(out, wire.Item{Kind: "config", Path: i.Config[n].Name, Value: json.RawMessage(list[n])})
			}
		}
		return out
	}
	for _, c := range []struct {
		name, want, diff string
		has              []wire.Item
	}{
		{"the same", `{"min":1,"region":null,"key":"a"}`, "", has("1", "null", `"***"`)},
		{"another secret, which nobody can read", `{"min":1,"region":null,"key":"b"}`, "", has("1", "null", `"***"`)},
		{"a secret is missing", `{"min":1,"region":null,"key":"b"}`, "config key", has("1", "null", "null")},
		{"no secret is named", `{"min":1,"region":null}`, "", has("1", "null", `"***"`)},
		{"other values", `{"min":2,"region":"eu"}`, "config min, region", has("1", "null", "null")},
		{"a value is taken away", `{"min":1,"region":null}`, "config region", has("1", `"eu"`, "null")},
		{"a new variable that nothing sets", `{"min":1,"region":null}`, "", has("1", "", "null")},
		{"a new variable with a value", `{"min":1,"region":"eu"}`, "config region", has("1", "", "null")},
		{"too large to be shown", `{"min":1,"region":"eu"}`, "config region", append(has("1", "", "null"), wire.Item{Path: "region", Size: 1 << 20})},
	} {
		got, err := configDiff(c.has, i, []byte(c.want))
		if err != nil || got != c.diff {
			t.Errorf("%s: got %q, %v; want %q", c.name, got, err, c.diff)
		}
	}
}

func TestFilledSlots(t *testing.T) {
	t.Parallel()
	i := &flow.Integration{Connections: []flow.Slot{{Name: "shop"}, {Name: "erp"}}}
	k := &flowfile.PlatformCustomer{Connections: []flowfile.PlatformConnection{{Name: "erp"}, {Name: "main-shop"}}}
	got, err := filled(i, k, &flowfile.PlatformInstance{Connections: map[string]string{"shop": "main-shop"}})
	if diff := cmp.Diff(map[string]string{"shop": "main-shop", "erp": "erp"}, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if _, err := filled(i, k, &flowfile.PlatformInstance{}); err == nil {
		t.Error("a slot without a connection is accepted")
	}
	if _, err := filled(i, k, &flowfile.PlatformInstance{Connections: map[string]string{"shop": "erp", "crm": "erp"}}); err == nil {
		t.Error("a connection for no slot is accepted")
	}
}
