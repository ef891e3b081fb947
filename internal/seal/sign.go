package seal

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
)

// VerifyKey is an Ed25519 public key (RFC 8032).
type VerifyKey [ed25519.PublicKeySize]byte

// SignKey signs as one identity.
type SignKey struct {
	key ed25519.PrivateKey
	pub VerifyKey
}

// GenerateSignKey makes a signing key.
func GenerateSignKey() (*SignKey, error) {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate Ed25519 key: %w", err)
	}
	return NewSignKey(k.Seed())
}

// NewSignKey reads the 32-byte seed given by [SignKey.Seed].
func NewSignKey(seed []byte) (*SignKey, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("seed of %d bytes, want %d", len(seed), ed25519.SeedSize)
	}
	k := ed25519.NewKeyFromSeed(seed)
	return &SignKey{key: k, pub: VerifyKey(k.Public().(ed25519.PublicKey))}, nil
}

// Public is the public half.
func (k *SignKey) Public() VerifyKey { return k.pub }

// Seed is the private key itself, for the NATS client that signs its nonce with it.
func (k *SignKey) Seed() []byte { return k.key.Seed() }

// String keeps the key out of printed structs.
func (*SignKey) String() string { return "[signing key]" }

// Sign signs message in a domain: a signature made for one purpose is worth
// nothing for another.
func (k *SignKey) Sign(domain string, message []byte) []byte {
	return ed25519.Sign(k.key, Tuple(nil, []byte(domain), message))
}

// Verify reports whether signature is k's over message in the domain.
func (k VerifyKey) Verify(domain string, message, signature []byte) bool {
	return len(signature) == ed25519.SignatureSize &&
		ed25519.Verify(k[:], Tuple(nil, []byte(domain), message), signature)
}
