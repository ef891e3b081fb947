package flowfile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/flow"
)

// What the server would refuse to check an input with is refused when the file is read.
func TestInputSchemasAreBounded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ schema, want string }{
		"large":   {`{enum: [` + strings.Repeat("1, ", flow.MaxSchemaNodes) + `2]}`, fmt.Sprintf("values, more than %d", flow.MaxSchemaNodes)},
		"dynamic": {`{$dynamicRef: "#a"}`, "a reference cannot depend on where it is used"},
		"foreign": {`{$ref: "https://json-schema.org/draft/2020-12/schema"}`, "a reference stays inside this schema"},
		"fine":    {`{$ref: "#/$defs/a", $defs: {a: {type: string}}}`, ""},
	} {
		text := "bulkhead: 1\nintegration: a\nflows:\n  m:\n    trigger: {manual: {input: " + c.schema + "}}\n    steps: [{id: x, set: 1}]\n"
		_, problems := Decode("a.yaml", []byte(text))
		got := fmt.Sprint(problems)
		if c.want == "" && len(problems) > 0 || !strings.Contains(got, c.want) {
			t.Errorf("%s: %.300s, want %q", name, got, c.want)
		}
	}
}
