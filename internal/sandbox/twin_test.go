package sandbox

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/grafana/sobek"
	"github.com/grafana/sobek/parser"
)

// TestTwins shows that what the other tests refuse does happen in the bare engine: each defence stops something.
func TestTwins(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{
		"eval":                 `eval("1 + 1")`,
		"function constructor": `(() => {}).constructor("return 1 + 1")()`,
		"async constructor":    `typeof (async () => {}).constructor("return 1") === "function" ? 2 : 0`,
		"unbounded texts":      `"x".repeat(1 << 25).length >> 24`,
		"nested JSON":          `JSON.parse("[".repeat(2000) + "]".repeat(2000)).length + 1`,
		"functions lost":       `JSON.stringify({f() {}}).length`,
		"moving clock":         `Date.now() > 1_700_000_000_123 ? 2 : 0`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			value, err := sobek.New().RunString(source)
			if err != nil || value.ToInteger() != 2 {
				t.Errorf("the bare engine gives %v, %v: the defence stops nothing any more", value, err)
			}
		})
	}
	t.Run("residue", func(t *testing.T) {
		t.Parallel()
		shared := sobek.New()
		if _, err := shared.RunString(`globalThis.left = 1`); err != nil {
			t.Fatal(err)
		}
		if v, err := shared.RunString(`left`); err != nil || v.ToInteger() != 1 {
			t.Errorf("a shared interpreter keeps nothing: %v, %v", v, err)
		}
	})
	t.Run("source maps", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "canary")
		if err := os.WriteFile(file, []byte("not a source map"), 0o600); err != nil {
			t.Fatal(err)
		}
		source := "1\n//# sourceMappingURL=" + file
		if _, err := parser.ParseFile(nil, moduleName, source, 0); err == nil {
			t.Error("the bare parser did not open the file that a comment names")
		}
		if _, err := parser.ParseFile(nil, moduleName, source, 0, parser.WithDisableSourceMaps); err != nil {
			t.Errorf("with source maps off: %v", err)
		}
	})
}
