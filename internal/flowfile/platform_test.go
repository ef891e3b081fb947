package flowfile

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/bulkheadhq/bulkhead/internal/source"
)

const platformText = `platform: 1
integrations: [order-to-erp.yaml, "flows/*.yaml"]
customers:
  northwind:
    name: Northwind Traders
    timezone: Europe/Berlin
    locale: de
    attributes: {plan: gold, seats: 7}
    weight: 2
    connections:
      shop: {url: "https://shop.example", credential: {bearer: {env: NW_SHOP}}}
      erp:
        connector: http
        url: https://erp.example/api
        credential: {basic: {username: api, password: {file: nw-erp.txt}}}
      crm: {url: "https://crm.example", credential: {header: {name: X-Api-Key, value: {env: NW_CRM}}}}
      geo: {url: "https://geo.example", credential: {query: {name: key, value: {env: NW_GEO}}}}
      open: {url: "https://open.example"}
    instances:
      order-to-erp:
        version: 3
        config: {min_total: 50}
        secrets: {hook_secret: {env: NW_HOOK}}
        connections: {shop: shop, erp: erp}
        state: paused
  acme: {}
`

func TestDecodePlatform(t *testing.T) {
	t.Parallel()
	p, problems := DecodePlatform("p.yaml", []byte(platformText))
	if p == nil {
		t.Fatal(problems)
	}
	if len(p.Customers) != 2 || len(p.Integrations) != 2 {
		t.Fatalf("%d customers, %d integrations", len(p.Customers), len(p.Integrations))
	}
	c := p.Customers[0]
	if c.ExternalID != "northwind" || c.Name != "Northwind Traders" || c.Timezone != "Europe/Berlin" || c.Locale != "de" || c.Weight != 2 || c.Attributes.Get("seats") == nil {
		t.Errorf("customer is %+v", c)
	}
	if len(c.Connections) != 5 || c.Connections[0].Credential.Bearer.Env != "NW_SHOP" || c.Connections[1].Credential.Basic.Password.File != "nw-erp.txt" ||
		c.Connections[2].Credential.Header.Value.Env != "NW_CRM" || c.Connections[3].Credential.Query.Name != "key" || c.Connections[4].Credential != (PlatformCredential{}) {
		t.Errorf("connections are %+v", c.Connections)
	}
	i := c.Instances[0]
	if i.Integration != "order-to-erp" || i.Version != 3 || !i.Paused || i.Secrets["hook_secret"].Env != "NW_HOOK" || i.Config.Get("min_total") == nil ||
		!maps.Equal(i.Connections, map[string]string{"shop": "shop", "erp": "erp"}) {
		t.Errorf("instance is %+v", i)
	}
	at, ok := p.Find("customers.northwind.connections.erp.url")
	if !ok || at.Line != 14 {
		t.Errorf("the URL stands at %+v, %v", at, ok)
	}
	if !IsPlatform([]byte(platformText)) || IsPlatform([]byte("bulkhead: 1\nintegration: x\n")) || IsPlatform([]byte("- a")) {
		t.Error("platform files are not told from others")
	}
}

// Each case replaces one text of the valid file.
func TestDecodePlatformProblems(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		old, new string
		want     string // in the rendered problems
	}{
		{"platform: 1", "platform: 2", "p.yaml:1:"},
		{"weight: 2", "wieght: 2", `"weight"`},
		{"weight: 2", "weight: 0", "from 1 to 1000"},
		{"Europe/Berlin", "Europe/Bärlin", "is not a time zone"},
		{"{env: NW_SHOP}", "sesame", "write {env: NAME} or {file: PATH}"},
		{"{env: NW_SHOP}", "{env: NW_SHOP, file: x}", "exactly one of the keys"},
		{"{env: NW_SHOP}", "{env: 9x}", "environment variable"},
		{"{env: NW_SHOP}", "{}", "exactly one of the keys"},
		{"{bearer: {env: NW_SHOP}}", "{bearer: {env: A}, query: {name: k, value: {env: B}}}", "exactly one of the keys"},
		{"erp: erp}", "erp: rep}", `no connection "rep"`},
		{"state: paused", "state: puased", "paused"},
		{"min_total: 50", `min_total: "${{ 1 }}"`, "no expression"},
		{"hook_secret: {env", "min_total: {env", "is a config value already"},
		{"  acme: {}", "  'a b': {}", "is not allowed"},
		{"  acme: {}", "  northwind: {}", "northwind"},
		{`url: https://erp.example/api`, `host: x`, `"url" is missing`},
	} {
		if !strings.Contains(platformText, tt.old) {
			t.Fatalf("%q is not in the file", tt.old)
		}
		p, problems := DecodePlatform("p.yaml", []byte(strings.Replace(platformText, tt.old, tt.new, 1)))
		var text bytes.Buffer
		if err := problems.Render(&text, source.Plain); err != nil {
			t.Fatal(err)
		}
		if p != nil || !strings.Contains(text.String(), tt.want) {
			t.Errorf("%s → %s: want %q in\n%s", tt.old, tt.new, tt.want, text.String())
		}
	}
}

func TestPlatformSchema(t *testing.T) {
	t.Parallel()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(PlatformSchema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("platform.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("platform.json")
	if err != nil {
		t.Fatal(err)
	}
	root, src, _ := load("p.yaml", []byte(platformText))
	if err := schema.Validate(native(root)); err != nil {
		t.Errorf("the schema refuses a valid file: %v", err)
	}
	// What the reader knows and what the schema says are the same keys.
	var list struct {
		Defs map[string]struct {
			Properties map[string]json.RawMessage `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(PlatformSchema(), &list); err != nil {
		t.Fatal(err)
	}
	seen := map[string][]string{}
	d := &decoder{Decoder: source.NewDecoder(src, nil)}
	d.Observe = func(object string, keys []string) {
		seen[object] = slices.Sorted(slices.Values(keys))
	}
	d.platform(root)
	for name, def := range list.Defs {
		if diff := cmp.Diff(slices.Sorted(maps.Keys(def.Properties)), seen[name]); diff != "" {
			t.Errorf("%s (-schema +reader):\n%s", name, diff)
		}
	}
	if len(seen) != len(list.Defs) {
		t.Errorf("the reader knows %d objects, the schema %d", len(seen), len(list.Defs))
	}
}
