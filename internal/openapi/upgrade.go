package openapi

import (
	"strings"
)

// upgrade rewrites a Swagger 2.0 document as OpenAPI 3.0. Everything that it does not know, extensions above all, stays where
// it is; what a body parameter says moves to the request body.
func (d *document) upgrade() {
	old := d.root
	root := mapNode()
	root.set("openapi", textNode("3.0.3"))
	components := mapNode()
	old.each(func(k string, v *node) {
		switch k {
		case "swagger", "host", "basePath", "schemes", "consumes", "produces":
		case "definitions":
			components.set("schemas", v)
		case "responses":
			components.set("responses", d.upgradeAll(v, func(r *node) *node { return d.upgradeResponse(r, old.get("produces")) }))
		case "parameters":
			components.set("parameters", v) // read by upgradeOperation, which knows what consumes them
		case "securityDefinitions":
			components.set("securitySchemes", d.upgradeAll(v, upgradeScheme))
		case "paths", "x-ms-paths":
			root.set(k, d.upgradeAll(v, func(p *node) *node { return d.upgradePath(old, p) }))
		default:
			root.set(k, v)
		}
	})
	if servers := upgradeServers(old); servers != nil {
		root.set("servers", servers)
	}
	d.upgradeParameters(components)
	root.set("components", components)
	d.root = root
	d.targets = map[string]*node{}
	rewriteRefs(root, map[*node]bool{})
}

func (d *document) upgradeAll(n *node, f func(*node) *node) *node {
	out := mapNode()
	n.each(func(k string, v *node) {
		if strings.HasPrefix(k, "x-") && !strings.HasPrefix(k, "x-ms-paths") {
			out.set(k, v)
			return
		}
		out.set(k, f(v))
	})
	return out
}

func upgradeServers(old *node) *node {
	host, base := old.get("host").str(), old.get("basePath").str()
	if base != "" && !strings.HasPrefix(base, "/") {
		base = "/" + base
	}
	if host == "" {
		if base == "" {
			return nil
		}
		return listNode(server(base))
	}
	schemes := old.get("schemes").list()
	if len(schemes) == 0 {
		schemes = []*node{textNode("https")}
	}
	out := listNode()
	for _, s := range schemes {
		out.items = append(out.items, server(s.str()+"://"+host+base))
	}
	return out
}

func server(address string) *node {
	n := mapNode()
	n.set("url", textNode(address))
	return n
}

func (d *document) upgradePath(old, p *node) *node {
	out := mapNode()
	shared := p.get("parameters").list()
	p.each(func(k string, v *node) {
		switch {
		case k == "parameters": // spread over the operations, because some may be bodies
		case isMethod(k):
			out.set(k, d.upgradeOperation(old, shared, v))
		default:
			out.set(k, v)
		}
	})
	return out
}

func (d *document) upgradeOperation(old *node, shared []*node, o *node) *node {
	out := mapNode()
	consumes, produces := o.get("consumes"), o.get("produces")
	if consumes == nil {
		consumes = old.get("consumes")
	}
	if produces == nil {
		produces = old.get("produces")
	}
	split := d.splitParameters(append(o.get("parameters").list()[:o.get("parameters").size():o.get("parameters").size()], shared...))
	o.each(func(k string, v *node) {
		switch k {
		case "consumes", "produces", "parameters", "schemes":
		case "responses":
			out.set(k, d.upgradeAll(v, func(r *node) *node { return d.upgradeResponse(r, produces) }))
		default:
			out.set(k, v)
		}
	})
	if len(split.plain) > 0 {
		out.set("parameters", listNode(split.plain...))
	}
	if b := split.request(consumes); b != nil {
		out.set("requestBody", b)
	}
	return out
}

// parameters are those of a Swagger operation by what becomes of them.
type parameters struct {
	plain, form []*node
	body        *node
}

func (d *document) splitParameters(all []*node) parameters {
	var out parameters
	seen := map[string]bool{}
	for _, p := range all {
		t := d.deref(p)
		key := t.get("in").str() + " " + t.get("name").str()
		if t == nil || seen[key] {
			continue // an operation's own parameter stands for the path's
		}
		seen[key] = true
		switch t.get("in").str() {
		case "body":
			if out.body == nil {
				out.body = t
			}
		case "formData":
			out.form = append(out.form, t)
		default:
			out.plain = append(out.plain, upgradeParameter(t))
		}
	}
	return out
}

// request is the request body that body and form parameters describe; nil where there are none.
func (p parameters) request(consumes *node) *node {
	if p.body == nil && len(p.form) == 0 {
		return nil
	}
	out := mapNode()
	media := mapNode()
	types := mediaTypes(consumes)
	if p.body != nil {
		p.body.each(func(k string, v *node) {
			if k == "description" || k == "required" || strings.HasPrefix(k, "x-") {
				out.set(k, v)
			}
		})
		if s := p.body.get("schema"); s != nil {
			media.set("schema", s)
		}
	} else {
		types = p.formTypes(types)
		media.set("schema", p.formSchema(out))
	}
	content := mapNode()
	for _, t := range types {
		content.set(t, media)
	}
	out.set("content", content)
	return out
}

func mediaTypes(consumes *node) []string {
	var out []string
	for _, c := range consumes.list() {
		if c.str() != "" {
			out = append(out, c.str())
		}
	}
	if len(out) == 0 {
		out = []string{"application/json"}
	}
	return out
}

const (
	typeForm      = "application/x-www-form-urlencoded"
	typeMultipart = "multipart/form-data"
)

func (p parameters) formTypes(types []string) []string {
	for _, f := range p.form {
		if f.get("type").str() == "file" {
			return []string{typeMultipart}
		}
	}
	var out []string
	for _, t := range types {
		if base := mediaBase(t); base == typeForm || base == typeMultipart {
			out = append(out, t)
		}
	}
	if len(out) == 0 {
		out = []string{typeForm}
	}
	return out
}

func (p parameters) formSchema(body *node) *node {
	properties, required := mapNode(), listNode()
	for _, f := range p.form {
		name := f.get("name").str()
		properties.set(name, upgradeParameter(f).get("schema"))
		s := properties.get(name)
		f.each(func(k string, v *node) {
			if k == "description" || strings.HasPrefix(k, "x-") {
				s.set(k, v)
			}
		})
		if f.get("collectionFormat").str() == "multi" {
			s.set(extRepeat, boolNode(true))
		} else if f.get("type").str() == "array" {
			s.set(extList, textNode(collection(f.get("collectionFormat").str())))
		}
		if f.get("required").yes() {
			required.items = append(required.items, textNode(name))
		}
	}
	out := mapNode()
	out.set("type", textNode("object"))
	out.set("properties", properties)
	if required.size() > 0 {
		out.set("required", required)
		body.set("required", boolNode(true))
	}
	return out
}

// How a list of a Swagger form is written: OpenAPI 3 says it elsewhere, in the encoding.
const (
	extRepeat = "x-bulkhead-repeat"
	extList   = "x-bulkhead-list"
)

func collection(format string) string {
	switch format {
	case "ssv", "pipes", "tsv":
		return format
	}
	return "csv"
}

// upgradeParameter moves what says the type into a schema.
func upgradeParameter(p *node) *node {
	out, schema := mapNode(), mapNode()
	p.each(func(k string, v *node) {
		switch k {
		case "name", "in", "description", "required", "deprecated", "allowEmptyValue", "schema", "example", "examples":
			if k != "required" || v.yes() {
				out.set(k, v)
			}
		case "collectionFormat":
		case "items":
			schema.set(k, upgradeItems(v))
		case "type":
			if v.str() == "file" {
				schema.set("type", textNode("string"))
				schema.set("format", textNode("binary"))
			} else {
				schema.set(k, v)
			}
		default:
			if strings.HasPrefix(k, "x-") {
				out.set(k, v)
			} else {
				schema.set(k, v)
			}
		}
	})
	if out.get("schema") == nil {
		out.set("schema", schema)
	}
	if p.get("type").str() == "array" && p.get("in").str() != "formData" {
		switch format := p.get("collectionFormat").str(); {
		case format == "multi":
			out.set("style", textNode("form"))
			out.set("explode", boolNode(true))
		case p.get("in").str() != "query":
			out.set("style", textNode("simple"))
		case format == "ssv":
			out.set("style", textNode("spaceDelimited"))
			out.set("explode", boolNode(false))
		case format == "pipes":
			out.set("style", textNode("pipeDelimited"))
			out.set("explode", boolNode(false))
		default:
			out.set("style", textNode("form"))
			out.set("explode", boolNode(false))
		}
	}
	return out
}

func upgradeItems(n *node) *node {
	if !n.is(kindMap) {
		return n
	}
	out := n.shallow()
	out.drop("collectionFormat")
	if i := out.get("items"); i != nil {
		out.set("items", upgradeItems(i))
	}
	return out
}

func (d *document) upgradeResponse(r, produces *node) *node {
	if !r.is(kindMap) || ref(r) != "" {
		return r
	}
	out := mapNode()
	r.each(func(k string, v *node) {
		switch k {
		case "schema", "examples":
		case "headers":
			out.set(k, d.upgradeAll(v, upgradeParameter))
		default:
			out.set(k, v)
		}
	})
	schema := r.get("schema")
	if schema == nil {
		return out
	}
	if schema.get("type").str() == "file" {
		schema = mapNode()
		schema.set("type", textNode("string"))
		schema.set("format", textNode("binary"))
	}
	content := mapNode()
	for _, t := range mediaTypes(produces) {
		media := mapNode()
		media.set("schema", schema)
		if e := r.at("examples", t); e != nil {
			media.set("example", e)
		}
		content.set(t, media)
	}
	out.set("content", content)
	return out
}

func upgradeScheme(s *node) *node {
	if !s.is(kindMap) {
		return s
	}
	out := mapNode()
	flow := mapNode()
	s.each(func(k string, v *node) {
		switch k {
		case "type":
			if v.str() == "basic" {
				out.set("type", textNode("http"))
				out.set("scheme", textNode("basic"))
			} else {
				out.set(k, v)
			}
		case "authorizationUrl", "tokenUrl", "scopes":
			flow.set(k, v)
		case "flow":
		default:
			out.set(k, v)
		}
	})
	if s.get("type").str() == "oauth2" {
		name := s.get("flow").str()
		switch name {
		case "accessCode":
			name = "authorizationCode"
		case "application":
			name = "clientCredentials"
		}
		flows := mapNode()
		flows.set(name, flow)
		out.set("flows", flows)
	}
	return out
}

// upgradeParameters turns the shared parameters into those of OpenAPI 3. Operations hold copies, so bodies are left out.
func (d *document) upgradeParameters(components *node) {
	shared := components.get("parameters")
	if shared == nil {
		return
	}
	out := mapNode()
	shared.each(func(k string, v *node) {
		if in := v.get("in").str(); in != "body" && in != "formData" {
			out.set(k, upgradeParameter(v))
		}
	})
	components.set("parameters", out)
}

// rewriteRefs makes references to definitions ones to components. Trees share nodes, so each is rewritten once.
func rewriteRefs(n *node, done map[*node]bool) {
	if n == nil || done[n] {
		return
	}
	done[n] = true
	if r := ref(n); r != "" {
		for _, c := range [][2]string{{"#/definitions/", "#/components/schemas/"}, {"#/responses/", "#/components/responses/"}, {"#/parameters/", "#/components/parameters/"}} {
			if rest, ok := strings.CutPrefix(r, c[0]); ok {
				n.set("$ref", textNode(c[1]+rest))
				break
			}
		}
	}
	for _, v := range n.items {
		rewriteRefs(v, done)
	}
}
