package vault

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// TestReadLeases asks for leases that only read: they hold the keys, nothing of egress,
// and are in the log before the answer. Whatever changes who reads, what, or for whom is
// refused.
func TestReadLeases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token of A")
	worker, viewer, thief := newProcess(t), newProcess(t), newProcess(t)
	read := func() *lease.Dispatch {
		d := w.dispatch(a)
		d.Slots, d.Executions, d.EgressPool = nil, nil, ""
		d.Read = &lease.Read{
			Viewer: lease.Viewer{View: id.NewView(testStart), Key: viewer.seal.Public()}, Who: "token one",
			Execution: id.NewExecution(testStart), Kind: wire.ReadEvent, Class: wire.ClassCustomer,
		}
		return d
	}
	ask := func(d *lease.Dispatch, signer *process, egress id.Node) (*wire.LeaseGrant, error) {
		return w.vault.Lease(t.Context(), lease.SignRequest(w.runner.sign, w.runner.node, lease.SignDispatch(signer.sign, d), worker.seal.Public(), egress))
	}
	before := mustVerify(t, w)
	good := read()
	g, err := ask(good, w.server, id.Node{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := lease.OpenWorker(worker.seal, g.Worker)
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Egress) != 0 || len(l.Channel) != 0 || !l.Egress.IsZero() || len(l.Payload) != 1 || len(l.InstanceKey) != seal.KeySize {
		t.Errorf("the lease of a read is %+v with %d bytes for egress", l, len(g.Egress))
	}
	if diff := cmp.Diff(good.Read, l.Read); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	leaves := w.leaves(before)
	if len(leaves) != 2 || leaves[0].Kind != leafLease || leaves[1].Kind != leafView {
		t.Fatalf("leaves %+v, want one of the lease and one of the view", leaves)
	}
	var leaf View
	if err := wire.ParseBody(leaves[1].Body, &leaf); err != nil {
		t.Fatal(err)
	}
	want := View{
		View: good.Read.View, Lease: g.Lease, Server: w.server.node, Instance: a.instance, Execution: good.Read.Execution,
		Kind: wire.ReadEvent, Class: wire.ClassCustomer, Who: "token one",
	}
	if diff := cmp.Diff(want, leaf); diff != "" || leaves[1].Customer != a.customer {
		t.Errorf("(-want +got):\n%s", diff)
	}
	n := &attempts{t: t, what: "read leases"}
	for name, change := range map[string]func(*lease.Dispatch){
		"a connection":            func(d *lease.Dispatch) { d.Slots = w.dispatch(a).Slots },
		"an execution to run":     func(d *lease.Dispatch) { d.Executions = w.dispatch(a).Executions },
		"a second viewer":         func(d *lease.Dispatch) { d.Viewers = []lease.Viewer{{View: id.NewView(testStart)}} },
		"an egress pool":          func(d *lease.Dispatch) { d.EgressPool = "default" },
		"nobody":                  func(d *lease.Dispatch) { d.Read.Who = "" },
		"a long name":             func(d *lease.Dispatch) { d.Read.Who = string(make([]byte, lease.MaxWho+1)) },
		"no view":                 func(d *lease.Dispatch) { d.Read.View = id.View{} },
		"no key":                  func(d *lease.Dispatch) { d.Read.Key = seal.PublicKey{} },
		"nothing":                 func(d *lease.Dispatch) { d.Read.Kind = 0 },
		"an unknown kind":         func(d *lease.Dispatch) { d.Read.Kind = 99 },
		"no class":                func(d *lease.Dispatch) { d.Read.Class = 0 },
		"an unknown class":        func(d *lease.Dispatch) { d.Read.Class = 9 },
		"a resolve by a viewer":   func(d *lease.Dispatch) { d.Read.Kind = wire.ReadResolve },
		"a reply by a viewer":     func(d *lease.Dispatch) { d.Read.Kind = wire.ReadReply },
		"an event by the server":  func(d *lease.Dispatch) { d.Read.Class = wire.ClassServer },
		"the server's to another": func(d *lease.Dispatch) { d.Read.Class, d.Read.Kind = wire.ClassServer, wire.ReadResolve },
		"another's instance":      func(d *lease.Dispatch) { d.Customer = id.NewCustomer(testStart) },
		"an older config":         func(d *lease.Dispatch) { d.ConfigVersion-- },
		"a day without a pair":    func(d *lease.Dispatch) { d.Days = append(d.Days, a.day+1) },
	} {
		d := read()
		change(d)
		_, err := ask(d, w.server, id.Node{})
		n.refused(name, err)
	}
	_, err = ask(read(), w.server, w.egress.node)
	n.refused("an egress node", err)
	swapped := read()
	swapped.Read.Key = thief.seal.Public()
	_, err = ask(swapped, w.runner, id.Node{})
	n.refused("a viewer's key that the runner chose", err)
	own := read()
	own.Read.Class, own.Read.Kind, own.Read.Key = wire.ClassServer, wire.ReadResolve, w.server.seal.Public()
	if _, err := ask(own, w.server, id.Node{}); err != nil {
		t.Errorf("the server's own read: %v", err)
	}
	n.report(21)
}
