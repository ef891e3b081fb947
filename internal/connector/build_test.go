package connector_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
)

func parse(t *testing.T, s string) expr.Value {
	t.Helper()
	v, err := expr.ParseJSON([]byte(s))
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return v
}

func action(t *testing.T, s string) *connector.Action {
	t.Helper()
	a := &connector.Action{}
	if err := json.Unmarshal([]byte(s), a); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return a
}

// shown is a request on one line.
func shown(r *connector.Request) string {
	var b strings.Builder
	if b.WriteString(r.Method + " "); r.Base != "" {
		b.WriteString(r.Base + ":")
	}
	b.WriteString(r.Path)
	for _, q := range r.Query {
		fmt.Fprintf(&b, " ?%s=%s", q.Name, q.Value)
	}
	for _, h := range r.Headers {
		fmt.Fprintf(&b, " %s:%s", h.Name, h.Value)
	}
	for _, p := range r.Parts {
		fmt.Fprintf(&b, " part %s(%s)=%s", p.Name, p.ContentType, p.Data)
		if p.File != nil {
			b.WriteString("file")
		}
	}
	if r.HasBody {
		fmt.Fprintf(&b, " [%s] %s", r.ContentType, r.Body)
	}
	return b.String()
}

func isFile(v expr.Value) bool {
	_, ok := expr.Lookup(v, "$file")
	return ok
}

func TestBuildPutsInputsInTheirPlaces(t *testing.T) {
	t.Parallel()
	defaults := &connector.Defaults{
		Headers: []connector.Fixed{{Name: "X-Api-Version", Value: "2026-01"}}, Query: []connector.Fixed{{Name: "format", Value: "json"}},
	}
	for _, c := range []struct{ name, action, input, want string }{
		{
			"path", `{"method":"GET","path":"/a/{id}/b","input":[{"name":"id","in":"path","type":"string"}],"headers":[{"name":"x-api-version","value":"1"}],"query":[{"name":"format","value":"x"}]}`,
			`{"id":"a/b?c#d e"}`, "GET /a/a%2Fb%3Fc%23d%20e/b ?format=x x-api-version:1",
		},
		{
			"raw path", `{"method":"GET","path":"/f/{p}","input":[{"name":"p","in":"path","type":"string","raw":true}]}`, `{"p":"a b/c?d"}`,
			"GET /f/a%20b/c%3Fd ?format=json X-Api-Version:2026-01",
		},
		{
			"query styles", `{"method":"GET","path":"q","input":[{"name":"a","in":"query","type":"array"},{"name":"b","in":"query","type":"array","style":"csv"},
			{"name":"c","in":"query","type":"array","style":"brackets"},{"name":"d","in":"query","type":"object","style":"brackets"},{"name":"e","in":"query","type":"array","style":"index"},
			{"name":"f","as":"F","in":"query","type":"array","style":"json"},{"name":"g","in":"query","type":"object"},{"name":"h","in":"query","type":"array","style":"pipe"},{"name":"format","in":"query","type":"string"}]}`,
			`{"a":[1,2],"b":[1,"x"],"c":[1,2],"d":{"k":{"l":true}},"e":[{"k":1}],"f":[1],"g":{"x":1},"h":[1,2],"format":"xml"}`,
			`GET /q ?a=1 ?a=2 ?b=1,x ?c[]=1 ?c[]=2 ?d[k][l]=true ?e[0][k]=1 ?F=[1] ?g={"x":1} ?h=1|2 ?format=xml X-Api-Version:2026-01`,
		},
		{
			"body", `{"method":"POST","path":"/b","fields":[{"at":"op","value":"create"},{"at":"a.z","value":[1]}],"input":[{"name":"x","in":"body","as":"a.b.c","type":"integer"},
			{"name":"y","in":"body","as":"list[1].k","type":"string"},{"name":"z","in":"body","as":"@odata\\.type","type":"string"},{"name":"n","in":"body","type":"string","schema":{"type":["string","null"]}},{"name":"m","in":"body","type":"string"}]}`,
			`{"x":12345678901234567890,"y":7,"z":"t","n":null,"m":null}`,
			`POST /b ?format=json X-Api-Version:2026-01 [application/json] {"a":{"b":{"c":12345678901234567890},"z":[1]},"list":[null,{"k":"7"}],"@odata.type":"t","n":null,"op":"create"}`,
		},
		{
			"whole", `{"method":"PUT","path":"/b","fields":[{"at":"op","value":"x"}],"input":[{"name":"body","in":"body","whole":true,"type":"object"},{"name":"k","in":"body","type":"any"}],"headers":[{"name":"Content-Type","value":"application/merge-patch+json"}]}`,
			`{"body":{"op":"evil","a":1},"k":2}`, `PUT /b ?format=json X-Api-Version:2026-01 [application/merge-patch+json] {"op":"x","a":1,"k":2}`,
		},
		{"whole list", `{"method":"PUT","path":"/b","input":[{"name":"body","in":"body","whole":true,"type":"array"}]}`, `{"body":[1]}`, `PUT /b ?format=json X-Api-Version:2026-01 [application/json] [1]`},
		{
			"form", `{"method":"POST","path":"/f","body":"form","fields":[{"at":"v","value":"2"}],"input":[{"name":"a","in":"body","type":"string"},{"name":"m","in":"body","type":"object","style":"brackets"},{"name":"v","in":"body","type":"any"}]}`,
			`{"a":"x&y","m":{"k":"1"},"v":9}`, `POST /f ?format=json X-Api-Version:2026-01 [application/x-www-form-urlencoded] a=x%26y&m%5Bk%5D=1&v=2`,
		},
		{
			"multipart", `{"method":"POST","path":"/m","body":"multipart","input":[{"name":"f","in":"body","type":"file"},{"name":"o","in":"body","type":"object"},{"name":"t","in":"body","type":"string"}]}`,
			`{"f":[{"$file":1},{"$file":2}],"o":{"a":1},"t":"x"}`, `POST /m ?format=json X-Api-Version:2026-01 part f()=file part f()=file part o(application/json)={"a":1} part t()=x`,
		},
		{"text", `{"method":"POST","path":"/t","body":"text","input":[{"name":"b","in":"body","type":"string"}]}`, `{"b":"x"}`, `POST /t ?format=json X-Api-Version:2026-01 [text/plain; charset=utf-8] x`},
		{"empty body", `{"method":"POST","path":"/t","input":[{"name":"b","in":"body","type":"string"}]}`, `null`, `POST /t ?format=json X-Api-Version:2026-01 [application/json] {}`},
		{"no body", `{"method":"POST","path":"/t"}`, `{}`, `POST /t ?format=json X-Api-Version:2026-01`},
		{"defaults", `{"method":"GET","path":"/t","input":[{"name":"n","in":"query","type":"integer","default":5},{"name":"h","in":"header","as":"X-H","type":"string"}]}`, `{"n":null,"h":"v"}`, `GET /t ?n=5 ?format=json X-H:v X-Api-Version:2026-01`},
		{
			"arguments", `{"method":"POST","path":"/f","base":"content","arguments":"Acme-Arg","body":"file","input":[{"name":"path","in":"arguments","type":"string"},{"name":"n","in":"arguments","as":"a.b","type":"integer","default":1},
			{"name":"none","in":"arguments","type":"string"},{"name":"f","in":"body","whole":true,"type":"file"}]}`,
			`{"path":"/ü \"\u007f\n\t😀","f":{"$file":1},"none":null}`, `POST content:/f ?format=json Acme-Arg:{"path":"/\u00fc \"\u007f\n\t\ud83d\ude00","a":{"b":1}} X-Api-Version:2026-01 [] `,
		},
		{"no arguments", `{"method":"POST","path":"/f","arguments":"Acme-Arg","input":[{"name":"path","in":"arguments","type":"string"}]}`, `{}`, `POST /f ?format=json Acme-Arg:{} X-Api-Version:2026-01`},
		{"query language", `{"method":"GET","path":"/q","input":[{"name":"q","in":"query","type":"string","language":"soql"}]}`, `{"q":"Id = :id","parameters":{"id":"a'b"}}`, `GET /q ?q=Id = 'a\'b' ?format=json X-Api-Version:2026-01`},
	} {
		r, err := connector.Build(action(t, c.action), defaults, parse(t, c.input), isFile, nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := shown(r); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestBuildNamesTheInputThatIsWrong(t *testing.T) {
	t.Parallel()
	const one = `{"name":"act","method":"POST","path":"/a/{p}","arguments":"A","input":[{"name":"p","in":"path","type":"string","required":true,"default":"x"},{"name":"n","in":"query","type":"integer"},{"name":"e","in":"query","type":"string","enum":["a","b"]},
		{"name":"l","in":"query","type":"array","enum":["a"]},{"name":"b","in":"body","type":"boolean"},{"name":"o","in":"body","type":"object"},{"name":"h","in":"header","type":"string"},{"name":"r","in":"body","type":"string","required":true},
		{"name":"a1","in":"body","as":"k.x","type":"any"},{"name":"a2","in":"body","as":"k","type":"any"},{"name":"g","in":"arguments","type":"any"},{"name":"g2","in":"arguments","as":"g.h","type":"any"}]}`
	for _, c := range []struct{ input, want string }{
		{`{}`, "action act: input r: a value is required"},
		{`{"r":"","p":""}`, "input p: a part of the path cannot be empty"},
		{`{"r":"","p":".."}`, "a segment that is no name"},
		{`{"r":"","n":1.5}`, "input n: a whole number is expected, not number"},
		{`{"r":"","n":"1"}`, "input n: a whole number is expected, not string"},
		{`{"r":"","e":"c"}`, `input e: the value is none of "a","b"`},
		{`{"r":"","l":["a","c"]}`, `input l: the value is none of "a"`},
		{`{"r":"","b":"true"}`, "input b: a boolean is expected, not string"},
		{`{"r":"","o":[1]}`, "input o: an object is expected, not list"},
		{`{"r":"","h":"a\r\nb"}`, "input h: a header has no line end"},
		{`{"r":{"$file":1}}`, "input r: a string is expected, not object"},
		{`{"r":"","a2":{"$file":1}}`, "input a2: a file cannot stand here"},
		{`{"r":"","a1":1,"a2":2}`, "input a2: another input has the same place"},
		{`{"r":"","x":1}`, "input x: the action has no such input"},
		{`{"r":"","g":"` + strings.Repeat("ü", connector.MaxArguments/6) + `"}`, "the arguments have 4100 bytes, more than 4096"},
		{`{"r":"","g":{"$file":1}}`, "input g: a file cannot stand here"},
		{`{"r":"","g":1,"g2":2}`, "input g2: another input has the same place in the arguments"},
		{`[1]`, "an object of inputs is expected, not list"},
	} {
		_, err := connector.Build(action(t, one), &connector.Defaults{}, parse(t, c.input), isFile, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v does not say %q", c.input, err, c.want)
		}
	}
}

// FuzzBuildPath checks that an input of the path is one segment whatever it holds.
func FuzzBuildPath(f *testing.F) {
	for _, s := range []string{"a", "..", ".", "a/b", "%2e%2e", "?x", "#", "\r\n", "\x00", "%", "ä", "\xff", "a\\b"} {
		f.Add(s)
	}
	a := &connector.Action{Name: "a", Method: "GET", Path: "/x/{v}/y", Inputs: []connector.Input{{Name: "v", In: connector.InPath, Type: connector.TypeString}}}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := connector.Build(a, &connector.Defaults{}, expr.NewObject([]string{"v"}, []expr.Value{expr.String(s)}), nil, nil)
		if err != nil {
			return
		}
		parts := strings.Split(r.Path, "/")
		if len(parts) != 4 || parts[1] != "x" || parts[3] != "y" || strings.ContainsAny(parts[2], "?#\\ \r\n\x00") || parts[2] == "" || parts[2] == ".." {
			t.Fatalf("%q becomes the path %q", s, r.Path)
		}
	})
}
