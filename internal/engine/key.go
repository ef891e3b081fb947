package engine

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// maxSealers bounds the sealers that are kept; each is a few hundred bytes.
const maxSealers = 10_000

// keys are the public halves and the blind-index key, as got from the vault.
type keys struct {
	vault  Vault
	key    *seal.PrivateKey
	place  []byte // of the blind-index key
	labels *seal.Opener

	mu      sync.Mutex
	sealers map[payloadDay]*payloadKey

	blindMu sync.Mutex
	blind   []byte
	known   atomic.Bool // blind is set
}

type payloadDay struct {
	customer id.Customer
	day      lease.Day
}

// payloadKey is one customer's payload key of a day; the mutex is held while it is fetched.
type payloadKey struct {
	mu     sync.Mutex
	sealer *seal.Sealer
}

func newKeys(o *Options) *keys {
	return &keys{
		vault: o.Vault, key: o.Key, place: lease.BlindKeyPlace(o.Node), labels: seal.NewOpener(o.Key, lease.PurposeServer),
		sealers: map[payloadDay]*payloadKey{},
	}
}

// call asks the vault and reads its answer into one, which may be nil.
func (k *keys) call(ctx context.Context, op string, ask, answer wire.Message) error {
	ctx, cancel := context.WithTimeout(ctx, vaultTimeout)
	defer cancel()
	var body []byte
	if ask != nil {
		body = wire.AppendBody(nil, ask)
	}
	b, err := k.vault.Call(ctx, op, body)
	if err != nil {
		return fmt.Errorf("ask vault for %s: %w", op, err)
	}
	if answer == nil {
		return nil
	}
	if err := wire.ParseBody(b, answer); err != nil {
		return fmt.Errorf("ask vault for %s: %w", op, err)
	}
	return nil
}

// sealer seals to a customer's payload key of a day.
func (k *keys) sealer(ctx context.Context, c id.Customer, d lease.Day) (*seal.Sealer, error) {
	at := payloadDay{c, d}
	k.mu.Lock()
	p := k.sealers[at]
	if p == nil {
		if len(k.sealers) >= maxSealers {
			k.evict()
		}
		p = &payloadKey{}
		k.sealers[at] = p
	}
	k.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sealer != nil {
		return p.sealer, nil
	}
	var answer lease.PayloadKeyAnswer
	if err := k.call(ctx, lease.OpPayloadKey, &lease.PayloadKeyCall{Customer: c, Day: d}, &answer); err != nil {
		return nil, err
	}
	p.sealer = seal.NewSealer(answer.Key, lease.PurposePayload)
	return p.sealer, nil
}

// evict forgets an eighth of the sealers, whichever come. Callers hold the mutex.
func (k *keys) evict() {
	n := maxSealers / 8
	for at := range k.sealers {
		if n--; n < 0 {
			return
		}
		delete(k.sealers, at)
	}
}

// index is the blind index of a value: an HMAC-SHA256 (RFC 2104) over a tuple that names
// what the value is and whose, so that equal values of two customers differ.
func (k *keys) index(ctx context.Context, parts ...[]byte) ([32]byte, error) {
	key, err := k.blindKey(ctx)
	if err != nil {
		return [32]byte{}, err
	}
	m := hmac.New(sha256.New, key)
	_, _ = m.Write(seal.Tuple(nil, parts...)) // a hash never fails
	return [32]byte(m.Sum(nil)), nil
}

// prefetch gets the blind-index key, so that appends never wait for the vault.
func (k *keys) prefetch(ctx context.Context) {
	for rest := retryDelay; ; rest = min(2*rest, time.Minute) {
		if _, err := k.blindKey(ctx); err == nil {
			return
		}
		t := time.NewTimer(rest)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// indexes reports whether blind indexes can be made without asking the vault.
func (k *keys) indexes() bool { return k.known.Load() }

func (k *keys) blindKey(ctx context.Context) ([]byte, error) {
	k.blindMu.Lock()
	defer k.blindMu.Unlock()
	if k.blind != nil {
		return k.blind, nil
	}
	var answer lease.SealedAnswer
	if err := k.call(ctx, lease.OpBlindKey, nil, &answer); err != nil {
		return nil, err
	}
	b, err := k.key.Open(lease.PurposeServer, k.place, answer.Sealed)
	if err != nil {
		return nil, fmt.Errorf("open blind-index key: %w", err)
	}
	k.blind = b
	k.known.Store(true)
	return b, nil
}

// The blind indexes.

func (k *keys) labelIndex(ctx context.Context, c id.Customer, name string, value []byte) ([32]byte, error) {
	return k.index(ctx, []byte("label/1"), c[:], []byte(name), value)
}

func (k *keys) dedupeIndex(ctx context.Context, c id.Customer, i id.Instance, flow, delivery string) ([32]byte, error) {
	return k.index(ctx, []byte("dedupe/1"), c[:], i[:], []byte(flow), []byte(delivery))
}

func (k *keys) orderIndex(ctx context.Context, c id.Customer, i id.Instance, flow, key string) ([32]byte, error) {
	return k.index(ctx, []byte("order/1"), c[:], i[:], []byte(flow), []byte(key))
}
