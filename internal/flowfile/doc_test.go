package flowfile

import (
	"regexp"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/source"
)

// TestDocumentedExamples: whole files in the documentation load, and pieces of files fit the schema.
func TestDocumentedExamples(t *testing.T) {
	t.Parallel()
	s := compileSchema(t)
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	whole := "bulkhead: 1\nintegration: doc\n"
	checked := map[string]int{}
	for _, m := range block.FindAllStringSubmatch(string(read(t, "../../doc/format.md")), -1) {
		text := m[1]
		kind := strings.TrimRight(strings.Fields(text)[0], ":")
		checked[kind]++
		switch kind {
		case "bulkhead":
		case "flows":
			text = whole + text
		case "config":
			text = whole + text + "flows: {main: {trigger: {manual: {}}, steps: [{id: a, set: 1}]}}\n"
		case "-":
			text = whole + "flows:\n  main:\n    trigger: {manual: {}}\n    steps:\n" + regexp.MustCompile(`(?m)^`).ReplaceAllString(text, "      ") + "\n"
		case "verify":
			continue
		default:
			t.Errorf("an example of an unknown kind: %s", kind)
		}
		root, _, problems := load("doc", []byte(text))
		if len(problems) > 0 {
			t.Errorf("%v\n%s", problems, text)
			continue
		}
		if err := s.Validate(native(root)); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
		if kind != "-" {
			mustDecode(t, "doc", []byte(text))
		}
	}
	if checked["-"] < 4 || checked["bulkhead"] < 1 || checked["flows"] < 1 {
		t.Errorf("examples were not found: %v", checked)
	}
	order := mustDecode(t, "order", read(t, "testdata/valid/order-to-erp.yaml"))
	cases := block.FindStringSubmatch(string(read(t, "../../doc/testing-integrations.md")))
	if tests, problems := DecodeTests("doc", []byte(cases[1]), order.Integration); tests == nil {
		t.Errorf("doc/testing-integrations.md: %v", problems)
	}
}

// TestTraceCoversScalars: every scalar of the valid files is traced back byte by byte.
func TestTraceCoversScalars(t *testing.T) {
	t.Parallel()
	files := validFiles(t)
	files = append(files, "testdata/all.test.yaml")
	for _, name := range files {
		root, src, _ := load(name, read(t, name))
		var walk func(n *source.Node)
		walk = func(n *source.Node) {
			if n.Kind == source.Scalar {
				offsets, end, ok := source.Trace(src.Text, n)
				if !ok || len(offsets) != len(n.Value)+1 || end < n.Start || end > len(src.Text) {
					t.Errorf("%s: scalar %q at %d is not traced", name, n.Value, n.Start)
					return
				}
				for i := 1; i < len(offsets); i++ {
					if offsets[i] < offsets[i-1] {
						t.Errorf("%s: offsets of %q run backwards", name, n.Value)
						return
					}
				}
			}
			for i := range n.Items {
				if n.Kind == source.Map {
					walk(n.Keys[i])
				}
				walk(n.Items[i])
			}
		}
		walk(root)
	}
}
