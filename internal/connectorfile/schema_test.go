package connectorfile

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

var update = flag.Bool("update", false, "write what the code does now into the files that are compared")

// TestSchemaIsGenerated: the published schema and the reference are made from the types and their comments.
func TestSchemaIsGenerated(t *testing.T) {
	t.Parallel()
	g := newGenerator(t)
	schema, reference := g.generate()
	compare(t, "schema.json", schema)
	const begin, end = "<!-- reference: generated -->\n", "<!-- end of reference -->"
	doc, err := os.ReadFile("../../doc/connectors.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("doc/connectors.md has no place for the reference")
	}
	compare(t, "../../doc/connectors.md", []byte(before+begin+reference+end+after))
}

func compare(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not current (go test -update) (-file +types):\n%s", name, diff)
	}
}

// TestSchemaIsValid: other programs read the schema too.
func TestSchemaIsValid(t *testing.T) {
	t.Parallel()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Compile("schema.json"); err != nil {
		t.Error(err)
	}
}

// overrides are what the types do not say, by definition and key.
var overrides = map[string]string{
	"manifest.connector":      `{"pattern":"^[a-z][a-z0-9-]{0,62}$","x-rule":"small letters, digits and dashes, a letter first, at most 63 characters"}`,
	"manifest.version":        `{"pattern":"^(0|[1-9][0-9]*)\\.(0|[1-9][0-9]*)\\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?$","x-rule":"expected a version such as 1.2.0"}`,
	"manifest.hosts":          `{"minItems":1,"maxItems":50}`,
	"manifest.auth":           `{"maxItems":20}`,
	"manifest.bases":          `{"maxProperties":10}`,
	"manifest.schemas":        `{"maxProperties":2000}`,
	"provenance.kind":         `{"enum":["hand","openapi"]}`,
	"provenance.sha256":       `{"pattern":"^[0-9a-f]{64}$","x-rule":"64 hexadecimal digits"}`,
	"provenance.retrieved":    `{"pattern":"^[0-9]{4}-[0-9]{2}-[0-9]{2}$","x-rule":"a date such as 2026-11-21"}`,
	"retry.reset_unit":        `{"enum":["unix","unix_ms","seconds","ms"]}`,
	"limits.concurrent":       `{"minimum":1,"maximum":10000}`,
	"limits.per_second":       `{"minimum":0.001,"maximum":100000}`,
	"limits.burst":            `{"minimum":1,"maximum":100000}`,
	"action.method":           `{"enum":["GET","HEAD","POST","PUT","PATCH","DELETE"]}`,
	"action.response":         `{"enum":["auto","json","text","file"]}`,
	"action.input":            `{"maxProperties":300}`,
	"paginate.type":           `{"enum":["none","link","cursor","offset","page"]}`,
	"paginate.in":             `{"enum":["query","body"]}`,
	"size.in":                 `{"enum":["query","body"]}`,
	"size.value":              `{"minimum":1,"maximum":10000}`,
	"trigger.type":            `{"enum":["webhook","app","poll"]}`,
	"verify.type":             `{"enum":["hmac","header","basic","query","body","standard-webhooks","none"],"x-instead":{"jwt":"a recipe has no key for tokens: leave the trigger out, and let flows check them in a webhook of their own by verify: {jwt: …}, with a key from config"}}`,
	"verify.secret":           `{"enum":["subscription","app","client","none"]}`,
	"verify.encoding":         `{"enum":["hex","base64"]}`,
	"verify.key":              `{"enum":["text","base64"]}`,
	"challenge.as":            `{"enum":["text","json","header"]}`,
	"challenge.hmac":          `{"enum":["hex","base64"]}`,
	"auth_request.method":     `{"enum":["GET","POST","PUT","PATCH","DELETE"]}`,
	"auth_expiry.default_s":   `{"minimum":0}`,
	"auth_recipe.margin_s":    `{"minimum":0,"maximum":86400}`,
	"auth_assertion.lifetime": `{"minimum":0,"maximum":3600}`,
}

// optionalKeys may be left out of a file: they are filled in.
var optionalKeys = map[string]bool{"input.in": true, "input.type": true, "trigger.type": true}

// words describe keys without a comment.
var words = map[string]string{
	"title": "What people see.", "description": "What it is for, for people.", "help": "How to find it, for people.", "docs": "Web address of the vendor's documentation of it.",
	"secret": "A secret: it is not shown.", "default": "What is taken when nothing is given.", "example": "A value as an example.", "enum": "The only values.", "required": "It must be given.",
	"deprecated": "What to use instead.", "visibility": "How prominently it is offered.", "type": "The kind of it.", "name": "Its name.", "action": "An action of this connector.",
	"tier": "How far the manifest can be trusted, and why.", "actions": "What a flow can do with it.", "triggers": "What can start a flow.", "licence": "Licence of the document.",
	"headers": "Headers that are always sent, by name.", "query": "Query parameters that are always sent, by name.", "input": "What a flow gives in with, by name.", "timeout": "How long an answer may take.",
	"scopes": "Scopes that the credential needs.", "in": "The part of the request in which it goes.", "per_second": "Requests that may begin in a second.", "prefix": "What stands before the signature, such as sha256=.",
	"part": "The key of the signature in pairs.", "values": "The values that match; or input.", "value": "Its value.", "label": "Path of what people see.", "format": "The format of it.", "renew_every": "How often it is renewed.",
	"unsubscribe": "The call that ends the subscription, on removal.", "renew": "The call that keeps it alive.", "subscribe": "The call that makes it, on deploy.", "is": "Values that it may be.", "not": "Values that it must not be.",
	"url": "The address; a template.", "path": "Path of the value.", "access": "Path of the access token.", "refresh": "Path of the refresh token.", "match": "Path in its JSON body.", "layout": "Layout of form date.",
	"hosts": "Hosts that what is found may be of.", "expiry": "Where the end of the tokens' life is told.", "body": "The format of the body.", "separator": "What stands between scopes; a space unless set.",
	"id": "Path of the ID token.", "audience": "For whom it is; the token URL unless set.",
	"with": "Its inputs by name: literals, or {from: NAME} for an input of what calls it.",
}

type generator struct {
	t       *testing.T
	structs map[string]*ast.StructType // pkg.Name
	docs    map[string]string          // pkg.Name, pkg.Name.Field
	enums   map[string][]string        // pkg.Name
	queue   []reflect.Type
	seen    map[reflect.Type]string
	order   []string
	defs    map[string]*object
}

// object is JSON with keys in order.
type object struct {
	keys   []string
	values map[string]any
}

func (o *object) set(k string, v any) *object {
	if o.values == nil {
		o.values = map[string]any{}
	}
	if _, ok := o.values[k]; !ok {
		o.keys = append(o.keys, k)
	}
	o.values[k] = v
	return o
}

func (o *object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, k := range o.keys {
		if i > 0 {
			b.WriteByte(',')
		}
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(k); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := enc.Encode(o.values[k]); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func newGenerator(t *testing.T) *generator {
	g := &generator{t: t, structs: map[string]*ast.StructType{}, docs: map[string]string{}, enums: map[string][]string{}, seen: map[reflect.Type]string{}, defs: map[string]*object{}}
	for _, pkg := range []string{"connector", "credential"} {
		names, err := filepath.Glob("../" + pkg + "/*.go")
		if err != nil || len(names) == 0 {
			t.Fatalf("no sources of %s: %v", pkg, err)
		}
		for _, name := range names {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			g.file(pkg, f)
		}
	}
	return g
}

func (g *generator) file(pkg string, f *ast.File) {
	for _, d := range f.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range gen.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				g.docs[pkg+"."+s.Name.Name] = gen.Doc.Text()
				if st, ok := s.Type.(*ast.StructType); ok {
					g.structs[pkg+"."+s.Name.Name] = st
					for _, field := range st.Fields.List {
						for _, n := range field.Names {
							g.docs[pkg+"."+s.Name.Name+"."+n.Name] = strings.TrimSpace(field.Doc.Text() + " " + field.Comment.Text())
						}
					}
				}
			case *ast.ValueSpec:
				g.constant(pkg, s)
			}
		}
	}
}

func (g *generator) constant(pkg string, s *ast.ValueSpec) {
	id, ok := s.Type.(*ast.Ident)
	if !ok || len(s.Values) != 1 {
		return
	}
	if lit, ok := s.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
		if v, err := strconv.Unquote(lit.Value); err == nil && v != "" {
			g.enums[pkg+"."+id.Name] = append(g.enums[pkg+"."+id.Name], v)
		}
	}
}

func (g *generator) generate() (schema []byte, reference string) {
	root := g.define(reflect.TypeFor[connector.Manifest]())
	for len(g.queue) > 0 {
		next := g.queue[0]
		g.queue = g.queue[1:]
		g.defs[g.seen[next]] = g.object(next)
	}
	top := g.defs[root]
	out := (&object{}).set("$schema", "https://json-schema.org/draft/2020-12/schema").set("$id", "urn:bulkhead:schema:connector:1").set("title", "Bulkhead connector")
	for _, k := range top.keys {
		out.set(k, top.values[k])
	}
	defs := &object{}
	for _, name := range g.order[1:] {
		defs.set(name, g.defs[name])
	}
	out.set("$defs", defs)
	var b bytes.Buffer
	raw, err := json.Marshal(out)
	if err != nil {
		g.t.Fatal(err)
	}
	var plain bytes.Buffer
	if err := json.Indent(&plain, raw, "", "  "); err != nil {
		g.t.Fatal(err)
	}
	b.Write(unescape(plain.Bytes()))
	b.WriteByte('\n')
	return b.Bytes(), g.reference()
}

// unescape takes back what encoding/json escapes for HTML.
func unescape(b []byte) []byte {
	for from, to := range map[string]string{`\u003c`: "<", `\u003e`: ">", `\u0026`: "&"} {
		b = bytes.ReplaceAll(b, []byte(from), []byte(to))
	}
	return b
}

func pkgOf(t reflect.Type) string { return filepath.Base(t.PkgPath()) }

func (g *generator) define(t reflect.Type) string {
	if name, ok := g.seen[t]; ok {
		return name
	}
	name := snake(t.Name())
	if pkgOf(t) == "credential" && name != "method" {
		name = "auth_" + name
	}
	g.seen[t] = name
	g.queue = append(g.queue, t)
	g.order = append(g.order, name)
	return name
}

func snake(s string) string {
	return strings.ToLower(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(s, "${1}_${2}"))
}

// keyed are the lists that are maps by name in a file.
var keyed = map[string][3]string{
	"Action": {"name"}, "Trigger": {"name"}, "Input": {"name"}, "Fixed": {"name", "value"}, "FixedValue": {"at", "value"}, "Passed": {"name", "value", "from"},
}

func (g *generator) object(t reflect.Type) *object {
	props := &object{}
	var required []string
	name := g.seen[t]
	g.fields(t, name, props, &required)
	o := (&object{}).set("description", g.describe(t, "", g.docs[pkgOf(t)+"."+t.Name()])).set("type", "object").set("additionalProperties", false)
	if len(required) > 0 {
		o.set("required", required)
	}
	return o.set("properties", props)
}

func (g *generator) fields(t reflect.Type, def string, props *object, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			g.fields(f.Type, def, props, required)
			continue
		}
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if key, ok := keyed[t.Name()]; ok && pkgOf(t) == "connector" && key[0] == tag {
			continue
		}
		p := g.schemaOf(f.Type)
		text := g.describe(t, f.Name, g.docs[pkgOf(t)+"."+t.Name()+"."+f.Name])
		if before := g.docs[pkgOf(t)+"."+t.Name()+"."+previous(t, i)]; text == "" && regexp.MustCompile(`\b`+f.Name+`\b`).MatchString(before) {
			text = g.describe(t, f.Name, before) // one comment for both
		}
		if text == "" {
			text = words[tag]
		}
		if named := element(f.Type); text == "" {
			text = g.describe(named, "", g.docs[pkgOf(named)+"."+named.Name()])
		}
		if text == "" {
			g.t.Errorf("%s.%s: nothing describes the key %s", t, f.Name, tag)
		}
		out := (&object{}).set("description", text)
		for _, k := range p.keys {
			out.set(k, p.values[k])
		}
		g.override(out, def+"."+tag)
		if !strings.Contains(options, "omit") && !optionalKeys[def+"."+tag] {
			*required = append(*required, tag)
		}
		props.set(tag, out)
	}
}

// previous is the name of the field with a comment before a field.
func previous(t reflect.Type, i int) string {
	if i == 0 {
		return ""
	}
	return t.Field(i - 1).Name
}

func element(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t
}

func (g *generator) override(o *object, at string) {
	text, ok := overrides[at]
	if !ok {
		return
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		g.t.Fatalf("override %s: %v", at, err)
	}
	for _, k := range []string{"enum", "x-instead", "pattern", "x-rule", "minItems", "maxItems", "maxProperties", "minimum", "maximum"} {
		if v, ok := m[k]; ok {
			o.set(k, v)
		}
	}
}

func (g *generator) schemaOf(t reflect.Type) *object {
	o := &object{}
	switch {
	case t.Kind() == reflect.Pointer:
		return g.schemaOf(t.Elem())
	case t == reflect.TypeFor[json.RawMessage]():
		return o
	case t == reflect.TypeFor[connector.Seconds]():
		return o.set("type", "string").set("format", "duration").set("x-duration", true)
	}
	switch t.Kind() {
	case reflect.Struct:
		return o.set("$ref", "#/$defs/"+g.define(t))
	case reflect.String:
		o.set("type", "string")
		if e := g.enums[pkgOf(t)+"."+t.Name()]; len(e) > 0 {
			o.set("enum", e)
		}
	case reflect.Bool:
		o.set("type", "boolean")
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint16:
		o.set("type", "integer")
	case reflect.Float64:
		o.set("type", "number")
	case reflect.Map:
		o.set("type", "object").set("additionalProperties", g.schemaOf(t.Elem()))
	case reflect.Slice:
		return g.listOf(t.Elem())
	default:
		g.t.Fatalf("no schema for %s", t)
	}
	return o
}

func (g *generator) listOf(t reflect.Type) *object {
	o := &object{}
	key, ok := keyed[t.Name()]
	if !ok || pkgOf(t) != "connector" {
		return o.set("type", "array").set("items", g.schemaOf(t))
	}
	o.set("type", "object")
	switch {
	case t == reflect.TypeFor[connector.Fixed]():
		o.set("additionalProperties", (&object{}).set("type", "string"))
	case key[1] != "":
		o.set("additionalProperties", true)
	default:
		pattern, rule := `^[a-zA-Z][a-zA-Z0-9_]{0,62}$`, "letters, digits and underscores, a letter first, at most 63 characters"
		if t == reflect.TypeFor[connector.Input]() {
			pattern, rule = `^[a-zA-Z_][a-zA-Z0-9_.-]{0,62}$`, "letters, digits and _ . -, a letter or underscore first, at most 63 characters"
		}
		o.set("propertyNames", (&object{}).set("pattern", pattern).set("x-rule", rule)).set("additionalProperties", g.schemaOf(t))
	}
	for i, k := range []string{"x-key", "x-value", "x-from"} {
		if key[i] != "" {
			o.set(k, key[i])
		}
	}
	return o
}

// describe makes a sentence of a comment: names of Go become those of the file.
func (g *generator) describe(t reflect.Type, field, text string) string {
	text = strings.Join(strings.Fields(text), " ")
	text = regexp.MustCompile(`\s*\((\d+(, \d+)*)\)`).ReplaceAllString(text, "")
	text = regexp.MustCompile(`\[(?:\w+\.)?(\w+)\]`).ReplaceAllString(text, "$1")
	text = strings.ReplaceAll(text, "[a-zA-Z]", "")
	for i := 0; t.Kind() == reflect.Struct && i < t.NumField(); i++ {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "" {
			continue
		}
		if f.Name == field {
			text = regexp.MustCompile(`^`+f.Name+` (is|are|says|say) `).ReplaceAllString(text, "")
		}
		text = regexp.MustCompile(`\b`+f.Name+`\b( \(|[ .,;:]|$)`).ReplaceAllString(text, "`"+tag+"`$1")
	}
	if field == "" {
		text = regexp.MustCompile(`^`+t.Name()+` (is|are|says|say) `).ReplaceAllString(text, "")
	}
	if text == "" {
		return ""
	}
	text = strings.ToUpper(text[:1]) + text[1:]
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

// reference writes the tables of doc/connectors.md.
func (g *generator) reference() string {
	var b strings.Builder
	for _, name := range g.order {
		def := g.defs[name]
		title := name
		if name == g.order[0] {
			title = "manifest"
		}
		fmt.Fprintf(&b, "\n### `%s`\n\n%s\n\n| key | type | what |\n|---|---|---|\n", title, def.values["description"])
		required, _ := def.values["required"].([]string)
		props, ok := def.values["properties"].(*object)
		if !ok {
			g.t.Fatalf("%s has no properties", name)
		}
		for _, k := range props.keys {
			p, ok := props.values[k].(*object)
			if !ok {
				g.t.Fatalf("%s.%s is no schema", name, k)
			}
			mark := ""
			for _, r := range required {
				if r == k {
					mark = " (required)"
				}
			}
			fmt.Fprintf(&b, "| `%s`%s | %s | %s |\n", k, mark, kind(p), strings.ReplaceAll(fmt.Sprint(p.values["description"]), "|", `\|`))
		}
	}
	return b.String() + "\n"
}

func kind(p *object) string {
	if ref, ok := p.values["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/$defs/")
		return fmt.Sprintf("[%s](#%s)", name, name)
	}
	switch p.values["type"] {
	case "array":
		if items, ok := p.values["items"].(*object); ok {
			return "list of " + kind(items)
		}
	case "object":
		if items, ok := p.values["additionalProperties"].(*object); ok {
			return "by name: " + kind(items)
		}
		return "by name: any"
	case "string":
		if p.values["x-duration"] == true {
			return "duration"
		}
		switch e := p.values["enum"].(type) {
		case []string:
			return "`" + strings.Join(e, "` `") + "`"
		case json.RawMessage:
			var list []string
			if json.Unmarshal(e, &list) == nil {
				return "`" + strings.Join(list, "` `") + "`"
			}
		}
		return "text"
	case nil:
		return "any"
	}
	return fmt.Sprint(p.values["type"])
}
