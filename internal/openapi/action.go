package openapi

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// skipped is why an operation cannot be an action.
type skipped struct{ reason string }

func (s *skipped) Error() string { return s.reason }

func skip(format string, args ...any) error { return &skipped{fmt.Sprintf(format, args...)} }

// operation is one operation of a document while it becomes an action.
type operation struct {
	*schemas
	key    string // operationId, or METHOD path
	method string
	path   string // the document's key
	item   *node  // path item
	node   *node
	auth   []authPlace // where credentials of the document's methods stand: no inputs are made for those
	names  map[string]connector.Place
	action *connector.Action
}

// compile makes the action.
func (o *operation) compile() error {
	a := o.action
	a.Method = strings.ToUpper(o.method)
	switch a.Method {
	case "OPTIONS", "TRACE":
		return skip("method %s is not offered", a.Method)
	}
	a.Title = line(o.node.get("summary").str(), maxTitle)
	if s := o.node.get("x-ms-summary").str(); s != "" {
		a.Title = line(s, maxTitle)
	}
	a.Description = clip(o.node.get("description").str(), maxDescription)
	if a.Description == a.Title || o.detail == detailNone {
		a.Description = ""
	}
	if u := o.node.at("externalDocs", "url").str(); strings.HasPrefix(u, "https://") && len(u) < connector.MaxPath {
		a.Docs = u
	}
	a.Visibility = visibility(o.node.get("x-ms-visibility").str())
	if o.node.get("deprecated").yes() {
		a.Deprecated = "deprecated by the provider"
	}
	a.Confirm = a.Method == "DELETE" || o.node.get("x-ms-require-user-confirmation").yes()
	if err := o.target(); err != nil {
		return err
	}
	if err := o.parameters(); err != nil {
		return err
	}
	if err := o.body(); err != nil {
		return err
	}
	if len(a.Inputs) > connector.MaxInputs {
		return skip("it has %d inputs, more than %d", len(a.Inputs), connector.MaxInputs)
	}
	o.response()
	o.pages()
	return nil
}

// target splits a path that holds a query or fragment: documents tell operations at one path apart by those.
func (o *operation) target() error {
	path, _, _ := strings.Cut(o.path, "#")
	path, query, _ := strings.Cut(path, "?")
	if trimmed := "/" + strings.TrimLeft(path, "/"); trimmed != path {
		if path != "" {
			o.d.violate(pointer("paths", o.path), "a path begins with one slash")
		}
		path = trimmed
	}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name == "" || strings.ContainsAny(name, "{}") || strings.ContainsAny(value, "{}") {
			continue // {?a,b} of RFC 6570, or a parameter that is declared as well
		}
		plain, err := url.QueryUnescape(value)
		if err != nil {
			plain = value
		}
		o.action.Query = append(o.action.Query, connector.Fixed{Name: name, Value: plain})
	}
	path = strings.ReplaceAll(path, "{?", "{")
	o.action.Path = cleanPath(path)
	if len(o.action.Path) > connector.MaxPath {
		return skip("its path is longer than %d bytes", connector.MaxPath)
	}
	return nil
}

// cleanPath escapes what cannot stand in a path, outside of the braces.
func cleanPath(path string) string {
	var b strings.Builder
	depth := 0
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '{':
			depth++
			b.WriteByte(c)
		case c == '}':
			depth--
			b.WriteByte(c)
		case depth > 0, letter(c), digit(c), strings.IndexByte("/-._~!$&'()*+,;=:@%", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// parameters makes inputs of the parameters of path and operation.
func (o *operation) parameters() error {
	own, shared := o.node.get("parameters").list(), o.item.get("parameters").list()
	seen := map[string]bool{}
	at := pointer("paths", o.path, o.method)
	var path, others []*node // those of the path come first: they keep their names
	for _, p := range append(own[:len(own):len(own)], shared...) {
		t := o.d.deref(p)
		if !t.is(kindMap) {
			o.d.violate(at, "a parameter cannot be read, and is left out")
			continue
		}
		key := t.get("in").str() + " " + t.get("name").str()
		if seen[key] {
			continue // the operation's own stands instead of the path's
		}
		seen[key] = true
		if t.get("in").str() == "path" {
			path = append(path, t)
		} else {
			others = append(others, t)
		}
	}
	for _, p := range append(path, others...) {
		if err := o.parameter(at, p); err != nil {
			return err
		}
	}
	return o.missing(at)
}

// missing adds inputs for the parts of the path that no parameter is declared for, and escapes braces that are none.
func (o *operation) missing(at string) error {
	for _, name := range pathNames(o.action.Path) {
		if name == "" {
			return skip("its path has a parameter without a name")
		}
		if !slices.ContainsFunc(o.action.Inputs, func(i connector.Input) bool { return i.In == connector.InPath && i.Key() == name }) {
			if o.credential("path", name) {
				continue
			}
			o.d.violate(at, "the path has {%s}, and no parameter is declared for it: it is taken for a text", name)
			o.add(connector.Input{In: connector.InPath, As: name, Type: connector.TypeString, Required: true})
		}
	}
	return nil
}

func pathNames(path string) []string {
	var out []string
	for {
		_, rest, ok := strings.Cut(path, "{")
		if !ok {
			return out
		}
		name, rest, ok := strings.Cut(rest, "}")
		if !ok {
			return out
		}
		out = append(out, name)
		path = rest
	}
}

// credential tells whether a parameter is where a credential goes.
func (o *operation) credential(in, name string) bool {
	return slices.ContainsFunc(o.auth, func(a authPlace) bool {
		return a.in == in && (a.name == name || in == "header" && strings.EqualFold(a.name, name))
	})
}

func (o *operation) parameter(at string, p *node) error {
	name, in := p.get("name").str(), p.get("in").str()
	required := p.get("required").yes()
	if name == "" || in == "" {
		o.d.violate(at, "a parameter has no name or place, and is left out")
		return nil
	}
	if o.credential(in, name) {
		return nil // the connection puts it there
	}
	switch in {
	case "path":
		if key := queryKey(o.path, name); key != "" { // /export?file={name}
			i := connector.Input{In: connector.InQuery, As: key, Required: true}
			o.describe(&i, p, p.get("schema"))
			o.add(i)
			return nil
		}
		if !slices.Contains(pathNames(o.action.Path), name) {
			o.d.violate(at, "the path has no {%s}: the parameter is left out", name)
			return nil
		}
		required = true
	case "query":
		if slices.ContainsFunc(o.action.Inputs, func(i connector.Input) bool { return i.In == connector.InQuery && i.Key() == name }) {
			return nil // a member of an object that stands in the query, too
		}
	case "header":
		if ours, err := o.header(name, required, p); ours {
			return err
		}
	case "cookie":
		if required {
			return skip("it needs a cookie")
		}
		return nil
	default:
		o.d.violate(at, "%q is no place of a parameter: it is left out", clip(in, 50))
		return nil
	}
	return o.input(p, name, in, required)
}

// queryKey is the parameter of the query behind a path whose value is {name}; empty where there is none.
func queryKey(path, name string) string {
	_, query, _ := strings.Cut(path, "?")
	for pair := range strings.SplitSeq(query, "&") {
		if key, ok := strings.CutSuffix(pair, "={"+name+"}"); ok {
			return key
		}
	}
	return ""
}

// header tells whether a header is not for a flow to set.
func (o *operation) header(name string, required bool, p *node) (bool, error) {
	switch strings.ToLower(name) {
	case "accept", "content-type", "authorization": // OpenAPI 3, Parameter Object: these are ignored
		return true, nil
	case "idempotency-key", "x-idempotency-key", "idempotence-key", "idempotency_key":
		if o.action.Method != "GET" && o.action.Method != "HEAD" && !o.strictText(p) {
			o.action.Idempotency = &connector.Idempotency{Header: name}
			return true, nil
		}
		return false, nil
	case "host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "expect", "accept-encoding",
		"content-encoding", "via", "max-forwards", "x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url", "cookie":
		if required && !strings.EqualFold(name, "content-length") && !strings.EqualFold(name, "host") {
			return true, skip("it needs the header %s, which the platform sets", name)
		}
		return true, nil
	}
	if strings.HasPrefix(strings.ToLower(name), "proxy-") || strings.Trim(name, tokenBytes) != "" {
		if required {
			return true, skip("it needs the header %q, which cannot be sent", name)
		}
		return true, nil
	}
	return false, nil
}

// tokenBytes are the characters of a header's name (RFC 9110 section 5.6.2).
const tokenBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"

// strictText tells whether a header takes less than any text: a key of the platform's would not do.
func (o *operation) strictText(p *node) bool {
	s := o.d.deref(p.get("schema"))
	format := s.get("format").str()
	return s.get("pattern") != nil || s.get("maxLength") != nil || s.get("enum") != nil || format != "" && format != "uuid" && format != "string"
}

func (o *operation) input(p *node, name, in string, required bool) error {
	schema := p.get("schema")
	style, explode, content := p.get("style").str(), p.get("explode"), false
	if schema == nil {
		p.get("content").each(func(t string, m *node) {
			if schema == nil {
				schema, content = m.get("schema"), isJSON(mediaBase(t))
			}
		})
	}
	i := connector.Input{In: connector.Place(in), As: name, Required: required}
	t := o.describe(&i, p, schema)
	if required && o.constant(&i, t) {
		return nil
	}
	switch {
	case content:
		i.Style = connector.StyleJSON
	case in == "query":
		if done, err := o.queryStyle(&i, t, style, explode); done || err != nil {
			return err
		}
	case style == "label" || style == "matrix":
		return skip("a parameter of its path is written in the style %s", style)
	case i.Type == connector.TypeObject || i.Type == connector.TypeArray:
		if i.Type == connector.TypeObject {
			if required {
				return skip("an object stands in its %s", in)
			}
			return nil
		}
		i.Style = connector.StyleCSV
	}
	if i.Type == connector.TypeFile {
		i.Type = connector.TypeString
	}
	o.add(i)
	return nil
}

// constant makes a fixed parameter of one that must be given and has one value.
func (o *operation) constant(i *connector.Input, t typing) bool {
	value := ""
	switch {
	case len(i.Enum) == 1 && i.Type != connector.TypeArray:
		value = i.Enum[0]
	case i.Visibility == connector.VisibilityInternal && len(i.Default) > 0 && t.schema.get("default").str() != "":
		value = t.schema.get("default").str()
	default:
		return false
	}
	switch i.In {
	case connector.InQuery:
		o.action.Inputs = slices.DeleteFunc(o.action.Inputs, func(x connector.Input) bool { return x.In == connector.InQuery && x.Key() == i.As })
		o.action.Query = append(slices.DeleteFunc(o.action.Query, func(f connector.Fixed) bool { return f.Name == i.As }), connector.Fixed{Name: i.As, Value: value})
	case connector.InHeader:
		o.action.Headers = append(o.action.Headers, connector.Fixed{Name: i.As, Value: value})
	default:
		return false
	}
	return true
}

// queryStyle sets how a list or object is written in a query. An object whose members are parameters of their own becomes
// one input for each.
func (o *operation) queryStyle(i *connector.Input, t typing, style string, explode *node) (done bool, err error) {
	exploded := explode.yes() || explode == nil && (style == "" || style == "form")
	switch i.Type {
	case connector.TypeArray:
		if items := o.typeOf(t.core.get("items"), 0).typ; style != "deepObject" && (items == connector.TypeObject || items == connector.TypeArray) {
			if i.Required {
				return true, skip("a list of objects stands in its query, and OpenAPI does not say how that is written")
			}
			o.d.violate(pointer("paths", o.path, o.method), "OpenAPI does not say how a list of objects is written in a query: %s is left out", line(i.As, maxTitle))
			return true, nil
		}
		switch {
		case style == "deepObject":
			i.Style = connector.StyleIndex
		case exploded:
		case style == "spaceDelimited":
			i.Style = connector.StyleSpace
		case style == "pipeDelimited":
			i.Style = connector.StylePipe
		default:
			i.Style = connector.StyleCSV
		}
	case connector.TypeObject:
		if style == "deepObject" {
			i.Style = connector.StyleIndex
			return false, nil
		}
		if !exploded {
			if i.Required {
				return true, skip("an object stands in its query, written as names and values with commas")
			}
			return true, nil
		}
		return true, o.spread(i, t)
	}
	return false, nil
}

// spread makes inputs of the members of an object in a query: ?a=1&b=2 (style form, explode true).
func (o *operation) spread(i *connector.Input, t typing) error {
	members, required, ok := o.members(t.schema)
	if !ok || members.size() == 0 {
		if i.Required {
			return skip("any names and values stand in its query")
		}
		return nil
	}
	var err error
	members.each(func(name string, schema *node) {
		if err != nil || slices.ContainsFunc(o.action.Inputs, func(x connector.Input) bool { return x.In == connector.InQuery && x.Key() == name }) ||
			slices.ContainsFunc(o.action.Query, func(f connector.Fixed) bool { return f.Name == name }) {
			return
		}
		p := mapNode()
		p.set("schema", schema)
		if o.typeOf(schema, 0).typ == connector.TypeObject {
			if required[name] && i.Required {
				err = skip("objects within objects stand in its query")
			}
			return
		}
		err = o.input(p, name, "query", i.Required && required[name])
	})
	return err
}

// add gives an input a name that no other has: two places may use the same one.
func (o *operation) add(i connector.Input) {
	name := inputName(i.As)
	if _, taken := o.names[name]; taken {
		name = inputName(name + "_" + string(i.In))
		if _, taken := o.names[name]; taken {
			name = suffixed(name, i.As+" "+string(i.In))
		}
	}
	o.names[name] = i.In
	i.Name = name
	if i.As == name {
		i.As = ""
	}
	o.action.Inputs = append(o.action.Inputs, i)
}
