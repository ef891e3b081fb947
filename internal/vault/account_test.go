package vault

import (
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// What an account is called is told to a server that knows whose connection it is, sealed to
// it and with a leaf, and nothing else of the record is; another customer is told nothing.
func TestAccountLabels(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	w := a.mustWork(a.egress, a.exchanged(a.order(lease.OrderExchange, n, a.egress), a.start(a.draft(n)).State))
	made := tokens(w.Record, "1", "acme")
	made.Fields = append(made.Fields, lease.Field{Name: lease.FieldAccountLabel, Secret: []byte("ann@acme.example")})
	if _, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, made); err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		for _, l := range a.leaves(0) {
			if l.Kind == leafAccount {
				n++
			}
		}
		return n
	}
	owner := w.Record.Customer
	ask := func(c id.Customer, n id.Connection) (*lease.Account, error) {
		sealed := &lease.SealedAnswer{}
		if err := a.try(lease.OpAccount, &lease.AccountCall{Customer: c, Connection: n}, sealed); err != nil {
			return nil, err
		}
		return lease.OpenAccount(a.server.seal, a.server.node, n, sealed.Sealed)
	}
	for range 2 {
		got, err := ask(owner, n)
		if err != nil || *got != (lease.Account{Label: "ann@acme.example"}) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if got := count(); got != 2 {
		t.Errorf("%d leaves of 2 readings", got)
	}
	_, err := ask(id.NewCustomer(time.Now()), n)
	refusedBy(t, "another customer", err)
	if _, err = ask(owner, id.NewConnection(a.clock.now())); err == nil {
		t.Error("an unknown connection has an account")
	}
	key := bearer(owner, id.NewConnection(a.clock.now()), "token")
	a.saveConnection(key)
	_, err = ask(owner, key.Connection)
	refusedBy(t, "a key", err)
	if got := count(); got != 2 {
		t.Errorf("%d leaves after refused readings", got)
	}
	// Nobody but the provider says it: a draft that does is refused.
	r := a.draft(id.NewConnection(a.clock.now()))
	r.Fields = append(r.Fields, lease.Field{Name: lease.FieldAccountLabel, Secret: []byte("the director")})
	refusedBy(t, "a draft with an account", a.try(lease.OpOAuthStart, a.startCall(r), &lease.StartAnswer{}))
	if lease.Leased(lease.KindOAuth2, lease.FieldAccountLabel) {
		t.Error("it is leased")
	}
}
