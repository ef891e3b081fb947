package worker

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Reasons to refuse a binding. None of them repeats what was sealed.
var (
	errDefinition = errors.New("the definition is not the one that the lease names")
	errConfig     = errors.New("the config is not of the version that the lease names")
	errOther      = errors.New("the lease is for another instance or definition")
	errForged     = errors.New("the lease was not made by the vault")
	errProfile    = errors.New("the definition was checked with an expression profile that this release does not speak")
)

// instance is what a worker is bound to. Everything but the leases is read-only once it is bound.
type instance struct {
	customer   id.Customer
	instance   id.Instance
	digest     [32]byte
	definition *flow.Integration
	config     expr.Value
	callbacks  string // URL prefix
	scope      *expr.Scope
	programs   sync.Map // *flow.Expr → *expr.Program
	polls      sync.Map // name of a flow → *pollSteps
	key        *seal.Key
	hmacKey    []byte

	configVersion uint64

	mu       sync.Mutex
	labels   *seal.Sealer // to the server of the newest lease
	lease    *leased      // nil while there is none for effects
	older    []*leased
	renewed  chan struct{} // closed, and made anew, when a lease comes
	days     map[lease.Day]*dayKey
	viewers  map[id.View]seal.PublicKey
	reads    map[id.View]permit
	dayOrder []lease.Day
}

// leased is one lease and its channel to egress.
type leased struct {
	id      id.Lease
	egress  id.Node
	expires time.Time
	channel *seal.Channel
	gone    chan struct{} // closed when the egress node does not have it any more
}

// usable reports whether calls can be made under it.
func (l *leased) usable(now time.Time) bool {
	select {
	case <-l.gone:
		return false
	default:
		return now.Before(l.expires)
	}
}

// dayKey seals and opens payloads of one expiry day.
type dayKey struct {
	sealer *seal.Sealer
	opener *seal.Opener
}

// bind opens the lease and checks that everything in m is what it names.
func bind(key *seal.PrivateKey, m *wire.Bind, scope *expr.Scope) (*instance, error) {
	l, err := lease.OpenWorker(key, m.Lease)
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(m.Definition) != l.Definition {
		return nil, errDefinition
	}
	if m.ConfigVersion != l.ConfigVersion {
		return nil, errConfig
	}
	in := &instance{
		customer: l.Customer, instance: l.Instance, digest: l.Definition, callbacks: l.CallbackBase, hmacKey: l.IdempotencyKey,
		configVersion: l.ConfigVersion,
		renewed:       make(chan struct{}), days: map[lease.Day]*dayKey{}, viewers: map[id.View]seal.PublicKey{},
	}
	if in.definition, err = flow.Decode(m.Definition); err != nil {
		return nil, err
	}
	if in.definition.ProfileVersion > expr.ProfileVersion {
		return nil, errProfile
	}
	if in.key, err = seal.NewKey(l.InstanceKey); err != nil {
		return nil, fmt.Errorf("read instance key: %w", err)
	}
	if err := in.openConfig(m); err != nil {
		return nil, err
	}
	in.scope = in.names(scope)
	return in, in.add(l)
}

// openConfig opens the config values, drops secrets and fills in defaults.
func (in *instance) openConfig(m *wire.Bind) error {
	given, err := in.givenConfig(m.Config, m.ConfigVersion)
	if err != nil {
		return err
	}
	var keys []string
	var vals []expr.Value
	for i := range in.definition.Config {
		c := &in.definition.Config[i]
		if c.Type == flow.ConfigSecret {
			continue
		}
		v, ok := expr.Lookup(given, c.Name)
		if !ok {
			var err error
			if v, err = literal(&c.Default); err != nil {
				return fmt.Errorf("read default of config %s: %w", c.Name, err)
			}
		}
		keys, vals = append(keys, c.Name), append(vals, v)
	}
	in.config = expr.NewObject(keys, vals)
	return nil
}

// givenConfig opens config values as they are stored, with their secrets.
func (in *instance) givenConfig(sealed []byte, version uint64) (expr.Value, error) {
	if len(sealed) == 0 {
		return expr.NewObject(nil, nil), nil
	}
	plain, err := in.key.Open(nil, lease.ConfigPlace(in.customer, in.instance, version), sealed)
	if err != nil {
		return nil, fmt.Errorf("open config: %w", err)
	}
	given, err := expr.ParseJSON(plain)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	return given, nil
}

// literal is the value of a literal; nothing is null.
func literal(v *flow.Value) (expr.Value, error) {
	b, err := v.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return expr.ParseJSON(b)
}

// names adds the names that loops give to their items.
func (in *instance) names(scope *expr.Scope) *expr.Scope {
	if len(in.definition.Locks) > 0 {
		scope = scope.With("subscription", expr.Dyn()) // in flows that triggers of connectors bring along
	}
	for i := range in.definition.Flows {
		for _, s := range flow.Walk("", in.definition.Flows[i].Steps) {
			if s.For == nil {
				continue
			}
			if _, ok := scope.Lookup(s.For.Variable()); !ok {
				scope = scope.With(s.For.Variable(), expr.Dyn())
			}
		}
	}
	return scope
}

// renew takes a newer lease of the same instance. Anybody can seal to a worker's public key, and whoever made the lease knows
// the channel and the viewers in it; so it must hold the instance's keys, which only the vault and the holders of its leases
// know.
func (in *instance) renew(key *seal.PrivateKey, sealed []byte) error {
	l, err := lease.OpenWorker(key, sealed)
	if err != nil {
		return err
	}
	if l.Customer != in.customer || l.Instance != in.instance || l.Definition != in.digest {
		return errOther
	}
	if subtle.ConstantTimeCompare(l.InstanceKey, in.key.Bytes())&subtle.ConstantTimeCompare(l.IdempotencyKey, in.hmacKey) != 1 {
		return errForged
	}
	return in.add(l)
}

// add takes what a lease allows. One for a read has no channel: it allows no effect.
func (in *instance) add(l *lease.Worker) error {
	var channel *seal.Channel
	if l.Read == nil {
		var err error
		if channel, err = seal.NewChannel(l.Channel, seal.Caller); err != nil {
			return fmt.Errorf("open channel to egress: %w", err)
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, p := range l.Payload {
		if in.days[p.Day] != nil {
			continue
		}
		k, err := seal.NewPrivateKey(p.Private)
		if err != nil {
			return fmt.Errorf("read payload key: %w", err)
		}
		in.days[p.Day] = &dayKey{seal.NewSealer(k.Public(), lease.PurposePayload), seal.NewOpener(k, lease.PurposePayload)}
		in.dayOrder = append(in.dayOrder, p.Day)
	}
	for _, v := range l.Viewers {
		in.viewers[v.View] = v.Key
	}
	if l.Read != nil {
		in.permits(l)
		return nil
	}
	if in.lease != nil {
		in.older = append(in.older, in.lease)
		in.older = in.older[max(0, len(in.older)-keptLeases):]
	}
	in.lease = &leased{id: l.Lease, egress: l.Egress, expires: l.Expires, channel: channel, gone: make(chan struct{})}
	in.labels = seal.NewSealer(l.ServerKey, lease.PurposeServer)
	close(in.renewed)
	in.renewed = make(chan struct{})
	return nil
}

// drop ends a lease that egress does not have any more: calls that are open under it are
// made again under another.
func (in *instance) drop(n id.Lease) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, l := range append([]*leased{in.lease}, in.older...) {
		if l == nil || l.id != n {
			continue
		}
		select {
		case <-l.gone:
		default:
			close(l.gone)
		}
	}
}

// sealLabel seals a label's value to the server.
func (in *instance) sealLabel(now time.Time, ad, value []byte) ([]byte, error) {
	in.mu.Lock()
	s := in.labels
	in.mu.Unlock()
	return s.Seal(nil, now, ad, value)
}

// day returns the key of an expiry day, or nil when it is not leased.
func (in *instance) day(d lease.Day) *dayKey {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.days[d]
}

// viewer returns the key of a viewer that the lease lists.
func (in *instance) viewer(v id.View) (seal.PublicKey, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	k, ok := in.viewers[v]
	return k, ok
}

// open opens a sealed payload of the preferred day, or of any other that is leased: a child may have another day.
func (in *instance) open(prefer lease.Day, ad, sealed []byte) ([]byte, error) {
	in.mu.Lock()
	keys := []*dayKey{in.days[prefer]}
	for _, d := range in.dayOrder {
		if d != prefer {
			keys = append(keys, in.days[d])
		}
	}
	in.mu.Unlock()
	for _, k := range keys {
		if k == nil {
			continue
		}
		if b, err := k.opener.Open(nil, ad, sealed); err == nil {
			return b, nil
		}
	}
	return nil, seal.ErrOpen
}

// current returns a lease that has not ended and is not the one that was just refused. It waits a while for a renewal.
func (in *instance) current(ctx context.Context, refused id.Lease) (*leased, error) {
	var late <-chan time.Time
	for {
		in.mu.Lock()
		l, renewed := in.lease, in.renewed
		in.mu.Unlock()
		if l != nil && l.id != refused && l.usable(time.Now()) {
			return l, nil
		}
		if late == nil {
			timer := time.NewTimer(leaseWait)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-renewed:
		case <-late:
			return nil, errLease
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// idempotencyKey is the key of one effect: the same for every try until a definite answer came.
func (in *instance) idempotencyKey(e id.Execution, path string, epoch uint32) string {
	if off(keysRepeat) {
		return rand.Text()
	}
	h := hmac.New(sha256.New, in.hmacKey)
	h.Write(seal.Tuple(nil, []byte("idempotency/1"), e[:], []byte(path), seal.Uint(uint64(epoch))))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// stateName is the name under which the server keeps a value of the instance's state.
//
// The secret of a subscription has a name that the server knows: it hands the sealed value to the vault, which checks senders with it.
func (in *instance) stateName(key string) (name [32]byte) {
	if of, ok := strings.CutPrefix(key, flow.SubscriptionSecret); ok {
		return lease.SubscriptionSecret(in.instance, of)
	}
	h := hmac.New(sha256.New, in.hmacKey)
	h.Write(seal.Tuple(nil, []byte("state/1"), in.instance[:], []byte(key)))
	copy(name[:], h.Sum(nil))
	return name
}

// mark is what the journal keeps of a step's resolved input: a hash under a key that the database never sees, and of the
// place as well, so that inputs can be neither guessed nor recognised there.
func (in *instance) mark(e id.Execution, path string, input [16]byte) [16]byte {
	h := hmac.New(sha256.New, in.hmacKey)
	h.Write(seal.Tuple(nil, []byte("input/1"), e[:], []byte(path), input[:]))
	return [16]byte(h.Sum(nil)[:16])
}
