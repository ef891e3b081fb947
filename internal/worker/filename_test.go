package worker

import (
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func TestFileName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ disposition, path, want string }{
		{"", "/documents/c-17.pdf", "c-17.pdf"},
		{"", "/documents/c%2017.pdf", "c 17.pdf"},
		{"", "/documents/", ""},
		{"", "/a%2F..%2Fb", "b"},
		{"", "/..", ""},
		{"attachment; filename=contract.pdf", "/documents/17", "contract.pdf"},
		{`attachment; filename="../../etc/passwd"`, "/x", "passwd"},
		{`attachment; filename="C:\\temp\\a.txt"`, "/x", "a.txt"},
		{"attachment; filename*=UTF-8''Stra%C3%9Fe%0A.txt", "/x", "Straße.txt"},
		{"attachment; filename=..", "/x.csv", "x.csv"},
		{"attachment", "/x.csv", "x.csv"},
		{"not; a= =header", "/x.csv", "x.csv"},
		{"", "/" + strings.Repeat("a", 300), strings.Repeat("a", maxFileName)},
	} {
		var headers []wire.Pair
		if c.disposition != "" {
			headers = []wire.Pair{{Name: "content-disposition", Value: c.disposition}}
		}
		if got := fileName(headers, c.path); got != c.want {
			t.Errorf("fileName(%q, %q) = %q, want %q", c.disposition, c.path, got, c.want)
		}
	}
}
