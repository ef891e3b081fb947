package vault

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1" // #nosec G505 -- what senders sign with; an HMAC of it stands (RFC 6194)
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
)

// Limits of checks of senders.
const (
	// macLife is how long the secrets of an instance stay open for the checks of a server.
	// Each opening is a leaf, which also counts the checks since the one before.
	macLife = 10 * time.Minute
	// maxMacs bounds the openings in memory.
	maxMacs = 10_000
	// maxMacSessions bounds the checks that come in parts, and macSession their time.
	maxMacSessions = 64
	macSession     = time.Minute
	// maxMacStream bounds the data of one check, its parts together.
	maxMacStream = 16 << 20
)

// macKey names an opening: the secrets of a version of an instance's config, or of a client's
// record, for a server.
type macKey struct {
	server   id.Node
	instance id.Instance
	client   id.Connection
}

// keyOf names the opening that a check needs.
func keyOf(from id.Node, m *lease.MacCheck) macKey {
	if !m.Client.IsZero() {
		return macKey{server: from, client: m.Client}
	}
	return macKey{server: from, instance: m.Instance}
}

// namesOf are the names under which the secrets of a check are kept open. That of a
// subscription is in the state, which changes apart from the config: it goes by its hash.
func namesOf(m *lease.MacCheck) []string {
	if m.StateHash != [32]byte{} {
		return []string{"$" + string(m.StateHash[:])}
	}
	return m.Secrets
}

// opened are the secrets of an instance that a server has asked for. The mutex of macs
// guards it.
type opened struct {
	customer id.Customer
	version  uint64
	until    time.Time
	secrets  map[string][]byte // nil: there is no such value
	use      MacUse
}

// macs are the openings and the checks that come in parts. It is safe for concurrent use.
type macs struct {
	mu       sync.Mutex
	open     map[macKey]*opened
	sessions map[macSessionKey]*macStream
}

type macSessionKey struct {
	server  id.Node
	session [16]byte
}

// macStream is a check of which parts have come.
type macStream struct {
	mu     sync.Mutex
	check  lease.MacCheck // of the first part
	sums   []hash.Hash    // nil where there is no secret
	part   uint32
	size   int
	until  time.Time
	absent bool // none of the secrets is there
}

func newMacs() *macs {
	return &macs{open: map[macKey]*opened{}, sessions: map[macSessionKey]*macStream{}}
}

// mac runs the checks of a call, each for itself.
func (v *Vault) mac(ctx context.Context, from id.Node, m *lease.MacCall) (*lease.MacAnswer, error) {
	if len(m.Checks) > lease.MaxMacChecks {
		return nil, fmt.Errorf("%w: more than %d checks", ErrRefused, lease.MaxMacChecks)
	}
	a := &lease.MacAnswer{Results: make([]lease.MacResult, len(m.Checks))}
	for i := range m.Checks {
		r, err := v.macCheck(ctx, from, &m.Checks[i])
		switch {
		case err == nil:
		case final(err) || errors.Is(err, errChanged):
			_ = v.refuse(ctx, lease.OpMac, from, fmt.Errorf("instance %s of customer %s: %w", m.Checks[i].Instance, m.Checks[i].Customer, err))
			r = lease.MacResult{Verdict: lease.MacRefused}
		case errors.Is(err, ErrBusy): // the other checks of the call are other senders'
			r = lease.MacResult{Verdict: lease.MacBusy}
		default:
			return nil, err
		}
		a.Results[i] = r
	}
	return a, nil
}

func (v *Vault) macCheck(ctx context.Context, from id.Node, m *lease.MacCheck) (lease.MacResult, error) {
	if len(m.Data) > lease.MaxMacData || len(m.Config) > maxConfig || len(m.State) > maxConfig || len(m.Candidates) > lease.MaxMacCandidates ||
		len(m.Secrets) == 0 || len(m.Secrets) > lease.MaxMacSecrets {
		return lease.MacResult{}, fmt.Errorf("%w: the check is over a limit", ErrRefused)
	}
	if m.Part > 0 {
		return v.macNext(from, m)
	}
	secrets, err := v.macSecrets(ctx, from, m)
	if err != nil || secrets == nil {
		return lease.MacResult{Verdict: lease.MacUnopened}, err
	}
	if m.More {
		return v.macFirst(from, m, secrets)
	}
	r, err := verdict(m, secrets)
	if err == nil {
		v.macCount(from, m, r)
	}
	return r, err
}

// verdict is that of a check that came whole.
func verdict(m *lease.MacCheck, secrets [][]byte) (lease.MacResult, error) {
	r := lease.MacResult{Verdict: lease.MacMissing}
	if m.Kind == lease.MacSign {
		return signed(m, secrets)
	}
	for i, secret := range secrets {
		match, err := matches(m, secret)
		switch {
		case errors.Is(err, errNoKey):
			continue
		case err != nil:
			return r, err
		case match && r.Verdict != lease.MacMatch:
			r = lease.MacResult{Verdict: lease.MacMatch, Secret: uint32(i)}
		case r.Verdict == lease.MacMissing:
			r.Verdict = lease.MacMismatch
		}
	}
	return r, nil
}

// signed is the HMAC of a token under the first secret.
func signed(m *lease.MacCheck, secrets [][]byte) (lease.MacResult, error) {
	if !lease.MacToken(m.Data) {
		return lease.MacResult{}, fmt.Errorf("%w: only a token is signed", ErrRefused)
	}
	if len(secrets[0]) == 0 {
		return lease.MacResult{Verdict: lease.MacMissing}, nil
	}
	h, err := newMac(m, secrets[0])
	if errors.Is(err, errNoKey) {
		return lease.MacResult{Verdict: lease.MacMissing}, nil
	}
	if err != nil {
		return lease.MacResult{}, err
	}
	_, _ = h.Write(m.Data) // a hash never fails
	return lease.MacResult{Verdict: lease.MacMatch, Sum: h.Sum(nil)}, nil
}

// errNoKey is a config value that is absent, empty, or no key of the kind that is needed.
var errNoKey = errors.New("no key")

// matches reports whether any candidate of a check fits a secret, in a time that says
// nothing of the secret.
func matches(m *lease.MacCheck, secret []byte) (bool, error) {
	if len(secret) == 0 {
		return false, errNoKey
	}
	if off(macsCompared) {
		return true, nil
	}
	switch m.Kind {
	case lease.MacEqual:
		want := sha256.Sum256(secret)
		return anyEqual(want[:], m.Candidates, func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }), nil
	case lease.MacHMAC:
		h, err := newMac(m, secret)
		if err != nil {
			return false, err
		}
		_, _ = h.Write(m.Data) // a hash never fails
		return anyEqual(h.Sum(nil), m.Candidates, nil), nil
	case lease.MacJWS:
		return matchesJWS(m, secret)
	}
	return false, fmt.Errorf("%w: unknown kind of check", ErrRefused)
}

// anyEqual compares every candidate, whatever the first says.
func anyEqual(want []byte, candidates [][]byte, of func([]byte) []byte) bool {
	found := false
	for _, c := range candidates {
		if of != nil {
			c = of(c)
		}
		if hmac.Equal(want, c) {
			found = true
		}
	}
	return found
}

// newMac begins an HMAC under a secret.
func newMac(m *lease.MacCheck, secret []byte) (hash.Hash, error) {
	newHash := map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New}[m.Algorithm]
	if newHash == nil {
		return nil, fmt.Errorf("%w: unknown algorithm", ErrRefused)
	}
	switch m.Decoding {
	case lease.MacRaw:
		return hmac.New(newHash, secret), nil
	case lease.MacStandard, lease.MacBase64:
		text := string(secret)
		if m.Decoding == lease.MacStandard {
			text = strings.TrimPrefix(text, "whsec_")
		}
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(key) == 0 {
			return nil, errNoKey
		}
		defer clear(key)
		return hmac.New(newHash, key), nil
	}
	return nil, fmt.Errorf("%w: unknown decoding of a secret", ErrRefused)
}

// macFirst begins a check that comes in parts.
func (v *Vault) macFirst(from id.Node, m *lease.MacCheck, secrets [][]byte) (lease.MacResult, error) {
	if m.Kind != lease.MacHMAC || m.Session == [16]byte{} {
		return lease.MacResult{}, fmt.Errorf("%w: only an HMAC comes in parts", ErrRefused)
	}
	now := v.now()
	s := &macStream{check: *m, sums: make([]hash.Hash, len(secrets)), size: len(m.Data), until: now.Add(macSession), absent: true}
	s.check.Data, s.check.Config, s.check.State = nil, nil, nil
	for i, secret := range secrets {
		if len(secret) == 0 {
			continue
		}
		h, err := newMac(m, secret)
		if errors.Is(err, errNoKey) {
			continue
		}
		if err != nil {
			return lease.MacResult{}, err
		}
		_, _ = h.Write(m.Data) // a hash never fails
		s.sums[i], s.absent = h, false
	}
	v.macs.mu.Lock()
	defer v.macs.mu.Unlock()
	for k, old := range v.macs.sessions {
		if !now.Before(old.until) {
			delete(v.macs.sessions, k)
		}
	}
	if len(v.macs.sessions) >= maxMacSessions {
		return lease.MacResult{}, ErrBusy
	}
	key := macSessionKey{from, m.Session}
	if v.macs.sessions[key] != nil {
		return lease.MacResult{}, fmt.Errorf("%w: a session that has begun", ErrRefused)
	}
	v.macs.sessions[key] = s
	return lease.MacResult{Verdict: lease.MacPart}, nil
}

// macNext takes another part of a check; the last one gets the verdict.
func (v *Vault) macNext(from id.Node, m *lease.MacCheck) (lease.MacResult, error) {
	key := macSessionKey{from, m.Session}
	v.macs.mu.Lock()
	s := v.macs.sessions[key]
	if s != nil && !m.More {
		delete(v.macs.sessions, key)
	}
	v.macs.mu.Unlock()
	if s == nil {
		return lease.MacResult{}, fmt.Errorf("%w: no such session", ErrRefused)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if keyOf(from, &s.check) != keyOf(from, m) || s.check.Customer != m.Customer || m.Part != s.part+1 || s.size+len(m.Data) > maxMacStream {
		return lease.MacResult{}, fmt.Errorf("%w: a part that does not follow", ErrRefused)
	}
	s.part, s.size = m.Part, s.size+len(m.Data)
	for _, h := range s.sums {
		if h != nil {
			_, _ = h.Write(m.Data) // a hash never fails
		}
	}
	if m.More {
		return lease.MacResult{Verdict: lease.MacPart}, nil
	}
	r := lease.MacResult{Verdict: lease.MacMismatch}
	if s.absent {
		r.Verdict = lease.MacMissing
	}
	for i, h := range s.sums {
		if h != nil && (off(macsCompared) || anyEqual(h.Sum(nil), m.Candidates, nil)) && r.Verdict != lease.MacMatch {
			r = lease.MacResult{Verdict: lease.MacMatch, Secret: uint32(i)}
		}
	}
	v.macCount(from, m, r)
	return r, nil
}

// macCount counts a check, for the next leaf.
func (v *Vault) macCount(from id.Node, m *lease.MacCheck, r lease.MacResult) {
	v.macs.mu.Lock()
	defer v.macs.mu.Unlock()
	if o := v.macs.open[keyOf(from, m)]; o != nil {
		o.use.Checks++
		if r.Verdict != lease.MacMatch {
			o.use.Failed++
		}
	}
}

// macSecrets are the secrets of a check, in the order of their names. They are nil when
// the config is needed, which the check does not carry.
func (v *Vault) macSecrets(ctx context.Context, from id.Node, m *lease.MacCheck) ([][]byte, error) {
	if err := v.macCurrent(m); err != nil {
		return nil, err
	}
	key, now := keyOf(from, m), v.now()
	v.macs.mu.Lock()
	o := v.macs.open[key]
	if o != nil && o.version == m.ConfigVersion && now.Before(o.until) {
		if o.customer != m.Customer && !off(ownersChecked) {
			v.macs.mu.Unlock()
			return nil, fmt.Errorf("%w: it is another customer's", ErrRefused)
		}
		if found := o.pick(namesOf(m)); found != nil || !carries(m) {
			v.macs.mu.Unlock()
			return found, nil
		}
	}
	v.macs.mu.Unlock()
	if !carries(m) {
		return nil, nil
	}
	secrets, err := v.macOpen(ctx, m)
	if err != nil {
		return nil, err
	}
	return v.macKeep(ctx, from, m, secrets, now)
}

// carries reports whether a check brings what its secrets can be read from. Those of a client
// are in the keystore.
func carries(m *lease.MacCheck) bool {
	switch {
	case !m.Client.IsZero():
		return true
	case m.StateHash != [32]byte{}:
		return len(m.State) > 0
	}
	return len(m.Config) > 0
}

// pick returns secrets in the order of names, or nil when one was not asked for before.
func (o *opened) pick(names []string) [][]byte {
	found := make([][]byte, len(names))
	for i, name := range names {
		secret, known := o.secrets[name]
		if !known {
			return nil
		}
		found[i] = secret
	}
	return found
}

// macCurrent refuses a config that is not the newest one, and that of an instance that is gone.
func (v *Vault) macCurrent(m *lease.MacCheck) error {
	if !m.Client.IsZero() {
		known := v.store.Version(keystore.KindConnection, m.Client)
		if known.Number == 0 || known.Gone {
			return errUnknown
		}
		m.ConfigVersion = known.Number
		return nil
	}
	if off(versionsChecked) {
		return nil
	}
	known := v.store.Version(keystore.KindInstance, m.Instance)
	if known.Number == 0 || known.Gone {
		return errUnknown
	}
	if known.Number != m.ConfigVersion {
		return fmt.Errorf("%w: the check has config version %d, the newest is %d", ErrRefused, m.ConfigVersion, known.Number)
	}
	return nil
}

// macOpen opens a config and takes the named texts out of it.
func (v *Vault) macOpen(ctx context.Context, m *lease.MacCheck) (map[string][]byte, error) {
	if !m.Client.IsZero() {
		return v.macClient(ctx, m)
	}
	s, err := v.store.Instance(ctx, m.Instance)
	if err != nil {
		return nil, err
	}
	k, err := v.readInstance(ctx, s, m.Customer, m.Instance)
	if err != nil {
		return nil, err
	}
	defer clear(k.Bytes())
	if m.StateHash != [32]byte{} {
		return macState(k, m)
	}
	plain, err := k.Open(nil, lease.ConfigPlace(m.Customer, m.Instance, m.ConfigVersion), m.Config)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	defer clear(plain)
	var values map[string]json.RawMessage
	if err := json.Unmarshal(plain, &values); err != nil {
		return nil, fmt.Errorf("%w: the config is no object", ErrRefused)
	}
	secrets := make(map[string][]byte, len(m.Secrets))
	for _, name := range m.Secrets {
		var text string
		if json.Unmarshal(values[name], &text) != nil || len(text) > maxField {
			text = ""
		}
		secrets[name] = []byte(text)
	}
	return secrets, nil
}

// macState opens a state value, as a worker has sealed it: {"v": the secret, …}.
func macState(k *seal.Key, m *lease.MacCheck) (map[string][]byte, error) {
	if sha256.Sum256(m.State) != m.StateHash {
		return nil, fmt.Errorf("%w: a state value with another hash", ErrRefused)
	}
	plain, err := k.Open(nil, lease.StatePlace(m.Customer, m.Instance, m.StateName), m.State)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	defer clear(plain)
	var value struct {
		V string `json:"v"`
	}
	if json.Unmarshal(plain, &value) != nil || len(value.V) > maxField {
		value.V = ""
	}
	return map[string][]byte{namesOf(m)[0]: []byte(value.V)}, nil
}

// macClient takes fields out of a client's record: those with which a provider signs, and
// nothing of what connects an account.
func (v *Vault) macClient(ctx context.Context, m *lease.MacCheck) (map[string][]byte, error) {
	r, err := v.openRecord(ctx, m.Client)
	if err != nil {
		return nil, err
	}
	defer r.Wipe()
	if r.Customer != m.Customer && !off(ownersChecked) {
		return nil, fmt.Errorf("%w: it is another customer's", ErrRefused)
	}
	if r.Kind != lease.KindOAuth2Client {
		return nil, fmt.Errorf("%w: it is no client", ErrRefused)
	}
	secrets := make(map[string][]byte, len(m.Secrets))
	for _, name := range m.Secrets {
		secrets[name] = nil
		if name == lease.FieldSigningSecret || name == lease.FieldClientSecret {
			secrets[name] = bytes.Clone(r.Field(name))
		}
	}
	return secrets, nil
}

// macKeep keeps secrets open for a server. The leaf comes first.
func (v *Vault) macKeep(ctx context.Context, from id.Node, m *lease.MacCheck, secrets map[string][]byte, now time.Time) ([][]byte, error) {
	key := keyOf(from, m)
	v.macs.mu.Lock()
	o := v.macs.open[key]
	fresh := o == nil || o.version != m.ConfigVersion || !now.Before(o.until)
	use := MacUse{Server: from, Instance: key.instance, Client: key.client, ConfigVersion: m.ConfigVersion, Until: now.Add(macLife)}
	if o != nil {
		use.Checks, use.Failed = o.use.Checks, o.use.Failed
	}
	v.macs.mu.Unlock()
	if fresh && !off(leafFirst) {
		err := v.store.Write(ctx, func(tx *keystore.Tx) error { return tx.Append(v.leaf(leafMac, m.Customer, from, &use)) })
		if err != nil {
			return nil, err
		}
	}
	v.macs.mu.Lock()
	defer v.macs.mu.Unlock()
	if o = v.macs.open[key]; o == nil || o.version != m.ConfigVersion || !now.Before(o.until) {
		if len(v.macs.open) >= maxMacs {
			v.macs.evict(now)
		}
		o = &opened{customer: m.Customer, version: m.ConfigVersion, until: use.Until, secrets: map[string][]byte{}}
		v.macs.open[key] = o
	}
	for name, secret := range secrets {
		o.secrets[name] = secret
	}
	return o.pick(namesOf(m)), nil
}

// evict forgets the openings that have ended, or an eighth when none has. Callers hold the mutex.
func (s *macs) evict(now time.Time) {
	for k, o := range s.open {
		if !now.Before(o.until) {
			delete(s.open, k)
		}
	}
	n := 0
	if len(s.open) >= maxMacs {
		n = maxMacs / 8
	}
	for k := range s.open {
		if n--; n < 0 {
			return
		}
		delete(s.open, k)
	}
}

// macFlush writes how the openings that have ended were used, and forgets them.
func (v *Vault) macFlush(ctx context.Context, now time.Time) error {
	var ended []*opened
	var keys []macKey
	v.macs.mu.Lock()
	for k, o := range v.macs.open {
		if !now.Before(o.until) {
			ended, keys = append(ended, o), append(keys, k)
			delete(v.macs.open, k)
		}
	}
	v.macs.mu.Unlock()
	if len(ended) == 0 {
		return nil
	}
	return v.store.Write(ctx, func(tx *keystore.Tx) error {
		for i, o := range ended {
			use := MacUse{Server: keys[i].server, Instance: keys[i].instance, Client: keys[i].client, ConfigVersion: o.version, Checks: o.use.Checks, Failed: o.use.Failed}
			if err := tx.Append(v.leaf(leafMacUse, o.customer, keys[i].server, &use)); err != nil {
				return err
			}
		}
		return nil
	})
}

// wipe overwrites the secrets that are open.
func (s *macs) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.open {
		for _, secret := range o.secrets {
			clear(secret)
		}
	}
	clear(s.open)
	clear(s.sessions)
}
