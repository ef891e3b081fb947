package engine

import (
	"testing"
)

// A keystore that is older than the database has credentials of connections that were deleted since. They are destroyed again, and
// nothing else is.
func TestDeletedCredentialsOfAnOldKeystoreAreDestroyedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := t.Context()
	n := b.tenant("c1")
	_, kept := b.connected(n, "kept")
	_, deleted := b.connected(n, "deleted")
	if err := b.e.DeleteConnection(ctx, n.customer, deleted, "test"); err != nil {
		t.Fatal(err)
	}
	state := func() (calls int, keptGone, deletedGone bool) {
		b.vault.mu.Lock()
		defer b.vault.mu.Unlock()
		return b.vault.deleted, b.vault.gone[kept], b.vault.gone[deleted]
	}
	if err := b.e.reconcile(ctx); err != nil {
		t.Fatal(err)
	}
	if calls, _, _ := state(); calls != 1 {
		t.Errorf("while both agree the vault is asked %d times to delete something, want once", calls)
	}
	b.vault.mu.Lock()
	delete(b.vault.gone, deleted) // a keystore from before
	b.vault.mu.Unlock()
	if _, _, gone := state(); gone {
		t.Error("red twin: the old keystore does not have it")
	}
	if err := b.e.reconcile(ctx); err != nil {
		t.Fatal(err)
	}
	if calls, keptGone, deletedGone := state(); calls != 2 || keptGone || !deletedGone {
		t.Errorf("asked %d times to delete; the kept one is gone: %v, the deleted one: %v", calls, keptGone, deletedGone)
	}
}
