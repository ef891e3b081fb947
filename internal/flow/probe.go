package flow

import (
	"fmt"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// ProbeSlot is the slot of the integration that [Probe] makes.
const ProbeSlot = "connection"

// Probe makes the integration by which the platform itself asks something through a connection: the connection test, the
// values that an input may have, the schema of an input. It has a flow for each of the actions, called as the action, which
// takes the action's inputs as trigger.body and returns the answer. So every such question is an execution, with the same
// checks and flow records as any other.
//
// Actions that are programs in a query language are left out: their text must stand in a definition. The error names an
// action that the connector does not have.
func Probe(m *connector.Manifest, actions []string) (*Integration, error) {
	actions = slices.Compact(slices.Sorted(slices.Values(actions)))
	i := &Integration{
		Format: FormatVersion, ProfileVersion: 1, Name: "probe-" + m.Name,
		Connections: []Slot{{Name: ProbeSlot, Connector: m.Name + "@" + m.Version}},
		Locks:       []connector.Lock{m.Lock(ProbeSlot, actions, nil)},
	}
	for _, name := range actions {
		a := m.Action(name)
		if a == nil {
			return nil, fmt.Errorf("connector %s has no action %s", m.Name, name)
		}
		if slices.ContainsFunc(a.Inputs, func(in connector.Input) bool { return in.Language != "" }) {
			continue
		}
		with := expression("trigger.body")
		i.Flows = append(i.Flows, Flow{
			Name: name, Trigger: Trigger{Manual: &Input{}},
			Steps: []Step{
				{ID: "asked", Action: &Action{Slot: ProbeSlot, Action: name, With: with}},
				{ID: "answer", Return: ptr(expression("steps.asked"))},
			},
		})
	}
	return i, nil
}

// ProbeActions are the actions that the platform itself may ask through a connection: those that test it by any of its auth
// methods, and those that list the choices or describe the schema of an input.
func ProbeActions(m *connector.Manifest) []string {
	var names []string
	for i := range m.Auth {
		if t := m.Auth[i].Test; t != nil {
			names = append(names, t.Action)
		}
	}
	of := func(inputs []connector.Input) {
		for i := range inputs {
			if c := inputs[i].Choices; c != nil {
				names = append(names, c.Action)
			}
			if s := inputs[i].SchemaFrom; s != nil {
				names = append(names, s.Action)
			}
		}
	}
	for i := range m.Actions {
		of(m.Actions[i].Inputs)
	}
	for i := range m.Triggers {
		of(m.Triggers[i].Inputs)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
