package connect

import (
	"fmt"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// shared describes the requests of actions, as the manifest has them now: later nobody can say that they are others. Names that it
// does not have are left out, see [offer.checkActions].
func (x *offer) shared(names []string) (out []lease.SharedAction) {
	for _, name := range names {
		a := x.manifest.Action(name)
		if a == nil {
			continue
		}
		one := lease.SharedAction{Name: a.Name, Method: a.Method, Base: a.Base, Path: pathOf(a)}
		out = append(out, one)
		if p := x.manifest.Defaults.Pages(a); p != nil && p.Below { // the pages behind the first one
			one.Path = strings.TrimSuffix(one.Path, "/") + "/{page+}"
			out = append(out, one)
		}
	}
	return out
}

// pathOf is the path of an action as records have it: parts that may hold slashes are marked.
func pathOf(a *connector.Action) string {
	path := a.Path
	for i := range a.Inputs {
		if in := &a.Inputs[i]; in.In == connector.InPath && in.Raw {
			path = strings.ReplaceAll(path, "{"+in.Key()+"}", "{"+in.Key()+"+}")
		}
	}
	return path
}

// checkActions refuses to share a connection for what its connector cannot do.
func (x *offer) checkActions(names []string) (wrong InvalidError) {
	for n, name := range names {
		if x.manifest.Action(name) == nil {
			wrong = append(wrong, Wrong{fmt.Sprintf("shared.actions[%d]", n), fmt.Sprintf("%s %s has no action of this name", x.manifest.Name, x.manifest.Version)})
		}
	}
	return wrong
}
