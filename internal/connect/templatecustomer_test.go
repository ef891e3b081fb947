package connect

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// templateFor saves the template of the world for other customers.
func (w *world) templateFor(customers ...string) (*store.Template, error) {
	return w.PutTemplate(w.t.Context(), &TemplateEntry{
		Org: w.org, ID: w.template.ID, Connector: "acme", Customers: customers, Fields: map[string]string{"client_id": "our-client", "client_secret": canary},
	})
}

// A template says for whom it is, and so does the sealed record of its client.
func TestTemplatesNameTheirCustomers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	foreign := id.NewCustomer(w.template.Created).String()
	for name, customers := range map[string][]string{
		"nobody": nil, "all and one": {"*", w.customer.String()}, "an unknown one": {w.customer.String(), foreign}, "no id": {"c-1"}, "the zero id": {id.Customer{}.String()},
	} {
		var wrong InvalidError
		if _, err := w.templateFor(customers...); !errors.As(err, &wrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := w.vault.records[w.template.Client].SharedWith; cmp.Diff([]string{lease.SharedWithAll}, got) != "" {
		t.Errorf("shared with %v after refused changes", got)
	}
	mine := []string{w.customer.String()}
	changed, err := w.templateFor(mine...)
	if err != nil {
		t.Fatal(err)
	}
	if cmp.Diff(mine, changed.Customers) != "" || cmp.Diff(mine, w.vault.records[w.template.Client].SharedWith) != "" {
		t.Errorf("for %v, sealed for %v", changed.Customers, w.vault.records[w.template.Client].SharedWith)
	}
	// Sharing changes with the secret, and never without.
	_, err = w.PutTemplate(t.Context(), &TemplateEntry{
		Org: w.org, ID: w.template.ID, Connector: "acme", Customers: []string{lease.SharedWithAll}, Fields: map[string]string{"client_id": "our-client"},
	})
	var wrong InvalidError
	if !errors.As(err, &wrong) || cmp.Diff(mine, w.vault.records[w.template.Client].SharedWith) != "" {
		t.Errorf("without the secret: %v", err)
	}
}

// A customer for whom a template is not cannot be connected with its client: no link finds
// it, and a link that was made before leads nowhere.
func TestTemplatesAreForTheirCustomers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, path := w.link(nil)
	if _, err := w.templateFor(w.other.String()); err != nil {
		t.Fatal(err)
	}
	if a := w.browser().get(path); a.Code != http.StatusGone {
		t.Errorf("a link from before: %d", a.Code)
	}
	var wrong InvalidError
	_, _, err := w.MakeLink(t.Context(), &LinkEntry{Org: w.org, Customer: w.customer, Connector: "acme", Template: w.template.ID, By: "ann"})
	if !errors.As(err, &wrong) {
		t.Errorf("a link with the template: %v", err)
	}
	if l, _ := w.link(func(e *LinkEntry) { e.Customer = w.own }); !l.Template.IsZero() {
		t.Error("a link for the organization itself, which is not named, has found it")
	}
	if l, _ := w.link(nil); !l.Template.IsZero() {
		t.Error("a link has found it")
	}
	l, _ := w.link(func(e *LinkEntry) { e.Customer = w.other })
	if l.Template != w.template.ID {
		t.Error("a link for its customer has not found it")
	}
	e := &Entry{Org: w.org, Customer: w.customer, Connector: "acme", Template: w.template.ID, Vars: map[string]string{"shop": "bakery"}}
	x, err := w.offer(t.Context(), w.org, "acme", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.draft(t.Context(), x, &x.methods[0], e, false); !errors.As(err, &wrong) {
		t.Errorf("a draft with it: %v", err)
	}
}
