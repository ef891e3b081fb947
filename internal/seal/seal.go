// Package seal is the small set of ciphers that processes without stored keys
// use: sealing to a public key, channels between two processes, and signatures.
//
// Nothing here is invented. Sealing is HPKE (RFC 9180) with
// DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM, from the standard
// library; a [Sealer] makes one encapsulation per session and derives an
// AES-256-GCM key from its exporter (RFC 9180 section 5.3), which makes a sealed
// record cost a microsecond instead of a hundred. Signatures are Ed25519 (RFC
// 8032) over a length-prefixed tuple that begins with a domain.
//
// Every sealed value is bound to its place by associated data, a tuple made with
// [Tuple]: a ciphertext that was moved to another row, customer or version does
// not open. Every failure to open is [ErrOpen] and says nothing more.
//
// Keys are created here and never leave as anything but the types of this
// package, except by the methods named Bytes, which the architecture test allows
// in wire-format code only. Except where a type says otherwise, values are
// immutable and safe for concurrent use.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// KeySize is the length in bytes of every key in this package.
const KeySize = 32

const (
	nonceSize = 12
	tagSize   = 16
	// version begins every sealed record and every channel frame.
	version = 1
)

// ErrOpen is the one answer to every sealed value that does not open.
var ErrOpen = errors.New("sealed value does not open")

// PublicKey is an X25519 public key (RFC 7748), the address of a sealed value.
type PublicKey [KeySize]byte

// PrivateKey opens what was sealed to its public half.
type PrivateKey struct {
	key hpke.PrivateKey
	raw [KeySize]byte
	pub PublicKey
}

// GenerateKey makes a key pair.
func GenerateKey() (*PrivateKey, error) {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate X25519 key: %w", err)
	}
	return NewPrivateKey(k.Bytes())
}

// NewPrivateKey reads the 32 bytes given by [PrivateKey.Bytes].
func NewPrivateKey(b []byte) (*PrivateKey, error) {
	k, err := ecdh.X25519().NewPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("read X25519 key: %w", err)
	}
	h, err := hpke.NewDHKEMPrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("read X25519 key: %w", err)
	}
	p := &PrivateKey{key: h}
	copy(p.raw[:], b)
	copy(p.pub[:], k.PublicKey().Bytes())
	return p, nil
}

// Public is the public half.
func (k *PrivateKey) Public() PublicKey { return k.pub }

// Bytes is the private key itself, for sealing it into a lease.
func (k *PrivateKey) Bytes() []byte { return k.raw[:] }

// String keeps the key out of printed structs.
func (*PrivateKey) String() string { return "[private key]" }

// Open opens a value sealed by [Seal] with the same purpose and associated data.
func (k *PrivateKey) Open(purpose string, ad, sealed []byte) ([]byte, error) {
	if len(sealed) < 1+KeySize+tagSize || sealed[0] != version {
		return nil, ErrOpen
	}
	r, err := hpke.NewRecipient(sealed[1:1+KeySize], k.key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(purpose))
	if err != nil {
		return nil, ErrOpen
	}
	plain, err := r.Open(ad, sealed[1+KeySize:])
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

// Seal seals one value to a public key. The purpose separates uses of the same
// key from each other (HPKE info).
func Seal(to PublicKey, purpose string, ad, plain []byte) ([]byte, error) {
	pub, err := to.hpke()
	if err != nil {
		return nil, err
	}
	enc, s, err := hpke.NewSender(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(purpose))
	if err != nil {
		return nil, fmt.Errorf("encapsulate: %w", err)
	}
	ct, err := s.Seal(ad, plain)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	out := make([]byte, 0, 1+len(enc)+len(ct))
	out = append(out, version)
	out = append(out, enc...)
	return append(out, ct...), nil
}

func (p PublicKey) hpke() (hpke.PublicKey, error) {
	k, err := ecdh.X25519().NewPublicKey(p[:])
	if err != nil {
		return nil, fmt.Errorf("read X25519 public key: %w", err)
	}
	pub, err := hpke.NewDHKEMPublicKey(k)
	if err != nil {
		return nil, fmt.Errorf("read X25519 public key: %w", err)
	}
	return pub, nil
}

// Tuple appends the length-prefixed encoding of parts to dst. No two different
// lists of parts have the same encoding.
func Tuple(dst []byte, parts ...[]byte) []byte {
	size := binary.MaxVarintLen16
	for _, p := range parts {
		size += binary.MaxVarintLen16 + len(p)
	}
	dst = binary.AppendUvarint(slices.Grow(dst, size), uint64(len(parts)))
	for _, p := range parts {
		dst = binary.AppendUvarint(dst, uint64(len(p)))
		dst = append(dst, p...)
	}
	return dst
}

// Uint is the 8-byte part of a [Tuple] for a number such as a version or a day.
func Uint(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// newGCM makes AES-256-GCM from a 32-byte key.
func newGCM(key []byte) (cipher.AEAD, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("AES-256 key of %d bytes, want %d", len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make AES-256: %w", err)
	}
	g, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("make GCM: %w", err)
	}
	return g, nil
}

// Key is a symmetric AES-256-GCM key for values that are read and written by the
// same holder, such as the state of an instance. Nonces are random; a key must
// not seal more than 2^32 values (NIST SP 800-38D section 8.3).
type Key struct {
	gcm cipher.AEAD
	raw [KeySize]byte
}

// NewKey makes a Key from 32 bytes, which must be uniformly random.
func NewKey(b []byte) (*Key, error) {
	g, err := newGCM(b)
	if err != nil {
		return nil, err
	}
	k := &Key{gcm: g}
	copy(k.raw[:], b)
	return k, nil
}

// RandomKey makes a fresh Key.
func RandomKey() (*Key, error) {
	var b [KeySize]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return NewKey(b[:])
}

// Bytes is the key itself, for sealing it into a lease.
func (k *Key) Bytes() []byte { return k.raw[:] }

// String keeps the key out of printed structs.
func (*Key) String() string { return "[key]" }

// Seal appends the sealed value to dst.
func (k *Key) Seal(dst, ad, plain []byte) []byte {
	dst = append(dst, version)
	at := len(dst)
	dst = append(dst, make([]byte, nonceSize)...)
	_, _ = rand.Read(dst[at:])
	return k.gcm.Seal(dst, dst[at:at+nonceSize], plain, ad)
}

// Open appends the plain value to dst.
func (k *Key) Open(dst, ad, sealed []byte) ([]byte, error) {
	if len(sealed) < 1+nonceSize+tagSize || sealed[0] != version {
		return nil, ErrOpen
	}
	out, err := k.gcm.Open(dst, sealed[1:1+nonceSize], sealed[1+nonceSize:], ad)
	if err != nil {
		return nil, ErrOpen
	}
	return out, nil
}
