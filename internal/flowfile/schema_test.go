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

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// native turns a document into what a JSON Schema validator takes.
func native(n *source.Node) any {
	switch n.Kind {
	case source.Map:
		m := map[string]any{}
		for i, k := range n.Keys {
			m[k.Value] = native(n.Items[i])
		}
		return m
	case source.List:
		l := []any{}
		for _, item := range n.Items {
			l = append(l, native(item))
		}
		return l
	}
	switch source.Resolve(n) {
	case source.NullScalar:
		return nil
	case source.BoolScalar:
		return strings.EqualFold(n.Value, "true")
	case source.NumberScalar:
		return json.Number(n.Value)
	}
	return n.Value
}

func TestSchemaAcceptsValidFiles(t *testing.T) {
	t.Parallel()
	s := compileSchema(t)
	for _, name := range validFiles(t) {
		root, _, problems := load(name, read(t, name))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if err := s.Validate(native(root)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSchemaHasTheDecodersKeys compares, for every kind of object, the keys that the decoder knows with those of the schema.
func TestSchemaHasTheDecodersKeys(t *testing.T) {
	t.Parallel()
	type object struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	var schema struct {
		object
		Defs map[string]object `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"integration": slices.Sorted(maps.Keys(schema.Properties))}
	for name, def := range schema.Defs {
		if def.Properties != nil {
			want[name] = slices.Sorted(maps.Keys(def.Properties))
		}
	}
	got := map[string][]string{}
	root, src, _ := load("everything", read(t, "testdata/valid/everything.yaml"))
	d := &decoder{Decoder: source.NewDecoder(src, nil)}
	d.Observe = func(name string, keys []string) {
		if len(keys) > 0 {
			sorted := slices.Clone(keys)
			slices.Sort(sorted)
			got[name] = sorted
		}
	}
	d.document(root)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys of objects (-schema +decoder):\n%s", diff)
	}
}

// TestSchemaDescribesEveryKey: an editor shows something at every key.
func TestSchemaDescribesEveryKey(t *testing.T) {
	t.Parallel()
	var schema map[string]any
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	defs := schema["$defs"].(map[string]any)
	objects := maps.Clone(defs)
	objects["integration"] = schema
	for name, o := range objects {
		properties, _ := o.(map[string]any)["properties"].(map[string]any)
		for key, p := range properties {
			p := p.(map[string]any)
			title := p["title"]
			if ref, ok := p["$ref"].(string); ok && title == nil {
				title = defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)["title"]
			}
			if title == nil {
				t.Errorf("%s.%s has no title", name, key)
			}
		}
	}
}

// TestSchemaAndDecoderRefuseAlike breaks a valid file in ways that a schema can express.
func TestSchemaAndDecoderRefuseAlike(t *testing.T) {
	t.Parallel()
	s := compileSchema(t)
	base := string(read(t, "testdata/valid/everything.yaml"))
	broken := [][2]string{
		{"bulkhead: 1", "bulkhead: 2"},
		{"bulkhead: 1", "bulkhead: \"1\""},
		{"integration: everything", "integration: Everything"},
		{"integration: everything", "integrations: everything"},
		{"title: {en: Everything, de: Alles}", "title: 5"},
		{"title: {en: Everything, de: Alles}", "title: {}"},
		{"title: {en: Everything, de: Alles}", "title: {EN: x}"},
		{"type: number, default", "type: numbre, default"},
		{"name: {type: string", "Name: {type: string"},
		{"visible: organization", "visible: everybody"},
		{"required: true, visible", "required: maybe, visible"},
		{"enum: [red, {value: green, label: Green}]", "enum: []"},
		{"enum: [red, {value: green, label: Green}]", "enum: [red, {label: Green}]"},
		{"connector: http, title: The shop", "connector: HTTP, title: The shop"},
		{"connector: http, title: The shop", "title: The shop"},
		{"methods: [POST, PUT]", "methods: [post]"},
		{"methods: [POST, PUT]", "methods: []"},
		{"algorithm: sha256\n", "algorithm: md5\n"},
		{"secrets: [config.hook_secret]", "secrets: []"},
		{"secrets: [config.hook_secret]", "secrets: [hunter2]"},
		{"respond: sync", "respond: later"},
		{"trigger: {deploy: {}}", "trigger: {}"},
		{"trigger: {deploy: {}}", "trigger: {deploy: {}, remove: {}}"},
		{"trigger: {deploy: {}}", "trigger: {deploy: {now: true}}"},
		{"trigger: {webhook: {verify: {connector: erp}}}", "trigger: {webhook: {}}"},
		{"trigger: {webhook: {verify: {connector: erp}}}", "trigger: {webhook: {verify: nobody}}"},
		{"trigger: {webhook: {verify: {connector: erp}}}", "trigger: {webhook: {verify: {}}}"},
		{"trigger: {schedule: {every: PT5M}}", "trigger: {schedule: {}}"},
		{"limit: 5, key", "limit: 0, key"},
		{"order: fifo", "order: lifo"},
		{"timeout: PT15M", "timeout: 15m"},
		{"expires: P3D", "expires: P1Y"},
		{"retention: P30D", "retention: P1DT"},
		{"labels: {order:", "labels: {Order:"},
		{"- {id: put,", "- {"},
		{"- {id: put,", "- {id: Put,"},
		{"- {id: put,", "- {id: put, colour: red,"},
		{"- {id: put,", "- {id: put, set: 1,"},
		{"- {id: last, state: {get: last_id, default: 0}}", "- {id: last}"},
		{"- {id: last, state: {get: last_id, default: 0}}", "- {id: last, state: {get: last_id, by: 1}}"},
		{"- {id: last, state: {get: last_id, default: 0}}", "- {id: last, state: {}}"},
		{"value: \"${{ trigger.body.id }}\"}}", "valeu: 1}}"},
		{"{id: left, set: 1}", "{id: left, set: 1, with: {}}"},
		{"attempts: 5,", "attempts: 500,"},
		{"backoff: exponential", "backoff: linear"},
		{"when: \"${{ error.status >= 500 }}\"", "when: error.status"},
		{"if: \"${{ config.active }}\"", "if: config.active"},
		{"else: true", "else: false"},
		{"parallel: 4", "parallel: 0"},
		{"on_error: stop", "on_error: skip"},
		{"as: line,", "as: Line,"},
		{"each: \"${{ steps.order.body.lines }}\"", "each: {list: 1}"},
		{"format: csv, delimiter: \";\"", "format: json-lines, delimiter: \";\""},
		{"format: csv,", "format: xlsx,"},
		{"encoding: windows-1252", "encoding: latin9"},
		{"settle: true", "settle: 1"},
		{"wait: {for: PT1H}", "wait: {}"},
		{"wait: {for: PT1H}", "wait: {for: PT1H, until: x}"},
		{"timeout: P2D\n            notify:", "notify:"},
		{"call: {flow: send-invoice,", "call: {"},
		{"respond: {status: 201,", "respond: {status: 99,"},
		{"raise: {type: no-stock,", "raise: {type: No Stock,"},
		{"code: \"export default ({order})", "code: \"({order})"},
		{"flows:\n", "flow:\n"},
	}
	for _, b := range broken {
		text := strings.Replace(base, b[0], b[1], 1)
		if text == base {
			t.Errorf("%q is not in the file", b[0])
			continue
		}
		if doc, _ := Decode("broken", []byte(text)); doc != nil {
			t.Errorf("the decoder accepts %q", b[1])
		}
		root, _, _ := load("broken", []byte(text))
		if root == nil {
			t.Errorf("%q is not YAML", b[1])
			continue
		}
		if s.Validate(native(root)) == nil {
			t.Errorf("the schema accepts %q", b[1])
		}
	}
}
