package engine

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// toldReplacer notes what egress nodes are told, and whether the vault had the change by then.
type toldReplacer struct {
	v    *fakeVault
	told []uint64
}

// Replaced implements Replacer.
func (r *toldReplacer) Replaced(_ context.Context, _ id.Customer, n id.Connection, oldest uint64) {
	r.v.mu.Lock()
	defer r.v.mu.Unlock()
	if oldest == math.MaxUint64 && !r.v.gone[n] {
		oldest = 0
	}
	r.told = append(r.told, oldest)
}

// Egress nodes are told of what replaces a credential, and of its end, and not of the first.
func TestEgressIsToldOfReplacedCredentials(t *testing.T) {
	t.Parallel()
	r := &toldReplacer{}
	b := newBench(t, func(o *Options) { o.Replacer = r })
	r.v = b.vault
	n, con := b.tenant("c1"), id.NewConnection(time.Now())
	put := func() {
		t.Helper()
		if err := b.e.PutConnection(context.Background(), &Credential{
			Connection: store.Connection{ID: con, Customer: n.customer, Name: "erp"},
			Record:     &lease.Record{Connector: "http", Kind: lease.KindNone, Binding: lease.Binding{Scheme: "https", Host: "erp.example.com", Port: 443}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	put()
	if len(r.told) != 0 {
		t.Errorf("told %v of a connection that is new", r.told)
	}
	put()
	put()
	if err := b.e.DeleteConnection(context.Background(), n.customer, con, "deleted"); err != nil {
		t.Fatal(err)
	}
	if want := []uint64{2, 3, math.MaxUint64}; !slices.Equal(r.told, want) {
		t.Errorf("told %v, want %v", r.told, want)
	}
}
