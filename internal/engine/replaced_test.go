package engine

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// toldReplacer notes what egress nodes are told, if the vault and the database had the change by then.
type toldReplacer struct {
	b    *bench
	told []uint64
}

// Replaced implements Replacer.
func (r *toldReplacer) Replaced(_ context.Context, c id.Customer, n id.Connection, oldest uint64) {
	row, err := r.b.e.db.Customer(context.Background(), c).Connection(n)
	r.b.vault.mu.Lock()
	defer r.b.vault.mu.Unlock()
	done := err == nil && row.RecordVersion == oldest
	if oldest == math.MaxUint64 {
		done = r.b.vault.gone[n] && errors.Is(err, store.ErrNotFound)
	}
	if !done {
		oldest = 0
	}
	r.told = append(r.told, oldest)
}

// leavingVault is a vault whose caller has gone when it answers.
type leavingVault struct {
	Vault
	leave atomic.Pointer[context.CancelFunc]
}

// Call implements Vault.
func (v *leavingVault) Call(ctx context.Context, op string, body []byte) ([]byte, error) {
	out, err := v.Vault.Call(ctx, op, body)
	if leave := v.leave.Load(); leave != nil {
		(*leave)()
	}
	return out, err
}

// Egress nodes are told of what replaces a credential, and of its end, and not of the first; behind the note in the database,
// which whoever asked and has gone does not keep from being made.
func TestEgressIsToldOfReplacedCredentials(t *testing.T) {
	t.Parallel()
	r, v := &toldReplacer{}, &leavingVault{}
	r.b = newBench(t, func(o *Options) { o.Replacer, v.Vault, o.Vault = r, o.Vault, v })
	b := r.b
	n, con := b.tenant("c1"), id.NewConnection(time.Now())
	asking := func(do func(ctx context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		v.leave.Store(&cancel)
		defer v.leave.Store(nil)
		if err := do(ctx); err != nil {
			t.Fatal(err)
		}
		if ctx.Err() == nil {
			t.Fatal("the caller has not gone")
		}
	}
	put := func(ctx context.Context) error {
		return b.e.PutConnection(ctx, &Credential{
			Connection: store.Connection{ID: con, Customer: n.customer, Name: "erp"},
			Record:     &lease.Record{Connector: "http", Kind: lease.KindNone, Binding: lease.Binding{Scheme: "https", Host: "erp.example.com", Port: 443}},
		})
	}
	asking(put)
	if len(r.told) != 0 {
		t.Errorf("told %v of a connection that is new", r.told)
	}
	asking(put)
	asking(put)
	asking(func(ctx context.Context) error { return b.e.DeleteConnection(ctx, n.customer, con, "deleted") })
	if want := []uint64{2, 3, math.MaxUint64}; !slices.Equal(r.told, want) {
		t.Errorf("told %v, want %v", r.told, want)
	}
}
