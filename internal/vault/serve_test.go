package vault

import (
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// A breached bus can send what it likes in any node's name, and what it has seen again.
func TestCallsAreSignedAndServedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token of A")
	n := &attempts{t: t, what: "calls by the bus"}
	try := func(from id.Node, m *wire.VaultCall) error {
		_, err := w.vault.Serve(t.Context(), from, m)
		return err
	}
	sign := func(p *process, op string, m wire.Message) *wire.VaultCall {
		return lease.SignCall(p.sign, op, wire.AppendBody(nil, m), w.clock.now())
	}
	ask := &lease.PayloadKeyCall{Customer: a.customer, Day: a.day}
	save := sign(w.server, lease.OpConnection, w.connectionCall(bearer(a.customer, a.connection, "first")))
	answer, err := w.vault.Serve(t.Context(), w.server.node, save)
	if err != nil {
		t.Fatal(err)
	}
	if err := lease.CheckAnswer(w.vault.Authority(), save, answer); err != nil {
		t.Error(err)
	}
	if err := try(w.server.node, sign(w.server, lease.OpConnection, w.connectionCall(bearer(a.customer, a.connection, "second")))); err != nil {
		t.Fatal(err)
	}
	n.refused("the first save again", try(w.server.node, save))
	forged := sign(w.server, lease.OpPayloadKey, ask)
	forged.Op, forged.Body = lease.OpConnectionDelete, wire.AppendBody(nil, &lease.ConnectionCall{Customer: a.customer, Connection: a.connection})
	n.refused("another operation under a signature", try(w.server.node, forged))
	n.refused("an unsigned one", try(w.server.node, &wire.VaultCall{Op: lease.OpPayloadKey, Body: wire.AppendBody(nil, ask), Issued: w.clock.now()}))
	n.refused("one that a runner signed", try(w.server.node, sign(w.runner, lease.OpPayloadKey, ask)))
	late := sign(w.server, lease.OpPayloadKey, ask)
	w.clock.add(lease.MaxDispatchAge + time.Second)
	n.refused("a late one", try(w.server.node, late))
	n.refused("the first save, later", try(w.server.node, save))
	if got := string(w.lease(w.dispatch(a)).egress.Slots[0].Record.Fields[0].Secret); got != "second" {
		t.Errorf("the lease holds %q after the attempts", got)
	}
	n.report(6)
}

func TestNoncesAreBoundedAndForgotten(t *testing.T) {
	t.Parallel()
	n, now := &nonces{}, testStart
	for i := range maxCalls {
		if err := n.take([16]byte{byte(i), byte(i >> 8), byte(i >> 16)}, now); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := n.take([16]byte{15: 1}, now); !errors.Is(err, ErrBusy) {
		t.Errorf("one more: %v, want ErrBusy", err)
	}
	for _, c := range []struct {
		after time.Duration
		want  error
	}{{lease.MaxDispatchAge, ErrRefused}, {2 * lease.MaxDispatchAge, ErrRefused}, {4 * lease.MaxDispatchAge, nil}} {
		if err := n.take([16]byte{}, now.Add(c.after)); !errors.Is(err, c.want) {
			t.Errorf("after %v: %v, want %v", c.after, err, c.want)
		}
	}
	if len(n.until) != 1 {
		t.Errorf("%d nonces are kept, want 1", len(n.until))
	}
}
