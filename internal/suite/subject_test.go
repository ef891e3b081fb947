package suite

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/bulkheadhq/bulkhead/internal/bus"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/vault"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// mayPublish is the matrix of design section 3, written down a second time by hand: who
// sends what to whom. What is not here is refused.
func mayPublish() []string {
	return []string{
		"runner → server work", "runner → server ask", "runner → vault lease", "runner → egress call",
		"server → runner unit", "server → vault vault", "server → egress blob",
		"egress → runner answer", "egress → server flow", "egress → server blob",
		"egress → vault token", "server → egress order",
	}
}

// allTopics are the topics of the matrix and one that does not exist.
func allTopics() []string {
	return []string{"work", "ask", "unit", "lease", "vault", "call", "answer", "flow", "blob", "token", "order", "other"}
}

// spy is one identity's connection that tries everything.
type spy struct {
	*identity
	conn *nats.Conn

	mu       sync.Mutex
	got      map[string]int  // payloads that came, by the subject of the subscription
	payloads map[string]bool // that came over its own subjects
	refused  map[string]bool // what the bus has refused, as it says it
	changed  chan struct{}
}

// busWorld is a bus and a vault with two identities of each role.
type busWorld struct {
	t     *testing.T
	vault *vault.Vault
	bus   *bus.Server
	spies map[wire.Role][2]*spy
}

// authority signs the users of a bus in the vault's place, for the red twin.
type authority struct {
	operator, account string
	user              func(*identity) string
}

// wideAuthority signs users who may do everything.
func wideAuthority(t *testing.T) *authority {
	t.Helper()
	o, err := nkeys.CreateOperator()
	if err != nil {
		t.Fatal(err)
	}
	k, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	operator, _ := o.PublicKey()
	account, _ := k.PublicKey()
	a := &authority{}
	if a.operator, err = jwt.NewOperatorClaims(operator).Encode(o); err != nil {
		t.Fatal(err)
	}
	if a.account, err = jwt.NewAccountClaims(account).Encode(o); err != nil {
		t.Fatal(err)
	}
	a.user = func(i *identity) string {
		pub := i.sign.Public()
		user, err := nkeys.Encode(nkeys.PrefixByteUser, pub[:])
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.NewUserClaims(string(user)).Encode(k)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	return a
}

// newBusWorld makes a bus that trusts the vault, or instead another authority.
func newBusWorld(t *testing.T, other *authority) *busWorld {
	t.Helper()
	v, err := vault.Open(t.Context(), vault.Config{Dir: t.TempDir() + "/keys", Temporary: true, Root: secret.New(make([]byte, vault.RootSize))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	operator, account := v.Bus()
	if other != nil {
		operator, account = other.operator, other.account
	}
	s, err := bus.NewServer(bus.ServerConfig{Operator: operator, Account: account, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Shutdown(context.Background()) })
	w := &busWorld{t, v, s, map[wire.Role][2]*spy{}}
	for _, r := range wire.Roles() {
		w.spies[r] = [2]*spy{w.spy(r, other), w.spy(r, other)}
	}
	return w
}

func (w *busWorld) spy(r wire.Role, other *authority) *spy {
	w.t.Helper()
	s := &spy{identity: enroll(w.t, w.vault, r), got: map[string]int{}, payloads: map[string]bool{}, refused: map[string]bool{}, changed: make(chan struct{}, 1)}
	if other != nil {
		s.UserJWT = other.user(s.identity)
	}
	k, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, s.sign.Seed())
	if err != nil {
		w.t.Fatal(err)
	}
	s.conn, err = nats.Connect(
		"tls://"+w.bus.Addr(), nats.Secure(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}), nats.TLSHandshakeFirst(), // the test's own bus
		nats.UserJWT(func() (string, error) { return s.UserJWT, nil }, func(nonce []byte) ([]byte, error) { return k.Sign(nonce) }),
		nats.CustomInboxPrefix(wire.Inbox(s.Node)), nats.MaxReconnects(0), nats.Timeout(patience),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.refuse(err.Error()) }),
	)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.conn.Close)
	return s
}

func (s *spy) signal() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *spy) refuse(text string) {
	for _, operation := range []string{`Publish to "`, `Subscription to "`} {
		if _, rest, ok := strings.Cut(text, operation); ok {
			subject, _, _ := strings.Cut(rest, `"`)
			text = operation + subject + `"`
		}
	}
	s.mu.Lock()
	s.refused[text] = true
	s.mu.Unlock()
	s.signal()
}

// said reports whether the bus refused an operation on a subject.
func (s *spy) said(operation, subject string) bool {
	want := operation + ` to "` + subject + `"`
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused[want]
}

// listen subscribes and notes what comes.
func (s *spy) listen(subject, queue string, own bool) {
	_, err := s.conn.QueueSubscribe(subject, queue, func(m *nats.Msg) {
		s.mu.Lock()
		s.got[subject+" "+queue]++
		if own {
			s.payloads[string(m.Data)] = true
		}
		s.mu.Unlock()
		s.signal()
	})
	if err != nil {
		s.refuse(fmt.Sprintf(`%v: Subscription to %q`, err, subject))
	}
}

func (s *spy) has(payload string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.payloads[payload]
}

func (s *spy) flush(t *testing.T) {
	t.Helper()
	if err := s.conn.FlushTimeout(patience); err != nil {
		t.Fatalf("%s: %v", s.role, err)
	}
}

// cell is one thing that one identity tries.
type cell struct {
	who     *spy
	subject string
	allowed bool
	to      *spy // who must get an allowed message; nil: nobody
	payload string
}

// publishCells are every subject that the matrix could name, and what lies around it.
func (w *busWorld) publishCells() (out []*cell) {
	add := func(who *spy, subject string, allowed bool, to *spy) {
		out = append(out, &cell{who: who, subject: subject, allowed: allowed, to: to, payload: fmt.Sprintf("%s %d", who.Node, len(out))})
	}
	for role, pair := range w.spies {
		own, twin := pair[0], pair[1]
		for to, others := range w.spies {
			for _, topic := range allTopics() {
				in := slices.Contains(mayPublish(), string(role)+" → "+string(to)+" "+topic)
				for node, listener := range map[string]*spy{"any": others[0], others[0].Node.String(): others[0], others[1].Node.String(): others[1]} {
					for _, from := range []id.Node{own.Node, twin.Node, others[1].Node} {
						allowed := in && from == own.Node
						add(own, fmt.Sprintf("%s.%s.%s.%s", to, node, topic, from), allowed, listener)
					}
				}
				add(own, fmt.Sprintf("%s.any.%s", to, topic), false, nil)
				add(own, fmt.Sprintf("%s.any.%s.%s.more", to, topic, own.Node), false, nil)
				add(own, fmt.Sprintf("%s.any.%s.%s", strings.ToUpper(string(to)), topic, own.Node), false, nil)
				add(own, fmt.Sprintf("%s.any.%s.", to, topic), false, nil)
			}
			for _, other := range others {
				add(own, wire.Inbox(other.Node)+".unasked", false, other)
			}
			add(own, string(to), false, nil)
		}
		for _, subject := range []string{
			"bus.any.work." + own.Node.String(), "_INBOX.x", "_R_.x.y", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO", "$SYS.REQ.ACCOUNT.PING", "$SYS.ACCOUNT.x.CONNECT",
			"$JS.API.INFO", "$JS.API.STREAM.CREATE.x", "$JS.API.STREAM.LIST", "$JS.ACK.a.b", "$SRV.PING", "$SRV.INFO.x", "$KV.a.b", "$OBJ.a", "$MQTT.a", "$GR.a", "$LDS.a", "a", "a.b.c.d",
		} {
			add(own, subject, false, nil)
		}
	}
	return out
}

// subscribeCells are every subject that somebody could want to hear.
func (w *busWorld) subscribeCells() (out []*cell) {
	for role, pair := range w.spies {
		who := pair[1]
		add := func(subject string, allowed bool) {
			out = append(out, &cell{who: who, subject: subject, allowed: allowed})
		}
		for other, others := range w.spies {
			add(string(other)+".any.*.*", other == role)
			add(string(other)+".any.*.>", other == role) // more parts than four can be heard, but nobody may send them
			for _, o := range others {
				add(string(other)+"."+o.Node.String()+".*.*", o == who)
				add(string(other)+"."+o.Node.String()+".>", false)
				add(wire.Inbox(o.Node)+".>", o == who)
				add(wire.Inbox(o.Node)+".*", o == who)
				add(wire.Inbox(o.Node)+".*.*", o == who)
			}
			for _, s := range []string{".>", ".*.*.*", ".*.>", ".any.>", ".*.*." + who.Node.String(), ".*.work.*", ".*.lease.*", ".*.vault.*"} {
				add(string(other)+s, false)
			}
		}
		for _, s := range []string{
			">", "*", "*.*", "*.>", "*.*.*.*", "*.any.*.*", "*.*.lease.*", "*." + who.Node.String() + ".*.*", "_INBOX.>", "_INBOX*.>", "_R_.>", "bus.any.*.*", "bus.>",
			"$SYS.>", "$SYS.ACCOUNT.>", "$SYS.REQ.>", "$SYS.*.*.*", "$JS.>", "$JS.API.>", "$JS.EVENT.>", "$SRV", "$SRV.>", "$SRV.PING", "$KV.>", "$OBJ.>", "$MQTT.>", "$G.>", "$GR.>",
		} {
			add(s, false)
		}
	}
	return out
}

// verdicts tries every cell and compares what happened with what the table says.
func (w *busWorld) verdicts(wait time.Duration) (tried, allowed int, wrong []string) {
	// Listeners first: every identity on what is its own.
	for role, pair := range w.spies {
		for _, s := range pair {
			s.listen(wire.Inbox(s.Node)+".>", "", true)
			s.listen(string(role)+"."+s.Node.String()+".*.*", "", true)
			s.listen(string(role)+".any.*.*", "", true)
			s.flush(w.t)
		}
	}
	// Then the spies: the second identity of each role tries to hear everything, alone and
	// in the queue groups of the roles, before anything is said.
	subscribe := w.subscribeCells()
	for _, c := range subscribe {
		for _, queue := range []string{"", "server", "vault", "egress", "runner"} {
			if c.allowed && queue != "" {
				continue // it would take messages from the listener
			}
			c.who.listen(c.subject, queue, false)
		}
	}
	for _, pair := range w.spies {
		pair[1].flush(w.t)
	}
	publish := w.publishCells()
	for _, c := range publish {
		if err := c.who.conn.Publish(c.subject, []byte(c.payload)); err != nil {
			c.who.refuse(fmt.Sprintf(`%v: Publish to %q`, err, c.subject))
		}
	}
	for _, pair := range w.spies {
		pair[0].flush(w.t)
	}
	for _, pair := range w.spies {
		pair[0].flush(w.t)
		pair[1].flush(w.t)
	}
	w.settle(wait, publish, subscribe)
	for _, c := range publish {
		if tried++; c.allowed {
			allowed++
		}
		got, refused := c.to != nil && c.to.has(c.payload), c.who.said("Publish", c.subject)
		if got != c.allowed || refused == c.allowed {
			wrong = append(wrong, fmt.Sprintf("%s publishes %s: delivered %v, refused %v, want allowed %v", c.who.role, c.subject, got, refused, c.allowed))
		}
	}
	for _, c := range subscribe {
		refused, heard := c.who.said("Subscription", c.subject), c.who.heard(c.subject)
		if c.allowed {
			tried, allowed = tried+1, allowed+1
			heard = 0
		} else {
			tried += 5 // alone and in four queue groups
		}
		if heard > 0 || refused == c.allowed {
			wrong = append(wrong, fmt.Sprintf("%s subscribes to %s: it hears %d messages, refused %v, want allowed %v", c.who.role, c.subject, heard, refused, c.allowed))
		}
	}
	return tried, allowed, wrong
}

// heard counts the messages that came over one subscription, in any queue group.
func (s *spy) heard(subject string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, queue := range []string{"", "server", "vault", "egress", "runner"} {
		n += s.got[subject+" "+queue]
	}
	return n
}

// settle waits until every cell has shown what becomes of it, or as long as it may.
// Everything has been flushed: what is missing is on its way between goroutines.
func (w *busWorld) settle(wait time.Duration, publish, subscribe []*cell) {
	end := time.NewTimer(wait)
	defer end.Stop()
	over := false
	for _, c := range slices.Concat(publish, subscribe) {
		shown := func() bool {
			switch {
			case c.allowed && c.to != nil:
				return c.to.has(c.payload)
			case c.allowed:
				return true
			}
			return c.who.said("Publish", c.subject) || c.who.said("Subscription", c.subject)
		}
		for !over && !shown() {
			changed := c.who.changed
			if c.allowed {
				changed = c.to.changed
			}
			select {
			case <-changed:
			case <-end.C:
				over = true
			}
		}
	}
}

// until waits for a condition that two spies' connections make true. Everything has
// been flushed: what is still missing is on its way between goroutines.
func (s *spy) until(ok func() bool, other *spy) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	also := s.changed
	if other != nil {
		also = other.changed
	}
	for !ok() {
		select {
		case <-s.changed:
		case <-also:
		case <-timer.C:
			return
		}
	}
}

func TestSubjects(t *testing.T) {
	t.Parallel()
	w := newBusWorld(t, nil)
	tried, allowed, wrong := w.verdicts(patience)
	for _, s := range wrong {
		t.Error(s)
	}
	if tried < 3000 || allowed < 40 {
		t.Errorf("only %d cells, %d allowed: the table is not whole", tried, allowed)
	}
	// The table written by hand and the one that the code has are the same.
	for _, from := range wire.Roles() {
		for _, to := range wire.Roles() {
			for _, topic := range allTopics() {
				want := slices.Contains(mayPublish(), fmt.Sprintf("%s → %s %s", from, to, topic))
				if got := wire.Allowed(from, to, wire.Topic(topic)); got != want {
					t.Errorf("%s → %s %s: wire.Allowed says %v, the table here %v", from, to, topic, got, want)
				}
			}
		}
	}
	t.Logf("subjects: 8 identities of 4 roles, %d cells tried (%d allowed), wrong verdicts: %d", tried, allowed, len(wrong))
}

// TestSubjectsRedTwin gives every identity the permissions of all: the suite must see it.
func TestSubjectsRedTwin(t *testing.T) {
	t.Parallel()
	w := newBusWorld(t, wideAuthority(t))
	tried, _, wrong := w.verdicts(time.Second)
	if len(wrong) < 500 {
		t.Errorf("red twin: with permissions for everything only %d of %d verdicts are wrong", len(wrong), tried)
	}
	t.Logf("subjects, red twin: users who may do everything: %d of %d verdicts wrong", len(wrong), tried)
}

// TestAnswers tries to answer unasked, twice, and elsewhere than to who asked.
func TestAnswers(t *testing.T) {
	t.Parallel()
	w := newBusWorld(t, nil)
	asked := map[wire.Role]chan *nats.Msg{}
	for role, pair := range w.spies {
		c := make(chan *nats.Msg, 16)
		asked[role] = c
		if _, err := pair[0].conn.ChanSubscribe(string(role)+"."+pair[0].Node.String()+".*.*", c); err != nil {
			t.Fatal(err)
		}
		pair[0].listen(wire.Inbox(pair[0].Node)+".>", "", true)
		pair[0].flush(t)
	}
	tried, wrong := 0, 0
	check := func(what string, got, want bool) {
		t.Helper()
		if tried++; got != want {
			wrong++
			t.Errorf("%s: it arrived %v, want %v", what, got, want)
		}
	}
	for _, road := range mayPublish() {
		var from, to wire.Role
		var topic string
		if _, err := fmt.Sscanf(road, "%s → %s %s", &from, &to, &topic); err != nil {
			t.Fatal(err)
		}
		asker, receiver := w.spies[from][0], w.spies[to][0]
		inbox := wire.Inbox(asker.Node) + "." + topic + string(to)
		if err := asker.conn.PublishRequest(fmt.Sprintf("%s.%s.%s.%s", to, receiver.Node, topic, asker.Node), inbox, []byte("?")); err != nil {
			t.Fatal(err)
		}
		asker.flush(t)
		var m *nats.Msg
		select {
		case m = <-asked[to]:
		case <-time.After(patience):
			t.Fatalf("%s: the question did not come", road)
		}
		for n, payload := range []string{road + " first", road + " second"} {
			if err := receiver.conn.Publish(m.Reply, []byte(payload)); err != nil {
				t.Fatal(err)
			}
			receiver.flush(t)
			asker.flush(t)
			want := n == 0 && to != wire.RoleRunner
			asker.until(func() bool { return asker.has(payload) || receiver.said("Publish", m.Reply) }, receiver)
			check(road+": answer "+fmt.Sprint(n+1), asker.has(payload), want)
		}
	}
	t.Logf("answers: %d tried over %d roads: only vault, server and egress answer, once, to who asked; wrong %d", tried, len(mayPublish()), wrong)
}

// TestAnswersGoToWhoAsked asks for an answer to be sent elsewhere: whoever is asked
// would speak there in a name that the bus has not checked.
func TestAnswersGoToWhoAsked(t *testing.T) {
	t.Parallel()
	w := newBusWorld(t, nil)
	server, runner, victim := w.spies[wire.RoleServer][0], w.spies[wire.RoleRunner][0], w.spies[wire.RoleRunner][1]
	i := enroll(t, w.vault, wire.RoleVault)
	c, err := bus.Connect(t.Context(), bus.Config{
		Addr: w.bus.Addr(), Pin: w.bus.Pin(), Role: wire.RoleVault, Node: i.Node, UserJWT: i.UserJWT, Sign: i.sign, Log: slog.New(slog.DiscardHandler),
		Handler: func(_ id.Node, _ wire.Topic, _ wire.Frame, answer func(wire.Typed)) {
			if answer != nil {
				answer(&wire.Error{Code: "answer"})
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	victim.listen("runner."+victim.Node.String()+".*.*", "", true)
	victim.listen(wire.Inbox(victim.Node)+".>", "", true)
	runner.listen(wire.Inbox(runner.Node)+".>", "", true)
	server.listen("server.any.*.*", "", true)
	answer := string(wire.AppendFrame(nil, &wire.Error{Code: "answer"}))
	stolen := 0
	elsewhere := []string{
		"runner." + victim.Node.String() + ".unit." + server.Node.String(), wire.Inbox(victim.Node) + ".x", "server.any.work." + victim.Node.String(),
		"server.any.ask." + victim.Node.String(), wire.Inbox(runner.Node), wire.Inbox(runner.Node) + "x.y",
	}
	for _, reply := range append(elsewhere, wire.Inbox(runner.Node)+".honest") {
		for _, s := range []*spy{victim, server, runner} {
			s.flush(t)
		}
		if err := runner.conn.PublishRequest("vault."+i.Node.String()+".lease."+runner.Node.String(), reply, wire.AppendFrame(nil, &wire.LeaseRequest{})); err != nil {
			t.Fatal(err)
		}
		runner.flush(t)
	}
	// The honest question was asked last, and a connection's answers go out in order.
	runner.until(func() bool { return runner.has(answer) }, nil)
	if !runner.has(answer) {
		t.Error("the honest question got no answer")
	}
	for _, s := range []*spy{victim, server} {
		s.flush(t)
		if s.has(answer) {
			stolen++
			t.Errorf("the vault's answer to a runner went to a %s, in another's name", s.role)
		}
	}
	// Red twin: a vault that answers wherever it is told to. The bus lets it.
	naive := w.spies[wire.RoleVault][0]
	if _, err := naive.conn.Subscribe("vault."+naive.Node.String()+".*.*", func(m *nats.Msg) { _ = m.Respond([]byte("naive")) }); err != nil {
		t.Fatal(err)
	}
	naive.flush(t)
	if err := runner.conn.PublishRequest("vault."+naive.Node.String()+".lease."+runner.Node.String(), elsewhere[0], nil); err != nil {
		t.Fatal(err)
	}
	victim.until(func() bool { return victim.has("naive") }, nil)
	if !victim.has("naive") {
		t.Error("red twin: an answer to another subject does not arrive: the test does not see what it looks for")
	}
	t.Logf("answers elsewhere: %d reply subjects that are not the asker's inbox: %d answers arrived; red twin, a vault that answers anywhere: arrives", len(elsewhere), stolen)
}
