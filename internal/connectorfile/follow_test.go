package connectorfile

import (
	"fmt"
	"strings"
	"testing"
)

// TestCasesFollowRedirects runs a case whose answer sends a download elsewhere: it has to be followed as egress would.
func TestCasesFollowRedirects(t *testing.T) {
	t.Parallel()
	doc, problems := Decode("connector.yaml", []byte(`connector: acme
version: 1.0.0
title: Acme
tier: imported
provenance: {kind: hand}
hosts: [api.acme.example]
base_url: https://api.acme.example
actions:
  load:
    method: GET
    path: /file
    response: file
    follow: [files.acme.example, "*.cdn.example"]
  keep:
    method: GET
    path: /kept
    expect: ["302"]
`))
	if doc == nil {
		t.Fatal(problems)
	}
	for _, c := range []struct{ answer, says string }{
		{`{status: 302, headers: {location: "https://files.acme.example/a?b=c"}}`, ""},
		{`{status: 307, headers: {Location: "https://a.b.cdn.example:443/x"}}`, ""},
		{`{status: 302, headers: {location: "https://other.example/a"}}`, "the redirect to other.example is not followed: follow has files.acme.example or *.cdn.example, over https"},
		{`{status: 302, headers: {location: "https://cdn.example/a"}}`, "is not followed"},
		{`{status: 302, headers: {location: "https://evilcdn.example/a"}}`, "is not followed"},
		{`{status: 302, headers: {location: "http://files.acme.example/a"}}`, "is not followed"},
		{`{status: 302, headers: {location: "https://files.acme.example:8443/a"}}`, "is not followed"},
		{`{status: 302, headers: {location: "https://u@files.acme.example/a"}}`, "is not followed"},
		{`{status: 302}`, "a redirect has the header location"},
		{`{status: 302, headers: {location: /elsewhere}}`, "no case of the action load answers with a redirect"},
		{`{}`, "no case of the action load answers with a redirect"},
	} {
		text := fmt.Sprintf(`cases:
  - action: load
    request: {method: GET, path: /file}
    answer: %s
  - action: keep
    request: {method: GET, path: /kept}
    answer: {status: 302, headers: {location: "https://other.example"}}
`, c.answer)
		tests, problems := DecodeTests("test.yaml", []byte(text), doc.Manifest)
		if tests == nil {
			t.Fatal(problems)
		}
		problems = tests.Run(doc.Manifest)
		if c.says == "" && len(problems) > 0 || c.says != "" && (len(problems) == 0 || !strings.Contains(problems[0].Message, c.says) && !strings.Contains(problems[len(problems)-1].Message, c.says)) {
			t.Errorf("%s: %v, want %q", c.answer, problems, c.says)
		}
	}
}
