package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// IdentityLife is how long a certificate and the NATS user made with it last. To
// renew, enroll again with the same keys, role and pool: before it ends, or later, as after
// the machine slept. Until then nothing that it signs counts.
const IdentityLife = 24 * time.Hour

// maxPool is the longest name of a pool in bytes.
const maxPool = 64

// Rate limits of one requester, a second and at once.
const (
	requestRate  = 500
	requestBurst = 2000
	// Those of checks of senders, of which one call holds many. They stay below what maxCalls
	// lets the vault remember.
	macRate  = 2000
	macBurst = 4000
)

// member is a live identity.
type member struct {
	identity    *lease.Identity
	certificate []byte
	limit       *rate.Limiter
	calls       *nonces
	macs        *rate.Limiter
	dispatches  *dispatches // of a runner
}

// loadMembers reads the certificates that the keystore holds. Those that are not in the ledger
// or not ours are forgotten, and those that have expired unless their processes are live; in a
// new run all that are not live.
func (v *Vault) loadMembers(ctx context.Context, cfg *Config) error {
	all, err := v.store.Identities(ctx)
	if err != nil {
		return err
	}
	var gone []id.Node
	for _, s := range all {
		lives, at := slices.Contains(cfg.Live, s.Node), v.now()
		if lives {
			at = time.Time{} // it is renewed, however late
		}
		i, err := lease.ParseIdentity(v.authority.Public(), s.Certificate, at)
		if cfg.NewRun && !lives || err != nil || i.Node != s.Node || v.store.Version(keystore.KindNode, s.Node).Number == 0 {
			gone = append(gone, s.Node)
			continue
		}
		v.members[i.Node] = newMember(i, s.Certificate)
	}
	return v.retire(ctx, gone)
}

func newMember(i *lease.Identity, certificate []byte) *member {
	return &member{i, certificate, rate.NewLimiter(requestRate, requestBurst), &nonces{}, rate.NewLimiter(macRate, macBurst), &dispatches{}}
}

// Enroll certifies a process that its supervisor has started, and makes its user on
// the bus with the permissions of its role. A key is one identity's only: enrolled
// again with the same role and pool it is the same identity, renewed.
func (v *Vault) Enroll(ctx context.Context, m *wire.Enroll) (*wire.Enrolled, error) {
	now := v.now()
	i := &lease.Identity{
		Node: id.NewNode(now), Role: wire.Role(m.Role), Pool: m.Pool, Sign: m.Sign, Seal: m.Seal, Expires: now.Add(v.life).UTC().Truncate(time.Second),
	}
	if err := v.checkEnroll(i); err != nil {
		return nil, fmt.Errorf("enroll %s: %w", m.Role, err)
	}
	certificate := lease.Certify(v.authority, i)
	user, err := v.userJWT(i)
	if err != nil {
		return nil, fmt.Errorf("enroll %s: %w", m.Role, err)
	}
	if err := v.store.Write(ctx, func(tx *keystore.Tx) error {
		n := tx.Version(keystore.KindNode, i.Node).Number + 1
		return errors.Join(
			tx.PutIdentity(keystore.Identity{Node: i.Node, Certificate: certificate}),
			tx.SetVersion(keystore.KindNode, i.Node, keystore.Version{Number: n}),
			tx.Append(v.leaf(leafEnrolled, id.Customer{}, i.Node, &Change{i.Node, n})),
		)
	}); err != nil {
		return nil, fmt.Errorf("enroll %s: %w", m.Role, err)
	}
	v.mu.Lock()
	made := newMember(i, certificate)
	if before := v.members[i.Node]; before != nil {
		made.calls, made.dispatches = before.calls, before.dispatches // a renewal accepts nothing anew
	}
	v.members[i.Node] = made
	v.mu.Unlock()
	return &wire.Enrolled{Node: i.Node, Certificate: certificate, UserJWT: user}, nil
}

// checkEnroll checks an identity, and gives it its node when it is a renewal.
func (v *Vault) checkEnroll(i *lease.Identity) error {
	switch i.Role {
	case wire.RoleServer, wire.RoleVault, wire.RoleEgress, wire.RoleRunner, wire.RoleBus:
	default:
		return fmt.Errorf("%w: no such role", ErrRefused)
	}
	if len(i.Pool) > maxPool {
		return fmt.Errorf("%w: the name of the pool has over %d bytes", ErrRefused, maxPool)
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, m := range v.members {
		if m.identity.Sign != i.Sign {
			continue
		}
		if m.identity.Role != i.Role || m.identity.Pool != i.Pool || m.identity.Seal != i.Seal {
			return fmt.Errorf("%w: the key is another identity's", ErrRefused)
		}
		i.Node = m.identity.Node
	}
	return nil
}

// Retire ends an identity: nothing signed by it counts from now on. Its certificate
// and its user on the bus last until they expire, so its connection must be closed too.
func (v *Vault) Retire(ctx context.Context, n id.Node) error { return v.retire(ctx, []id.Node{n}) }

func (v *Vault) retire(ctx context.Context, nodes []id.Node) error {
	if len(nodes) == 0 {
		return nil
	}
	if err := v.store.Write(ctx, func(tx *keystore.Tx) error {
		for _, n := range nodes {
			if err := errors.Join(
				tx.DeleteIdentity(n),
				tx.SetVersion(keystore.KindNode, n, keystore.Version{}),
				tx.Append(v.leaf(leafRetired, id.Customer{}, n, &Change{n, 0})),
			); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("retire identities: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, n := range nodes {
		delete(v.members, n)
	}
	return nil
}

// Live finds the identity of a live node.
func (v *Vault) Live(n id.Node) (*lease.Identity, bool) {
	m, ok := v.member(n)
	if !ok {
		return nil, false
	}
	return m.identity, true
}

var _ lease.Identities = (*Vault)(nil).Live

func (v *Vault) member(n id.Node) (*member, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	m, ok := v.members[n]
	if !ok || !v.now().Before(m.identity.Expires) {
		return nil, false
	}
	return m, true
}

// Peers are the certificates of all live nodes.
func (v *Vault) Peers() []wire.PeerCertificate {
	now := v.now()
	v.mu.RLock()
	defer v.mu.RUnlock()
	all := make([]wire.PeerCertificate, 0, len(v.members))
	for _, m := range v.members {
		if now.Before(m.identity.Expires) {
			all = append(all, wire.PeerCertificate{Certificate: m.certificate})
		}
	}
	return all
}

// allowCall counts a call of a server: those that check senders apart from the others,
// because strangers cause them.
func (v *Vault) allowCall(n id.Node, op string) error {
	if op != lease.OpMac {
		return v.allow(n)
	}
	m, ok := v.member(n)
	if !ok {
		return fmt.Errorf("%w: %s is not live", ErrRefused, n)
	}
	if !off(limitsKept) && !m.macs.AllowN(v.now(), 1) {
		return ErrBusy
	}
	return nil
}

// allow counts a request against its requester's limit.
func (v *Vault) allow(n id.Node) error {
	m, ok := v.member(n)
	if !ok {
		return fmt.Errorf("%w: %s is not live", ErrRefused, n)
	}
	if !off(limitsKept) && !m.limit.AllowN(v.now(), 1) {
		return ErrBusy
	}
	return nil
}
