package connect

import (
	"slices"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// What records say of shared actions is what the manifest has: methods, paths, what may hold slashes, and where further pages are.
func TestSharedActionsAreThoseOfTheManifest(t *testing.T) {
	t.Parallel()
	file := connector.Input{Name: "file", As: "path", In: connector.InPath, Raw: true}
	x := &offer{manifest: &connector.Manifest{Name: "acme", Version: "1.0.0", Actions: []connector.Action{
		{Name: "list", Method: "GET", Path: "/orders"},
		{Name: "get", Method: "GET", Path: "/files/{path}/{version}", Inputs: []connector.Input{file, {Name: "version", In: connector.InPath}}},
		{Name: "query", Method: "POST", Path: "/query/", Paginate: &connector.Paginate{Type: connector.PageLink, Below: true}},
		{Name: "root", Method: "POST", Base: "content"},
	}}}
	want := []lease.SharedAction{
		{Name: "query", Method: "POST", Path: "/query/"},
		{Name: "query", Method: "POST", Path: "/query/{page+}"},
		{Name: "get", Method: "GET", Path: "/files/{path+}/{version}"},
		{Name: "root", Method: "POST", Base: "content"},
	}
	if got := x.shared([]string{"query", "get", "root"}); !slices.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got := x.shared(nil); got != nil {
		t.Errorf("shared for all: %+v", got)
	}
	if wrong := x.checkActions([]string{"list", "drop", "get"}); len(wrong) != 1 || wrong[0].Place != "shared.actions[1]" {
		t.Errorf("got %v", wrong)
	}
}
