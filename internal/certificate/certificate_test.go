package certificate

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

func block(name string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: name, Bytes: der})
}

// made is a self-signed certificate for a key.
func made(t *testing.T, k crypto.Signer) []byte {
	t.Helper()
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return block("CERTIFICATE", der)
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestReadTakesEveryUsualForm(t *testing.T) {
	t.Parallel()
	ec := ecKey(t)
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(k any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return block("PRIVATE KEY", der)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	scalar, err := ec.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key    []byte
		of     crypto.Signer
		number []byte
	}{
		"PKCS #8, ECDSA":         {pkcs8(ec), ec, scalar},
		"PKCS #8, RSA":           {pkcs8(r), r, r.Primes[0].Bytes()},
		"PKCS #8, Ed25519":       {pkcs8(ed), ed, ed.Seed()},
		"PKCS #1":                {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r)), r, r.D.Bytes()},
		"SEC 1":                  {block("EC PRIVATE KEY", sec1), ec, scalar},
		"parameters in front":    {append(block("EC PARAMETERS", []byte{6, 0}), block("EC PRIVATE KEY", sec1)...), ec, scalar},
		"lines as Windows has":   {bytes.ReplaceAll(pkcs8(ec), []byte("\n"), []byte("\r\n")), ec, scalar},
		"attributes in the text": {append([]byte("Bag Attributes\n    friendlyName: x\n"), pkcs8(ec)...), ec, scalar},
	} {
		p, err := Read(append(made(t, c.of), made(t, ec)...), c.key)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(p.TLS.Certificate) != 2 || p.TLS.Leaf == nil || p.Ended(time.Now()) != "" {
			t.Errorf("%s: %d certificates, %q", name, len(p.TLS.Certificate), p.Ended(time.Now()))
		}
		found := false
		for _, s := range p.Secrets {
			found = found || bytes.Equal(s, c.number)
		}
		if !found || len(p.Lines) == 0 {
			t.Errorf("%s: %d secrets without the number of the key, %d lines", name, len(p.Secrets), len(p.Lines))
		}
	}
}

func TestReadSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	one, two := ecKey(t), ecKey(t)
	der, err := x509.MarshalPKCS8PrivateKey(one)
	if err != nil {
		t.Fatal(err)
	}
	key, chain := block("PRIVATE KEY", der), made(t, one)
	many := bytes.Repeat(chain, Max+1)
	for name, c := range map[string]struct {
		chain, key []byte
		want       error
		says       string
	}{
		"key of another":     {made(t, two), key, ErrKey, "not that of the certificate"},
		"no certificate":     {key, key, ErrCertificate, "no PEM block CERTIFICATE"},
		"no key":             {chain, chain, ErrKey, "no PEM block PRIVATE KEY"},
		"nothing":            {nil, nil, ErrCertificate, "no PEM block CERTIFICATE"},
		"broken certificate": {block("CERTIFICATE", der), key, ErrCertificate, "no X.509 certificate"},
		"broken key":         {chain, block("PRIVATE KEY", der[:len(der)-9]), ErrKey, "no RSA, ECDSA or Ed25519 key"},
		"encrypted":          {chain, block("ENCRYPTED PRIVATE KEY", der), ErrKey, "without a passphrase"},
		"encrypted of old": {chain, pem.EncodeToMemory(&pem.Block{
			Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: der,
		}), ErrKey, "without a passphrase"},
		"too many": {many, key, ErrCertificate, "more than 16"},
	} {
		_, err := Read(c.chain, c.key)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %q", name, err, c.says)
			continue
		}
		scalar, _ := one.Bytes()
		for _, secret := range []string{strings.Split(string(key), "\n")[1], hex.EncodeToString(scalar), string(scalar)} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error tells the key", name)
			}
		}
	}
	if _, err := Authorities(key); !errors.Is(err, ErrAuthorities) {
		t.Errorf("authorities without a certificate: %v", err)
	}
	if _, err := Authorities(chain); err != nil {
		t.Error(err)
	}
}

func TestEnded(t *testing.T) {
	t.Parallel()
	k := ecKey(t)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Read(made(t, k), block("PRIVATE KEY", der))
	if err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]string{0: "", 2 * time.Hour: "expired on ", -2 * time.Hour: "is not valid before "} {
		if got := p.Ended(time.Now().Add(after)); !strings.HasPrefix(got, want) || (got == "") != (want == "") {
			t.Errorf("after %s: %q, want %q", after, got, want)
		}
	}
}

// TestAuthoritiesAreJudgedAsTheyWillBe compares what is said of certificates where they are entered with what crypto/x509 makes of
// them in a handshake: of a service whose certificate they have signed, or whose own they are.
func TestAuthoritiesAreJudgedAsTheyWillBe(t *testing.T) {
	t.Parallel()
	const host = "bank.example"
	now := time.Now()
	key, issuer := ecKey(t), ecKey(t)
	base := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(time.Hour)}
	sign := func(c, parent *x509.Certificate, of, by *ecdsa.PrivateKey) *x509.Certificate {
		t.Helper()
		der, err := x509.CreateCertificate(rand.Reader, c, parent, of.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	service := base
	service.DNSNames = []string{host}
	works := func(c *x509.Certificate) bool {
		roots := x509.NewCertPool()
		roots.AddCert(c)
		own := service
		for _, leaf := range []*x509.Certificate{c, sign(&own, c, issuer, key)} {
			if _, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: now}); err == nil {
				return true
			}
		}
		return false
	}
	client, server := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		issued bool   // by somebody else
		says   string // empty: it works
	}{
		"authority":                     {func(c *x509.Certificate) { c.IsCA = true }, false, ""},
		"authority that signs":          {func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }, false, ""},
		"authority between":             {func(c *x509.Certificate) { c.IsCA = true }, true, ""},
		"authority that may not sign":   {func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageDigitalSignature }, false, "neither"},
		"authority that has ended":      {func(c *x509.Certificate) { c.IsCA, c.NotAfter = true, now.Add(-time.Hour) }, false, "expired on"},
		"server, signed by itself":      {func(c *x509.Certificate) { c.DNSNames = []string{host} }, false, ""},
		"server, signed by another":     {func(c *x509.Certificate) { c.DNSNames, c.ExtKeyUsage = []string{"*.example"}, server }, true, ""},
		"server that is another":        {func(c *x509.Certificate) { c.DNSNames = []string{"shop.example"} }, false, "of none at " + host},
		"server without such a name":    {func(c *x509.Certificate) { c.Subject.CommonName = host }, false, "neither"},
		"server that has ended":         {func(c *x509.Certificate) { c.DNSNames, c.NotAfter = []string{host}, now.Add(-time.Hour) }, false, "expired on"},
		"client":                        {func(c *x509.Certificate) { c.Subject.CommonName, c.ExtKeyUsage = "customer", client }, true, "neither"},
		"client with the server's name": {func(c *x509.Certificate) { c.DNSNames, c.ExtKeyUsage = []string{host}, client }, true, "neither"},
		"neither":                       {func(c *x509.Certificate) { c.BasicConstraintsValid = true }, false, "neither"},
	} {
		template := base
		template.BasicConstraintsValid = true
		c.change(&template)
		parent, by := &template, key
		if c.issued {
			of := base
			of.IsCA, of.BasicConstraintsValid, of.Subject.CommonName = true, true, "issuer"
			parent, by = sign(&of, &of, issuer, issuer), issuer
		}
		made := sign(&template, parent, key, by)
		err := CheckAuthorities(block("CERTIFICATE", made.Raw), []string{host}, now)
		if works(made) != (c.says == "") {
			t.Errorf("%s: in a handshake it works: %v", name, works(made))
		}
		if (err == nil) != (c.says == "") || err != nil && (!errors.Is(err, ErrAuthorities) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	authority := made(t, key) // no authority, and no server
	if err := CheckAuthorities(authority, nil, now); !errors.Is(err, ErrAuthorities) {
		t.Errorf("without hosts: %v", err)
	}
	good := base
	good.IsCA, good.BasicConstraintsValid = true, true
	list := append(authority, block("CERTIFICATE", sign(&good, &good, key, key).Raw)...)
	if err := CheckAuthorities(list, []string{host}, now); err != nil {
		t.Errorf("one of two: %v", err)
	}
}
