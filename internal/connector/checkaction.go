package connector

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

func namePattern() *regexp.Regexp  { return regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_]{0,62}$`) }
func inputPattern() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_.-]{0,62}$`) }

func (c *checker) action(at string, a *Action) {
	if !c.name.MatchString(a.Name) {
		c.add(at, "a name is letters, digits and underscores, a letter first, at most %d", MaxName)
	}
	c.text(at+".title", a.Title)
	c.text(at+".description", a.Description)
	c.web(at+".docs", a.Docs)
	if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, a.Method) {
		c.add(at+".method", "GET, HEAD, POST, PUT, PATCH or DELETE")
	}
	c.fixed(at+".headers", a.Headers)
	c.fixed(at+".query", a.Query)
	if a.Base != "" && c.m.Bases[a.Base] == "" {
		c.add(at+".base", "there is no base %q", cut(a.Base))
	}
	c.path(at, a)
	c.arguments(at, a)
	c.inputs(at, a)
	c.body(at, a)
	if !slices.Contains([]string{"", "auto", "json", "text", "file"}, a.Response) {
		c.add(at+".response", "auto, json, text or file")
	}
	for i, s := range a.Expect {
		if !regexp.MustCompile(`^[1-5](xx|\d\d)$`).MatchString(s) {
			c.add(fmt.Sprintf("%s.expect[%d]", at, i), "a status such as 404, or a class such as 4xx")
		}
	}
	c.follow(at+".follow", a)
	c.paginate(at+".paginate", a.Paginate)
	c.idempotency(at+".idempotency", a.Idempotency)
	c.limits(at+".limits", a.Limits)
	for i, id := range a.Auth {
		if c.m.Method(id) == nil {
			c.add(fmt.Sprintf("%s.auth[%d]", at, i), "there is no auth method %q", cut(id))
		}
	}
	for i, d := range a.Data {
		if d != DataPII && d != DataFinancial && d != DataHealth {
			c.add(fmt.Sprintf("%s.data[%d]", at, i), "pii, financial or health")
		}
	}
	c.refs(at+".output", a.Output)
}

// PathNames are the names in braces of an action's path, in order.
func PathNames(path string) []string {
	var names []string
	for {
		i := strings.IndexByte(path, '{')
		if i < 0 {
			return names
		}
		j := strings.IndexByte(path[i:], '}')
		if j < 0 {
			return names
		}
		names = append(names, path[i+1:i+j])
		path = path[i+j+1:]
	}
}

func (c *checker) path(at string, a *Action) {
	rest := a.Path
	if a.Path != "" && !strings.HasPrefix(a.Path, "/") || len(a.Path) > MaxPath || strings.ContainsAny(a.Path, " ?#\\") ||
		strings.ContainsFunc(a.Path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		c.add(at+".path", "a path begins with a slash, and has neither spaces, query nor fragment")
		return
	}
	for s := range strings.SplitSeq(a.Path, "/") {
		if s == "." || s == ".." {
			c.add(at+".path", "the segments . and .. are not allowed")
		}
	}
	names := PathNames(rest)
	for _, name := range names {
		if !slices.ContainsFunc(a.Inputs, func(i Input) bool { return i.In == InPath && i.Key() == name }) && !c.placed(name) {
			c.add(at+".path", "{%s} is no input with in: path", cut(name))
		}
	}
	for _, i := range a.Inputs {
		if i.In == InPath && !slices.Contains(names, i.Key()) {
			c.add(Join(at+".input", i.Name), "the path has no {%s}", cut(i.Key()))
		}
	}
}

// placed says whether an auth method puts a credential into a segment of the path.
func (c *checker) placed(name string) bool {
	for i := range c.m.Auth {
		for _, p := range c.m.Auth[i].Placed() {
			if p.In == "path" && p.Name == name {
				return true
			}
		}
	}
	return false
}

// arguments checks that a header of arguments and the inputs in it belong together.
func (c *checker) arguments(at string, a *Action) {
	used := false
	for n := range a.Inputs {
		i := &a.Inputs[n]
		if i.In != InArgs {
			continue
		}
		used = true
		if a.Arguments == "" {
			c.add(Join(at+".input", i.Name)+".in", "the action has no header for arguments: it is named by the key arguments of the action")
		}
	}
	if a.Arguments == "" {
		return
	}
	c.header(at+".arguments", a.Arguments)
	if !used {
		c.add(at+".arguments", "there is no input with in: arguments")
	}
	same := func(name string) bool { return strings.EqualFold(name, a.Arguments) }
	if slices.ContainsFunc(slices.Concat(a.Headers, c.m.Defaults.Headers), func(f Fixed) bool { return same(f.Name) }) ||
		slices.ContainsFunc(a.Inputs, func(i Input) bool { return i.In == InHeader && same(i.Key()) }) {
		c.add(at+".arguments", "the header %s is set otherwise too", cut(a.Arguments))
	}
}

func (c *checker) inputs(at string, a *Action) {
	if len(a.Inputs) > MaxInputs {
		c.add(at+".input", "at most %d inputs", MaxInputs)
		return
	}
	names, keys := map[string]bool{}, map[string]bool{}
	languages := 0
	for n := range a.Inputs {
		i := &a.Inputs[n]
		at := Join(at+".input", i.Name)
		if names[i.Name] {
			c.add(at, "there is another input of this name")
		}
		key := string(i.In) + " " + i.Key()
		if i.In == InHeader {
			key = strings.ToLower(key)
		}
		if !i.Whole && keys[key] {
			c.add(at, "another input is sent as %q too", cut(i.Key()))
		}
		names[i.Name], keys[key] = true, true
		if i.Language != "" {
			languages++
		}
		c.oneInput(at, i)
		c.choices(at+".choices", a, i.Choices)
		if i.SchemaFrom != nil {
			c.calls(at+".schema_from", i.SchemaFrom.Action, i.SchemaFrom.With, a.Inputs)
		}
	}
	if languages > 1 {
		c.add(at+".input", "one input of an action is a program in a query language")
	}
	if languages == 1 && names["parameters"] {
		c.add(at+".input.parameters", "the parameters of a query are an input of their own: another one cannot have this name")
	}
}

func (c *checker) oneInput(at string, i *Input) {
	if !c.input.MatchString(i.Name) {
		c.add(at, "a name is letters, digits and _ . -, a letter or underscore first, at most %d", MaxName)
	}
	switch i.In {
	case InPath:
		if !i.Required && len(i.Default) == 0 {
			c.add(at+".required", "an input in the path is required, or has a default")
		}
		if i.Type == TypeObject || i.Type == TypeFile {
			c.add(at+".type", "%s has no place in a path", i.Type)
		}
	case InQuery, InBody, InArgs:
	case InHeader:
		c.header(at, i.Key())
	default:
		c.add(at+".in", "path, query, header, body or arguments")
	}
	switch i.Type {
	case TypeString, TypeInteger, TypeNumber, TypeBoolean, TypeObject, TypeArray, TypeAny:
	case TypeFile:
		if i.In != InBody {
			c.add(at+".type", "a file goes into the body")
		}
	default:
		c.add(at+".type", "string, integer, number, boolean, object, array, file or any")
	}
	if i.Language != "" && i.Type != TypeString {
		c.add(at+".language", "a program in a query language is a string")
	}
	if i.Language != "" && !slices.Contains(Languages(), i.Language) {
		c.add(at+".language", "unknown language %q", i.Language)
	}
	if i.Raw && i.In != InPath {
		c.add(at+".raw", "only inputs in the path are raw")
	}
	c.text(at+".title", i.Title)
	c.text(at+".description", i.Description)
	c.value(at+".default", i.Default, i)
	c.value(at+".example", i.Example, i)
	c.refs(at+".schema", i.Schema)
}

// value checks a literal against the type of its input.
func (c *checker) value(at string, raw json.RawMessage, i *Input) {
	if len(raw) == 0 {
		return
	}
	if i.Secret && strings.HasSuffix(at, ".default") {
		c.add(at, "a secret has no default")
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		c.add(at, "expected JSON: %s", err)
		return
	}
	if !i.Type.accepts(v) {
		c.add(at, "expected %s", i.Type)
	}
	if s, ok := v.(string); ok && len(i.Enum) > 0 && !slices.Contains(i.Enum, s) {
		c.add(at, "%q is none of %s", cut(s), strings.Join(i.Enum, ", "))
	}
}

// accepts says whether a decoded JSON value is of the type.
func (t Type) accepts(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return t == TypeString || t == TypeAny
	case bool:
		return t == TypeBoolean || t == TypeAny
	case float64:
		return t == TypeNumber || t == TypeAny || t == TypeInteger && v == float64(int64(v))
	case []any:
		return t == TypeArray || t == TypeAny
	case map[string]any:
		return t == TypeObject || t == TypeAny
	}
	return false
}

// body checks that the inputs of the body fit to how it is sent.
func (c *checker) body(at string, a *Action) {
	if !slices.Contains([]Body{"", BodyJSON, BodyForm, BodyMultipart, BodyText, BodyFile, BodyNone}, a.Body) {
		c.add(at+".body", "json, form, multipart, text, file or none")
		return
	}
	whole, parts := "", 0
	for n := range a.Inputs {
		i := &a.Inputs[n]
		switch {
		case i.In != InBody:
		case i.Whole && whole != "":
			c.add(Join(at+".input", i.Name), "%q is the whole body already", whole)
		case i.Whole:
			whole = i.Name
		default:
			parts++
		}
		if i.Whole && i.In != InBody {
			c.add(Join(at+".input", i.Name)+".whole", "only an input with in: body is the whole of it")
		}
		if i.In == InBody && i.Type == TypeFile && a.Body != BodyMultipart && !(a.Body == BodyFile && i.Whole) {
			c.add(Join(at+".input", i.Name)+".type", "a file is sent with body: multipart, or as the whole of body: file")
		}
	}
	switch {
	case a.Body == BodyNone && (whole != "" || parts > 0):
		c.add(at+".body", "there are inputs with in: body")
	case whole != "" && (parts > 0 || len(a.Fields) > 0):
		c.add(Join(at+".input", whole), "the whole body leaves no place for other parts")
	case (a.Body == BodyText || a.Body == BodyFile) && whole == "":
		c.add(at+".body", "body: %s needs one input with in: body and whole: true", a.Body)
	}
}

func (c *checker) choices(at string, a *Action, ch *Choices) {
	if ch == nil {
		return
	}
	c.calls(at, ch.Action, ch.With, a.Inputs)
	if ch.Value == "" {
		c.add(at+".value", "the path of the value in an item is missing")
	}
}

// calls checks that an action can be called with what is passed on; own are the inputs that can be.
func (c *checker) calls(at, action string, with []Passed, own []Input) {
	a := c.m.Action(action)
	if a == nil {
		c.add(at+".action", "there is no action %q", cut(action))
		return
	}
	var given []string
	for _, p := range with {
		given = append(given, p.Name)
		if p.From != "" && p.From != "cursor" && !slices.ContainsFunc(own, func(i Input) bool { return i.Name == p.From }) {
			c.add(Join(at+".with", p.Name)+".from", "there is no input %q", cut(p.From))
		}
	}
	c.given(at, a, given)
}

// given checks the names of inputs that a manifest itself gives to an action.
func (c *checker) given(at string, a *Action, names []string) {
	for _, name := range names {
		if !slices.ContainsFunc(a.Inputs, func(i Input) bool { return i.Name == name }) && (name != "parameters") {
			c.add(Join(at+".with", name), "the action %s has no input %q", a.Name, cut(name))
		}
	}
	for _, i := range a.Inputs {
		if i.Required && len(i.Default) == 0 && !slices.Contains(names, i.Name) {
			c.add(at+".with", "the action %s needs %q", a.Name, i.Name)
		}
	}
}
