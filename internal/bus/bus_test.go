package bus

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// authority stands in for the vault, which signs these in production.
type authority struct {
	account           nkeys.KeyPair
	operator, acctJWT string
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	op, _ := nkeys.CreateOperator()
	acc, _ := nkeys.CreateAccount()
	opPub, _ := op.PublicKey()
	accPub, _ := acc.PublicKey()
	o, err := jwt.NewOperatorClaims(opPub).Encode(op)
	if err != nil {
		t.Fatal(err)
	}
	a, err := jwt.NewAccountClaims(accPub).Encode(op)
	if err != nil {
		t.Fatal(err)
	}
	return authority{acc, o, a}
}

// user signs an identity; allow may widen its permissions, for red twins.
func (a authority) user(t *testing.T, k *seal.SignKey, p wire.Permissions) string {
	t.Helper()
	pub := k.Public()
	key, err := nkeys.Encode(nkeys.PrefixByteUser, pub[:])
	if err != nil {
		t.Fatal(err)
	}
	c := jwt.NewUserClaims(string(key))
	c.Pub.Allow = p.Publish
	c.Sub.Allow = p.Subscribe
	if p.Answers {
		c.Resp = &jwt.ResponsePermission{MaxMsgs: 1, Expires: time.Minute}
	}
	s, err := c.Encode(a.account)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type fixture struct {
	authority
	server *Server
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	a := newAuthority(t)
	s, err := NewServer(ServerConfig{Operator: a.operator, Account: a.acctJWT, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Shutdown(context.Background()) })
	return fixture{a, s}
}

func (f fixture) config(t *testing.T, role wire.Role, h Handler) Config {
	t.Helper()
	k, err := seal.GenerateSignKey()
	if err != nil {
		t.Fatal(err)
	}
	node := id.NewNode(time.Now())
	return Config{Addr: f.server.Addr(), Pin: f.server.Pin(), Role: role, Node: node, UserJWT: f.user(t, k, wire.PermissionsOf(role, node)), Sign: k, Handler: h, Log: slog.New(slog.DiscardHandler)}
}

func (f fixture) connect(t *testing.T, role wire.Role, h Handler) *Conn {
	t.Helper()
	c, err := Connect(t.Context(), f.config(t, role, h))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestFramesArriveInOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const n = 20_000
	got := make(chan uint64, n)
	runner := f.connect(t, wire.RoleRunner, func(_ id.Node, topic wire.Topic, fr wire.Frame, _ func(wire.Typed)) {
		var m wire.Cancel
		if topic != wire.TopicUnit || fr.Parse(&m) != nil {
			t.Errorf("got %v on %s", fr.Type, topic)
		}
		got <- m.Fence
	})
	server := f.connect(t, wire.RoleServer, nil)
	for i := range uint64(n) {
		server.Send(wire.RoleRunner, runner.node, wire.TopicUnit, &wire.Cancel{Fence: i})
	}
	for want := range uint64(n) {
		if g := <-got; g != want {
			t.Fatalf("frame %d came as %d", g, want)
		}
	}
}

func TestAsk(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.connect(t, wire.RoleVault, func(from id.Node, _ wire.Topic, fr wire.Frame, answer func(wire.Typed)) {
		var m wire.VaultCall
		if err := fr.Parse(&m); err != nil {
			t.Error(err)
		}
		go func() {
			if m.Op == "refuse" {
				answer(&wire.Error{Code: "refused", Message: "no"})
				return
			}
			answer(&wire.VaultAnswer{Body: from[:]})
		}()
	})
	server := f.connect(t, wire.RoleServer, nil)
	var a wire.VaultAnswer
	if err := server.Ask(t.Context(), wire.RoleVault, wire.TopicVault, &wire.VaultCall{Op: "echo"}, &a); err != nil || string(a.Body) != string(server.node[:]) {
		t.Errorf("answer %x, %v; want the sender", a.Body, err)
	}
	var remote *Remote
	if err := server.Ask(t.Context(), wire.RoleVault, wire.TopicVault, &wire.VaultCall{Op: "refuse"}, &a); !errors.As(err, &remote) || remote.Code != "refused" {
		t.Errorf("refusal: %v", err)
	}
}

func TestConnectRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	foreign := newAuthority(t)
	for name, change := range map[string]func(*Config){
		"another certificate": func(c *Config) { c.Pin[0] ^= 1 },
		"another authority": func(c *Config) {
			c.UserJWT = foreign.user(t, c.Sign, wire.PermissionsOf(c.Role, c.Node))
		},
		"another identity's JWT": func(c *Config) {
			k, _ := seal.GenerateSignKey()
			c.UserJWT = f.user(t, k, wire.PermissionsOf(c.Role, c.Node))
		},
		"no JWT": func(c *Config) { c.UserJWT = "" },
	} {
		cfg := f.config(t, wire.RoleEgress, nil)
		change(&cfg)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if c, err := Connect(ctx, cfg); err == nil {
			c.Close()
			t.Errorf("%s: connected", name)
		}
		cancel()
	}
	anonymous, err := nats.Connect("tls://"+f.server.Addr(), nats.Secure(clientTLS(f.server.Pin)), nats.TLSHandshakeFirst(), nats.MaxReconnects(0))
	if err == nil {
		anonymous.Close()
		t.Error("an anonymous connection is accepted")
	}
	plain, err := nats.Connect("nats://"+f.server.Addr(), nats.MaxReconnects(0), nats.Timeout(time.Second))
	if err == nil {
		plain.Close()
		t.Error("a connection without TLS is accepted")
	}
}

func TestNonceOnly(t *testing.T) {
	t.Parallel()
	k, _ := seal.GenerateSignKey()
	kp, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, k.Seed())
	if err != nil {
		t.Fatal(err)
	}
	sign := signNonce(kp)
	if _, err := sign([]byte("X8dJc2-_aB0")); err != nil {
		t.Errorf("a nonce: %v", err)
	}
	dispatch := seal.Tuple(nil, []byte("bulkhead dispatch v1"), []byte("body"))
	for _, b := range [][]byte{nil, dispatch, make([]byte, maxNonce+1), []byte("with space")} {
		if _, err := sign(b); !errors.Is(err, errNonce) {
			t.Errorf("%q: %v, want a refusal", b, err)
		}
	}
}

func BenchmarkSend(b *testing.B) {
	a := authority{}
	op, _ := nkeys.CreateOperator()
	acc, _ := nkeys.CreateAccount()
	opPub, _ := op.PublicKey()
	accPub, _ := acc.PublicKey()
	a.account = acc
	a.operator, _ = jwt.NewOperatorClaims(opPub).Encode(op)
	a.acctJWT, _ = jwt.NewAccountClaims(accPub).Encode(op)
	s, err := NewServer(ServerConfig{Operator: a.operator, Account: a.acctJWT, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Shutdown(context.Background())
	connect := func(role wire.Role, h Handler) *Conn {
		k, _ := seal.GenerateSignKey()
		node := id.NewNode(time.Now())
		p := wire.PermissionsOf(role, node)
		pub := k.Public()
		key, _ := nkeys.Encode(nkeys.PrefixByteUser, pub[:])
		c := jwt.NewUserClaims(string(key))
		c.Pub.Allow, c.Sub.Allow = p.Publish, p.Subscribe
		token, _ := c.Encode(acc)
		conn, err := Connect(b.Context(), Config{Addr: s.Addr(), Pin: s.Pin(), Role: role, Node: node, UserJWT: token, Sign: k, Handler: h, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		return conn
	}
	var got atomic.Int64
	done := make(chan struct{}, 1)
	var want atomic.Int64
	want.Store(-1)
	runner := connect(wire.RoleRunner, func(id.Node, wire.Topic, wire.Frame, func(wire.Typed)) {
		if got.Add(1) == want.Load() {
			done <- struct{}{}
		}
	})
	defer runner.Close()
	server := connect(wire.RoleServer, nil)
	defer server.Close()
	m := &wire.View{Sealed: binary.BigEndian.AppendUint64(make([]byte, 500), 1)}
	want.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		server.Send(wire.RoleRunner, runner.node, wire.TopicUnit, m)
	}
	<-done
}

// A node that asks chooses where its answer goes. Were it free to, the answer would
// arrive on any subject in the answering node's name.
func TestAnswersGoToTheSendersInboxOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	asked := make(chan string, 8)
	f.connect(t, wire.RoleServer, func(_ id.Node, _ wire.Topic, fr wire.Frame, answer func(wire.Typed)) {
		var m wire.DefinitionGet
		if err := fr.Parse(&m); err != nil {
			t.Error(err)
		}
		asked <- string(m.Digest[:1])
		if answer != nil {
			answer(&wire.Definition{Digest: m.Digest})
		}
	})
	runner, victim := f.connect(t, wire.RoleRunner, nil), f.connect(t, wire.RoleRunner, nil)
	subject := wire.Subject(wire.RoleServer, id.Node{}, wire.TopicAsk, runner.node)
	ask := func(mark byte, reply string) {
		if err := runner.nats.PublishRequest(subject, reply, wire.AppendFrame(nil, &wire.DefinitionGet{Digest: [32]byte{mark}})); err != nil {
			t.Fatal(err)
		}
	}
	for _, reply := range []string{
		"vault.any.vault." + runner.node.String(), wire.Inbox(victim.node) + ".x", wire.Inbox(runner.node) + "x.y", wire.Inbox(runner.node),
	} {
		ask('?', reply)
	}
	own, err := runner.nats.SubscribeSync(wire.Inbox(runner.node) + ".own")
	if err != nil {
		t.Fatal(err)
	}
	ask('!', wire.Inbox(runner.node)+".own")
	if _, err := own.NextMsgWithContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != "!" {
		t.Errorf("a question with a foreign reply subject was handled")
	}
}
