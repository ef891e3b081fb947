package vault

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
)

// attempts counts what was tried and what it gave.
type attempts struct {
	t              *testing.T
	what           string
	tried, granted int
}

// refused counts one attempt, which must fail.
func (a *attempts) refused(name string, err error) {
	a.t.Helper()
	a.tried++
	if err == nil {
		a.granted++
		a.t.Errorf("%s: %s: it worked, want a refusal", a.what, name)
	}
}

func (a *attempts) report(least int) {
	a.t.Helper()
	a.t.Logf("%s: %d tried, %d granted", a.what, a.tried, a.granted)
	if a.tried < least {
		a.t.Errorf("%s: %d tried, want at least %d", a.what, a.tried, least)
	}
}

func leaseError(w *world, d *lease.Dispatch) error {
	w.tb.Helper()
	_, err := w.tryLease(d)
	return err
}

func TestCredentialRollback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("old token")
	th := w.thief()
	old := th.copy("credential")
	w.saveConnection(bearer(a.customer, a.connection, "new token"))
	next := th.copy("credential")
	if got := string(w.lease(w.dispatch(a)).egress.Slots[0].Record.Fields[0].Secret); got != "new token" {
		t.Fatalf("lease holds %q", got)
	}
	n := &attempts{t: t, what: "credential rollback"}

	th.putBack(old)
	n.refused("the old row, vault running", leaseError(w, w.dispatch(a)))
	th.exec("UPDATE credential SET version = 2")
	n.refused("the old ciphertext with the new version", leaseError(w, w.dispatch(a)))
	th.putBack(old)
	w.reopen()
	n.refused("the old row, after a restart", leaseError(w, w.dispatch(a)))

	th.putBack(next)
	w.lease(w.dispatch(a))
	w.call(lease.OpConnectionDelete, &lease.ConnectionCall{Customer: a.customer, Connection: a.connection}, nil)
	n.refused("a deleted record", leaseError(w, w.dispatch(a)))
	th.putBack(next)
	n.refused("a deleted record put back", leaseError(w, w.dispatch(a)))
	w.reopen()
	n.refused("a deleted record put back, after a restart", leaseError(w, w.dispatch(a)))

	n.report(6)
}

func TestDestroyedKeysDoNotComeBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token")
	th := w.thief()
	instances, pairs := th.copy("instance_key"), th.copy("payload_pair")
	n := &attempts{t: t, what: "destroyed keys put back"}

	w.clock.add(4 * 24 * time.Hour)
	w.server, w.runner, w.egress = w.enroll("server", ""), w.enroll("runner", "default"), w.enroll("egress", "default")
	n.refused("an ended day that is not swept yet", leaseError(w, w.dispatch(a)))
	if _, err := w.vault.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	th.putBack(pairs)
	n.refused("a destroyed payload pair", leaseError(w, w.dispatch(a)))
	w.clock.add(-4 * 24 * time.Hour)
	n.refused("a destroyed payload pair with the clock put back", leaseError(w, w.dispatch(a)))
	n.refused("the public half of a destroyed pair", w.try(lease.OpPayloadKey, &lease.PayloadKeyCall{Customer: a.customer, Day: a.day}, nil))
	w.reopen()
	n.refused("a destroyed payload pair with the clock put back, after a restart", leaseError(w, w.dispatch(a)))

	d := w.dispatch(a)
	d.Days = nil
	w.lease(d)
	w.call(lease.OpInstanceDelete, &lease.InstanceCall{Customer: a.customer, Instance: a.instance}, nil)
	d.Issued = w.clock.now()
	n.refused("a destroyed instance", leaseError(w, d))
	th.putBack(instances)
	n.refused("a destroyed instance key put back", leaseError(w, d))
	n.refused("a new config for it", w.try(lease.OpInstance, w.instanceCall(a.customer, a.instance, `{}`), nil))
	n.report(8)
}

// The server has carried every record, sealed: what was deleted must not return by
// sending it again, nor become another customer's.
func TestADeletedConnectionStaysDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.tenant("token of A"), w.tenant("token of B")
	carried := w.connectionCall(bearer(a.customer, a.connection, "token of A"))
	w.call(lease.OpConnection, carried, &lease.ConnectionAnswer{})
	w.lease(w.dispatch(a))
	w.call(lease.OpConnectionDelete, &lease.ConnectionCall{Customer: a.customer, Connection: a.connection}, nil)
	n := &attempts{t: t, what: "deleted connection"}
	n.refused("its lease", leaseError(w, w.dispatch(a)))
	n.refused("the record that was carried before", w.try(lease.OpConnection, carried, nil))
	n.refused("a new record", w.try(lease.OpConnection, w.connectionCall(bearer(a.customer, a.connection, "x")), nil))
	n.refused("another customer's record", w.try(lease.OpConnection, w.connectionCall(bearer(b.customer, a.connection, "x")), nil))
	n.refused("its lease after all that", leaseError(w, w.dispatch(a)))
	w.reopen()
	n.refused("a new record after a restart", w.try(lease.OpConnection, w.connectionCall(bearer(a.customer, a.connection, "x")), nil))
	n.report(6)
}

func TestConfigRollback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token")
	d := w.dispatch(a)
	old := a.config
	a.config = w.saveInstance(a.customer, a.instance, `{"a":2}`)
	n := &attempts{t: t, what: "config rollback"}
	n.refused("a dispatch with the old version", leaseError(w, d))
	l := w.lease(w.dispatch(a))
	k, err := seal.NewKey(l.worker.InstanceKey)
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Open(nil, lease.ConfigPlace(a.customer, a.instance, l.worker.ConfigVersion), old.Config)
	n.refused("the old config in the place of the new one", err)
	d.ConfigVersion = 3
	n.refused("a version that is not saved yet", leaseError(w, d))
	w.reopen()
	d.ConfigVersion = 1
	n.refused("a dispatch with the old version, after a restart", leaseError(w, d))
	n.report(4)
}

// TestLedgerAndLogRollback puts back ever more of the keystore. All but the whole of
// it is noticed; the whole is what [Vault.Head] is for.
func TestLedgerAndLogRollback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("old token")
	th := w.thief()
	var old []table
	for _, name := range []string{"credential", "ledger", "head", "leaf"} {
		old = append(old, th.copy(name))
	}
	seq, hash := w.vault.Head()
	w.saveConnection(bearer(a.customer, a.connection, "new token"))
	newest, _ := w.vault.Head()
	n := &attempts{t: t, what: "rollback of the ledger and the log"}
	for i, name := range []string{"credential", "credential and ledger", "credential, ledger and head"} {
		th.putBack(old[i])
		if i == 1 {
			n.refused(name+", vault running", leaseError(w, w.dispatch(a)))
		}
		if err := w.vault.Close(); err != nil {
			t.Fatal(err)
		}
		v, err := w.tryOpen()
		if err == nil {
			w.vault = v
			err = leaseError(w, w.dispatch(a))
		} else if !errors.Is(err, keystore.ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
		n.refused(name+", after a restart", err)
	}
	th.putBack(old[3])
	w.open()
	n.report(4)
	if got, gotHash := w.vault.Head(); got != seq || gotHash != hash || newest <= got {
		t.Errorf("head = %d, want the older %d: a copy of the newer one (%d) shows the rollback", got, seq, newest)
	}
}

func TestChangedLogIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token")
	for range 5 {
		w.lease(w.dispatch(a))
	}
	if err := w.vault.Close(); err != nil {
		t.Fatal(err)
	}
	th := w.thief()
	log := th.copy("leaf")
	n := &attempts{t: t, what: "changed log"}
	for i := range log.rows {
		for column := 1; column < 7; column++ {
			changed := table{"leaf", append([][]any(nil), log.rows...)}
			changed.rows[i] = append([]any(nil), log.rows[i]...)
			switch v := changed.rows[i][column].(type) {
			case int64:
				changed.rows[i][column] = v + 1
			case []byte:
				flipped := append(bytes.Clone(v), 0)
				flipped[0] ^= 255
				changed.rows[i][column] = flipped[:max(1, len(v))]
			}
			th.putBack(changed)
			n.refused("a changed column", verifyError(w))
		}
		th.putBack(table{"leaf", append(append([][]any(nil), log.rows[:i]...), log.rows[i+1:]...)})
		n.refused("a missing leaf", verifyError(w))
	}
	th.putBack(log)
	if err := verifyError(w); err != nil {
		t.Errorf("the log as it was written: %v", err)
	}
	n.report(80)
}

// verifyError opens the vault and verifies its log.
func verifyError(w *world) error {
	v, err := w.tryOpen()
	if err != nil {
		return err
	}
	_, err = v.VerifyLog(w.tb.Context())
	return errors.Join(err, v.Close())
}

func TestDamagedKeystore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token")
	d := w.dispatch(a)
	if err := w.vault.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.dir, "keystore.db")
	if left, err := filepath.Glob(path + "-*"); err != nil || len(left) != 0 {
		t.Fatalf("after Close there are %v, %v", left, err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(b []byte) error {
		for _, name := range []string{"keystore.db-wal", "keystore.db-shm"} {
			_ = os.Remove(filepath.Join(w.dir, name))
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := w.tryOpen()
		if err != nil {
			return err
		}
		w.vault = v
		l, leased := w.tryLease(d)
		if leased == nil && string(l.egress.Slots[0].Record.Fields[0].Secret) != "token" {
			t.Error("a damaged keystore gave another credential")
		}
		_ = v.Close()
		return leased
	}
	n := &attempts{t: t, what: "damaged keystore"}
	n.refused("cut to half", try(good[:len(good)/2]))
	n.refused("cut by a page", try(good[:len(good)-4096]))
	n.refused("not a database", try(bytes.Repeat([]byte("x"), len(good))))
	n.refused("a header and nothing else", try(good[:100]))
	n.refused("zeros after the schema", try(append(bytes.Clone(good[:4096]), make([]byte, len(good)-4096)...)))
	for at := 0; at < len(good); at += 997 {
		b := bytes.Clone(good)
		b[at] ^= 0xff
		_ = try(b) // in free space it does no harm; it must not panic or give other values
		n.tried++
	}
	if err := try(good); err != nil {
		t.Errorf("the undamaged file: %v", err)
	}
	n.report(50)
}

func TestKeyRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("sealed by version 1")
	th := w.thief()
	if v, err := w.vault.Rotate(t.Context(), a.customer); err != nil || v != 2 {
		t.Fatalf("Rotate = %d, %v, want version 2", v, err)
	}
	if got := string(w.lease(w.dispatch(a)).egress.Slots[0].Record.Fields[0].Secret); got != a.token {
		t.Errorf("after the rotation the lease holds %q", got)
	}
	n := id.NewConnection(w.clock.now())
	w.saveConnection(bearer(a.customer, n, "sealed by version 2"))
	versions := map[id.Connection]int64{}
	for _, r := range th.copy("credential").rows {
		versions[id.Connection(r[0].([]byte))] = r[3].(int64)
	}
	if versions[a.connection] != 1 || versions[n] != 2 {
		t.Errorf("key versions %v, want 1 for the old record and 2 for the new one", versions)
	}
	th.exec("DELETE FROM customer_key WHERE version = 1")
	forget(w.vault)
	try := &attempts{t: t, what: "rotation"}
	try.refused("the old record without the old key", leaseError(w, w.dispatch(a)))
	_, err := w.vault.Rotate(t.Context(), id.NewCustomer(testStart))
	try.refused("a customer that does not exist", err)
	try.report(2)
}
