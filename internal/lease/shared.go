package lease

import (
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// The words of a [SharedAction] for anything.
const (
	AnyMethod = "*"
	AnyBase   = "*"
	AnyPath   = "/**"
)

// SharedAction is an action for which a connection is shared, and what its requests look like. It was made of the connector's
// manifest when the credential was entered: nobody who names the action later can give it another meaning.
type SharedAction struct {
	// Name is the action's in its connector; one that has several templates is there several times.
	Name string
	// Method is upper case, or [AnyMethod].
	Method string
	// Base is the name of the place of the binding to which its requests go; empty: the first; [AnyBase]: all.
	Base string
	// Path is a template behind the base path of that place, such as /orders/{id}/lines: {name} stands for what is not empty
	// within one segment, {name+} for that and further segments. The empty path is the base path itself, [AnyPath] all below it.
	Path string
}

// Walk implements [wire.Message].
func (m *SharedAction) Walk(c *wire.Coder) {
	c.String(&m.Name)
	c.String(&m.Method)
	c.String(&m.Base)
	c.String(&m.Path)
}

// AnyRequest shares actions of a connector whose requests are whatever a flow says.
func AnyRequest(names []string) []SharedAction {
	var out []SharedAction
	for _, name := range names {
		out = append(out, SharedAction{Name: name, Method: AnyMethod, Base: AnyBase, Path: AnyPath})
	}
	return out
}

// Actions are the names of the actions for which the connection is shared, in order.
func (m *Record) Actions() []string {
	var names []string
	for _, a := range m.SharedFor {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
