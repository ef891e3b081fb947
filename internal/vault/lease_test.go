package vault

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
)

func TestLeaseHoldsWhatItsReadersNeed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token of A")
	d := w.dispatch(a)
	l := w.lease(d)

	k, err := seal.NewKey(l.worker.InstanceKey)
	if err != nil {
		t.Fatal(err)
	}
	config, err := k.Open(nil, lease.ConfigPlace(a.customer, a.instance, a.config.Version), a.config.Config)
	if err != nil || string(config) != `{"a":1}` {
		t.Errorf("config = %q, %v", config, err)
	}
	p, err := seal.NewPrivateKey(l.worker.Payload[0].Private)
	if err != nil || p.Public() != a.payload || l.worker.Payload[0].Day != a.day {
		t.Errorf("payload pair of day %d is not the one of day %d: %v", l.worker.Payload[0].Day, a.day, err)
	}
	if got := string(l.egress.Slots[0].Record.Fields[0].Secret); got != a.token || l.egress.Slots[0].Record.Version != 1 {
		t.Errorf("egress got %q, want %q", got, a.token)
	}
	if !bytes.Equal(l.worker.Channel, l.egress.Channel) || len(l.worker.Channel) != seal.KeySize {
		t.Error("the two halves have different channel keys")
	}
	if l.worker.ServerKey != w.server.seal.Public() || l.egress.Runner != w.runner.node || l.worker.Egress != w.egress.node {
		t.Error("the lease names other peers")
	}
	if diff := cmp.Diff(w.clock.now().Add(lease.MaxLife), l.grant.Expires); diff != "" {
		t.Errorf("expires (-want +got):\n%s", diff)
	}
	again := w.lease(d)
	if bytes.Equal(again.worker.Channel, l.worker.Channel) || !bytes.Equal(again.worker.IdempotencyKey, l.worker.IdempotencyKey) || bytes.Equal(l.worker.IdempotencyKey, l.worker.InstanceKey) {
		t.Error("a second lease must have a new channel key and the same idempotency key")
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token of A")
	before := w.lease(w.dispatch(a))
	authority, leaves := w.vault.Authority(), mustVerify(t, w)
	w.reopen()
	w.clock.add(time.Minute)
	if w.vault.Authority() != authority {
		t.Error("a restart changed the authority")
	}
	after := w.lease(w.dispatch(a))
	if !bytes.Equal(before.worker.InstanceKey, after.worker.InstanceKey) || !bytes.Equal(before.worker.IdempotencyKey, after.worker.IdempotencyKey) {
		t.Error("a restart changed the keys of an instance")
	}
	if got := w.payloadKey(a.customer, a.day); got != a.payload {
		t.Error("a restart changed a payload key")
	}
	if got := mustVerify(t, w); got != leaves+1 {
		t.Errorf("%d leaves, want one for the second lease after %d", got, leaves)
	}
}

func mustVerify(t *testing.T, w *world) uint64 {
	t.Helper()
	n, err := w.vault.VerifyLog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}
