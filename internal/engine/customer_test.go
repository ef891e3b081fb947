package engine

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

func TestDeleteCustomerDestroysItsKeysFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := context.Background()
	used, other := b.tenant("used"), b.tenant("other")
	free, err := b.e.PutCustomer(ctx, &store.CustomerRow{Organization: b.org, ExternalID: "free"})
	if err != nil {
		t.Fatal(err)
	}
	there := func(n tenant) bool { return b.opt.Store.Org(ctx, b.org).Owns(n.customer) == nil }
	gone := func(n tenant) bool {
		b.vault.mu.Lock()
		defer b.vault.mu.Unlock()
		return b.vault.gone[n.customer]
	}
	if err := b.e.DeleteCustomer(ctx, b.org, used.customer); !errors.Is(err, ErrInUse) || gone(used) {
		t.Errorf("one with an instance: %v, keys destroyed: %v", err, gone(used))
	}
	b.vault.mu.Lock()
	b.vault.down = true
	b.vault.mu.Unlock()
	if err := b.e.DeleteCustomer(ctx, b.org, free); err == nil || !there(tenant{customer: free}) {
		t.Errorf("without a vault: %v, still there: %v", err, there(tenant{customer: free}))
	}
	b.vault.mu.Lock()
	b.vault.down = false
	b.vault.mu.Unlock()
	if err := b.e.DeleteCustomer(ctx, b.org, free); err != nil || !gone(tenant{customer: free}) || there(tenant{customer: free}) {
		t.Errorf("a free one: %v, keys destroyed: %v", err, gone(tenant{customer: free}))
	}
	if err := b.e.DeleteCustomer(ctx, b.org, free); !errors.Is(err, ErrNotFound) {
		t.Errorf("a second time: %v", err)
	}

	// A database of before the deletion knows the customer and its instance.
	b.vault.mu.Lock()
	b.vault.gone[used.customer], b.vault.gone[used.instance] = true, true
	b.vault.mu.Unlock()
	if err := b.e.reconcile(ctx); err != nil {
		t.Fatal(err)
	}
	b.gone(used)
	if err := b.e.reconcile(ctx); err != nil {
		t.Fatal(err)
	}
	if there(used) || !there(other) {
		t.Errorf("after the comparison the deleted customer is there: %v, the other: %v", there(used), there(other))
	}
}

// There is one description of a customer, whoever gives it to expressions.
func TestACustomerIsDescribedInOneWay(t *testing.T) {
	t.Parallel()
	c := id.NewCustomer(time.Now())
	for _, tt := range []struct {
		row  store.CustomerRow
		want string
	}{
		{
			store.CustomerRow{ID: c, ExternalID: "a\"b", Title: "Müller & \\ \x01\n", Timezone: "Europe/Berlin", Locale: "de", Attributes: []byte(`{"plan":"gold"}`)},
			`{"id":"` + c.String() + `","external_id":"a\"b","name":"Müller & \\ \u0001\n","timezone":"Europe/Berlin","locale":"de","attributes":{"plan":"gold"}}`,
		},
		{store.CustomerRow{Title: "\xff"}, `{"external_id":"","name":"\ufffd","timezone":"","locale":"","attributes":{}}`},
		{store.CustomerRow{Attributes: []byte(`{"broken`)}, `{"external_id":"","name":"","timezone":"","locale":"","attributes":{}}`},
	} {
		var got, want any
		b := AppendCustomer([]byte("before"), &tt.row)
		if err := errors.Join(json.Unmarshal(b[len("before"):], &got), json.Unmarshal([]byte(tt.want), &want)); err != nil {
			t.Fatalf("%v in %s", err, b)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}
