package vault

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// A server learns the versions of what it names, also of what was destroyed.
func TestVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.tenant("token"), w.tenant("token")
	w.saveConnection(bearer(a.customer, a.connection, "next"))
	w.call(lease.OpConnectionDelete, &lease.ConnectionCall{Customer: b.customer, Connection: b.connection}, nil)
	w.call(lease.OpInstanceDelete, &lease.InstanceCall{Customer: b.customer, Instance: b.instance}, nil)
	var got lease.VersionsAnswer
	unknownInstance, unknownConnection := id.NewInstance(w.clock.now()), id.NewConnection(w.clock.now())
	w.call(lease.OpVersions, &lease.VersionsCall{
		Instances:   []id.Instance{a.instance, b.instance, unknownInstance},
		Connections: []id.Connection{b.connection, unknownConnection, a.connection},
	}, &got)
	want := lease.VersionsAnswer{
		Instances:   []lease.Version{{Number: 1}, {Number: 1, Gone: true}, {}},
		Connections: []lease.Version{{Number: 1, Gone: true}, {}, {Number: 2}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	if err := w.try(lease.OpVersions, &lease.VersionsCall{Instances: make([]id.Instance, lease.MaxVersions+1)}, nil); err == nil {
		t.Error("too many were answered")
	}
}
