package vault

import (
	"crypto/tls"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/bulkheadhq/bulkhead/internal/bus"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// users is a running bus that trusts a vault, and one connected user of each role.
type users struct {
	t     *testing.T
	nodes map[wire.Role]id.Node
	conns map[wire.Role]*nats.Conn
}

func newUsers(t *testing.T) *users {
	t.Helper()
	w := newWorld(t)
	w.clock.add(time.Since(w.clock.now())) // the bus has a clock of its own
	operator, account := w.vault.Bus()
	b, err := bus.NewServer(bus.ServerConfig{Operator: operator, Account: account, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Shutdown(t.Context()) })
	u := &users{t, map[wire.Role]id.Node{}, map[wire.Role]*nats.Conn{}}
	for _, role := range wire.Roles() {
		p := newProcess(t)
		e, err := w.tryEnroll(role, "default", p)
		if err != nil {
			t.Fatal(err)
		}
		key, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, p.sign.Seed())
		if err != nil {
			t.Fatal(err)
		}
		c, err := nats.Connect("tls://"+b.Addr(), nats.TLSHandshakeFirst(), nats.Secure(&tls.Config{InsecureSkipVerify: true}), // #nosec G402 -- a test of users
			nats.CustomInboxPrefix(wire.Inbox(e.Node)), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
			nats.UserJWT(func() (string, error) { return e.UserJWT, nil }, key.Sign))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		u.nodes[role], u.conns[role] = e.Node, c
	}
	return u
}

// allowed publishes as a role and reports whether the bus took it.
func (u *users) allowed(role wire.Role, subject string) bool {
	u.t.Helper()
	c := u.conns[role]
	if err := c.Publish(subject, nil); err != nil {
		u.t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		u.t.Fatal(err)
	}
	err := c.LastError()
	return err == nil || !strings.Contains(err.Error(), `"`+subject+`"`)
}

// TestBusObeysTheUsers asks a real bus what the users that the vault makes may say.
func TestBusObeysTheUsers(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	topics := []wire.Topic{
		wire.TopicWork, wire.TopicAsk, wire.TopicUnit, wire.TopicLease, wire.TopicVault, wire.TopicCall, wire.TopicAnswer, wire.TopicFlow, wire.TopicBlob, wire.TopicToken, wire.TopicOrder, wire.TopicPause, "other",
	}
	tried, wrong := 0, 0
	check := func(role wire.Role, subject string, want bool) {
		tried++
		if got := u.allowed(role, subject); got != want {
			wrong++
			t.Errorf("%s publishes to %s: %v, want %v", role, subject, got, want)
		}
	}
	for from, node := range u.nodes {
		for to, other := range u.nodes {
			for _, topic := range topics {
				check(from, wire.Subject(to, other, topic, node), wire.Allowed(from, to, topic))
				check(from, wire.Subject(to, id.Node{}, topic, node), wire.Allowed(from, to, topic))
				if from != to {
					check(from, wire.Subject(to, other, topic, other), false)
				}
			}
			check(from, wire.Inbox(other)+".x", false)
		}
		for _, s := range []string{"$SYS.REQ.SERVER.PING", "$JS.API.INFO", "anything", "vault.any"} {
			check(from, s, false)
		}
	}
	t.Logf("publishing: %d verdicts, %d wrong", tried, wrong)
}

// TestVaultAnswersOnce asks the vault over a real bus: it may answer what it was
// asked, once, and nothing else.
func TestVaultAnswersOnce(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	vault, server := u.conns[wire.RoleVault], u.conns[wire.RoleServer]
	sub, err := vault.SubscribeSync("vault.any.*.*")
	if err != nil {
		t.Fatal(err)
	}
	back, err := server.SubscribeSync(wire.Inbox(u.nodes[wire.RoleServer]) + ".>")
	if err != nil {
		t.Fatal(err)
	}
	if err := vault.Flush(); err != nil {
		t.Fatal(err)
	}
	inbox := server.NewInbox()
	if err := server.PublishRequest(wire.Subject(wire.RoleVault, id.Node{}, wire.TopicVault, u.nodes[wire.RoleServer]), inbox, []byte("q")); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.NextMsg(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if !u.allowed(wire.RoleVault, inbox) {
		t.Fatal("the vault may not answer")
	}
	if u.allowed(wire.RoleVault, inbox) {
		t.Error("the vault may answer twice")
	}
	if _, err := back.NextMsg(10 * time.Second); err != nil {
		t.Errorf("the answer did not come: %v", err)
	}
}
