package flow

import (
	"fmt"
	"strings"
)

// NotYet is one thing of an integration that is part of the format and validates, but that this release does not run.
type NotYet struct {
	Path string // as in the document
	What string // a sentence for the builder
}

// NotYet lists what of i this release does not run, in the order of the document. `bulkhead run` and a deployment refuse
// an integration where the list touches what they would run.
func (i *Integration) NotYet() []NotYet {
	var list []NotYet
	add := func(path, format string, args ...any) {
		list = append(list, NotYet{Path: path, What: fmt.Sprintf(format, args...)})
	}
	for n := range i.Config {
		c := &i.Config[n]
		path := "config." + c.Name
		for _, side := range []string{SideChoices, SideFrom, SideTo} {
			if x := c.choices(side); x != nil {
				i.notYetUses(path+"."+side+".uses", x.Uses, add)
			}
		}
		if c.Type == ConfigFile {
			add(path+".type", "a file cannot be given as configuration yet")
		}
	}
	for n := range i.Connections {
		if c := &i.Connections[n]; !c.BuiltIn() && i.Lock(c.Name) == nil {
			add("connections."+c.Name+".connector", "connector %q was not looked up: only %q needs no manifest", c.Connector, ConnectorHTTP)
		}
	}
	if len(i.Wizard) > 0 {
		add("wizard", "the wizard's pages are not shown yet")
	}
	for n := range i.Flows {
		i.notYetFlow(&i.Flows[n], add)
	}
	return list
}

func (i *Integration) notYetFlow(f *Flow, add func(path, format string, args ...any)) {
	path := "flows." + f.Name
	switch t := &f.Trigger; {
	case t.Webhook != nil && t.Webhook.Verify.Connector != "":
		if i.Recipe(t.Webhook.Verify.Connector) == nil {
			add(path+".trigger.webhook.verify.connector", "the recipe is not run: the connector of %s was not looked up", t.Webhook.Verify.Connector)
		}
	case t.Event != nil:
		if _, known := i.EventTrigger(t.Event.Uses); known == nil {
			add(path+".trigger.event.uses", "%s is not run: its connector was not looked up", t.Event.Uses)
		}
	case t.Poll != nil:
		i.notYetUses(path+".trigger.poll.uses", t.Poll.Uses, add)
	}
	for at, s := range Walk(path+".steps", f.Steps) {
		switch {
		case s.Action != nil:
			i.notYetUses(at+".uses", s.Action.Uses(), add)
		case s.For != nil && s.For.Each.Pages != nil:
			i.notYetUses(at+".for.each.uses", s.For.Each.Pages.Action.Uses(), add)
		case s.Wait != nil && s.Wait.Event != nil:
			if _, known := i.EventTrigger(s.Wait.Event.Uses); known == nil {
				add(at+".wait.event.uses", "%s is not run: its connector was not looked up", s.Wait.Event.Uses)
			}
		}
	}
}

func (i *Integration) notYetUses(path, uses string, add func(path, format string, args ...any)) {
	slot, action, _ := strings.Cut(uses, ".")
	s := i.Slot(slot)
	if s != nil && s.BuiltIn() && action == ActionRequest {
		return
	}
	if l := i.Lock(slot); l == nil || l.Action(action) == nil {
		add(path, "%s is not run: the connector of %s was not looked up", uses, slot)
	}
}
