package bulkhead

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentsNameTestsThatExist holds the documents of security to their word: every test that they name is there.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	t.Parallel()
	have := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir("internal", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range declared.FindAllSubmatch(b, -1) {
			have[string(m[1])] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test[A-Z]\\w+)`")
	for _, file := range []string{"doc/threat-model.md", "doc/security-suites.md"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all := named.FindAllSubmatch(b, -1)
		if len(all) == 0 {
			t.Errorf("%s names no test", file)
		}
		for _, m := range all {
			if !have[string(m[1])] {
				t.Errorf("%s names %s, which does not exist", file, m[1])
			}
		}
	}
}
