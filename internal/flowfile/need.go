package flowfile

import (
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// Need is what the flows of an integration need of the connection of a slot.
type Need struct {
	Slot      string
	Connector string // name and version
	Scopes    []string
	Data      []connector.DataClass // what kinds of data pass
}

// String tells a reviewer what it needs.
func (n Need) String() string {
	s := n.Connector
	if len(n.Scopes) > 0 {
		s += ", scopes " + strings.Join(n.Scopes, " ")
	}
	for i, d := range n.Data {
		if i == 0 {
			s += ", data "
		} else {
			s += " "
		}
		s += string(d)
	}
	return s
}

// Needs lists what the flows need of each connection whose connector was looked up, in the order of the slots.
func (doc *Document) Needs() []Need {
	var list []Need
	for i := range doc.Integration.Locks {
		l := &doc.Integration.Locks[i]
		m := doc.d.manifests[l.Slot]
		if m == nil {
			continue
		}
		n := Need{Slot: l.Slot, Connector: l.Name + " " + l.Version}
		for k := range l.Actions {
			if a := m.Action(l.Actions[k].Name); a != nil {
				n.Scopes, n.Data = append(n.Scopes, a.Scopes...), append(n.Data, a.Data...)
			}
		}
		for k := range l.Triggers {
			if t := m.Trigger(l.Triggers[k].Name); t != nil {
				n.Scopes, n.Data = append(n.Scopes, t.Scopes...), append(n.Data, t.Data...)
			}
		}
		slices.Sort(n.Scopes)
		slices.Sort(n.Data)
		n.Scopes, n.Data = slices.Compact(n.Scopes), slices.Compact(n.Data)
		list = append(list, n)
	}
	return list
}
