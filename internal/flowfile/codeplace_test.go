package flowfile

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/source"
)

func TestCodeProblem(t *testing.T) {
	t.Parallel()
	const head = "bulkhead: 1\nintegration: x\nflows:\n  main:\n    trigger: {manual: {}}\n    steps:\n"
	const path = "flows.main.steps[0].code"
	type place struct{ Line, Column int }
	for _, c := range []struct {
		name, step   string
		line, column int
		want         place
	}{
		{"literal", "      - id: a\n        code: |\n          export default () =>\n            é + ;\n", 2, 7, place{10, 17}},
		{"literal, first line", "      - id: a\n        code: |\n          export default ;\n", 1, 16, place{9, 26}},
		{"plain in a flow", "      - {id: a, code: export default ;}\n", 1, 16, place{7, 38}},
		{"double quotes", "      - {id: a, code: \"export default ;\"}\n", 1, 16, place{7, 39}},
		{"escapes", "      - {id: a, code: \"export\\tdefault ;\"}\n", 1, 16, place{7, 23}},
		{"folded", "      - id: a\n        code: >\n          export default\n          ;\n", 1, 16, place{8, 15}},
		{"unknown", "      - {id: a, code: export default ;}\n", 0, 0, place{7, 23}},
		{"beyond", "      - {id: a, code: export default ;}\n", 3, 1, place{7, 23}},
	} {
		doc, problems := Decode("a.yaml", []byte(head+c.step))
		if doc == nil {
			t.Fatalf("%s: %v", c.name, problems)
		}
		p := doc.CodeProblem(path, c.line, c.column, "Unexpected token ;")
		if d := cmp.Diff(c.want, place{p.Line, p.Column}); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
		if p.Path != path || p.File != "a.yaml" || p.Severity != source.SeverityError || p.Source == "" {
			t.Errorf("%s: %+v", c.name, p)
		}
	}
}
