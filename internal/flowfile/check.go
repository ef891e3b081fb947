package flowfile

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// checker checks what the names and expressions of a whole integration mean.
type checker struct {
	d     *decoder
	i     *flow.Integration
	empty *expr.Scope // no names
	// instance has config and customer; global has execution too.
	instance, global *expr.Scope
	secret           map[string]bool // config variables that expressions must not touch
	faults           map[string]bool // flows that some flow names in on_fault
	called           map[string]bool // flows that some step calls

	manifests map[string]*connector.Manifest // by slot: those that are known
	unknown   map[string]bool                // slots whose connector there is none of
	used      map[string]*usage              // by slot

	flow *flow.Flow
	ids  map[string]string // id → path of the step, in the current flow
}

// check adds the problems of an integration whose shape was read.
func (d *decoder) check(i *flow.Integration) {
	c := &checker{d: d, i: i, empty: expr.NewScope(), secret: map[string]bool{}, faults: map[string]bool{}, called: map[string]bool{}, unknown: map[string]bool{}, used: map[string]*usage{}}
	c.resolve()
	for n := range i.Config {
		if i.Config[n].Type == flow.ConfigSecret {
			c.secret[i.Config[n].Name] = true
		}
	}
	c.instance = c.empty.With("config", c.configType()).With("customer", customerType())
	c.global = c.instance.With("execution", executionType())
	c.checkConfig()
	c.checkWizard()
	for n := range i.Flows {
		f := &i.Flows[n]
		c.faults[f.OnFault] = true
		for _, s := range flow.Walk("", f.Steps) {
			if s.Call != nil {
				c.called[s.Call.Flow] = true
			}
		}
	}
	for n := range i.Flows {
		c.checkFlow(&i.Flows[n], source.Join("flows", i.Flows[n].Name))
	}
	c.checkCycles()
	c.lock()
}

func customerType() expr.Type {
	s := expr.StringType()
	return expr.ObjectType(map[string]expr.Type{
		"id": s, "external_id": s.OrNull(), "name": s, "timezone": s, "locale": s, "attributes": expr.OpenObjectType(nil),
	})
}

func executionType() expr.Type {
	return expr.ObjectType(map[string]expr.Type{"id": expr.StringType(), "started": expr.Dyn(), "test": expr.BoolType()})
}

func errorType() expr.Type {
	s := expr.StringType()
	return expr.ObjectType(map[string]expr.Type{"type": s, "message": s, "status": expr.IntType(), "step": s, "attempts": expr.IntType()})
}

func responseType(body expr.Type) expr.Type {
	return expr.ObjectType(map[string]expr.Type{"status": expr.IntType(), "headers": expr.MapType(expr.StringType()), "body": body})
}

func fileType() expr.Type {
	return expr.ObjectType(map[string]expr.Type{"name": expr.StringType(), "type": expr.StringType(), "size": expr.IntType()})
}

// configType is what expressions see of the instance's values: all but the secrets, which checkNames reports by name.
func (c *checker) configType() expr.Type {
	fields := map[string]expr.Type{}
	for n := range c.i.Config {
		v := &c.i.Config[n]
		if v.Type == flow.ConfigSecret {
			continue
		}
		t := c.configVarType(v)
		if !v.Required && v.Default.IsZero() {
			t = t.OrNull()
		}
		fields[v.Name] = t
	}
	return expr.ObjectType(fields)
}

func (c *checker) configVarType(v *flow.ConfigVar) expr.Type {
	switch v.Type {
	case flow.ConfigNumber:
		return expr.NumberType()
	case flow.ConfigInteger:
		return expr.IntType()
	case flow.ConfigBoolean:
		return expr.BoolType()
	case flow.ConfigSchedule:
		return expr.OpenObjectType(nil)
	case flow.ConfigMapping:
		return expr.MapType(expr.StringType())
	case flow.ConfigList:
		if v.Schema != nil {
			return schemaType(v.Schema)
		}
		return expr.ListType(expr.Dyn())
	case flow.ConfigObject:
		if v.Schema != nil {
			return schemaType(v.Schema)
		}
		return expr.OpenObjectType(nil)
	case flow.ConfigFile:
		return fileType()
	case "":
		return expr.Dyn()
	}
	return expr.StringType()
}

// triggerType is what a flow's expressions see as trigger.
func (c *checker) triggerType(t *flow.Trigger) expr.Type {
	s := expr.StringType()
	fields := map[string]expr.Type{"body": expr.Dyn(), "time": expr.Dyn(), "id": s, "source": s, "type": s}
	switch {
	case t.Webhook != nil:
		fields["headers"], fields["query"], fields["method"] = expr.MapType(s), expr.MapType(s), s
		fields["headers_all"] = expr.MapType(expr.ListType(s))
	case t.Event != nil:
		fields["headers"], fields["query"], fields["method"] = expr.MapType(s), expr.MapType(s), s
		fields["body"] = c.eventType(t.Event.Uses)
	case t.Manual != nil && t.Manual.Schema != nil:
		fields["body"] = schemaType(t.Manual.Schema)
	case t.Call != nil && t.Call.Schema != nil:
		fields["body"] = schemaType(t.Call.Schema)
	case t.Kind() == flow.TriggerNone:
		return expr.Dyn()
	}
	return expr.ObjectType(fields)
}

// checkUses checks that slot.action names a connection and, where its connector is built in, an action of it.
func (c *checker) checkUses(uses, path, what string) (builtIn bool) {
	slot, action, err := flow.SplitUses(uses)
	if err != nil {
		return false
	}
	s := c.i.Slot(slot)
	if s == nil {
		c.d.ProblemAt(path, source.DidYouMean(slot, c.slots()), "there is no connection %q", slot)
		return false
	}
	if !s.BuiltIn() {
		return false
	}
	if what != "action" {
		c.d.ProblemAt(path, "", "the connector %q has no %s", flow.ConnectorHTTP, what)
		return false
	}
	if action != flow.ActionRequest {
		c.d.ProblemAt(path, "write "+slot+"."+flow.ActionRequest, "the connector %q has no action %q", flow.ConnectorHTTP, action)
		return false
	}
	return true
}

func (c *checker) slots() []string {
	var names []string
	for _, s := range c.i.Connections {
		names = append(names, s.Name)
	}
	return names
}

func (c *checker) checkWizard() {
	seen := map[string]bool{}
	for n, p := range c.i.Wizard {
		path := fmt.Sprintf("wizard[%d]", n)
		for k, name := range p.Connections {
			at := fmt.Sprintf("%s.connections[%d]", path, k)
			if name != "" && c.i.Slot(name) == nil {
				c.d.ProblemAt(at, source.DidYouMean(name, c.slots()), "there is no connection %q", name)
			} else if seen["connections."+name] {
				c.d.ProblemAt(at, "", "the connection %q is on a page already", name)
			}
			seen["connections."+name] = true
		}
		for k, name := range p.Config {
			at := fmt.Sprintf("%s.config[%d]", path, k)
			if name != "" && c.i.ConfigVar(name) == nil {
				c.d.ProblemAt(at, source.DidYouMean(name, c.configNames()), "there is no config variable %q", name)
			} else if seen["config."+name] {
				c.d.ProblemAt(at, "", "the config variable %q is on a page already", name)
			}
			seen["config."+name] = true
		}
	}
	if len(c.i.Wizard) == 0 {
		return
	}
	for _, s := range c.i.Connections {
		if !seen["connections."+s.Name] {
			c.d.ProblemKey("connections."+s.Name, "", "no page of the wizard has this connection")
		}
	}
	for _, v := range c.i.Config {
		if v.Required && v.Default.IsZero() && v.Visible != flow.VisibleOrganization && !seen["config."+v.Name] {
			c.d.ProblemKey("config."+v.Name, "", "no page of the wizard has this config variable, which is required")
		}
	}
}

func (c *checker) configNames() []string {
	var names []string
	for _, v := range c.i.Config {
		names = append(names, v.Name)
	}
	return names
}

func (c *checker) checkFlow(f *flow.Flow, path string) {
	c.flow, c.ids = f, map[string]string{}
	total := 0
	for at, s := range flow.Walk(path+".steps", f.Steps) {
		if total++; total == flow.MaxSteps+1 {
			c.d.ProblemAt(at, "", "a flow may have %d steps at most, nested ones included", flow.MaxSteps)
		}
		c.checkID(s.ID, at)
	}
	trigger := c.triggerType(&f.Trigger)
	scope := c.global.With("trigger", trigger)
	if c.faults[f.Name] {
		t := errorType()
		if c.called[f.Name] {
			t = t.OrNull()
		}
		scope = scope.With("error", t)
	}
	c.checkTrigger(&f.Trigger, path+".trigger", scope)
	for _, l := range f.Labels {
		c.triggerOnly(&l.Value, source.Join(path+".labels", l.Name), "a label", scope)
	}
	if f.Concurrency != nil {
		c.triggerOnly(&f.Concurrency.Key, path+".concurrency.key", "a concurrency key", scope)
	}
	c.checkTarget(f.OnFault, path+".on_fault")
	c.steps(f.Steps, path+".steps", env{scope: scope, steps: map[string]expr.Type{}})
}

func (c *checker) checkID(id, path string) {
	if id == "" {
		return
	}
	if first, ok := c.ids[id]; ok {
		line := 0
		if n, found := c.d.At[first+".id"]; found {
			line, _ = c.d.Src.Position(n.Start)
		}
		c.d.ProblemAt(path+".id", "", "the id %q is there already, in line %d: ids are unique in a flow", id, line)
		return
	}
	c.ids[id] = path
}

// checkTarget checks that a flow exists and can be started by another.
func (c *checker) checkTarget(name, path string) {
	if name == "" {
		return
	}
	f := c.i.Flow(name)
	if f == nil {
		var names []string
		for _, g := range c.i.Flows {
			if g.Trigger.Call != nil {
				names = append(names, g.Name)
			}
		}
		c.d.ProblemAt(path, source.DidYouMean(name, names), "there is no flow %q", name)
		return
	}
	if f.Trigger.Call == nil && f.Trigger.Kind() != flow.TriggerNone {
		c.d.ProblemAt(path, fmt.Sprintf("give %q the trigger call: {}", name), "the flow %q cannot be started from here: its trigger is %s", name, f.Trigger.Kind())
	}
}

// triggerOnly checks a value that is read at the door, where no expression is evaluated.
func (c *checker) triggerOnly(v *flow.Value, path, what string, scope *expr.Scope) {
	if v.Kind != flow.Template && v.Kind != flow.Expression {
		return
	}
	for e := range v.Expressions() {
		switch {
		case e.Reference == nil:
			c.at(path, e.Offset, expr.Issue{Length: len(e.Source), Message: what + " takes references and templates of trigger only, no expressions"})
		case e.Reference[0] != "trigger":
			c.at(path, e.Offset, expr.Issue{Length: len(e.Source), Message: fmt.Sprintf("%s takes references of trigger only, this is one of %s", what, e.Reference[0])})
		default:
			c.compile(e, path, scope, nil)
		}
	}
}

// checkCycles refuses flows that start themselves again without a condition.
func (c *checker) checkCycles() {
	next := map[string]map[string]string{} // flow → called flow → path of the call
	for n := range c.i.Flows {
		f := &c.i.Flows[n]
		path := source.Join("flows", f.Name)
		next[f.Name] = map[string]string{}
		if f.OnFault != "" {
			next[f.Name][f.OnFault] = path + ".on_fault"
		}
		for k := range f.Steps {
			if s := &f.Steps[k]; s.Call != nil && s.If.IsZero() {
				next[f.Name][s.Call.Flow] = fmt.Sprintf("%s.steps[%d].call.flow", path, k)
			}
		}
	}
	for _, from := range slices.Sorted(maps.Keys(next)) {
		for _, to := range slices.Sorted(maps.Keys(next[from])) {
			if reaches(next, to, from, map[string]bool{}) {
				c.d.ProblemAt(next[from][to], "", "the flow %q would start itself again and again", from)
			}
		}
	}
}

func reaches(next map[string]map[string]string, from, to string, seen map[string]bool) bool {
	if from == to {
		return true
	}
	if seen[from] {
		return false
	}
	seen[from] = true
	for n := range next[from] {
		if reaches(next, n, to, seen) {
			return true
		}
	}
	return false
}

// reservedNames cannot be renamed over by `as`.
func reservedNames() []string {
	return []string{"trigger", "config", "steps", "error", "callback", "result", "cursor", "execution", "customer", "index"}
}

// celWords cannot be names of variables.
func celWords() *regexp.Regexp {
	return regexp.MustCompile(`^(true|false|null|in|as|break|const|continue|else|for|function|if|import|let|loop|package|namespace|return|var|void|while)$`)
}
