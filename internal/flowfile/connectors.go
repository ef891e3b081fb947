package flowfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// Connectors finds the connectors that the slots of an integration name.
type Connectors interface {
	// Manifest is the newest version of a connector that a range takes: ^1, 1.2.0, or empty for any. The error says what
	// there is none of.
	Manifest(name, versions string) (*connector.Manifest, error)
	// Names are the names of all connectors.
	Names() []string
}

// DecodeWith is [Decode] with connectors: slots name connectors that there are, the inputs of their actions and triggers are
// checked and the types of their answers known, and the Integration carries its locks. Nil connectors leave slots of other
// connectors than the built-in one unchecked.
func DecodeWith(file string, text []byte, connectors Connectors) (*Document, Problems) {
	root, d := open(file, text)
	d.connectors = connectors
	return d.document(root)
}

// resolve finds the manifests of the slots.
func (c *checker) resolve() {
	c.manifests = map[string]*connector.Manifest{}
	c.d.manifests = c.manifests
	if c.d.connectors == nil {
		return
	}
	for n := range c.i.Connections {
		s := &c.i.Connections[n]
		if s.BuiltIn() || s.Connector == "" {
			continue
		}
		name, versions := flow.SplitConnector(s.Connector)
		m, err := c.d.connectors.Manifest(name, versions)
		if err != nil {
			suggestion := ""
			if !slices.Contains(c.d.connectors.Names(), name) {
				suggestion = source.DidYouMean(name, append(c.d.connectors.Names(), flow.ConnectorHTTP))
			}
			c.d.ProblemAt(source.Join("connections", s.Name)+".connector", suggestion, "%s", err)
			c.unknown[s.Name] = true
			continue
		}
		c.manifests[s.Name] = m
		c.used[s.Name] = &usage{}
	}
}

// usage is what the flows use of a connector.
type usage struct{ actions, triggers []string }

func add(list *[]string, name string) {
	if !slices.Contains(*list, name) {
		*list = append(*list, name)
	}
}

// lock gives the integration what it uses of its connectors.
func (c *checker) lock() {
	c.i.Locks = nil
	for n := range c.i.Connections {
		name := c.i.Connections[n].Name
		if m := c.manifests[name]; m != nil {
			c.i.Locks = append(c.i.Locks, m.Lock(name, c.used[name].actions, c.used[name].triggers))
		}
	}
}

// connectorAction finds the action that slot.action names, of a slot whose connector is known.
func (c *checker) connectorAction(uses, path string) (*connector.Manifest, *connector.Action) {
	slot, name, err := flow.SplitUses(uses)
	m := c.manifests[slot]
	if err != nil || m == nil {
		return nil, nil
	}
	a := m.Action(name)
	if a == nil {
		var names []string
		for i := range m.Actions {
			if m.Actions[i].Visibility != connector.VisibilityInternal {
				names = append(names, m.Actions[i].Name)
			}
		}
		c.d.ProblemAt(path, prefixed(slot, source.DidYouMean(name, names)), "the connector %q has no action %q", m.Name, source.Cut(name, 80))
		return nil, nil
	}
	if a.Deprecated != "" {
		c.warn(path, "the action %s is deprecated: %s", name, a.Deprecated)
	}
	add(&c.used[slot].actions, name)
	return m, a
}

// prefixed puts the slot before a suggested name.
func prefixed(slot, suggestion string) string {
	return strings.Replace(suggestion, `did you mean "`, `did you mean "`+slot+`.`, 1)
}

// connectorTrigger is connectorAction for triggers.
func (c *checker) connectorTrigger(uses, path string) (*connector.Manifest, *connector.Trigger) {
	slot, name, err := flow.SplitUses(uses)
	m := c.manifests[slot]
	if err != nil || m == nil {
		return nil, nil
	}
	t := m.Trigger(name)
	if t == nil {
		var names []string
		for i := range m.Triggers {
			names = append(names, m.Triggers[i].Name)
		}
		c.d.ProblemAt(path, prefixed(slot, source.DidYouMean(name, names)), "the connector %q has no trigger %q", m.Name, source.Cut(name, 80))
		return nil, nil
	}
	add(&c.used[slot].triggers, name)
	return m, t
}

// call checks what is given to an action of a connector and returns what is known of its output.
func (c *checker) call(uses, path string, with *flow.Value, withPath string, e env) (expr.Type, *connector.Manifest, *connector.Action) {
	m, a := c.connectorAction(uses, path)
	if a == nil {
		c.value(with, withPath, e)
		return expr.Dyn(), nil, nil
	}
	c.inputs("action "+a.Name, a.Inputs, with, path, withPath, e)
	return responseType(c.answerBody(m, a)), m, a
}

func (c *checker) answerBody(m *connector.Manifest, a *connector.Action) expr.Type {
	switch a.Response {
	case connector.ResponseText:
		return expr.StringType()
	case connector.ResponseFile:
		return fileType()
	}
	if len(a.Output) == 0 {
		return expr.Dyn()
	}
	return (&outputs{m: m}).expr(a.Output, 0)
}

// inputs checks the values of an action's or a trigger's inputs.
func (c *checker) inputs(what string, inputs []connector.Input, with *flow.Value, path, withPath string, e env) {
	if with.Kind != flow.Object && !with.IsZero() {
		c.value(with, withPath, e)
		return
	}
	var names []string
	language := (*connector.Input)(nil)
	for i := range inputs {
		if inputs[i].Visibility != connector.VisibilityInternal {
			names = append(names, inputs[i].Name)
		}
		if inputs[i].Language != "" {
			language = &inputs[i]
		}
	}
	for i, key := range with.Keys {
		at := source.Join(withPath, key)
		n := slices.IndexFunc(inputs, func(in connector.Input) bool { return in.Name == key })
		switch {
		case n >= 0:
			c.input(&inputs[n], &with.Items[i], at, e)
		case language != nil && key == connector.ParametersInput:
			c.want(&with.Items[i], at, "a map of values by name", e, expr.KindObject)
		default:
			c.d.ProblemKey(at, source.DidYouMean(key, names), "the %s has no input %q", what, source.Cut(key, 80))
			c.value(&with.Items[i], at, e)
		}
	}
	for i := range inputs {
		if in := &inputs[i]; in.Required && len(in.Default) == 0 && with.Get(in.Name) == nil {
			c.missingInput(path, source.Join(withPath, in.Name), what, in)
		}
	}
	if language != nil {
		c.parameters(language, with, withPath)
	}
}

// missingInput reports a required input at the key that names the action.
func (c *checker) missingInput(path, at, what string, in *connector.Input) {
	suggestion := ""
	if in.Title != "" {
		suggestion = fmt.Sprintf("%s: %s", in.Name, in.Title)
	}
	if n, ok := c.d.KeyAt[path]; ok {
		c.d.Problem(n, at, suggestion, "the %s needs the input %q", what, in.Name)
		return
	}
	c.d.ProblemAt(path, suggestion, "the %s needs the input %q", what, in.Name)
}

// input checks one value.
func (c *checker) input(in *connector.Input, v *flow.Value, at string, e env) {
	if in.Deprecated != "" {
		c.warn(at, "the input %s is deprecated: %s", in.Name, in.Deprecated)
	}
	if in.Language != "" {
		if v.Kind != flow.String {
			c.d.ProblemAt(at, "write :name where the value belongs, and the value under "+connector.ParametersInput,
				"a query is a text without ${{ }}: a value inside could change what it asks for")
		}
		return
	}
	if in.Secret && v.Kind == flow.String && v.Text != "" {
		c.warn(at, "a secret stands in the file: everybody who reads it knows it")
	}
	what, kinds := accepted(in)
	if len(kinds) == 0 {
		c.value(v, at, e)
		return
	}
	c.want(v, at, what, e, kinds...)
	switch {
	case v.Kind == flow.String && len(in.Enum) > 0 && !slices.Contains(in.Enum, v.Text):
		c.d.ProblemAt(at, source.DidYouMean(v.Text, in.Enum), "expected one of the values that %q may have, found the text %q", in.Name, source.Cut(v.Text, 60))
	case v.Kind == flow.Number && in.Type == connector.TypeInteger && strings.ContainsAny(v.Text, ".eE"):
		c.d.ProblemAt(at, "", "expected a whole number, found the number %s", source.Cut(v.Text, 40))
	case v.Kind == flow.Object && in.Type == connector.TypeObject, v.Kind == flow.List && in.Type == connector.TypeArray:
		c.literal(readSchema(in.Schema), v, at, 0)
	}
}

// accepted are the kinds of values that an input takes, and how a message calls them.
func accepted(in *connector.Input) (what string, kinds []expr.ValueKind) {
	null := expr.KindNull // nothing is given
	switch in.Type {
	case connector.TypeString:
		return "a text", []expr.ValueKind{expr.KindString, expr.KindNumber, expr.KindBool, expr.KindTime, expr.KindDuration, null}
	case connector.TypeInteger:
		return "a whole number", []expr.ValueKind{expr.KindNumber, null}
	case connector.TypeNumber:
		return "a number", []expr.ValueKind{expr.KindNumber, null}
	case connector.TypeBoolean:
		return "true or false", []expr.ValueKind{expr.KindBool, null}
	case connector.TypeObject:
		return "a map", []expr.ValueKind{expr.KindObject, null}
	case connector.TypeArray:
		return "a list", []expr.ValueKind{expr.KindList, null}
	case connector.TypeFile:
		return "a file", []expr.ValueKind{expr.KindObject, null}
	}
	return "", nil
}

// literal checks the written parts of a value against a schema: names of a closed object, required ones, and enums.
func (c *checker) literal(s inputSchema, v *flow.Value, at string, depth int) {
	if depth > flow.MaxDocumentDepth {
		return
	}
	switch v.Kind {
	case flow.Object:
		for i, k := range v.Keys {
			p, ok := s.Properties[k]
			if ok {
				c.literal(p, &v.Items[i], source.Join(at, k), depth+1)
			} else if s.closed() {
				c.d.ProblemKey(source.Join(at, k), source.DidYouMean(k, propertyNames(s)), "there is no field %q here", source.Cut(k, 80))
			}
		}
		for _, name := range s.Required {
			if v.Get(name) == nil {
				c.d.ProblemAt(at, "", "the field %q is missing", name)
			}
		}
	case flow.List:
		if s.Items == nil {
			return
		}
		items := readSchema(*s.Items)
		for i := range v.Items {
			c.literal(items, &v.Items[i], fmt.Sprintf("%s[%d]", at, i), depth+1)
		}
	case flow.String:
		if values := s.enum(); len(values) > 0 && !slices.Contains(values, v.Text) {
			c.d.ProblemAt(at, source.DidYouMean(v.Text, values), "expected one of %s, found the text %q", source.OneOf(values), source.Cut(v.Text, 60))
		}
	}
}

// parameters compares the :names of a query with what is given for them.
func (c *checker) parameters(in *connector.Input, with *flow.Value, withPath string) {
	query := with.Get(in.Name)
	if query == nil || query.Kind != flow.String {
		return
	}
	at := source.Join(withPath, in.Name)
	names, err := connector.Parameters(in.Language, query.Text)
	if err != nil {
		c.d.ProblemAt(at, "", "this is not %s: %s", in.Language, err)
		return
	}
	given := with.Get(connector.ParametersInput)
	if given != nil && given.Kind != flow.Object {
		return
	}
	var keys []string
	if given != nil {
		keys = given.Keys
	}
	for _, name := range names {
		if !slices.Contains(keys, name) {
			c.d.ProblemAt(at, source.DidYouMean(name, keys), "the query has :%s, and %s has no %q", name, connector.ParametersInput, name)
		}
	}
	for _, key := range keys {
		if !slices.Contains(names, key) {
			c.d.ProblemKey(source.Join(source.Join(withPath, connector.ParametersInput), key), source.DidYouMean(key, names), "no :%s stands in the query", key)
		}
	}
}

func withArticle(t expr.Type) string {
	if s := t.String(); strings.ContainsRune("aeiou", rune(s[0])) {
		return "an " + s
	}
	return "a " + t.String()
}

// listed is what is known of the list of an action that lists: at the place that its recipe names.
func listed(m *connector.Manifest, a *connector.Action, body expr.Type) expr.Type {
	t := body
	for name := range strings.SplitSeq(m.Defaults.ItemsPath(a), ".") {
		if name == "" {
			break
		}
		field, ok := t.Field(name)
		if !ok || strings.Contains(name, "[") {
			return expr.Dyn()
		}
		t = field
	}
	return t
}

// eventType is what is known of the body of an event.
func (c *checker) eventType(uses string) expr.Type {
	slot, name, err := flow.SplitUses(uses)
	m := c.manifests[slot]
	if err != nil || m == nil {
		return expr.Dyn()
	}
	t := m.Trigger(name)
	if t == nil {
		return expr.Dyn()
	}
	if len(t.Payload) > 0 {
		return (&outputs{m: m}).expr(t.Payload, 0)
	}
	if t.Poll != nil {
		if a := m.Action(t.Poll.Action); a != nil {
			return listed(m, a, c.answerBody(m, a)).Elem()
		}
	}
	return expr.Dyn()
}

// event checks what is given to a trigger of a connector.
func (c *checker) event(uses, path string, with *flow.Value, withPath string, e env) {
	_, t := c.connectorTrigger(uses, path)
	if t == nil {
		c.value(with, withPath, e)
		return
	}
	c.inputs("trigger "+t.Name, t.Inputs, with, path, withPath, e)
}

// asked checks an action that lists, and returns what is known of its result and of an item by the connector's own recipe.
// own says that the file names no items; of http's action, they are the body then, of pages only.
func (c *checker) asked(uses, path string, with *flow.Value, own, pages bool, e env) (result, item expr.Type) {
	if c.checkUses(uses, path+".uses", "action") {
		c.value(with, path+".with", e)
		if own && !pages {
			c.needItems(path, flow.ConnectorHTTP)
		}
		return responseType(c.request(with, path+".with", c.d.KeyAt[path+".uses"])), expr.Dyn()
	}
	result, m, a := c.call(uses, path+".uses", with, path+".with", e)
	if a == nil {
		return result, expr.Dyn()
	}
	body, _ := result.Field("body")
	list := listed(m, a, body)
	if k := list.Kind(); own && k != expr.KindOther && k != expr.KindList {
		c.d.ProblemAt(path+".uses", "", "the action %s does not list: its answer is %s", a.Name, withArticle(list))
	} else if own && k == expr.KindOther && m.Defaults.Pages(a) == nil && m.Defaults.ItemsPath(a) == "" {
		c.needItems(path, m.Name)
	}
	return result, list.Elem()
}

func (c *checker) needItems(path, name string) {
	c.d.ProblemKey(path, `write items: "${{ result.body… }}"`, "the key \"items\" is missing: the connector %q does not say where the list is", name)
}

// checkRecipe checks that a connector says how its webhooks prove their sender, and takes that along.
func (c *checker) checkRecipe(m *connector.Manifest, at, slot string) {
	for i := range m.Triggers {
		if t := &m.Triggers[i]; t.Type != connector.TriggerPoll && t.Verify != nil && t.Verify.Type != "none" {
			add(&c.used[slot].triggers, t.Name)
			return
		}
	}
	c.d.ProblemAt(at, "write hmac, header or another way of verify", "the connector %q has no recipe for webhooks", m.Name)
}

// misspelt warns about a reference to a field that a connector's description does not name, where one like it does.
func (c *checker) misspelt(e *flow.Expr, path string, steps map[string]expr.Type) {
	if len(e.Reference) < 4 || e.Reference[0] != "steps" || steps == nil {
		return
	}
	t := steps[e.Reference[1]]
	for _, name := range e.Reference[2:] {
		known := t.FieldNames()
		field, ok := t.Field(name)
		if !ok {
			return
		}
		if t = field; slices.Contains(known, name) {
			continue
		}
		if near := source.Nearest(name, known); near != "" {
			c.d.Add(c.d.Placed(source.SeverityWarning, path, fmt.Sprintf("did you mean %q?", near), fmt.Sprintf("the connector's description has no field %q here", source.Cut(name, 80))))
		}
		return
	}
}
