package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/vault"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// The size of the race. make races uses what the promise says.
var (
	connections = flag.Int("connections", 60, "connections of the race")
	duration    = flag.Duration("for", 4*time.Second, "how long users use and processes are killed")
	tokenLife   = flag.Duration("life", 2*time.Second, "life of an access token")
)

// The processes of the race.
const (
	nodes       = 4
	servers     = 2
	usersOfNode = 8
	customers   = 10
	slotsOfOne  = 50 // connections of one lease
	latency     = 8 * time.Millisecond
	killEvery   = 60 * time.Millisecond
	skew        = 200 * time.Millisecond // a token is renewed on demand so long before its end
)

// race is everything of one run.
type race struct {
	t        *testing.T
	provider *provider
	dir      string
	root     []byte
	all      []id.Connection
	owner    map[id.Connection]id.Customer
	instance map[id.Customer]id.Instance
	stop     context.Context

	mu      sync.RWMutex // guards what follows
	vault   *vault.Vault // nil while it is dead
	key     seal.PublicKey
	servers []*server
	nodes   []*node
	known   map[id.Connection]*wire.ConnectionStatus // what the servers know
	lost    map[id.Connection]bool                   // a kill hit it between the provider's answer and our commit

	windows  []time.Duration
	kills    map[string]int
	lapsed   atomic.Int64 // uses that waited for a renewal on demand
	dead     atomic.Int64 // uses of a connection that is dead
	answered map[string]int
}

// process is an identity that can be cut off from everything.
type process struct {
	id     id.Node
	sign   *seal.SignKey
	seal   *seal.PrivateKey
	ctx    context.Context // ends when it is killed
	kill   context.CancelFunc
	killed atomic.Bool
}

// server orders refreshes ahead of the expiry.
type server struct{ process }

// node is an egress node with leases of every connection.
type node struct {
	process
	renewer *egress.Renewer
	mu      sync.Mutex
	slots   map[id.Connection]*lease.SlotRecord
	held    map[id.Connection]bool // answers of the provider that it has and has not committed
}

var errCut = errors.New("cut off")

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (r *race) open() {
	v, err := vault.Open(context.Background(), vault.Config{
		Dir: r.dir, Temporary: true, Root: secret.New(slices.Clone(r.root)), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.vault, r.key = v, v.Key()
}

// current is the vault that runs, nil when none does.
func (r *race) current() (*vault.Vault, seal.PublicKey) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.vault, r.key
}

// await is the vault, as soon as one runs.
func (r *race) await(ctx context.Context) *vault.Vault {
	for {
		if v, _ := r.current(); v != nil || ctx.Err() != nil {
			return v
		}
		pause(ctx, 5*time.Millisecond)
	}
}

// enroll makes a process known, as the supervisor does.
func (r *race) enroll(p *process, role wire.Role, pool string) {
	p.sign, p.seal = must(seal.GenerateSignKey()), must(seal.GenerateKey())
	p.ctx, p.kill = context.WithCancel(r.stop)
	for {
		v := r.await(context.Background())
		e, err := v.Enroll(context.Background(), &wire.Enroll{Role: string(role), Pool: pool, Sign: p.sign.Public(), Seal: p.seal.Public()})
		if err == nil {
			p.id = e.Node
			return
		}
		pause(context.Background(), 5*time.Millisecond)
	}
}

// gone cuts a process off, and tells the vault a little later, as the supervisor does.
func (r *race) gone(p *process) {
	p.killed.Store(true)
	p.kill()
	pause(context.Background(), 20*time.Millisecond)
	for {
		if v := r.await(context.Background()); v.Retire(context.Background(), p.id) == nil {
			return
		}
		pause(context.Background(), 5*time.Millisecond)
	}
}

// refused is the wire's form of a refusal.
type refused struct{ code string }

func (e refused) Error() string     { return e.code }
func (e refused) ErrorCode() string { return e.code }

// ask carries a call of a node to the vault. It is lost when either of them is killed on the way,
// also after the vault has acted on it.
func (r *race) ask(p *process) func(context.Context, *wire.VaultCall) (*wire.VaultAnswer, error) {
	return func(ctx context.Context, m *wire.VaultCall) (*wire.VaultAnswer, error) {
		v, _ := r.current()
		if p.killed.Load() {
			return nil, context.Canceled // nothing of it goes on
		}
		if v == nil {
			return nil, errCut
		}
		a, err := v.ServeToken(context.WithoutCancel(ctx), p.id, m)
		if p.killed.Load() {
			return nil, context.Canceled
		}
		if after, _ := r.current(); after != v {
			return nil, errCut
		}
		if err != nil {
			return nil, refused{vault.Answer(err).Code}
		}
		return a, nil
	}
}

// Mint implements egress.Minter: a refresh at the provider, with the kill of the node possible
// at every point of it.
func (n *minter) Mint(ctx context.Context, w *lease.Work, _ []wire.Pair, commit func(*lease.Raw) error) *egress.Made {
	c, p := w.Record.Connection, n.race.provider
	raw := w.Raw
	if len(raw) == 0 {
		pause(n.ctx, latency)
		if n.killed.Load() || ctx.Err() != nil {
			return &egress.Made{Outcome: lease.OutcomeFailed, Reason: "network"}
		}
		n.holds(c, true)
		got, err := p.rotate(string(w.Record.Field(lease.FieldRefreshToken)))
		pause(n.ctx, latency) // the answer is on its way
		body, _ := json.Marshal(map[string]any{"access_token": got.access, "refresh_token": got.refresh, "expires": got.expires, "error": errorText(err)})
		raw = []lease.Raw{{Status: 200, Body: body}}
		if n.killed.Load() {
			return &egress.Made{Outcome: lease.OutcomeUnsure}
		}
		if e := commit(&raw[0]); e != nil {
			return &egress.Made{Outcome: lease.OutcomeUnsure, Reason: "commit"}
		}
		n.holds(c, false)
		if err == nil {
			n.race.window(p.committed(c))
		}
	}
	var answer struct {
		Access  string    `json:"access_token"`
		Refresh string    `json:"refresh_token"`
		Expires time.Time `json:"expires"`
		Error   string    `json:"error"`
	}
	if err := json.Unmarshal(raw[0].Body, &answer); err != nil {
		return &egress.Made{Outcome: lease.OutcomeFailed, Reason: "protocol"}
	}
	if answer.Error != "" {
		return &egress.Made{Outcome: lease.OutcomeRefused, Reason: answer.Error}
	}
	made := w.Record
	made.Fields = []lease.Field{{Name: lease.FieldAccessToken, Secret: []byte(answer.Access)}, {Name: lease.FieldRefreshToken, Secret: []byte(answer.Refresh)}}
	made.Expires = answer.Expires
	return &egress.Made{Outcome: lease.OutcomeSaved, Record: &made}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// minter is a node that talks to the provider.
type minter struct {
	*node
	race *race
}

// holds notes whether a node has an answer that nobody else has. One that a kill finds so is lost.
func (n *node) holds(c id.Connection, yes bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if yes {
		n.held[c] = true
	} else {
		delete(n.held, c)
	}
}

func (r *race) window(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.windows = append(r.windows, d)
}

// live finds the identity of a server for an egress node, which learns it from the supervisor.
func (r *race) live(n id.Node) (*lease.Identity, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, s := range r.servers {
		if s.id == n && !s.killed.Load() {
			return &lease.Identity{Node: s.id, Role: wire.RoleServer, Sign: s.sign.Public(), Seal: s.seal.Public()}, true
		}
	}
	return nil, false
}

func (r *race) newNode() *node {
	n := &node{slots: map[id.Connection]*lease.SlotRecord{}, held: map[id.Connection]bool{}}
	r.enroll(&n.process, wire.RoleEgress, "default")
	v := r.await(context.Background())
	tokens := egress.NewTokenVault(egress.TokenVaultConfig{
		Node: n.id, Sign: n.sign, Seal: n.seal, Authority: v.Authority(), Ask: r.ask(&n.process),
		Key: func() (seal.PublicKey, bool) { v, k := r.current(); return k, v != nil },
	})
	n.renewer = egress.NewRenewer(egress.RenewerConfig{
		Node: n.id, Sign: n.sign, Seal: n.seal, Vault: tokens, Minter: &minter{n, r}, Live: r.live, Status: r.learn, Log: slog.New(slog.DiscardHandler),
	})
	return n
}

func (r *race) newServer() *server {
	s := &server{}
	r.enroll(&s.process, wire.RoleServer, "")
	return s
}

// lend gives a node leases of all connections, on the dispatches of a server.
func (r *race) lend(n *node, s *server, runner *process) {
	byCustomer := map[id.Customer][]id.Connection{}
	for _, c := range r.all {
		byCustomer[r.owner[c]] = append(byCustomer[r.owner[c]], c)
	}
	for customer, of := range byCustomer {
		for part := range slices.Chunk(of, slotsOfOne) {
			d := &lease.Dispatch{
				Server: s.id, Runner: runner.id, Customer: customer, Instance: r.instance[customer], ConfigVersion: 1, EgressPool: "default", Issued: time.Now(),
			}
			for i, c := range part {
				d.Slots = append(d.Slots, lease.Slot{Name: fmt.Sprintf("s%d", i), Connection: c})
			}
			worker := must(seal.GenerateKey())
			v := r.await(r.stop)
			if v == nil {
				return
			}
			g, err := v.Lease(context.Background(), lease.SignRequest(runner.sign, runner.id, lease.SignDispatch(s.sign, d), worker.Public(), n.id))
			if err != nil {
				continue // one of the three was killed
			}
			e := must(lease.OpenEgress(n.seal, v.Authority(), g.Egress))
			n.mu.Lock()
			for i := range e.Slots {
				n.slots[e.Slots[i].Record.Connection] = &e.Slots[i]
			}
			n.mu.Unlock()
		}
	}
}

// user makes requests with the tokens of random connections, renewed when they end.
func (r *race) user(n *node) {
	for n.ctx.Err() == nil {
		c := r.all[rand.IntN(len(r.all))]
		n.mu.Lock()
		slot := n.slots[c]
		var record lease.Record
		if slot != nil {
			record = slot.Record
		}
		n.mu.Unlock()
		if slot == nil {
			pause(n.ctx, time.Millisecond)
			continue
		}
		if record.State == wire.ConnectionLive && time.Until(record.Expires) < skew {
			r.lapsed.Add(1)
			newer, err := n.renewer.Renew(n.ctx, c, slot.Ticket, record.Version)
			if err != nil {
				if f, ok := errors.AsType[*egress.TokenFault](err); ok && f.State != wire.ConnectionLive {
					r.dead.Add(1)
				}
				pause(n.ctx, 10*time.Millisecond)
				continue
			}
			n.mu.Lock()
			slot.Record = *newer
			n.mu.Unlock()
			record = *newer
		}
		if time.Until(record.Expires) < skew/2 || record.State != wire.ConnectionLive || n.killed.Load() {
			pause(n.ctx, time.Millisecond)
			continue
		}
		r.provider.use(string(record.Field(lease.FieldAccessToken)))
		pause(n.ctx, 4*time.Millisecond)
	}
}

// schedule is a server: it orders the refresh of connections ahead of their expiry, each from a
// random node. Two servers may order the same at once, as after a shard has moved.
func (r *race) schedule(s *server) {
	for s.ctx.Err() == nil {
		c := r.all[rand.IntN(len(r.all))]
		r.mu.RLock()
		n, known := r.nodes[rand.IntN(len(r.nodes))], r.known[c]
		r.mu.RUnlock()
		if known.State != wire.ConnectionLive || time.Now().Before(known.Retry) || time.Until(known.Expires) > r.provider.life/2 {
			pause(s.ctx, time.Millisecond)
			continue
		}
		o := &lease.Order{Server: s.id, Egress: n.id, Op: lease.OrderRefresh, Customer: r.owner[c], Connection: c, Version: known.Version, Issued: time.Now()}
		o.Nonce = [16]byte(must(seal.RandomKey()).Bytes()[:16])
		m := lease.SignOrder(s.sign, o)
		code := "lost"
		if a, ok := n.renewer.Order(n.ctx, s.id, m).(*wire.OrderAnswer); ok && !n.killed.Load() {
			i := &lease.Identity{Node: n.id, Role: wire.RoleEgress, Sign: n.sign.Public()}
			result := must(lease.CheckOrderResult(i, m, a))
			code = result.Code
			r.learn(&result.Status)
		}
		r.mu.Lock()
		r.answered[code]++
		r.mu.Unlock()
	}
}

// learn is what a server notes of a status.
func (r *race) learn(m *wire.ConnectionStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.known[m.Connection]; m.Version >= k.Version {
		next := *m
		if next.Expires.IsZero() {
			next.Expires = k.Expires
		}
		r.known[m.Connection] = &next
	}
}

// setup makes the customers, connections and processes.
func (r *race) setup() (runner *process) {
	r.open()
	for range servers {
		r.servers = append(r.servers, r.newServer())
	}
	runner = &process{}
	r.enroll(runner, wire.RoleRunner, "default")
	v, key := r.current()
	ctx, s := context.Background(), r.servers[0]
	call := func(op string, m wire.Message) {
		if _, err := v.Call(ctx, s.id, op, wire.AppendBody(nil, m)); err != nil {
			r.t.Fatalf("%s: %v", op, err)
		}
		pause(ctx, 4*time.Millisecond) // below the rate limit
	}
	var all []id.Customer
	for range customers {
		c, i := id.NewCustomer(time.Now()), id.NewInstance(time.Now())
		all = append(all, c)
		r.instance[c] = i
		call(lease.OpCustomer, &lease.CustomerCall{Customer: c})
		call(lease.OpInstance, &lease.InstanceCall{Customer: c, Instance: i, Config: must(seal.Seal(key, lease.PurposeVault, lease.ConfigPlace(c, i, 0), []byte("{}")))})
	}
	for k := range *connections {
		c, customer := id.NewConnection(time.Now()), all[k%customers]
		got := r.provider.consent(c)
		record := &lease.Record{
			Connection: c, Customer: customer, Connector: "crm", Kind: lease.KindOAuth2, Binding: lease.Binding{Scheme: "https", Host: "api.crm.example"},
			Fields: []lease.Field{{Name: lease.FieldAccessToken, Secret: []byte(got.access)}, {Name: lease.FieldRefreshToken, Secret: []byte(got.refresh)}}, Expires: got.expires,
		}
		call(lease.OpConnection, &lease.ConnectionCall{
			Customer: customer, Connection: c, Record: must(seal.Seal(key, lease.PurposeVault, lease.ConnectionPlace(customer, c), wire.AppendBody(nil, record))),
		})
		r.all, r.owner[c] = append(r.all, c), customer
		r.known[c] = &wire.ConnectionStatus{Version: 1, Expires: got.expires}
	}
	for range nodes {
		n := r.newNode()
		r.lend(n, s, runner)
		r.nodes = append(r.nodes, n)
	}
	return runner
}

// killer kills something every moment, and starts it again.
func (r *race) killer(runner *process, run *sync.WaitGroup) {
	for r.stop.Err() == nil {
		pause(r.stop, 2*killEvery)
		switch k := rand.IntN(10); {
		case k < 6:
			r.killNode(rand.IntN(nodes), runner, run)
		case k < 8:
			r.killServer(rand.IntN(servers), run)
		default:
			r.killVault()
		}
	}
}

func (r *race) killNode(i int, runner *process, run *sync.WaitGroup) {
	r.mu.RLock()
	n := r.nodes[i]
	r.mu.RUnlock()
	n.killed.Store(true)
	n.mu.Lock()
	held := make([]id.Connection, 0, len(n.held))
	for c := range n.held {
		held = append(held, c)
	}
	n.mu.Unlock()
	r.mu.Lock()
	r.kills["egress"]++
	for _, c := range held {
		r.lost[c] = true
	}
	s := r.servers[0]
	r.mu.Unlock()
	r.gone(&n.process)
	next := r.newNode()
	r.lend(next, s, runner)
	r.mu.Lock()
	r.nodes[i] = next
	r.mu.Unlock()
	r.work(next, run)
}

func (r *race) killServer(i int, run *sync.WaitGroup) {
	r.mu.Lock()
	s := r.servers[i]
	r.kills["server"]++
	r.mu.Unlock()
	r.gone(&s.process)
	next := r.newServer()
	r.mu.Lock()
	r.servers[i] = next
	r.mu.Unlock()
	run.Go(func() { r.schedule(next) })
}

// killVault drops the vault: every call under way loses its answer.
func (r *race) killVault() {
	r.mu.Lock()
	v := r.vault
	r.vault = nil
	r.kills["vault"]++
	r.mu.Unlock()
	pause(context.Background(), 20*time.Millisecond)
	if err := v.Close(); err != nil {
		r.t.Error(err)
	}
	r.open()
}

func (r *race) work(n *node, run *sync.WaitGroup) {
	for range usersOfNode {
		run.Go(func() { r.user(n) })
	}
}

// verdict is what the race found.
type verdict struct {
	reuses, lostGrants, expired   int // outside the window
	inWindow, lostAnswers, others int // of connections that a kill hit inside it
}

// judge asks the vault for the state of every connection.
func (r *race) judge(n *node, s *server) *verdict {
	var v verdict
	r.provider.mu.Lock()
	for c, k := range r.provider.reuses {
		if !r.lost[c] {
			v.reuses += k
		}
	}
	v.expired, v.inWindow = r.provider.expired+r.provider.unknown, len(r.lost)
	r.provider.mu.Unlock()
	for _, c := range r.all {
		state := r.state(n, s, c)
		switch {
		case state == wire.ConnectionLive:
		case !r.lost[c]:
			v.lostGrants++
			r.t.Logf("%s ended as %s outside the window", c, state)
		case state == wire.ConnectionLostAnswer:
			v.lostAnswers++
		default:
			v.others++
			r.t.Logf("%s ended as %s inside the window", c, state)
		}
	}
	return &v
}

// state has a connection renewed once more, so that what is open comes to an end.
func (r *race) state(n *node, s *server, c id.Connection) wire.ConnectionState {
	for {
		o := &lease.Order{Server: s.id, Egress: n.id, Op: lease.OrderRefresh, Customer: r.owner[c], Connection: c, Issued: time.Now()}
		o.Nonce = [16]byte(must(seal.RandomKey()).Bytes()[:16])
		m := lease.SignOrder(s.sign, o)
		a, ok := n.renewer.Order(context.Background(), s.id, m).(*wire.OrderAnswer)
		if !ok {
			r.t.Fatal("the order was refused")
		}
		result := must(lease.CheckOrderResult(&lease.Identity{Node: n.id, Role: wire.RoleEgress, Sign: n.sign.Public()}, m, a))
		switch result.Code {
		case lease.OrderOK, lease.OrderDead:
			return result.Status.State
		case lease.OrderRefused, lease.OrderOtherAccount, lease.OrderDenied:
			r.t.Fatalf("%s: %+v", c, result)
		}
		pause(context.Background(), 100*time.Millisecond)
	}
}

func TestTokenRace(t *testing.T) {
	t.Parallel()
	stop, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := &race{
		t: t, provider: newProvider(*tokenLife), dir: t.TempDir() + "/keys", root: must(seal.RandomKey()).Bytes(), stop: stop,
		owner: map[id.Connection]id.Customer{}, instance: map[id.Customer]id.Instance{}, lost: map[id.Connection]bool{}, known: map[id.Connection]*wire.ConnectionStatus{}, kills: map[string]int{}, answered: map[string]int{},
	}
	runner := r.setup()
	var run, killing sync.WaitGroup
	for _, n := range r.nodes {
		r.work(n, &run)
	}
	for _, s := range r.servers {
		run.Go(func() { r.schedule(s) })
	}
	killing.Go(func() { r.killer(runner, &run) })
	end := time.NewTimer(*duration)
	<-end.C
	cancel()
	killing.Wait()
	run.Wait()
	n, s := r.newNode(), r.newServer()
	r.servers = append(r.servers, s)
	v := r.judge(n, s)
	r.report(v)
	if v.reuses+v.lostGrants+v.expired+v.others != 0 {
		t.Errorf("outside the window: %d reuse detections, %d lost grants, %d uses of expired tokens; inside it %d ended other than as lost_answer; want 0 of each", v.reuses, v.lostGrants, v.expired, v.others)
	}
	if r.provider.refreshes < *connections || r.provider.uses == 0 {
		t.Errorf("%d refreshes and %d uses are no race", r.provider.refreshes, r.provider.uses)
	}
	if err := r.vault.Close(); err != nil {
		t.Error(err)
	}
}

// report prints what make races is for.
func (r *race) report(v *verdict) {
	slices.Sort(r.windows)
	at := func(q float64) time.Duration {
		if len(r.windows) == 0 {
			return 0
		}
		return r.windows[min(int(q*float64(len(r.windows))), len(r.windows)-1)].Round(10 * time.Microsecond)
	}
	var codes []string
	for code, n := range r.answered {
		codes = append(codes, fmt.Sprintf("%s %d", code, n))
	}
	slices.Sort(codes)
	r.t.Logf("race: %d connections for %v: %d refreshes, %d uses, %d waited for a renewal; orders: %s", len(r.all), *duration, r.provider.refreshes, r.provider.uses, r.lapsed.Load(), strings.Join(codes, ", "))
	r.t.Logf("race: killed %d egress nodes, %d servers, %d vaults", r.kills["egress"], r.kills["server"], r.kills["vault"])
	r.t.Logf("race: outside the window %d reuse detections, %d lost grants, %d uses of expired tokens", v.reuses, v.lostGrants, v.expired)
	r.t.Logf("race: inside the window %d connections were hit, %d ended as lost_answer, the others were saved, 0 ended otherwise: %v", v.inWindow, v.lostAnswers, v.others == 0)
	r.t.Logf("race: window from the provider's answer to our commit, the way back (up to %v) included: median %v, 99 %% %v, longest %v", latency, at(0.5), at(0.99), at(1))
}
