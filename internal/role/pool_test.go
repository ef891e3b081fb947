package role

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// An order goes to a node of the connection's pool, never to one of another, and to the
// default pool where none is named.
func TestOrdersGoToThePoolOfTheConnection(t *testing.T) {
	t.Parallel()
	now := time.Now()
	eu, usual := &lease.Identity{Node: id.NewNode(now), Pool: "eu"}, &lease.Identity{Node: id.NewNode(now), Pool: "default"}
	nodes := []*lease.Identity{usual, eu}
	for _, want := range nodes {
		got, err := inPool(nodes, want.Pool)
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s: %v, %v", want.Pool, got, err)
		}
	}
	if got, err := inPool(nodes, "us"); !errors.Is(err, errPool) || len(got) != 0 {
		t.Errorf("a pool without nodes: %v, %v", got, err)
	}
	if nodes[0] != usual || nodes[1] != eu {
		t.Error("the list of nodes was changed")
	}

	ctx := context.Background()
	db, err := store.Open(ctx, store.Options{Dir: t.TempDir(), Durability: store.Temporary})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	org, owner := id.NewOrg(now), id.NewCustomer(now)
	err = db.Write(ctx, func(tx *store.Tx) error {
		if err := tx.System().PutOrganization(&store.Organization{ID: org, Name: "n"}, now); err != nil {
			return err
		}
		_, err := tx.System().PutCustomer(&store.CustomerRow{ID: owner, Organization: org, ExternalID: "c-1"}, now)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	put := func(pool string) id.Connection {
		n := store.Connection{Customer: owner, ID: id.NewConnection(now), Name: "x", Connector: "c", Kind: "oauth2", EgressPool: pool}
		if err := db.Write(ctx, func(tx *store.Tx) error { return tx.Customer(owner).PutConnection(&n, now) }); err != nil {
			t.Fatal(err)
		}
		return n.ID
	}
	for n, want := range map[id.Connection]string{put("eu"): "eu", put(""): "default", id.NewConnection(now): "default"} {
		if got, err := poolOf(ctx, db, owner, n); err != nil || got != want {
			t.Errorf("pool %q, want %q: %v", got, want, err)
		}
	}
}
