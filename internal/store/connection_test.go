package store

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// What is known of a connection comes back as it was put, and what is noted of its tokens
// and its health shows; entering the credential again forgets it.
func TestConnections(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		mine := w.s.Org(t.Context(), w.org)
		n := Connection{
			Customer: w.owner, ID: id.NewConnection(at()), Name: "shop", Connector: "shopify", Kind: "oauth2", Host: "x.example", RecordVersion: 1,
			EgressPool: "default", Template: id.NewTemplate(at()), Method: "oauth", ConnectorVersion: "1.2.0", ConnectorDigest: [32]byte{7},
			Vars: map[string]string{"shop": "x"}, Scopes: []string{"read"}, CreatedBy: "ann", AccountHash: [32]byte{8},
			Shared: Shared{Customers: []string{"*"}, Actions: []string{"list"}}, Account: []byte{1},
		}
		put := func() { w.write(t, func(c CustomerTx) error { return c.PutConnection(&n, at()) }) }
		get := func() *ConnectionInfo {
			t.Helper()
			x, err := mine.Connection(n.ID)
			if err != nil {
				t.Fatal(err)
			}
			return x
		}
		put()
		if diff := cmp.Diff(&ConnectionInfo{Connection: n, Health: HealthUnknown, Created: at(), Changed: at()}, get()); diff != "" {
			t.Error(diff)
		}
		later := at().Add(time.Hour)
		w.write(t, func(c CustomerTx) error {
			return c.TokenSaved(n.ID, &TokenSaved{RecordVersion: 3, Expires: later, RefreshDue: at().Add(time.Minute), Scopes: []string{"read", "write"}}, at())
		})
		w.write(t, func(c CustomerTx) error { return c.TokenSaved(n.ID, &TokenSaved{RecordVersion: 2}, at()) }) // late
		x := get()
		if x.Health != HealthOK || !x.TokenExpires.Equal(later) || x.RecordVersion != 3 || len(x.Scopes) != 2 || x.AccountHash != n.AccountHash {
			t.Errorf("after a refresh: %+v", x)
		}
		due := func(after RefreshDue) []RefreshDue {
			t.Helper()
			list, err := w.s.System(t.Context()).RefreshesDue(later, after, 9, 9)
			if err != nil {
				t.Fatal(err)
			}
			return list
		}
		list := due(RefreshDue{})
		if len(list) != 1 || list[0].Connection != n.ID || len(due(list[0])) != 0 {
			t.Errorf("due: %+v", list)
		}
		w.write(t, func(c CustomerTx) error { return c.TokenFailed(n.ID, "timeout", later, at()) })
		w.write(t, func(c CustomerTx) error { return c.TokenFailed(n.ID, "timeout", later, later) })
		if x = get(); x.Health != HealthFailing || x.RefreshFailures != 2 || !x.FailingSince.Equal(at()) || !x.RefreshDue.Equal(later) {
			t.Errorf("after two failures: %+v", x)
		}
		w.write(t, func(c CustomerTx) error {
			changed, err := c.SetHealth(n.ID, HealthNeedsReconnect, "invalid_grant", at())
			if !changed {
				t.Error("health did not change")
			}
			return err
		})
		w.write(t, func(c CustomerTx) error { return c.SetRefreshDue(n.ID, later) })
		if x = get(); x.Health != HealthNeedsReconnect || !x.RefreshDue.IsZero() || len(due(RefreshDue{})) != 0 {
			t.Errorf("after the grant ended: %+v", x)
		}
		put()
		if x = get(); x.Health != HealthUnknown || x.RefreshFailures != 0 || !x.TokenExpires.IsZero() {
			t.Errorf("connected again: %+v", x)
		}
		w.write(t, func(c CustomerTx) error { return c.RenameConnection(n.ID, "till", at()) })
		if err := w.s.Write(t.Context(), func(tx *Tx) error {
			return errors.Join(tx.System().ConnectionUsed(n.ID, later), tx.System().ConnectionUsed(n.ID, at()))
		}); err != nil {
			t.Error(err)
		}
		if x = get(); x.Name != "till" || !x.LastUsed.Equal(later) {
			t.Errorf("renamed and used: %+v", x)
		}
		for q, want := range map[ConnectionQuery]int{
			{Connector: "shopify"}: 1, {Health: HealthUnknown, Template: n.Template}: 1, {Health: HealthOK}: 0, {Customer: w.other}: 0,
		} {
			if got, err := mine.Connections(&q, 9); err != nil || len(got) != want {
				t.Errorf("%+v: %d, %v", q, len(got), err)
			}
		}
		if got, err := mine.ConnectionsOfAccount("shopify", [32]byte{8}, 9); err != nil || len(got) != 1 {
			t.Errorf("of account: %v, %v", got, err)
		}
		users, err := mine.UsersOf(w.connection, w.connection)
		if err != nil || len(users) != 1 || len(users[w.connection]) != 1 || users[w.connection][0] != w.instance {
			t.Errorf("users: %v, %v", users, err)
		}
		w.write(t, func(c CustomerTx) error { return c.DeleteConnection(n.ID, "left", at()) })
		if _, err := mine.Connection(n.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("deleted: %v", err)
		}
	})
}

// template stores a template with its client.
func (w *world) template(t *testing.T) *Template {
	t.Helper()
	client := Connection{Customer: w.owner, ID: id.NewConnection(at()), Kind: KindClient}
	w.write(t, func(c CustomerTx) error { return c.PutConnection(&client, at()) })
	m := &Template{
		ID: id.NewTemplate(at()), Organization: w.org, Name: "ours", Connector: "shopify", ConnectorVersion: "1.2.0", ConnectorDigest: [32]byte{7},
		Method: "oauth", Vars: map[string]string{"a": "b"}, ClientName: "abc", Scopes: []string{"read"}, Owner: w.owner, Client: client.ID,
		Revision: 1, CreatedBy: "ann", Created: at(), Changed: at(),
	}
	w.writeOrg(t, w.org, func(o OrgTx) error { return o.PutTemplate(m, at()) })
	return m
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		mine, stranger := w.s.Org(t.Context(), w.org), w.stranger(t)
		m := w.template(t)
		got, err := mine.Template(m.ID)
		if diff := cmp.Diff(m, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
		if _, err := mine.Connection(m.Client); !errors.Is(err, ErrNotFound) {
			t.Errorf("the client of a template shows: %v", err)
		}
		for connector, want := range map[string]int{"": 1, "shopify": 1, "other": 0} {
			if list, err := mine.Templates(connector, id.Template{}, 9); err != nil || len(list) != want {
				t.Errorf("%q: %d, %v", connector, len(list), err)
			}
		}
		foreign := *m
		foreign.Name = "theirs"
		errs := []error{
			w.s.Write(t.Context(), func(tx *Tx) error { return tx.Org(stranger).PutTemplate(&foreign, at()) }),
			w.s.Write(t.Context(), func(tx *Tx) error { return tx.Org(stranger).DeleteTemplate(m.ID, at()) }),
		}
		_, err = w.s.Org(t.Context(), stranger).Template(m.ID)
		for n, err := range append(errs, err) {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%d by another organization: %v", n, err)
			}
		}
		m.Name = "new"
		w.writeOrg(t, w.org, func(o OrgTx) error { return o.PutTemplate(m, at()) })
		if got, err := mine.Template(m.ID); err != nil || got.Name != "new" || got.Revision != 2 || m.Revision != 2 {
			t.Errorf("changed: %+v, %v", got, err)
		}
		w.writeOrg(t, w.org, func(o OrgTx) error { return o.DeleteTemplate(m.ID, at()) })
		if _, err := mine.Template(m.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("deleted: %v", err)
		}
	})
}

// A link is claimed once, not after its end, and again after a claim that came to nothing.
func TestLinks(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		mine, stranger := w.s.Org(t.Context(), w.org), w.stranger(t)
		l := &Link{
			ID: id.NewLink(at()), Organization: w.org, Customer: w.owner, Hash: [32]byte{9}, Connector: "shopify", ConnectorVersion: "1.2.0",
			ConnectorDigest: [32]byte{7}, Template: w.template(t).ID, Name: "shop", Replaces: id.NewConnection(at()), Methods: []string{"oauth"}, Vars: map[string]string{"a": "b"},
			Shared: Shared{Customers: []string{"*"}, Actions: []string{"list"}}, SharedProof: [32]byte{5}, ReturnURL: "https://x.example/", CreatedBy: "ann", Created: at(), Expires: at().Add(time.Hour),
		}
		w.writeOrg(t, w.org, func(o OrgTx) error { return o.PutLink(l) })
		got, err := w.s.System(t.Context()).LinkByHash(l.Hash)
		if diff := cmp.Diff(l, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
		made := id.NewConnection(at())
		claim := func(now time.Time) error {
			return w.s.Write(t.Context(), func(tx *Tx) error { return tx.System().ClaimLink(l.ID, made, [32]byte{3}, now) })
		}
		if err := claim(l.Expires); !errors.Is(err, ErrNotFound) {
			t.Errorf("claimed after its end: %v", err)
		}
		if err := claim(at()); err != nil {
			t.Error(err)
		}
		if err := claim(at()); !errors.Is(err, ErrNotFound) {
			t.Errorf("claimed twice: %v", err)
		}
		release := func(n id.Connection) {
			if err := w.s.Write(t.Context(), func(tx *Tx) error { return tx.System().ReleaseLink(l.ID, n) }); err != nil {
				t.Error(err)
			}
		}
		release(id.NewConnection(at()))
		if err := claim(at()); !errors.Is(err, ErrNotFound) {
			t.Errorf("released by another: %v", err)
		}
		release(made)
		if got, err := w.s.System(t.Context()).Link(l.ID); err != nil || cmp.Diff(l, got) != "" {
			t.Errorf("released: %+v, %v", got, err)
		}
		if err := claim(at()); err != nil {
			t.Error(err)
		}
		claims := func(want ...id.Link) {
			t.Helper()
			list, err := w.s.System(t.Context()).Claims(id.Link{}, 9)
			var got []id.Link
			for i := range list {
				got = append(got, list[i].ID)
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("claims are %v, %v, want %v", got, err, want)
			}
		}
		connected := func(n id.Connection, want error) {
			if err := w.s.Write(t.Context(), func(tx *Tx) error { return tx.System().LinkConnected(l.ID, n, at()) }); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
		claims(l.ID)
		connected(id.NewConnection(at()), ErrNotFound)
		if got, err := w.s.System(t.Context()).Link(l.ID); err != nil || got.Made != made || got.Used.IsZero() || got.Entered != [32]byte{3} || !got.Connected.IsZero() {
			t.Errorf("used: %+v, %v", got, err)
		}
		connected(made, nil)
		connected(made, ErrNotFound)
		claims()
		if got, err := w.s.System(t.Context()).Link(l.ID); err != nil || got.Connected.IsZero() {
			t.Errorf("connected: %+v, %v", got, err)
		}
		for q, want := range map[id.Customer]int{{}: 1, w.owner: 1, w.other: 0} {
			if list, err := mine.Links(q, id.Link{}, 9); err != nil || len(list) != want {
				t.Errorf("links: %d, %v", len(list), err)
			}
		}
		revoke := func(o id.Org) error {
			return w.s.Write(t.Context(), func(tx *Tx) error { return tx.Org(o).RevokeLink(l.ID, at()) })
		}
		if err := revoke(stranger); !errors.Is(err, ErrNotFound) {
			t.Errorf("revoked by another: %v", err)
		}
		if err := revoke(w.org); err != nil {
			t.Error(err)
		}
		if _, err := w.s.System(t.Context()).LinkByHash(l.Hash); !errors.Is(err, ErrNotFound) {
			t.Errorf("revoked: %v", err)
		}
		second := *l
		second.ID, second.Hash, second.Replaces = id.NewLink(at()), [32]byte{10}, id.Connection{}
		w.writeOrg(t, w.org, func(o OrgTx) error { return o.PutLink(&second) })
		for n, c := range []struct {
			connector string
			customer  id.Customer
			want      int
		}{{"other", id.Customer{}, 0}, {"", w.other, 0}, {"shopify", w.owner, 1}, {"", id.Customer{}, 0}} {
			w.writeOrg(t, w.org, func(o OrgTx) error {
				ended, err := o.RevokeLinksOf(c.connector, c.customer, at())
				if ended != c.want {
					t.Errorf("%d: ended %d", n, ended)
				}
				return err
			})
		}
	})
}

// A visit is taken once, before its end.
func TestVisits(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		l := &Link{ID: id.NewLink(at()), Customer: w.owner, Expires: at().Add(time.Hour)}
		w.writeOrg(t, w.org, func(o OrgTx) error { return o.PutLink(l) })
		v := &Visit{
			State: [32]byte{1}, Browser: [32]byte{3}, Link: l.ID, Organization: w.org, Customer: w.owner, Connection: id.NewConnection(at()), Method: "oauth",
			Vars: map[string]string{"a": "b"}, Scopes: []string{"x"}, OtherAccount: true, Created: at(), Expires: at().Add(time.Minute),
		}
		use := func(state [32]byte, now time.Time) error {
			return w.s.Write(t.Context(), func(tx *Tx) error { return tx.System().UseVisit(state, now) })
		}
		if err := w.s.Write(t.Context(), func(tx *Tx) error { return tx.System().PutVisit(v) }); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			state [32]byte
			now   time.Time
			found bool
		}{{v.State, at(), true}, {[32]byte{2}, at(), false}, {v.State, v.Expires, false}} {
			one, err := w.s.System(t.Context()).Visit(c.state, c.now)
			switch {
			case c.found && (err != nil || cmp.Diff(v, one) != ""):
				t.Errorf("visit: %v\n%s", err, cmp.Diff(v, one))
			case !c.found && !errors.Is(err, ErrNotFound):
				t.Errorf("no visit: %v", err)
			}
		}
		if err := use([32]byte{2}, at()); !errors.Is(err, ErrNotFound) {
			t.Errorf("unknown: %v", err)
		}
		if err := use(v.State, v.Expires); !errors.Is(err, ErrNotFound) {
			t.Errorf("late: %v", err)
		}
		used := func(state, browser [32]byte, now time.Time) bool {
			x, err := w.s.System(t.Context()).UsedVisit(state, browser, now)
			if err != nil && !errors.Is(err, ErrNotFound) || err == nil && cmp.Diff(v, x) != "" {
				t.Errorf("used: %+v, %v", x, err)
			}
			return err == nil
		}
		if used(v.State, v.Browser, at()) {
			t.Error("it is used before it is")
		}
		if err := use(v.State, at()); err != nil {
			t.Error(err)
		}
		if !used(v.State, v.Browser, at()) || used([32]byte{2}, v.Browser, at()) || used(v.State, [32]byte{8}, at()) || used(v.State, v.Browser, v.Expires) {
			t.Error("not this one is used, or others too")
		}
		if err := use(v.State, at()); !errors.Is(err, ErrNotFound) {
			t.Errorf("twice: %v", err)
		}
		if err := w.s.Write(t.Context(), func(tx *Tx) error { return tx.System().PurgeVisits(at().Add(time.Hour)) }); err != nil {
			t.Error(err)
		}
	})
}

// A notice is not repeated before somebody has seen it.
func TestConnectionNotices(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		mine, stranger := w.s.Org(t.Context(), w.org), w.stranger(t)
		notify := func(k NoticeKind) (made bool) {
			w.write(t, func(c CustomerTx) (err error) {
				made, err = c.Notify(&ConnectionNotice{ID: id.NewNotice(at()), Connection: w.connection, Kind: k, Reason: "invalid_grant", At: at()})
				return err
			})
			return made
		}
		if !notify(NoticeNeedsReconnect) || notify(NoticeNeedsReconnect) || !notify(NoticeUnused) {
			t.Error("notices are missing or repeated")
		}
		list, err := mine.Notices(&NoticeQuery{Customer: w.owner, Unseen: true}, 9)
		if err != nil || len(list) != 2 || list[0].Customer != w.owner || list[0].Reason != "invalid_grant" {
			t.Fatalf("notices: %+v, %v", list, err)
		}
		see := func(o id.Org) error {
			return w.s.Write(t.Context(), func(tx *Tx) error { return tx.Org(o).SeeNotice(list[0].ID, at()) })
		}
		if err := see(stranger); !errors.Is(err, ErrNotFound) {
			t.Errorf("seen by another: %v", err)
		}
		if err := see(w.org); err != nil {
			t.Error(err)
		}
		if n, err := mine.UnseenNotices(); n != 1 || err != nil {
			t.Errorf("unseen: %d, %v", n, err)
		}
		if !notify(list[0].Kind) {
			t.Error("no notice after the last was seen")
		}
		if list, err := w.s.Org(t.Context(), stranger).Notices(&NoticeQuery{}, 9); len(list) != 0 || err != nil {
			t.Errorf("another organization sees %+v, %v", list, err)
		}
	})
}
