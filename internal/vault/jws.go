package vault

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"

	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// minRSA is the shortest RSA key that is believed, in bits (RFC 7518, 3.3).
const minRSA = 2048

// matchesJWS reports whether any candidate is the signature of the data by the one
// algorithm that the flow names (RFC 7515, 5.2). What the token itself says about its
// algorithm or its key plays no part here.
func matchesJWS(m *lease.MacCheck, secret []byte) (bool, error) {
	if h, ok := map[string]string{"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}[m.Algorithm]; ok {
		// A public key is no secret, whoever put it there.
		if bytes.Contains(secret, []byte("-----BEGIN ")) {
			return false, errNoKey
		}
		c := *m
		c.Kind, c.Algorithm, c.Decoding = lease.MacHMAC, h, lease.MacRaw
		return matches(&c, secret)
	}
	key, err := publicKey(secret)
	if err != nil {
		return false, err
	}
	var verify func(signature []byte) bool
	sum := sha256.Sum256(m.Data)
	switch k := key.(type) {
	case *rsa.PublicKey:
		if m.Algorithm != "RS256" || k.N.BitLen() < minRSA {
			return false, errNoKey
		}
		verify = func(s []byte) bool { return rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], s) == nil }
	case *ecdsa.PublicKey:
		if m.Algorithm != "ES256" || k.Curve != elliptic.P256() {
			return false, errNoKey
		}
		verify = func(s []byte) bool {
			return len(s) == 64 && ecdsa.Verify(k, sum[:], new(big.Int).SetBytes(s[:32]), new(big.Int).SetBytes(s[32:]))
		}
	case ed25519.PublicKey:
		if m.Algorithm != "EdDSA" {
			return false, errNoKey
		}
		verify = func(s []byte) bool { return ed25519.Verify(k, m.Data, s) }
	default:
		return false, errNoKey
	}
	for _, s := range m.Candidates {
		if verify(s) {
			return true, nil
		}
	}
	return false, nil
}

// publicKey reads a public key in PEM, or that of a certificate, whose dates and issuer
// play no part: it was put there to be believed.
func publicKey(text []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errNoKey
	}
	switch block.Type {
	case "PUBLIC KEY":
		k, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoKey, err)
		}
		return k, nil
	case "RSA PUBLIC KEY":
		k, err := x509.ParsePKCS1PublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoKey, err)
		}
		return k, nil
	case "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoKey, err)
		}
		return c.PublicKey, nil
	}
	return nil, errNoKey
}
