package api

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
)

const ownConnector = `connector: acme-erp
version: VERSION
title: Acme ERP
tier: imported
provenance: {kind: hand, retrieved: 2026-11-21}
hosts: [api.acme.example]
base_url: https://api.acme.example
actions:
  getOrder: {method: GET, path: "/orders/{id}", input: {id: {}}, output: {type: object, properties: {total: {type: number}}}}
`

const ownCases = `cases:
  - {action: getOrder, with: {id: a/b}, request: {method: GET, path: /orders/a%2Fb}, answer: {body: {total: 3}}}
`

func ownVersion(v string) map[string]any {
	return map[string]any{"source": strings.ReplaceAll(ownConnector, "VERSION", v), "tests": ownCases}
}

// The connectors of an organization are its own, never change, and are found by ranges.
func TestConnectors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := Prefix + "/connectors"
	before := ask[ConnectorList](w, call{method: "GET", path: path})
	if len(before.Items) < 3 {
		t.Fatalf("the catalogue has %d connectors", len(before.Items))
	}
	for _, c := range before.Items {
		if c.TriedLive || c.Own || c.Tier == "verified" && c.Cases == 0 {
			t.Errorf("%+v", c)
		}
	}
	for _, v := range []string{"1.0.0", "1.1.0"} {
		if c := ask[Connector](w, call{method: "POST", path: path, body: ownVersion(v)}); !c.Own || c.Cases != 1 || c.Retrieved != "2026-11-21" || c.Version != v {
			t.Errorf("%+v", c)
		}
	}
	ask[Connector](w, call{method: "POST", path: path, body: ownVersion("1.0.0")}) // the same again
	changed := ownVersion("1.0.0")
	changed["source"] = strings.Replace(changed["source"].(string), "Acme ERP", "Other", 1)
	w.refused(call{method: "POST", path: path, body: changed}, CodeConflict)
	taken := ownVersion("1.0.0")
	taken["source"] = strings.Replace(taken["source"].(string), "acme-erp", "github", 1)
	w.refused(call{method: "POST", path: path, body: taken}, CodeConflict)
	w.refused(call{method: "POST", path: path, body: ownVersion("1")}, CodeInvalidSource)
	wrong := ownVersion("2.0.0")
	wrong["tests"] = strings.Replace(ownCases, "%2F", "/", 1)
	w.refused(call{method: "POST", path: path, body: wrong}, CodeInvalidSource)
	if v := ask[ConnectorValidation](w, call{method: "POST", path: path + "/validate", body: wrong}); v.Valid || len(v.Problems) != 1 || v.Name != "acme-erp" {
		t.Errorf("%+v", v)
	}
	got := ask[ConnectorDetail](w, call{method: "GET", path: path + "/acme-erp?version=%5E1"})
	m, err := connector.Decode(got.Manifest)
	if err != nil || m.Version != "1.1.0" || got.Version != "1.1.0" || got.Retrieved != "2026-11-21" || len(got.Hosts) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	w.refused(call{method: "GET", path: path + "/acme-erp?version=%5E2"}, CodeNotFound)
	w.refused(call{method: "GET", path: path + "/acme-erp?version=x"}, CodeInvalid)
	w.refused(call{method: "GET", path: path + "/acme-erp", token: w.other}, CodeNotFound)
	w.refused(call{method: "POST", path: path, body: ownVersion("3.0.0"), token: w.tokens[RoleViewer]}, CodeForbidden)
}

// A published version keeps the connectors that it was made with.
func TestPublishedVersionsKeepTheirConnectors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ask[Connector](w, call{method: "POST", path: Prefix + "/connectors", body: ownVersion("1.0.0")})
	source := `bulkhead: 1
integration: orders
connections: {erp: {connector: "acme-erp@^1"}}
flows:
  main:
    trigger: {manual: {}}
    steps:
      - {id: a, uses: erp.getOrder, with: {id: "7"}}
      - {id: b, set: "${{ steps.a.body.total * 2 }}"}
`
	publish := func() (Version, *connector.Lock) {
		v := ask[Version](w, call{method: "POST", path: Prefix + "/integrations", body: map[string]any{"source": source}})
		full := ask[Version](w, call{method: "GET", path: Prefix + "/integrations/orders/versions/" + string(rune('0'+v.Version))})
		var i flow.Integration
		if err := json.Unmarshal(full.Definition, &i); err != nil {
			t.Fatal(err)
		}
		if i.Lock("erp") == nil {
			t.Fatal("the version carries nothing of its connector")
		}
		return full, i.Lock("erp")
	}
	first, lock := publish()
	if lock.Version != "1.0.0" || lock.Action("getOrder") == nil {
		t.Errorf("%+v", lock)
	}
	ask[Connector](w, call{method: "POST", path: Prefix + "/connectors", body: ownVersion("1.1.0")})
	if again := ask[Version](w, call{method: "GET", path: Prefix + "/integrations/orders/versions/1"}); again.Digest != first.Digest || string(again.Definition) != string(first.Definition) {
		t.Error("a newer manifest has changed a published version")
	}
	second, lock := publish()
	if second.Version != 2 || lock.Version != "1.1.0" {
		t.Errorf("version %d has %s of the connector", second.Version, lock.Version)
	}
	doc, _ := flowfile.Decode("a.yaml", []byte(source))
	unlocked := must(doc.Integration.Encode())
	w.refused(call{method: "POST", path: Prefix + "/integrations", body: map[string]any{"definition": string(unlocked)}}, CodeInvalidSource)
	wrong := strings.Replace(source, "getOrder", "getOder", 1)
	v := ask[Validation](w, call{method: "POST", path: Prefix + "/integrations/validate", body: map[string]any{"source": wrong}})
	if v.Valid || len(v.Problems) != 1 || v.Problems[0].Suggestion != `did you mean "erp.getOrder"?` {
		t.Errorf("%+v", v)
	}
}
