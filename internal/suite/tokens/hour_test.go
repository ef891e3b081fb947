package tokens

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/blob"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/testkit/quirk"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// The hour: how many are connected, how long their access tokens last, how often each is used, and when
// the provider is down.
const (
	hourLong        = time.Hour
	hourConnections = 20
	hourLife        = 5 * time.Minute
	hourUse         = 20 * time.Second // at most
	hourLease       = 4 * time.Minute  // of a worker
	downFrom        = 20 * time.Minute
	downFor         = time.Minute
)

// hour is a platform with an engine that orders refreshes when they are due, and whose customers use
// their tokens all the time.
type hour struct {
	*platform
	engine *engine.Engine
	store  *store.Store
	http   *http.Client
	down   atomic.Bool
	renews bool

	used, refused, without, dropped atomic.Int64
}

// nobody is a bus without anybody.
type nobody struct{}

// Send implements engine.Link.
func (nobody) Send(wire.Role, id.Node, ...wire.Typed) {}

// Call implements engine.Vault.
func (h *hour) Call(ctx context.Context, op string, body []byte) ([]byte, error) {
	return h.vault.Call(ctx, h.server.id, op, body)
}

// Refresh implements engine.Refresher: the order of a server, and the answer of an egress node.
func (h *hour) Refresh(ctx context.Context, c id.Customer, n id.Connection, version uint64) (*lease.OrderResult, error) {
	o := &lease.Order{Server: h.server.id, Egress: h.node.id, Op: lease.OrderRefresh, Customer: c, Connection: n, Version: version, Issued: time.Now()}
	o.Nonce = id.NewLease(time.Now())
	m := lease.SignOrder(h.server.sign, o)
	a, ok := h.node.renewer.Order(ctx, h.server.id, m).(*wire.OrderAnswer)
	if !ok {
		return nil, errCut
	}
	return lease.CheckOrderResult(&lease.Identity{Node: h.node.id, Role: wire.RoleEgress, Sign: h.node.sign.Public()}, m, a)
}

// Whether tokens are renewed.
const (
	renewing = true
	resting  = false // the red twin
)

func newHour(t *testing.T, renews bool) *hour {
	t.Helper()
	idp := quirk.NewInMemory(quirk.Rotation, quirk.AnswerIDs, quirk.Revocation)
	idp.TokenLife = hourLife
	h := &hour{platform: newPlatformAt(t, idp), renews: renews}
	idp.Slow = func(r *http.Request) {
		if h.down.Load() && r.URL.Path == "/token" {
			h.dropped.Add(1)
			panic(http.ErrAbortHandler)
		}
	}
	dir := t.TempDir()
	h.store = must(store.Open(t.Context(), store.Options{Dir: dir, Durability: store.Temporary}))
	blobs := must(blob.Open(dir))
	var refresher engine.Refresher
	if renews {
		refresher = h
	}
	h.engine = must(engine.New(t.Context(), engine.Options{
		Node: h.server.id, Sign: h.server.sign, Key: h.server.seal, Store: h.store, Blobs: blobs, Link: nobody{}, Vault: h, VaultKey: h.key, Refresher: refresher,
		CallbackBase: "http://127.0.0.1/callbacks/", HookBase: "http://127.0.0.1/hooks/", Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}))
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { _ = h.engine.Run(ctx) })
	transport := &http.Transport{DialContext: idp.DialContext, TLSClientConfig: &tls.Config{RootCAs: idp.Roots(), MinVersion: tls.VersionTLS12}}
	h.http = &http.Client{Transport: transport}
	t.Cleanup(func() {
		cancel()
		ended.Wait()
		transport.CloseIdleConnections()
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
		if err := blobs.Close(); err != nil {
			t.Error(err)
		}
		if err := h.vault.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// connect connects every customer at the provider, as a person in a browser does.
func (h *hour) connect(customers int) {
	ctx := h.t.Context()
	org := id.NewOrg(time.Now())
	if err := h.engine.PutOrganization(ctx, &store.Organization{ID: org, Name: "hour"}); err != nil {
		h.t.Fatal(err)
	}
	m := codeMethod()
	h.register(m)
	for range customers {
		c := must(h.engine.PutCustomer(ctx, &store.CustomerRow{Organization: org, ExternalID: id.NewCustomer(time.Now()).String()}))
		i := id.NewInstance(time.Now())
		h.call(lease.OpInstance, &lease.InstanceCall{Customer: c, Instance: i, Config: must(seal.Seal(h.key, lease.PurposeVault, lease.ConfigPlace(c, i, 0), []byte("{}")))}, nil)
		r := h.record(m)
		r.Customer = c
		row := &store.Connection{ID: r.Connection, Customer: c, Name: "crm", Connector: "crm", Kind: string(lease.KindOAuth2), Host: "api.example.com", EgressPool: "default"}
		h.write(c, func(tx store.CustomerTx) error { return tx.PutConnection(row, time.Now()) })
		got := h.order(lease.OrderExchange, r, h.start(r))
		if got.Code != lease.OrderOK {
			h.t.Fatalf("exchange: %+v (%v)", got, h.idp.Noted())
		}
		saved := &store.TokenSaved{RecordVersion: got.Status.Version, Expires: got.Status.Expires, RefreshDue: engine.RefreshAt(got.Status.Expires, got.Status.Refresh, time.Now())}
		h.write(c, func(tx store.CustomerTx) error { return tx.TokenSaved(r.Connection, saved, time.Now()) })
		h.all, h.owner[r.Connection], h.instance[c] = append(h.all, r.Connection), c, i
	}
}

func (h *hour) write(c id.Customer, do func(store.CustomerTx) error) {
	h.t.Helper()
	if err := h.store.Write(context.Background(), func(tx *store.Tx) error { return do(tx.Customer(c)) }); err != nil {
		h.t.Fatal(err)
	}
}

// use calls the provider's API with the token that a worker has a lease of. It takes a newer one where
// the lease is older than the renewal, as egress does.
func (h *hour) use(c id.Connection) {
	h.node.mu.Lock()
	slot := h.node.slots[c]
	h.node.mu.Unlock()
	record := slot.Record
	if h.renews && time.Until(record.Expires) < skew {
		newer, err := h.node.renewer.Renew(h.stop, c, slot.Ticket, record.Version)
		if err != nil {
			h.without.Add(1)
			return
		}
		record = *newer
		h.node.mu.Lock()
		h.node.slots[c].Record = record
		h.node.mu.Unlock()
	}
	r := must(http.NewRequestWithContext(h.stop, http.MethodGet, quirk.API+"/api/me", nil))
	r.Header.Set("Authorization", "Bearer "+string(record.Field(lease.FieldAccessToken)))
	r.Header.Set("X-Team", quirk.Account)
	a, err := h.http.Do(r)
	if err != nil {
		h.refused.Add(1)
		return
	}
	_, _ = io.Copy(io.Discard, a.Body)
	_ = a.Body.Close()
	h.used.Add(1)
	if a.StatusCode != http.StatusOK {
		h.refused.Add(1)
	}
}

// TestHour lives an hour of 20 connections whose access tokens last five minutes, with refresh tokens that
// are good once, and a minute in which every request for tokens is dropped. The clock is that of
// testing/synctest, and so are all the timers of engine, vault and egress, which are the real ones, in one
// process; the provider is reached over pipes. Every token works whenever it is used, none is renewed
// twice, and at the end every grant is revoked.
func TestHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHour(t, renewing)
		h.connect(hourConnections)
		h.judge(h.live(hourLong))
	})
}

// TestHourTwin lives a part of the hour without renewals: the provider must see tokens that have ended.
func TestHourTwin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHour(t, resting)
		h.connect(2)
		h.live(2 * hourLife)
		if saw := h.idp.Seen(); saw.Expired == 0 || saw.Refreshes != 0 || h.refused.Load() == 0 {
			t.Errorf("without renewals the provider saw %+v", saw)
		}
	})
}

// live lets everybody use their tokens for a time, and returns how long that was.
func (h *hour) live(long time.Duration) time.Duration {
	runner := &process{}
	h.enroll(runner, wire.RoleRunner, "default")
	from := time.Now()
	var users sync.WaitGroup
	for _, c := range h.all {
		users.Go(func() {
			pause(h.stop, hourUse)
			for time.Since(from) < long {
				h.use(c)
				pause(h.stop, hourUse)
			}
		})
	}
	users.Go(func() {
		rest(h.stop, min(downFrom, long))
		h.down.Store(true)
		rest(h.stop, downFor)
		h.down.Store(false)
	})
	for time.Since(from) < long {
		h.lend(h.node, h.server, runner)
		rest(h.stop, hourLease)
	}
	users.Wait()
	return time.Since(from)
}

// rest waits for a time, or until the context ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// judge compares what the provider has seen with what the platform knows.
func (h *hour) judge(simulated time.Duration) {
	h.t.Helper()
	saw := h.idp.Seen()
	for _, c := range h.all {
		x, err := h.store.Customer(h.t.Context(), h.owner[c]).Connection(c)
		if err != nil || x.Health != store.HealthOK || time.Until(x.TokenExpires) <= 0 {
			h.t.Errorf("connection = %+v, %v", x, err)
		}
	}
	least := hourConnections * int(hourLong/hourLife)
	if saw.Expired != 0 || saw.Reused != 0 || saw.Exchanges != hourConnections || saw.Refreshes < least || saw.Refreshes > 4*least {
		h.t.Errorf("the provider saw %+v; %v", saw, h.idp.Noted())
	}
	if h.refused.Load() != 0 || h.without.Load() != 0 || h.used.Load() < hourConnections*int64(hourLong/hourUse) {
		h.t.Errorf("%d uses, %d refused, %d without a token", h.used.Load(), h.refused.Load(), h.without.Load())
	}
	for _, c := range h.all {
		r := &lease.Record{Connection: c, Customer: h.owner[c]}
		if got := h.order(lease.OrderRevoke, r, nil); got.Code != lease.OrderOK || got.Status.State != wire.ConnectionRevoked {
			h.t.Errorf("revoke: %+v", got)
		}
		h.use(c)
	}
	after, ended := h.idp.Seen(), h.refused.Load()+h.without.Load() // by the provider, or by the vault when a newer one is wanted
	if after.Revoked != hourConnections || ended != hourConnections {
		h.t.Errorf("%d grants of %d are revoked, and %d tokens do not work then", after.Revoked, hourConnections, ended)
	}
	h.t.Logf("an hour (%v simulated): %d connections with tokens of %v: %d refreshes (%d more were dropped), %d uses of tokens, %d with ended ones; %d refresh tokens used twice; %d grants revoked at the end",
		simulated.Round(time.Second), hourConnections, hourLife, saw.Refreshes, h.dropped.Load(), h.used.Load(), saw.Expired, saw.Reused, after.Revoked)
}
