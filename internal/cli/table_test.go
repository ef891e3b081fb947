package cli

import (
	"bytes"
	"strings"
	"testing"
)

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
