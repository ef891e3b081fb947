package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
)

// Side says which end of a channel a process is.
type Side bool

// The two sides of a channel. The caller is the one that asks.
const (
	Caller Side = true
	Callee Side = false
)

// window is how far behind the newest frame a frame may arrive and still be
// accepted, once. Frames may overtake each other, none is accepted twice.
const window = 4096

// channelOverhead is what sealing adds to a frame: version, sequence and tag.
const channelOverhead = 1 + 8 + tagSize

// Channel is a two-way stream of sealed frames between two processes that hold
// the same key. What carries the frames can drop and reorder them, but cannot
// read, forge, reflect or replay one. It is safe for concurrent use.
//
// A frame is: version (1 byte), sequence (8), ciphertext and tag. Each direction
// has a key of its own (HKDF-SHA256, RFC 5869) and counts its frames from 1.
type Channel struct {
	out, in cipher.AEAD

	mu   sync.Mutex
	sent uint64
	seen replayWindow
}

// NewChannel makes one side of the channel of a 32-byte key.
func NewChannel(key []byte, side Side) (*Channel, error) {
	caller, err := directionKey(key, "bulkhead channel v1: caller to callee")
	if err != nil {
		return nil, err
	}
	callee, err := directionKey(key, "bulkhead channel v1: callee to caller")
	if err != nil {
		return nil, err
	}
	if side == Caller {
		return &Channel{out: caller, in: callee}, nil
	}
	return &Channel{out: callee, in: caller}, nil
}

func directionKey(key []byte, label string) (cipher.AEAD, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("channel key of %d bytes, want %d", len(key), KeySize)
	}
	k, err := hkdf.Expand(sha256.New, key, label, KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive channel key: %w", err)
	}
	return newGCM(k)
}

// Seal appends the sealed frame to dst.
func (c *Channel) Seal(dst, ad, plain []byte) []byte {
	c.mu.Lock()
	c.sent++
	n := c.sent
	c.mu.Unlock()
	dst = append(slices.Grow(dst, channelOverhead+len(plain)), version)
	dst = binary.BigEndian.AppendUint64(dst, n)
	nonce := channelNonce(n)
	return c.out.Seal(dst, nonce[:], plain, ad)
}

// Open appends the plain frame to dst. A frame that was opened before, or is too
// old to tell, is [ErrOpen].
func (c *Channel) Open(dst, ad, sealed []byte) ([]byte, error) {
	if len(sealed) < channelOverhead || sealed[0] != version {
		return nil, ErrOpen
	}
	n := binary.BigEndian.Uint64(sealed[1:9])
	nonce := channelNonce(n)
	out, err := c.in.Open(dst, nonce[:], sealed[9:], ad)
	if err != nil {
		return nil, ErrOpen
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.seen.accept(n) {
		return nil, ErrOpen
	}
	return out, nil
}

func channelNonce(n uint64) (nonce [nonceSize]byte) {
	binary.BigEndian.PutUint64(nonce[nonceSize-8:], n)
	return nonce
}

// replayWindow remembers which of the newest frames have come (the algorithm of
// RFC 4303 appendix A).
type replayWindow struct {
	newest uint64
	bits   [window / 64]uint64
}

func (w *replayWindow) accept(n uint64) bool {
	if n == 0 || n+window <= w.newest {
		return false
	}
	if n > w.newest {
		for i := max(w.newest+1, n-min(n, window)+1); i <= n; i++ {
			w.bits[i%window/64] &^= 1 << (i % 64)
		}
		w.newest = n
	}
	slot, bit := &w.bits[n%window/64], uint64(1)<<(n%64)
	if *slot&bit != 0 {
		return false
	}
	*slot |= bit
	return true
}

// Connect opens a channel to the holder of a private key: it returns the
// caller's side and the encapsulation that [Accept] needs.
func Connect(to PublicKey, purpose string) (*Channel, []byte, error) {
	pub, err := to.hpke()
	if err != nil {
		return nil, nil, err
	}
	enc, s, err := hpke.NewSender(pub, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte(purpose))
	if err != nil {
		return nil, nil, fmt.Errorf("encapsulate: %w", err)
	}
	key, err := s.Export(exportLabel, KeySize)
	if err != nil {
		return nil, nil, fmt.Errorf("export channel key: %w", err)
	}
	c, err := NewChannel(key, Caller)
	return c, enc, err
}

// Accept makes the callee's side of a channel opened by [Connect].
func Accept(k *PrivateKey, purpose string, enc []byte) (*Channel, error) {
	r, err := hpke.NewRecipient(enc, k.key, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte(purpose))
	if err != nil {
		return nil, ErrOpen
	}
	key, err := r.Export(exportLabel, KeySize)
	if err != nil {
		return nil, ErrOpen
	}
	return NewChannel(key, Callee)
}
