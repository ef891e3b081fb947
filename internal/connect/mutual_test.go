package connect

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/testkit/quirk"
)

// TestCertificatesAreCheckedWhereTheyAreEntered enters certificates and keys that do not fit each other or the day, for methods that use them.
func TestCertificatesAreCheckedWhereTheyAreEntered(t *testing.T) {
	t.Parallel()
	cert, leaf := quirk.NewCertificate("customer.example.net")
	other, _ := quirk.NewCertificate("other.example.net")
	chain := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	key := func(k any) string {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	own, foreign := key(cert.PrivateKey), key(other.PrivateKey)
	pinned := func(host string) string {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
		der := must(x509.CreateCertificate(rand.Reader, template, template, leaf.PublicKey, cert.PrivateKey))
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	mutual := &credential.Method{Type: credential.MTLS}
	client := &credential.Method{Type: credential.OAuth2Client, Recipe: &credential.Recipe{Token: &credential.Request{ClientAuth: credential.AuthTLS}}}
	for name, c := range map[string]struct {
		m              *credential.Method
		chain, key, ca string
		at             time.Time
		place, says    string
	}{
		"fits":                      {mutual, chain, own, chain, time.Now(), "", ""},
		"fits, of a client":         {client, chain, own, "", time.Now(), "", ""},
		"another's key":             {mutual, chain, foreign, "", time.Now(), "fields.private_key", "not that of the certificate"},
		"another's, of a client":    {client, chain, foreign, "", time.Now(), "fields.private_key", "not that of the certificate"},
		"no certificate":            {mutual, own, own, "", time.Now(), "fields.certificate", "no PEM block"},
		"no CA":                     {mutual, chain, own, foreign, time.Now(), "fields.server_ca", "no PEM block"},
		"no CA, but a server":       {mutual, chain, own, pinned("bank.example.net"), time.Now(), "", ""},
		"no CA, but another server": {mutual, chain, own, pinned("shop.example.net"), time.Now(), "fields.server_ca", "but of none at bank.example.net"},
		"expired":                   {mutual, chain, own, "", leaf.NotAfter.Add(time.Second), "fields.certificate", "expired on"},
		"not yet valid":             {mutual, chain, own, "", leaf.NotBefore.Add(-time.Second), "", ""},
		"fields of the same names":  {&credential.Method{Type: credential.APIKey}, "x", "y", "", time.Now(), "", ""},
		"missing: said by its kind": {mutual, "", own, "", time.Now(), "", ""},
	} {
		wrong := checkCertificate(c.m, []lease.Field{
			{Name: "certificate", Secret: []byte(c.chain)}, {Name: "private_key", Secret: []byte(c.key)}, {Name: "server_ca", Secret: []byte(c.ca)},
		}, []string{"bank.example.net"}, c.at)
		switch {
		case c.says == "" && len(wrong) == 0:
		case len(wrong) != 1 || wrong[0].Place != c.place || !strings.Contains(wrong[0].Message, c.says):
			t.Errorf("%s: got %v, want %q at %s", name, wrong, c.says, c.place)
		case strings.Contains(wrong[0].Message, strings.Split(own, "\n")[1]) || strings.Contains(wrong[0].Message, strings.Split(foreign, "\n")[1]):
			t.Errorf("%s: the message tells the key", name)
		}
	}
}
