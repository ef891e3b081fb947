package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Whatever an organization's handle is asked about another's ids, it finds and changes
// nothing; the owner's finds everything.
func TestAnOrganizationSeesItsOwn(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		first, err := w.s.System(t.Context()).Organization()
		if err != nil {
			t.Fatal(err)
		}
		foreign := id.NewOrg(at())
		x := w.execution.ID
		must := func(fn func(*Tx) error) {
			t.Helper()
			if err := w.s.Write(context.Background(), fn); err != nil {
				t.Fatal(err)
			}
		}
		must(func(tx *Tx) error { return tx.System().PutOrganization(&Organization{ID: foreign, Name: "evil"}, at()) })
		token := &Token{ID: id.NewToken(at()), Name: "t", Role: "admin", Hash: [32]byte{1}, Created: at(), Expires: at().Add(time.Hour)}
		draft := &Draft{Integration: id.NewIntegration(at()), Name: "sample", Source: "text"}
		must(func(tx *Tx) error {
			return errors.Join(tx.Org(first.ID).PutToken(token), tx.Org(first.ID).PutDraft(draft, 0, at()))
		})
		reads := map[string]func(Org) (bool, error){
			"Owns":                 func(r Org) (bool, error) { err := r.Owns(w.owner); return err == nil, err },
			"CustomerByExternalID": func(r Org) (bool, error) { _, err := r.CustomerByExternalID("0"); return err == nil, err },
			"CustomerOfInstance":   func(r Org) (bool, error) { _, err := r.CustomerOfInstance(w.instance); return err == nil, err },
			"CustomerOfConnection": func(r Org) (bool, error) { _, err := r.CustomerOfConnection(w.connection); return err == nil, err },
			"CustomerOfExecution":  func(r Org) (bool, error) { _, err := r.CustomerOfExecution(x); return err == nil, err },
			"Customer":             func(r Org) (bool, error) { _, err := r.Customer(w.owner); return err == nil, err },
			"Customers":            func(r Org) (bool, error) { l, err := r.Customers(id.Customer{}, 9); return len(l) > 0, err },
			"Connection":           func(r Org) (bool, error) { _, err := r.Connection(w.connection); return err == nil, err },
			"Connections": func(r Org) (bool, error) {
				l, err := r.Connections(&ConnectionQuery{Customer: w.owner}, 9)
				return len(l) > 0, err
			},
			"Using":    func(r Org) (bool, error) { l, err := r.Using(w.connection); return len(l) == 1, err },
			"Instance": func(r Org) (bool, error) { _, err := r.Instance(w.instance); return err == nil, err },
			"Instances": func(r Org) (bool, error) {
				l, err := r.Instances(&InstanceQuery{Customer: w.owner, Integration: w.integration, State: InstanceEnabled}, 9)
				return len(l) == 1 && len(l[0].Slots) == 1 && l[0].Version == 1, err
			},
			"Integration":       func(r Org) (bool, error) { _, err := r.Integration(w.integration); return err == nil, err },
			"IntegrationByName": func(r Org) (bool, error) { _, err := r.IntegrationByName("sample"); return err == nil, err },
			"Integrations":      func(r Org) (bool, error) { l, err := r.Integrations(id.Integration{}, 9); return len(l) > 0, err },
			"Versions":          func(r Org) (bool, error) { l, err := r.Versions(w.integration, 0, 9); return len(l) > 0, err },
			"VersionOf":         func(r Org) (bool, error) { _, err := r.VersionOf(w.integration, 1); return err == nil, err },
			"VersionByDigest":   func(r Org) (bool, error) { _, err := r.VersionByDigest([32]byte{1}); return err == nil, err },
			"Draft":             func(r Org) (bool, error) { _, err := r.Draft(w.integration); return err == nil, err },
			"Execution":         func(r Org) (bool, error) { _, err := r.Execution(x); return err == nil, err },
			"Executions": func(r Org) (bool, error) {
				yes := true
				l, err := r.Executions(&ExecutionQuery{
					Customer: w.owner, Instance: w.instance, Flow: "main", Status: Running, Label: [32]byte{2}, From: at(), Until: at().Add(time.Second), Test: &yes,
				}, 9)
				return len(l) == 1 && l[0].Name == "sample", err
			},
			"Tokens":       func(r Org) (bool, error) { l, err := r.Tokens(id.Token{}, 9); return len(l) > 0, err },
			"EverHadToken": func(r Org) (bool, error) { return r.EverHadToken() },
		}
		for name, read := range reads {
			if found, err := read(w.s.Org(t.Context(), first.ID)); err != nil && !errors.Is(err, ErrNotFound) || !found {
				t.Errorf("%s of the owner: found %v, %v", name, found, err)
			}
			if found, err := read(w.s.Org(t.Context(), foreign)); err != nil && !errors.Is(err, ErrNotFound) || found {
				t.Errorf("%s of another: found %v, %v", name, found, err)
			}
		}
		writes := map[string]func(OrgTx) error{
			"DeleteCustomer": func(r OrgTx) error { _, err := r.DeleteCustomer(w.other, at()); return err },
			"RevokeToken":    func(r OrgTx) error { return r.RevokeToken(token.ID, at()) },
			"SetSource":      func(r OrgTx) error { return r.SetSource(w.integration, 1, "source") },
		}
		for name, write := range writes {
			err := w.s.Write(t.Context(), func(tx *Tx) error { return write(tx.Org(foreign)) })
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%s of another: %v", name, err)
			}
			must(func(tx *Tx) error { return write(tx.Org(first.ID)) })
		}
		if _, err := w.s.System(t.Context()).Token(token.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("revoked token: %v", err)
		}
	})
}

func TestDraftsCountUp(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		org, err := w.s.System(t.Context()).Organization()
		if err != nil {
			t.Fatal(err)
		}
		put := func(revision uint64) (*Draft, error) {
			d := &Draft{Integration: id.NewIntegration(at()), Name: "sample", Source: "text"}
			err := w.s.Write(t.Context(), func(tx *Tx) error { return tx.Org(org.ID).PutDraft(d, revision, at()) })
			return d, err
		}
		for n := range uint64(3) {
			if d, err := put(n); err != nil || d.Revision != n+1 || d.Integration != w.integration {
				t.Errorf("draft %+v, %v", d, err)
			}
		}
		if _, err := put(1); !errors.Is(err, ErrNotFound) {
			t.Errorf("old revision: %v", err)
		}
	})
}

func TestRequestKeys(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		org := id.NewOrg(at())
		key, one, two := [32]byte{1}, [32]byte{2}, [32]byte{3}
		begin := func(request [32]byte, now time.Time) (k *Kept) {
			t.Helper()
			err := w.s.Write(t.Context(), func(tx *Tx) (err error) {
				k, err = tx.Org(org).BeginRequest(key, request, now, now.Add(time.Minute))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return k
		}
		write := func(fn func(OrgTx) error) {
			t.Helper()
			if err := w.s.Write(t.Context(), func(tx *Tx) error { return fn(tx.Org(org)) }); err != nil {
				t.Fatal(err)
			}
		}
		if k := begin(one, at()); k != nil {
			t.Fatalf("first: %+v", k)
		}
		if k := begin(two, at()); k == nil || k.Request != one || k.Status != 0 {
			t.Errorf("under way: %+v", k)
		}
		write(func(r OrgTx) error { return r.ForgetRequest(key, two) }) // not its request: nothing
		write(func(r OrgTx) error { return r.EndRequest(key, one, 200, "answer", at().Add(time.Hour)) })
		if k := begin(one, at().Add(time.Minute)); k == nil || k.Status != 200 || k.Answer != "answer" {
			t.Errorf("kept: %+v", k)
		}
		if k := begin(two, at().Add(time.Hour)); k != nil {
			t.Errorf("after its time: %+v", k)
		}
		write(func(r OrgTx) error { return r.ForgetRequest(key, two) })
		if k := begin(one, at()); k != nil {
			t.Errorf("forgotten: %+v", k)
		}
		if err := w.s.Write(t.Context(), func(tx *Tx) error { return tx.System().SweepRequests(at().Add(time.Hour), 10) }); err != nil {
			t.Fatal(err)
		}
		if k := begin(two, at()); k != nil {
			t.Errorf("swept: %+v", k)
		}
	})
}
