package vault

import (
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

func TestStateIsForOneUseOfOneBrowser(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	s := a.start(a.draft(n))
	try := func(change func(*lease.BeginCall, *lease.Order)) error {
		o := a.order(lease.OrderExchange, n, a.egress)
		m := &lease.BeginCall{State: s.State, Browser: a.browser}
		change(m, o)
		m.Connection, m.Order = o.Connection, lease.SignOrder(a.server.sign, o).Signed
		_, err := a.begin(a.egress, m)
		return err
	}
	refusedBy(t, "an unknown state", try(func(m *lease.BeginCall, _ *lease.Order) { m.State = token256() }))
	refusedBy(t, "another browser", try(func(m *lease.BeginCall, _ *lease.Order) { m.Browser[0] ^= 1 }))
	refusedBy(t, "no browser", try(func(m *lease.BeginCall, _ *lease.Order) { m.Browser = [32]byte{} }))
	if err := try(func(*lease.BeginCall, *lease.Order) {}); err != nil {
		t.Fatalf("the right one: %v\n%s", err, a.log)
	}
	a.clock.add(lease.IntentLife)
	refusedBy(t, "the same state again", try(func(*lease.BeginCall, *lease.Order) {}))
}

func TestStateIsOfOneConnection(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n, other := id.NewConnection(a.clock.now()), a.world.customer()
	s := a.start(a.draft(n))
	o := a.order(lease.OrderExchange, id.NewConnection(a.clock.now()), a.egress)
	_, err := a.begin(a.egress, a.exchanged(o, s.State))
	refusedBy(t, "a state of another connection", err)
	o = a.order(lease.OrderExchange, n, a.egress)
	o.Customer = other
	_, err = a.begin(a.egress, a.exchanged(o, s.State))
	refusedBy(t, "a state of another customer", err)
}

func TestStateExpires(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	s := a.start(a.draft(n))
	a.clock.add(lease.MaxPending)
	_, err := a.begin(a.egress, a.exchanged(a.order(lease.OrderExchange, n, a.egress), s.State))
	refusedBy(t, "an old state", err)
	if _, err := a.vault.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rows := a.thief().copy("pending").rows; len(rows) != 0 {
		t.Errorf("%d rows after the sweep", len(rows))
	}
}

// Who writes to the keystore's file brings no used state back, nor an intent.
func TestPutBackTokenRows(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	s := a.start(a.draft(n))
	thief := a.thief()
	fresh := thief.copy("pending")
	w := a.mustWork(a.egress, a.exchanged(a.order(lease.OrderExchange, n, a.egress), s.State))
	if _, err := a.save(a.egress, n, w.Fence, lease.OutcomeFailed, nil); err != nil {
		t.Fatal(err)
	}
	thief.putBack(fresh)
	_, err := a.begin(a.egress, a.exchanged(a.order(lease.OrderExchange, n, a.egress), s.State))
	refusedBy(t, "a used state that was put back", err)

	a.connect(n)
	w = a.mustWork(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
	if err := a.raw(a.egress, n, w.Fence, 0, "old answer"); err != nil {
		t.Fatal(err)
	}
	old := thief.copy("intent")
	if _, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, tokens(w.Record, "2", "acme")); err != nil {
		t.Fatal(err)
	}
	thief.putBack(old)
	_, err = a.begin(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
	refusedBy(t, "an intent that was put back", err)
	thief.exec("DELETE FROM intent")
	_, err = a.begin(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
	if err == nil {
		t.Error("an intent that was removed is taken for none")
	}
}

// A copy of the keystore that is restored brings no authorization back.
func TestCopyOfTheKeystoreHasNoPendingRows(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	s := a.start(a.draft(n))
	dir := t.TempDir() + "/copy"
	a.copyTo(dir)
	a.mustWork(a.egress, a.exchanged(a.order(lease.OrderExchange, n, a.egress), s.State))
	if err := a.vault.Close(); err != nil {
		t.Fatal(err)
	}
	a.dir = dir
	a.clock.add(time.Second)
	a.open()
	_, err := a.begin(a.egress, a.exchanged(a.order(lease.OrderExchange, n, a.egress), s.State))
	refusedBy(t, "a state of a restored keystore", err)
	if _, err := a.vault.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := a.vault.store.Version(keystore.KindPending, keystore.PendingSubject(sha256.Sum256([]byte(s.State)))); v.Number != 0 {
		t.Errorf("the ledger remembers %+v after the sweep", v)
	}
}

func TestStartsThatAreRefused(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n, fresh := id.NewConnection(a.clock.now()), func() id.Connection { return id.NewConnection(a.clock.now()) }
	a.connect(n)
	stranger := a.world.customer()
	try := func(change func(r *lease.Record, m *lease.StartCall)) error {
		r := a.draft(fresh())
		m := a.startCall(r)
		change(r, m)
		sealed := a.startCall(r)
		m.Draft, m.Customer, m.Connection, m.Client = sealed.Draft, r.Customer, r.Connection, r.Client
		return a.try(lease.OpOAuthStart, m, &lease.StartAnswer{})
	}
	type change = func(r *lease.Record, m *lease.StartCall)
	for name, c := range map[string]change{
		"one that is connected":          func(r *lease.Record, _ *lease.StartCall) { r.Connection = n },
		"another customer's connection":  func(r *lease.Record, m *lease.StartCall) { r.Connection, r.Customer, m.Reconnect = n, stranger, true },
		"no browser":                     func(_ *lease.Record, m *lease.StartCall) { m.Browser = [32]byte{} },
		"a redirect without a host":      func(_ *lease.Record, m *lease.StartCall) { m.RedirectURI = "javascript:alert(1)" },
		"another kind":                   func(r *lease.Record, _ *lease.StartCall) { r.Kind, r.Client = lease.KindKey, id.Connection{} },
		"tokens":                         func(r *lease.Record, _ *lease.StartCall) { r.Fields = tokens(*r, "0", "x").Fields },
		"a customer that does not exist": func(r *lease.Record, _ *lease.StartCall) { r.Customer = id.NewCustomer(a.clock.now()) },
	} {
		refusedBy(t, name, try(c))
	}
	if err := try(func(*lease.Record, *lease.StartCall) {}); err != nil {
		t.Errorf("nothing wrong: %v\n%s", err, a.log)
	}
}

// A breached server cannot send a client's secret or its tokens elsewhere.
func TestClientsAreUsedAsTheirRecordAllows(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	try := func(change func(*lease.Record)) error {
		r := a.draft(id.NewConnection(a.clock.now()))
		change(r)
		started := a.try(lease.OpOAuthStart, a.startCall(r), &lease.StartAnswer{})
		saved := a.try(lease.OpConnection, a.connectionCall(r), &lease.ConnectionAnswer{})
		if (started == nil) != (saved == nil) {
			t.Errorf("start: %v, save: %v", started, saved)
		}
		return started
	}
	private := a.clientRecord()
	private.Connection, private.SharedWith = id.NewConnection(a.clock.now()), nil
	a.saveConnection(private)
	others := a.clientRecord()
	others.Connection, others.SharedWith = id.NewConnection(a.clock.now()), []string{id.NewCustomer(a.clock.now()).String()}
	a.saveConnection(others)
	named := a.clientRecord()
	named.Connection, named.SharedWith = id.NewConnection(a.clock.now()), append(others.SharedWith, a.draft(id.Connection{}).Customer.String())
	a.saveConnection(named)
	if err := try(func(r *lease.Record) { r.Client = named.Connection }); err != nil {
		t.Errorf("a client that names the customer: %v", err)
	}
	key := bearer(a.owner, id.NewConnection(a.clock.now()), "token", lease.SharedWithAll)
	a.saveConnection(key)
	for name, change := range map[string]func(*lease.Record){
		"one host of several elsewhere":                func(r *lease.Record) { r.Hosts = []string{r.Binding.Host, "attacker.example"} },
		"another host":                                 func(r *lease.Record) { r.Binding.Host = "attacker.example" },
		"a host that looks alike":                      func(r *lease.Record) { r.Binding.Host = "evilcrm.example" },
		"without TLS":                                  func(r *lease.Record) { r.Binding.Scheme = "http" },
		"a further base elsewhere":                     func(r *lease.Record) { r.Binding.Bases = []lease.Base{{Name: "content", Host: "attacker.example"}} },
		"a base of every host":                         func(r *lease.Record) { r.Binding.Bases = []lease.Base{{Name: "content", Host: "*.crm.example"}} },
		"a base without a name":                        func(r *lease.Record) { r.Binding.Bases = []lease.Base{{Host: r.Binding.Host}} },
		"every host":                                   func(r *lease.Record) { r.Binding.Host = "*.example" },
		"another connector":                            func(r *lease.Record) { r.Connector = "http" },
		"a client that is not shared":                  func(r *lease.Record) { r.Client = private.Connection },
		"a client of other customers":                  func(r *lease.Record) { r.Client = others.Connection },
		"a client of other customers, by who keeps it": func(r *lease.Record) { r.Customer, r.Client = others.Customer, others.Connection },
		"no client at all":                             func(r *lease.Record) { r.Client = key.Connection },
		"an unknown client":                            func(r *lease.Record) { r.Client = id.NewConnection(a.clock.now()) },
	} {
		refusedBy(t, name, try(change))
	}
	n := id.NewConnection(a.clock.now())
	w := a.mustWork(a.egress, a.exchanged(a.order(lease.OrderExchange, n, a.egress), a.start(a.draft(n)).State))
	wide := tokens(w.Record, "1", "acme")
	wide.Binding.Host = "attacker.example"
	_, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, wide)
	refusedBy(t, "saved with another host", err)
	wide = tokens(w.Record, "1", "acme")
	wide.Binding.Bases = []lease.Base{{Name: "content", Host: "files.crm.example"}}
	_, err = a.save(a.egress, n, w.Fence, lease.OutcomeSaved, wide)
	refusedBy(t, "saved with a further base", err)
	wide = tokens(w.Record, "1", "acme")
	wide.Binding.Follow = []lease.Follow{{Action: "download", Hosts: []string{"attacker.example"}}}
	_, err = a.save(a.egress, n, w.Fence, lease.OutcomeSaved, wide)
	refusedBy(t, "saved with redirects that are followed", err)
}

// A connection may be bound to several of its client's hosts, and stays bound to them and to where its downloads are when its
// tokens come.
func TestBasesStay(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	r := a.draft(n)
	r.Binding.Bases = []lease.Base{{Name: "content", Host: "files.crm.example", BasePath: "/2"}}
	r.Binding.Follow = []lease.Follow{{Action: "download", Hosts: []string{"*.files.example", "files.example"}}}
	w := a.mustWork(a.egress, a.exchanged(a.order(lease.OrderExchange, n, a.egress), a.start(r).State))
	if _, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, tokens(w.Record, "1", "acme")); err != nil {
		t.Fatal(err)
	}
	w = a.mustWork(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
	if got := w.Record.Binding; !slices.Equal(got.Bases, r.Binding.Bases) || len(got.Follow) != 1 || got.Follow[0].Action != "download" ||
		!slices.Equal(got.Follow[0].Hosts, r.Binding.Follow[0].Hosts) {
		t.Errorf("bound to %+v, want %+v", got, r.Binding)
	}
}

// Where a provider has data centres of several names, the first answer chooses one of those of the draft, for good.
func TestTheFirstAnswerChoosesTheHost(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	begin := func() (id.Connection, *lease.Work) {
		n := id.NewConnection(a.clock.now())
		r := a.draft(n)
		r.Binding.Host, r.Hosts = "com.crm.example", []string{"com.crm.example", "eu.crm.example"}
		return n, a.mustWork(a.egress, a.exchanged(a.order(lease.OrderExchange, n, a.egress), a.start(r).State))
	}
	n, w := begin()
	made := tokens(w.Record, "1", "acme")
	made.Binding.Host = "in.crm.example" // one of the client's, but not of the draft's
	_, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, made)
	refusedBy(t, "a host that the draft does not list", err)
	n, w = begin()
	made = tokens(w.Record, "1", "acme")
	made.Binding.Host = "eu.crm.example"
	if _, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, made); err != nil {
		t.Fatal(err)
	}
	w = a.mustWork(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
	if w.Record.Binding.Host != "eu.crm.example" || len(w.Record.Hosts) != 0 {
		t.Errorf("bound to %+v of %v", w.Record.Binding, w.Record.Hosts)
	}
	moved := tokens(w.Record, "2", "acme")
	moved.Binding.Host, moved.Hosts = "com.crm.example", []string{"com.crm.example"}
	_, err = a.save(a.egress, n, w.Fence, lease.OutcomeSaved, moved)
	refusedBy(t, "another host later", err)
}

func TestPendingsOfACustomerAreBounded(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	for range lease.MaxPendings {
		a.start(a.draft(id.NewConnection(a.clock.now())))
	}
	if err := a.try(lease.OpOAuthStart, a.startCall(a.draft(id.NewConnection(a.clock.now()))), nil); !errors.Is(err, ErrBusy) {
		t.Errorf("one more: %v, want ErrBusy", err)
	}
	a.clock.add(lease.MaxPending)
	a.start(a.draft(id.NewConnection(a.clock.now())))
}

func TestReconnectKeepsTheAccount(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	v := a.connect(n)
	again := func(account string, other bool) *lease.SaveAnswer {
		m, s := a.startCall(a.draft(n)), &lease.StartAnswer{}
		m.Reconnect, m.OtherAccount = true, other
		a.call(lease.OpOAuthStart, m, s)
		w := a.mustWork(a.egress, a.exchanged(a.order(lease.OrderExchange, n, a.egress), s.State))
		got, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, tokens(w.Record, "again", account))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := again("evil", false); !got.OtherAccount || got.Version != v {
		t.Errorf("another account: %+v, want nothing saved", got)
	}
	if got := again("acme", false); got.OtherAccount || got.Version != v+1 {
		t.Errorf("the same account: %+v", got)
	}
	if got := again("evil", true); got.OtherAccount || got.Version != v+2 {
		t.Errorf("another account, confirmed: %+v", got)
	}
}
