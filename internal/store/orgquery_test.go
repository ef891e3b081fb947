package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// writeOrg writes through an organization's handle.
func (w *world) writeOrg(t *testing.T, o id.Org, fn func(OrgTx) error) {
	t.Helper()
	if err := w.s.Write(context.Background(), func(tx *Tx) error { return fn(tx.Org(o)) }); err != nil {
		t.Fatal(err)
	}
}

// stranger makes an organization that has nothing.
func (w *world) stranger(t *testing.T) id.Org {
	t.Helper()
	o := id.NewOrg(at())
	if err := w.s.Write(context.Background(), insertOrg(o, "other")); err != nil {
		t.Fatal(err)
	}
	return o
}

// An id that anybody has is taken; what another organization hides stays in view.
func TestTakenAndHidden(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		stranger := w.stranger(t)
		for raw, want := range map[[16]byte]bool{w.instance: true, w.connection: true, w.execution.ID: false} {
			if taken, err := w.s.Org(t.Context(), stranger).Taken(raw); taken != want || err != nil {
				t.Errorf("taken %x: %v, %v", raw, taken, err)
			}
		}
		w.writeOrg(t, stranger, func(o OrgTx) error { return o.HideIntegration(w.integration) })
		mine := w.s.Org(t.Context(), w.org)
		if g, err := mine.Integration(w.integration); err != nil || g.Hidden {
			t.Errorf("another hid it: %+v, %v", g, err)
		}
		if mine.ID() != w.org || w.s.Customer(t.Context(), w.owner).ID() != w.owner {
			t.Error("a handle is another's")
		}
	})
}

// A draft is replaced by who has read it, and an integration of test runs is not listed.
func TestDraftsAndTestRuns(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		put := func(source string, revision uint64) (d *Draft, err error) {
			err = w.s.Write(t.Context(), func(tx *Tx) error {
				d = &Draft{Integration: id.NewIntegration(at().Add(time.Second)), Name: "new", Source: source}
				return tx.Org(w.org).PutDraft(d, revision, at())
			})
			return d, err
		}
		first, err := put("one", 0)
		if err != nil || first.Revision != 1 {
			t.Fatalf("the first draft: %+v, %v", first, err)
		}
		if _, err := put("late", 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("over one that was not read: %v", err)
		}
		second, err := put("two", 1)
		if err != nil || second.Revision != 2 || second.Integration != first.Integration {
			t.Errorf("the second draft: %+v, %v", second, err)
		}
		mine := w.s.Org(t.Context(), w.org)
		got, err := mine.Draft(first.Integration)
		want := &Draft{Integration: first.Integration, Name: "new", Source: "two", Revision: 2, Changed: at()}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("draft: %v\n%s", err, diff)
		}
		list, err := mine.Integrations(id.Integration{}, 1)
		if err != nil || len(list) != 1 || list[0].ID != w.integration {
			t.Errorf("a page of one: %+v, %v", list, err)
		}
		if list, err = mine.Integrations(w.integration, 9); err != nil || len(list) != 1 || list[0].Newest != 0 || list[0].DraftRevision != 2 {
			t.Errorf("the next page: %+v, %v", list, err)
		}
		if list, err := mine.TestInstances(at().Add(time.Hour), 9); len(list) != 0 || err != nil {
			t.Errorf("test runs: %+v, %v", list, err)
		}
		w.writeOrg(t, w.org, func(o OrgTx) error { return o.HideIntegration(w.integration) })
		if list, err = mine.Integrations(id.Integration{}, 9); err != nil || len(list) != 1 || list[0].Name != "new" {
			t.Errorf("without the hidden one: %+v, %v", list, err)
		}
		if list, err := mine.Instances(&InstanceQuery{}, 9); len(list) != 0 || err != nil {
			t.Errorf("instances of test runs are listed: %+v, %v", list, err)
		}
		runs, err := mine.TestInstances(at().Add(time.Hour), 9)
		if diff := cmp.Diff([]InstanceKey{{w.owner, w.instance}}, runs); diff != "" || err != nil {
			t.Errorf("test runs: %v\n%s", err, diff)
		}
		if runs, err := mine.TestInstances(at(), 9); len(runs) != 0 || err != nil {
			t.Errorf("test runs made before it: %+v, %v", runs, err)
		}
	})
}

// A customer with instances stays; a deleted one frees its external id and keeps nothing of
// its description.
func TestDeleteCustomer(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		remove := func(c id.Customer) (inUse bool, err error) {
			err = w.s.Write(t.Context(), func(tx *Tx) error {
				inUse, err = tx.Org(w.org).DeleteCustomer(c, at())
				return err
			})
			return inUse, err
		}
		if inUse, err := remove(w.owner); !inUse || err != nil {
			t.Errorf("one with an instance: %v, %v", inUse, err)
		}
		if inUse, err := remove(w.other); inUse || err != nil {
			t.Errorf("one without: %v, %v", inUse, err)
		}
		if _, err := remove(w.other); !errors.Is(err, ErrNotFound) {
			t.Errorf("a second time: %v", err)
		}
		mine := w.s.Org(t.Context(), w.org)
		if _, err := mine.CustomerByExternalID("1"); !errors.Is(err, ErrNotFound) {
			t.Errorf("its external id: %v", err)
		}
		list, err := mine.Customers(id.Customer{}, 9)
		if err != nil || len(list) != 1 || list[0].ID != w.owner {
			t.Errorf("customers: %+v, %v", list, err)
		}
		next := id.NewCustomer(at())
		err = w.s.Write(t.Context(), func(tx *Tx) error {
			kept, err := tx.System().PutCustomer(&CustomerRow{ID: next, Organization: w.org, ExternalID: "1"}, at())
			if kept != next {
				t.Errorf("the external id still names %v", kept)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		all, err := w.s.System(t.Context()).Customers()
		if len(all) != 3 || err != nil {
			t.Errorf("customers with tombstones: %v, %v", all, err)
		}
	})
}

// Executions are found by every part of a query, in both orders, a page at a time.
func TestExecutionQueries(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		later := *w.execution
		later.ID, later.Event = id.NewExecution(at().Add(time.Hour)), id.NewEvent(at())
		later.Accepted, later.Flow, later.Status, later.Test = at().Add(time.Hour), "second", Pending, false
		w.write(t, func(c CustomerTx) error { return c.InsertExecution(&later) })
		no := false
		first, second := w.execution.ID, later.ID
		mine := w.s.Org(t.Context(), w.org)
		for name, test := range map[string]struct {
			query ExecutionQuery
			limit int
			want  []id.Execution
		}{
			"all":                {ExecutionQuery{}, 9, []id.Execution{second, first}},
			"oldest first":       {ExecutionQuery{Oldest: true}, 9, []id.Execution{first, second}},
			"a page":             {ExecutionQuery{}, 1, []id.Execution{second}},
			"the next":           {ExecutionQuery{Before: second}, 1, []id.Execution{first}},
			"after":              {ExecutionQuery{After: first, Oldest: true}, 9, []id.Execution{second}},
			"of a flow":          {ExecutionQuery{Flow: "second"}, 9, []id.Execution{second}},
			"with a status":      {ExecutionQuery{Status: Running}, 9, []id.Execution{first}},
			"of no test":         {ExecutionQuery{Test: &no}, 9, []id.Execution{second}},
			"from":               {ExecutionQuery{From: at().Add(time.Hour)}, 9, []id.Execution{second}},
			"until":              {ExecutionQuery{Until: at().Add(time.Hour)}, 9, []id.Execution{first}},
			"by label":           {ExecutionQuery{Customer: w.owner, Label: [32]byte{2}}, 9, []id.Execution{first}},
			"of another":         {ExecutionQuery{Customer: w.other}, 9, nil},
			"of another label":   {ExecutionQuery{Customer: w.owner, Label: [32]byte{3}}, 9, nil},
			"of an instance":     {ExecutionQuery{Instance: w.instance}, 9, []id.Execution{second, first}},
			"of a later moment":  {ExecutionQuery{From: at().Add(2 * time.Hour)}, 9, nil},
			"of another's label": {ExecutionQuery{Customer: w.other, Label: [32]byte{2}}, 9, nil},
		} {
			list, err := mine.Executions(&test.query, test.limit)
			var got []id.Execution
			for i := range list {
				got = append(got, list[i].ID)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
				t.Errorf("%s: %v\n%s", name, err, diff)
			}
		}
	})
}
