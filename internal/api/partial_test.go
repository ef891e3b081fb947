package api

import "testing"

const lacking = `bulkhead: 1
integration: lacking
config:
  region: {type: string, title: Region, required: true}
  key: {type: secret, title: Key, required: true}
connections:
  shop: {connector: http, title: The shop}
flows:
  main:
    trigger: {manual: {}}
    steps:
      - id: a
        set: {x: "${{ 1 + 1 }}"}
`

// A partial deployment says what it lacks until it has it, and is refused when it does not
// say that it is partial.
func TestAPartialDeploymentSaysWhatItLacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	ask[Version](w, call{method: "POST", path: "/api/v1/integrations", body: map[string]any{"source": lacking}})
	full := map[string]any{"region": "eu", "key": canary}
	shop := map[string]any{"shop": s.connection.ID}
	for _, tt := range []struct {
		config, slots map[string]any
		want          string
	}{
		{nil, nil, "needs_config"},
		{nil, shop, "needs_config"},
		{map[string]any{"region": "eu"}, shop, "needs_config"},
		{map[string]any{"region": nil, "key": canary}, shop, "needs_config"},
		{full, nil, "needs_connection"},
		{full, shop, "enabled"},
	} {
		body := map[string]any{"customer": "c-1", "integration": "lacking", "config": tt.config, "slots": tt.slots}
		for name, v := range map[string]map[string]any{"config": tt.config, "slots": tt.slots} {
			if v == nil {
				delete(body, name)
			}
		}
		c := call{method: "POST", path: "/api/v1/instances", body: body}
		if tt.want == "enabled" {
			ask[Instance](w, c)
		} else {
			w.refused(c, CodeInvalid)
		}
		body["partial"] = true
		if x := ask[Instance](w, c); x.State != tt.want {
			t.Errorf("config %v, slots %v: %s, want %s", tt.config, tt.slots, x.State, tt.want)
		}
	}
	// What is wrong is wrong in a partial deployment too.
	wrong := map[string]any{"customer": "c-1", "integration": "lacking", "config": map[string]any{"region": 1}, "partial": true}
	w.refused(call{method: "POST", path: "/api/v1/instances", body: wrong}, CodeInvalid)

	x := ask[Instance](w, call{method: "POST", path: "/api/v1/instances", body: map[string]any{"customer": "c-1", "integration": "lacking", "partial": true}})
	path := "/api/v1/instances/" + x.ID.String()
	w.refused(call{method: "POST", path: path + "/executions", body: map[string]any{"flow": "main", "event": map[string]any{}}}, CodeNotEnabled)
	w.refused(call{method: "POST", path: path + "/resume"}, CodeConflict)
	for _, step := range []struct {
		change map[string]any
		want   string
	}{
		{map[string]any{"slots": shop}, "needs_config"},
		{map[string]any{"slots": map[string]any{}}, "needs_config"},
		{map[string]any{"config": full}, "needs_connection"},
		{map[string]any{"slots": shop}, "enabled"},
	} {
		if x = ask[Instance](w, call{method: "PATCH", path: path, body: step.change}); x.State != step.want {
			t.Errorf("after a change: %s, want %s", x.State, step.want)
		}
	}
}
