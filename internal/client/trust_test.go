package client

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// What is entered is sealed only to a key that a known authority certifies as a vault's, whatever
// key the server shows.
func TestSecretsAreSealedToTheVaultOfAKnownAuthority(t *testing.T) {
	t.Parallel()
	make := func() *seal.SignKey {
		k, err := seal.GenerateSignKey()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	authority, evil := make(), make()
	vault, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	certificate := func(by *seal.SignKey, role wire.Role, key seal.PublicKey, expires time.Time) []byte {
		return lease.Certify(by, &lease.Identity{Node: id.NewNode(time.Now()), Role: role, Seal: key, Expires: expires})
	}
	later := time.Now().Add(time.Hour)
	good := certificate(authority, wire.RoleVault, vault.Public(), later)
	for name, c := range map[string]struct {
		authority   *seal.SignKey
		key         seal.PublicKey
		certificate []byte
		want        error
	}{
		"the vault":                {authority, vault.Public(), good, nil},
		"a key of the server":      {authority, other.Public(), good, ErrUnproved},
		"a server's certificate":   {authority, other.Public(), certificate(authority, wire.RoleServer, other.Public(), later), ErrUnproved},
		"an expired certificate":   {authority, vault.Public(), certificate(authority, wire.RoleVault, vault.Public(), time.Now().Add(-time.Hour)), ErrUnproved},
		"another's certificate":    {authority, other.Public(), certificate(evil, wire.RoleVault, other.Public(), later), ErrUnproved},
		"another authority":        {evil, other.Public(), certificate(evil, wire.RoleVault, other.Public(), later), errUntrusted},
		"no certificate":           {authority, vault.Public(), nil, ErrUnproved},
		"no authority, no nothing": {nil, vault.Public(), nil, ErrUnproved},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				info := api.ServerInfo{VaultKey: c.key[:], Certificate: c.certificate}
				if c.authority != nil {
					known := c.authority.Public()
					info.Authority = known[:]
				}
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(info)
			}))
			defer server.Close()
			x, err := Open(server.URL, "token")
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			if key, err := x.vaultKey(t.Context()); err != nil || key != c.key {
				t.Errorf("who trusts the server: %v", err) // the red twin: without a check any key is taken
			}
			x.Trust(func(k seal.VerifyKey) error {
				if k != authority.Public() {
					return errUntrusted
				}
				return nil
			})
			key, err := x.vaultKey(t.Context())
			if !errors.Is(err, c.want) || (err == nil) != (key == c.key) {
				t.Errorf("key %x, %v, want %v", key[:4], err, c.want)
			}
		})
	}
}

var errUntrusted = errors.New("another authority")
