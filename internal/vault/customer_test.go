package vault

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// Whoever deletes a customer destroys everything of it, here and in every backup of the
// database; everybody else reads on.
func TestADeletedCustomerIsGoneForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.tenant("token of A"), w.tenant("token of B")
	th := w.thief()
	var before []table
	for _, name := range []string{"customer_key", "payload_pair", "instance_key", "credential"} {
		before = append(before, th.copy(name))
	}
	record := w.connectionCall(bearer(a.customer, a.connection, "token of A"))
	// B's instance with A's shared connection.
	shared := w.dispatch(b)
	w.saveConnection(bearer(a.customer, id.NewConnection(w.clock.now()), "own"))

	w.call(lease.OpCustomerDelete, &lease.CustomerCall{Customer: a.customer}, nil)
	w.call(lease.OpCustomerDelete, &lease.CustomerCall{Customer: a.customer}, nil) // a deletion that was interrupted asks again
	n := &attempts{t: t, what: "deleted customer"}
	try := func(when string) {
		t.Helper()
		n.refused("a lease "+when, leaseError(w, w.dispatch(a)))
		n.refused("its payload key "+when, w.try(lease.OpPayloadKey, &lease.PayloadKeyCall{Customer: a.customer, Day: a.day}, nil))
		n.refused("a payload key of another day "+when, w.try(lease.OpPayloadKey, &lease.PayloadKeyCall{Customer: a.customer, Day: a.day + 1}, nil))
		n.refused("a new config "+when, w.try(lease.OpInstance, w.instanceCall(a.customer, a.instance, `{}`), nil))
		n.refused("a new instance "+when, w.try(lease.OpInstance, w.instanceCall(a.customer, id.NewInstance(testStart), `{}`), nil))
		n.refused("its record "+when, w.try(lease.OpConnection, w.connectionCall(bearer(a.customer, a.connection, "x")), nil))
		n.refused("a new connection "+when, w.try(lease.OpConnection, w.connectionCall(bearer(a.customer, id.NewConnection(testStart), "x")), nil))
		n.refused("the customer anew "+when, w.try(lease.OpCustomer, &lease.CustomerCall{Customer: a.customer}, nil))
		if _, err := w.vault.Rotate(t.Context(), a.customer); err == nil {
			t.Errorf("a new key %s", when)
		}
		if got := string(w.lease(w.dispatch(b)).egress.Slots[0].Record.Fields[0].Secret); got != "token of B" {
			t.Errorf("%s the other customer has %q", when, got)
		}
		if w.payloadKey(b.customer, b.day) != b.payload {
			t.Errorf("%s the other customer has another payload key", when)
		}
	}
	n.refused("the record that was carried before", w.try(lease.OpConnection, record, nil))
	try("at once")
	w.lease(shared)
	files := storedBytes(t, w.dir)
	for _, row := range before[1].rows { // customer, day, key version, sealed
		mine := bytes.Equal(row[0].([]byte), a.customer[:])
		if bytes.Contains(files, row[3].([]byte)) == mine {
			t.Errorf("in a file there is a payload pair, or there is none: %v, of the deleted customer: %v", !mine, mine)
		}
	}
	w.reopen()
	try("after a restart")
	for _, x := range before {
		th.putBack(x)
	}
	try("with all rows put back")
	w.reopen()
	try("with all rows put back, after a restart")
	n.report(33)

	var versions lease.VersionsAnswer
	w.call(lease.OpVersions, &lease.VersionsCall{
		Customers: []id.Customer{a.customer, b.customer}, Instances: []id.Instance{a.instance, b.instance},
		Connections: []id.Connection{a.connection, b.connection},
	}, &versions)
	for name, list := range map[string][]lease.Version{"customer": versions.Customers, "instance": versions.Instances, "connection": versions.Connections} {
		if len(list) != 2 || !list[0].Gone || list[1].Gone {
			t.Errorf("versions of a %s: %+v", name, list)
		}
	}
	mustVerify(t, w)
}

// A key that somebody holds from before seals nothing more.
func TestACachedKeyOfADeletedCustomerSealsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token of A")
	call := w.instanceCall(a.customer, id.NewInstance(testStart), `{}`)
	w.vault.mu.RLock()
	before := len(w.vault.cached)
	w.vault.mu.RUnlock()
	w.call(lease.OpCustomerDelete, &lease.CustomerCall{Customer: a.customer}, nil)
	w.vault.mu.RLock()
	after := len(w.vault.cached)
	w.vault.mu.RUnlock()
	if before == 0 || after != 0 {
		t.Errorf("%d keys were in memory, %d are after the deletion", before, after)
	}
	if err := w.try(lease.OpInstance, call, nil); err == nil {
		t.Error("an instance of a deleted customer was saved")
	}
	leaves := mustVerify(t, w)
	w.call(lease.OpCustomerDelete, &lease.CustomerCall{Customer: id.NewCustomer(testStart)}, nil)
	if got := mustVerify(t, w); got != leaves {
		t.Errorf("%d leaves for the deletion of what is not there", got-leaves)
	}
}

// storedBytes is what the files of a keystore hold.
func storedBytes(t *testing.T, dir string) []byte {
	t.Helper()
	var all []byte
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		all = append(all, b...)
	}
	return all
}
