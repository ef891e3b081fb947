package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestConnector(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		mine, stranger := w.s.Org(t.Context(), w.org), w.s.Org(t.Context(), w.stranger(t))
		want := Connector{Name: "acme-erp", Version: "1.0.0", Digest: [32]byte{1}, Tier: "imported", Title: "Acme", Cases: 3, Retrieved: "2026-11-21", CreatedBy: "ci"}
		w.writeOrg(t, w.org, func(o OrgTx) error {
			published, err := o.PutConnector(&want, []byte(`{"a":1}`), time.Unix(1700000000, 0))
			if !published {
				t.Error("the first version was not published")
			}
			return err
		})
		w.writeOrg(t, w.org, func(o OrgTx) error {
			changed := want
			changed.Title = "Other"
			published, err := o.PutConnector(&changed, []byte(`{"a":2}`), time.Unix(1700000000, 0))
			if published {
				t.Error("a version was published again")
			}
			return err
		})
		got, err := mine.Connectors("acme-erp")
		if diff := cmp.Diff([]Connector{want}, got, cmpopts.IgnoreFields(Connector{}, "Created")); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
		if b, err := mine.ConnectorManifest("acme-erp", "1.0.0"); err != nil || string(b) != `{"a":1}` {
			t.Errorf("manifest: %s, %v", b, err)
		}
		if list, err := mine.Connectors("other"); err != nil || len(list) != 0 {
			t.Errorf("another name: %v, %v", list, err)
		}
		if list, err := stranger.Connectors(""); err != nil || len(list) != 0 {
			t.Errorf("another organization: %v, %v", list, err)
		}
		if _, err := stranger.ConnectorManifest("acme-erp", "1.0.0"); !errors.Is(err, ErrNotFound) {
			t.Errorf("another organization: %v", err)
		}
	})
}
