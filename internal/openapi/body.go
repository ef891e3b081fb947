package openapi

import (
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// bodyName is the input that is a whole body.
const bodyName = "body"

// body makes inputs of the request body.
func (o *operation) body() error {
	request := o.d.deref(o.node.get("requestBody"))
	if request.get("content").size() == 0 {
		o.action.Body = connector.BodyNone
		return nil
	}
	media, content := o.choose(request.get("content"))
	base := mediaBase(media)
	required := request.get("required").yes()
	schema := content.get("schema")
	switch {
	case isJSON(base):
		o.action.Body = connector.BodyJSON
		if !strings.EqualFold(media, "application/json") && base != "*/*" && base != "application/*" && strings.Contains(base, "/") && !strings.Contains(base, "*") {
			o.contentType(media)
		}
		o.structured(request, schema, required)
	case base == typeForm && o.typeOf(schema, 0).typ == connector.TypeString:
		o.action.Body = connector.BodyText
		o.contentType(media)
		o.whole(request, mapNode(), required, connector.TypeString)
	case base == typeForm:
		o.action.Body = connector.BodyForm
		o.structured(request, schema, required)
		o.encode(content, schema)
	case base == typeMultipart || base == "multipart/mixed" || base == "multipart/related" || base == "application/form-data":
		if base != typeMultipart {
			return skip("its body is %s, which is not offered", base)
		}
		o.action.Body = connector.BodyMultipart
		o.structured(request, schema, required)
		o.files()
	case isText(base):
		o.action.Body = connector.BodyText
		o.contentType(media)
		o.whole(request, mapNode(), required, connector.TypeString)
	default:
		o.action.Body = connector.BodyFile
		if !strings.Contains(base, "*") && strings.Contains(base, "/") {
			o.contentType(media)
		}
		o.whole(request, schema, required, connector.TypeFile)
	}
	return nil
}

// contentType fixes the type of the body.
func (o *operation) contentType(media string) {
	o.action.Headers = append(o.action.Headers, connector.Fixed{Name: "Content-Type", Value: media})
}

// choose takes the format that flows can write best: JSON, a form, parts, text, a file.
func (o *operation) choose(content *node) (string, *node) {
	best, rank := "", 100
	content.each(func(t string, _ *node) {
		base := mediaBase(t)
		r := 8
		switch {
		case base == "application/json":
			r = 0
		case base == "application/merge-patch+json":
			r = 2
		case base == "*/*", base == "":
			r = 4
		case isJSON(base):
			r = 1
		case base == typeForm:
			r = 3
		case base == typeMultipart:
			r = 3
			if fileIn(o.d, content.at(t, "schema")) {
				r = 2
			}
		case isXML(base):
			r = 6
		case isText(base):
			r = 5
		case base == "application/octet-stream":
			r = 7
		}
		if r < rank {
			best, rank = t, r
		}
	})
	return best, content.get(best)
}

// fileIn tells whether a form has a file.
func fileIn(d *document, schema *node) bool {
	found := false
	d.deref(schema).get("properties").each(func(_ string, p *node) {
		t := d.deref(p)
		found = found || t.get("format").str() == "binary" || d.deref(t.get("items")).get("format").str() == "binary"
	})
	return found
}

// structured makes an input of each property of an object, or one of the whole.
func (o *operation) structured(request, schema *node, required bool) {
	members, must, ok := o.members(schema)
	switch o.action.Method { // of other methods, a body without any member would not be sent
	case "POST", "PUT", "PATCH":
	default:
		ok = ok && !(required && len(must) == 0)
	}
	if !ok || members.size() == 0 || members.size()+len(o.action.Inputs) > connector.MaxInputs {
		o.whole(request, schema, required, "")
		if last := &o.action.Inputs[len(o.action.Inputs)-1]; o.action.Body != connector.BodyJSON {
			last.Type, last.Example, last.Enum, last.Default = connector.TypeObject, nil, nil, nil // of names and values, whatever the schema says
		}
		return
	}
	members.each(func(name string, p *node) {
		t := o.d.deref(p)
		if t.get("readOnly").yes() && !must[name] || o.credential("body", name) {
			return
		}
		// A body that may be left out, but not in part, is rarely meant: documents forget to say that it is required.
		i := connector.Input{In: connector.InBody, As: name, Required: must[name]}
		d := o.describe(&i, mapNode(), p)
		if i.Required && o.constantField(&i, d, name) {
			return
		}
		if i.Required = i.Required && !t.get("readOnly").yes(); t.get("readOnly").yes() {
			return
		}
		if o.action.Body == connector.BodyJSON {
			i.As = escapePath(name)
		}
		if d.file && o.action.Body == connector.BodyMultipart {
			i.Type, i.Schema, i.Example, i.Default = connector.TypeFile, nil, nil, nil
		}
		o.addBody(i, name)
	})
}

// constantField fixes a member that must be given and has one value.
func (o *operation) constantField(i *connector.Input, t typing, name string) bool {
	var value rawJSON
	switch enum := t.schema.get("enum"); {
	case t.schema.get("const") != nil:
		value = t.schema.get("const").json()
	case enum.size() == 1 && i.Type != connector.TypeArray && enum.items[0].kind != kindNull:
		value = enum.items[0].json()
	case i.Visibility == connector.VisibilityInternal && len(i.Default) > 0:
		value = i.Default
	default:
		return false
	}
	at := name
	if o.action.Body == connector.BodyJSON {
		at = escapePath(name)
	}
	o.action.Fields = append(o.action.Fields, connector.FixedValue{At: at, Value: value})
	return true
}

// addBody adds an input of the body. Its name is that of the property; where it is sent may need escapes.
func (o *operation) addBody(i connector.Input, name string) {
	as := i.As
	i.As = name
	o.add(i)
	last := &o.action.Inputs[len(o.action.Inputs)-1]
	if last.Name == as {
		last.As = ""
	} else {
		last.As = as
	}
}

// escapePath makes a path of one name: dots and brackets of the name are escaped.
func escapePath(name string) string {
	return strings.NewReplacer(`\`, `\\`, `.`, `\.`, `[`, `\[`).Replace(name)
}

// whole makes one input of the body. The empty type is that of its schema.
func (o *operation) whole(request, schema *node, required bool, typ connector.Type) {
	i := connector.Input{In: connector.InBody, As: bodyName, Whole: true, Required: required}
	o.describe(&i, request, schema)
	if typ != "" {
		i.Type = typ
		i.Enum, i.Default, i.Example = nil, nil, nil
		i.Schema = nil
	}
	o.add(i)
	o.action.Inputs[len(o.action.Inputs)-1].As = ""
}

// members are the properties of an object schema, with those of its allOf. ok is false where inputs could not say all that
// the schema does: alternatives, further properties, no object.
func (o *operation) members(schema *node) (members *node, required map[string]bool, ok bool) {
	members, required = mapNode(), map[string]bool{}
	return members, required, o.collect(schema, members, required, 0)
}

func (o *operation) collect(schema, members *node, required map[string]bool, depth int) bool {
	if depth == 0 {
		o.steps = 0
	}
	o.steps++
	t := o.d.deref(schema)
	if !t.is(kindMap) || depth > maxMerge || o.steps > maxLooks {
		return false
	}
	if name := typeName(t); name != "object" && name != "" || t.get("type").is(kindList) && name == "" {
		return false
	}
	if more := t.get("additionalProperties"); more.is(kindMap) && more.size() > 0 || more.yes() || t.get("patternProperties") != nil || t.get("nullable").yes() && depth == 0 {
		return false
	}
	for _, k := range []string{"oneOf", "anyOf"} {
		for _, member := range t.get(k).list() {
			if member.size() != 1 || member.get("required") == nil {
				return false
			}
		}
	}
	if t.get("not") != nil || t.get("if") != nil {
		return false
	}
	for _, part := range t.get("allOf").list() {
		if !o.collect(part, members, required, depth+1) {
			return false
		}
	}
	t.get("properties").each(func(name string, p *node) {
		if p.is(kindMap) {
			members.set(name, p)
		}
	})
	for _, name := range texts(t.get("required")) {
		required[name] = true
	}
	return true
}

// encode sets how lists and objects of a form are written.
func (o *operation) encode(content, schema *node) {
	for n := range o.action.Inputs {
		i := &o.action.Inputs[n]
		if i.In != connector.InBody || i.Whole || i.Type != connector.TypeArray && i.Type != connector.TypeObject {
			continue
		}
		about := content.at("encoding", i.Key())
		style, explode := about.get("style").str(), about.get("explode")
		property := o.d.deref(o.d.deref(schema).at("properties", i.Key()))
		switch {
		case style == "deepObject":
			i.Style = connector.StyleIndex
		case isJSON(mediaBase(about.get("contentType").str())) && about.get("contentType") != nil:
			i.Style = connector.StyleJSON
		case property.get(extRepeat).yes():
		case property.get(extList) != nil:
			i.Style = map[string]connector.Style{"csv": connector.StyleCSV, "ssv": connector.StyleSpace, "pipes": connector.StylePipe}[property.get(extList).str()]
		case i.Type == connector.TypeArray && explode != nil && !explode.yes():
			switch style {
			case "spaceDelimited":
				i.Style = connector.StyleSpace
			case "pipeDelimited":
				i.Style = connector.StylePipe
			default:
				i.Style = connector.StyleCSV
			}
		}
	}
}

// files makes files of the lists of files among the parts.
func (o *operation) files() {
	for n := range o.action.Inputs {
		i := &o.action.Inputs[n]
		if i.In == connector.InBody && i.Type == connector.TypeArray && strings.Contains(string(i.Schema), `"format":"binary"`) {
			i.Type, i.Schema, i.Example = connector.TypeFile, nil, nil
		}
	}
}

// response finds what the answer of a success is.
func (o *operation) response() {
	responses := o.node.get("responses")
	var answer *node
	best := "9"
	responses.each(func(status string, r *node) {
		if strings.HasPrefix(status, "2") && strings.ToUpper(status) < best && o.d.deref(r).get("content").size() > 0 {
			answer, best = o.d.deref(r), strings.ToUpper(status)
		}
	})
	if answer == nil && best == "9" {
		if d := o.d.deref(responses.get("default")); d.get("content").size() > 0 && !hasSuccess(responses) {
			answer = d
		}
	}
	content := answer.get("content")
	if content.size() == 0 || o.action.Method == "HEAD" {
		return
	}
	json, accept, text := (*node)(nil), "", true
	content.each(func(t string, m *node) {
		base := mediaBase(t)
		if isJSON(base) && json == nil || base == "application/json" {
			json = m
			if accept = t; base == "*/*" || base == "application/*" || !strings.Contains(base, "/") {
				accept = ""
			}
		}
		text = text && (isText(base) || isJSON(base))
	})
	switch {
	case json != nil:
		if accept != "" && mediaBase(accept) != "application/json" && !strings.Contains(accept, "*") {
			o.action.Headers = append(o.action.Headers, connector.Fixed{Name: "Accept", Value: accept})
		}
		if o.typeOf(json.get("schema"), 0).file {
			o.action.Response = "file"
		} else if schema := json.get("schema"); schema != nil && o.detail < detailInputs {
			if s := o.schema(schema, 0); s.size() > 0 {
				if raw := s.json(); len(raw) <= connector.MaxSchema {
					o.action.Output = raw
				}
			}
		}
	case text:
		o.action.Response = "text"
	default:
		o.action.Response = "file"
	}
}

func hasSuccess(responses *node) bool {
	found := false
	responses.each(func(status string, _ *node) { found = found || strings.HasPrefix(status, "2") })
	return found
}

// pages reads x-ms-pageable of AutoRest: the list, and the URL of the next page.
func (o *operation) pages() {
	p := o.node.get("x-ms-pageable")
	if next := p.get("nextLinkName").str(); next != "" {
		items := p.get("itemName").str()
		if items == "" {
			items = "value"
		}
		o.action.Paginate = &connector.Paginate{Type: connector.PageLink, From: escapePath(next), Items: items}
	}
}
