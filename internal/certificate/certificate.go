// Package certificate reads what a connection by mutual TLS is made of: a client certificate with its private key, and the
// authorities by which the other side's certificate is judged.
//
// It has no authority: it reads text that is given to it and keeps nothing. What it returns is immutable; all functions may be
// called at once. Every error is in words of its own and repeats nothing of what was read, so that it can be shown to whoever
// entered it and stand in a log.
package certificate

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Max is the most certificates that a chain or a list of authorities has.
const Max = 16

// The errors of this package, each for one field.
var (
	// ErrCertificate is wrapped by what is wrong with a certificate.
	ErrCertificate = errors.New("the certificate cannot be used")
	// ErrKey is wrapped by what is wrong with a private key.
	ErrKey = errors.New("the private key cannot be used")
	// ErrAuthorities is wrapped by what is wrong with the certificates of authorities.
	ErrAuthorities = errors.New("the CA certificates cannot be used")
)

// Pair is a client certificate, its chain and its key.
type Pair struct {
	// TLS is what a handshake presents; its Leaf is set.
	TLS tls.Certificate
	// Secrets are the key's DER and the numbers that it is made of, to be looked for in what others send.
	Secrets [][]byte
	// Lines are the lines of the key's PEM, for the same: they are text that needs no encoding to be looked for.
	Lines []string
}

// Read reads a certificate, with the chain behind it if there is one, and its unencrypted private key: PKCS #8, PKCS #1 or SEC 1,
// all PEM. Errors wrap [ErrCertificate] or [ErrKey]. Whether the certificate is valid now, [Pair.Ended] says.
func Read(chain, key []byte) (*Pair, error) {
	certs, err := read(chain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	block := keyBlock(key)
	switch {
	case block == nil && strings.Contains(string(key), "ENCRYPTED"):
		return nil, fmt.Errorf("%w: it is encrypted; enter it without a passphrase", ErrKey)
	case block == nil:
		return nil, fmt.Errorf("%w: there is no PEM block PRIVATE KEY", ErrKey)
	case block.Headers["DEK-Info"] != "":
		return nil, fmt.Errorf("%w: it is encrypted; enter it without a passphrase", ErrKey)
	}
	parsed := parse(block.Bytes)
	if parsed == nil {
		return nil, fmt.Errorf("%w: it is no RSA, ECDSA or Ed25519 key", ErrKey)
	}
	if !belongs(certs[0], parsed) {
		return nil, fmt.Errorf("%w: it is not that of the certificate", ErrKey)
	}
	p := &Pair{TLS: tls.Certificate{PrivateKey: parsed, Leaf: certs[0]}, Secrets: append([][]byte{block.Bytes}, numbers(parsed)...)}
	for _, c := range certs {
		p.TLS.Certificate = append(p.TLS.Certificate, c.Raw)
	}
	for line := range strings.Lines(string(pem.EncodeToMemory(&pem.Block{Type: "X", Bytes: block.Bytes}))) {
		if line = strings.TrimSpace(line); len(line) >= minLine && !strings.HasPrefix(line, "-") {
			p.Lines = append(p.Lines, line)
		}
	}
	return p, nil
}

// minLine is the shortest line of a PEM that is looked for: what is shorter may stand anywhere.
const minLine = 16

// day is how the end of a certificate is told.
const day = "2006-01-02 15:04 MST"

// Ended says why a certificate is not valid at a time, in words that continue "the certificate"; "" when it is.
func (p *Pair) Ended(now time.Time) string {
	switch leaf := p.TLS.Leaf; {
	case now.After(leaf.NotAfter):
		return "expired on " + leaf.NotAfter.UTC().Format(day)
	case now.Before(leaf.NotBefore):
		return "is not valid before " + leaf.NotBefore.UTC().Format(day)
	}
	return ""
}

// Ends says when a certificate with perhaps a chain behind it ends; zero when it cannot be read.
func Ends(chain []byte) time.Time {
	certs, err := read(chain)
	if err != nil {
		return time.Time{}
	}
	return certs[0].NotAfter
}

// Authorities reads the certificates by which the other side is judged. Errors wrap [ErrAuthorities].
func Authorities(text []byte) (*x509.CertPool, error) {
	certs, err := read(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAuthorities, err)
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

// CheckAuthorities says why none of the certificates that [Authorities] reads can ever vouch for a service at one of the hosts, as
// crypto/x509 decides: an authority's own can, and so can a server's own, which is trusted as long as the service presents that one.
// Without hosts their names are not looked at. Errors wrap [ErrAuthorities].
func CheckAuthorities(text []byte, hosts []string, now time.Time) error {
	certs, err := read(text)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAuthorities, err)
	}
	for _, c := range certs {
		unfit := vouches(c, hosts, now)
		if unfit == nil {
			return nil
		}
		if err == nil { // the first is the one that is meant
			err = fmt.Errorf("%w: %w", ErrAuthorities, unfit)
		}
	}
	return err
}

// vouches says why a certificate vouches for no service at the hosts; nil: it does for some.
func vouches(c *x509.Certificate, hosts []string, now time.Time) error {
	const want = "want that of the authority which signs the service's certificate, or the service's own"
	at := func(host string) bool { return c.VerifyHostname(host) == nil }
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("it expired on %s; %s", c.NotAfter.UTC().Format(day), want)
	case signs(c):
		return nil
	case !serves(c):
		return errors.New("it is neither an authority's nor a server's; " + want)
	case len(hosts) > 0 && !slices.ContainsFunc(hosts, at):
		return fmt.Errorf("it is a server's own, but of none at %s; %s", strings.Join(hosts, ", "), want)
	}
	return nil
}

// signs reports whether crypto/x509 takes a certificate for one that may sign others, see [x509.Certificate.CheckSignatureFrom].
func signs(c *x509.Certificate) bool {
	basic := c.IsCA || c.Version < 3
	return basic && (c.KeyUsage == 0 || c.KeyUsage&x509.KeyUsageCertSign != 0)
}

// serves reports whether a certificate is a server's: it has names, and no use but others.
func serves(c *x509.Certificate) bool {
	named := len(c.DNSNames)+len(c.IPAddresses) > 0
	return named && (len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 || slices.ContainsFunc(c.ExtKeyUsage, func(u x509.ExtKeyUsage) bool {
		return u == x509.ExtKeyUsageServerAuth || u == x509.ExtKeyUsageAny
	}))
}

// read reads the certificates in a PEM text.
func read(text []byte) (certs []*x509.Certificate, err error) {
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("a PEM block CERTIFICATE is no X.509 certificate")
		}
		if certs = append(certs, c); len(certs) > Max {
			return nil, fmt.Errorf("more than %d certificates", Max)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("there is no PEM block CERTIFICATE")
	}
	return certs, nil
}

// keyBlock is the first block of a private key, past what else tools write into such files.
func keyBlock(text []byte) *pem.Block {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil
		}
		switch block.Type {
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
			return block
		}
	}
}

func parse(der []byte) any {
	if k, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return k
	}
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k
	}
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k
	}
	return nil
}

// belongs reports whether a key is the one of a certificate.
func belongs(c *x509.Certificate, key any) bool {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return k.PublicKey.Equal(c.PublicKey)
	case *ecdsa.PrivateKey:
		return k.PublicKey.Equal(c.PublicKey)
	case ed25519.PrivateKey:
		public, ok := k.Public().(ed25519.PublicKey)
		return ok && public.Equal(c.PublicKey)
	}
	return false
}

// numbers are the secret numbers of a key, as bytes.
func numbers(key any) (out [][]byte) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		out = append(out, k.D.Bytes())
		for _, p := range k.Primes {
			out = append(out, p.Bytes())
		}
	case *ecdsa.PrivateKey:
		if b, err := k.Bytes(); err == nil {
			out = append(out, b)
		}
	case ed25519.PrivateKey:
		out = append(out, k.Seed())
	}
	return out
}
