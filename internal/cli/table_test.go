package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/backup"
)

// One of something is not told in the plural.
func TestCounts(t *testing.T) {
	t.Parallel()
	var m backup.Manifest
	m.Blobs, m.Totals = 1, map[string]int64{"customers": 1, "instances": 2, "connections": 1}
	if got, want := contents(&m), "with 1 customer, 2 instances, 1 connection, 0 executions; 1 blob; "; !strings.Contains(got, want) {
		t.Errorf("%s does not hold %q", got, want)
	}
}

// What customers are called, and what flows write, is text on a terminal and nothing more.
func TestTablesShowTextOnly(t *testing.T) {
	t.Parallel()
	const hostile = "\x1b]0;owned\x07\x1b[2Jname\r\n\u009b31mline\u202egnp.exe"
	var out bytes.Buffer
	c := &console{Streams: Streams{Out: &out}}
	table := &table{head: []string{"NAME"}}
	table.add(hostile)
	table.print(c)
	if got := out.String(); strings.ContainsAny(got, "\x1b\x07\r\u009b\u202e") || strings.Count(got, "\n") != 2 {
		t.Errorf("it prints %q", got)
	}
	if got := visible("a\n\x1b[1mb"); got != "a\n [1mb" {
		t.Errorf("visible = %q", got)
	}
}
