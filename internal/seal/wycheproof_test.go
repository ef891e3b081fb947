package seal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"slices"
	"testing"

	"github.com/c2sp/wycheproof"
)

// hexBytes is a byte string of the vectors.
type hexBytes []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// vectors reads a file of Project Wycheproof whose groups are of type T.
func vectors[T any](t *testing.T, name string) []T {
	t.Helper()
	f, err := wycheproof.TestVectors.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var all struct {
		Groups []T `json:"testGroups"`
	}
	if err := json.NewDecoder(f).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all.Groups
}

// count reports how many vectors ran, and fails when the file was not what it should be.
func count(t *testing.T, what string, valid, invalid, least int) {
	t.Helper()
	t.Logf("%s: %d valid and %d invalid vectors", what, valid, invalid)
	if valid+invalid < least {
		t.Errorf("%s: %d vectors ran, want at least %d", what, valid+invalid, least)
	}
}

// TestWycheproofAESGCM opens every vector of our parameters in the form of a [Key]:
// version, nonce, ciphertext, tag.
func TestWycheproofAESGCM(t *testing.T) {
	t.Parallel()
	valid, invalid := 0, 0
	for _, g := range vectors[struct {
		KeySize int `json:"keySize"`
		IVSize  int `json:"ivSize"`
		TagSize int `json:"tagSize"`
		Tests   []struct {
			ID                         int `json:"tcId"`
			Key, IV, AAD, Msg, CT, Tag hexBytes
			Result                     string
		}
	}](t, "aes_gcm_test.json") {
		if g.KeySize != 8*KeySize || g.TagSize != 8*tagSize {
			continue
		}
		for _, v := range g.Tests {
			k, err := NewKey(v.Key)
			if err != nil {
				t.Fatalf("vector %d: %v", v.ID, err)
			}
			sealed := append(append(append([]byte{version}, v.IV...), v.CT...), v.Tag...)
			got, err := k.Open(nil, v.AAD, sealed)
			if g.IVSize != 8*nonceSize || v.Result == "invalid" {
				invalid++
				if err == nil {
					t.Errorf("vector %d (%s) opens", v.ID, v.Result)
				}
				continue
			}
			valid++
			if err != nil || !bytes.Equal(got, v.Msg) {
				t.Errorf("vector %d: %x, %v, want %x", v.ID, got, err, []byte(v.Msg))
			}
		}
	}
	count(t, "AES-256-GCM", valid, invalid, 80)
}

// TestWycheproofX25519 takes every vector through the private key of HPKE that we
// use: what the KEM derives from the vector's shared secret must be what it derives
// for our key and the vector's public key (RFC 9180 section 4.1), and a public key
// that gives the zero secret must be refused (RFC 7748 section 6.1).
func TestWycheproofX25519(t *testing.T) {
	t.Parallel()
	valid, refused := 0, 0
	for _, g := range vectors[struct {
		Tests []struct {
			ID                      int `json:"tcId"`
			Public, Private, Shared hexBytes
			Result                  string
		}
	}](t, "x25519_test.json") {
		for _, v := range g.Tests {
			k, err := NewPrivateKey(v.Private)
			if err != nil {
				t.Fatalf("vector %d: %v", v.ID, err)
			}
			c, err := Accept(k, "wycheproof", v.Public)
			if bytes.Equal(v.Shared, make([]byte, KeySize)) {
				refused++
				if err == nil {
					t.Errorf("vector %d gives the zero secret and is accepted", v.ID)
				}
				continue
			}
			valid++
			if err != nil {
				t.Errorf("vector %d: %v", v.ID, err)
				continue
			}
			want, err := NewChannel(exported(t, v.Shared, v.Public, k), Caller)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.Open(nil, nil, want.Seal(nil, nil, []byte("x"))); err != nil || string(got) != "x" {
				t.Errorf("vector %d: another secret was derived", v.ID)
			}
		}
	}
	count(t, "X25519", valid, refused, 400)
}

// exported is what [Accept] derives from a shared secret, written out from RFC 9180
// sections 4.1, 5.1 and 5.3 for DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, export only.
func exported(t *testing.T, dh, enc []byte, k *PrivateKey) []byte {
	t.Helper()
	extract := func(suite string, salt []byte, label string, ikm []byte) []byte {
		b, err := hkdf.Extract(sha256.New, append([]byte("HPKE-v1"+suite+label), ikm...), salt)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	expand := func(suite string, prk []byte, label string, info []byte) []byte {
		b, err := hkdf.Expand(sha256.New, prk, "\x00\x20HPKE-v1"+suite+label+string(info), 32)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const kem, suite = "KEM\x00\x20", "HPKE\x00\x20\x00\x01\xff\xff"
	pub := k.Public()
	shared := expand(kem, extract(kem, nil, "eae_prk", dh), "shared_secret", append(bytes.Clone(enc), pub[:]...))
	context := append([]byte{0}, extract(suite, nil, "psk_id_hash", nil)...)
	context = append(context, extract(suite, nil, "info_hash", []byte("wycheproof"))...)
	return expand(suite, expand(suite, extract(suite, shared, "secret", nil), "exp", context), "sec", []byte(exportLabel))
}

// TestWycheproofEd25519 runs the vectors through what [VerifyKey.Verify] calls, and
// checks that Verify takes none of them: they were not signed in a domain.
func TestWycheproofEd25519(t *testing.T) {
	t.Parallel()
	valid, invalid := 0, 0
	for _, g := range vectors[struct {
		PublicKey struct{ PK hexBytes }
		Tests     []struct {
			ID       int `json:"tcId"`
			Msg, Sig hexBytes
			Result   string
		}
	}](t, "ed25519_test.json") {
		for _, v := range g.Tests {
			k := VerifyKey(g.PublicKey.PK)
			want := v.Result == "valid"
			if want {
				valid++
			} else {
				invalid++
			}
			if got := len(v.Sig) == ed25519.SignatureSize && ed25519.Verify(k[:], v.Msg, v.Sig); got != want {
				t.Errorf("vector %d: %v, want %v", v.ID, got, want)
			}
			if k.Verify("", v.Msg, v.Sig) {
				t.Errorf("vector %d verifies in a domain", v.ID)
			}
		}
	}
	count(t, "Ed25519", valid, invalid, 150)
}

// TestSignaturesAreNotMalleable adds the order of the group to the second half of
// our own signatures, which RFC 8032 section 5.1.7 forbids to accept.
func TestSignaturesAreNotMalleable(t *testing.T) {
	t.Parallel()
	k, err := GenerateSignKey()
	if err != nil {
		t.Fatal(err)
	}
	order, _ := new(big.Int).SetString("1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed", 16)
	tried := 0
	for i := range 64 {
		message := []byte{byte(i)}
		sig := k.Sign("test", message)
		half := bytes.Clone(sig[32:])
		slices.Reverse(half)
		b := new(big.Int).Add(new(big.Int).SetBytes(half), order).FillBytes(make([]byte, 32))
		slices.Reverse(b)
		tried++
		if !k.Public().Verify("test", message, sig) || k.Public().Verify("test", message, append(bytes.Clone(sig[:32]), b...)) {
			t.Fatalf("signature %d: the original must verify and its twin must not", i)
		}
	}
	t.Logf("malleable signatures: %d tried, 0 accepted", tried)
}

// TestWycheproofHKDF runs the vectors through the function that derives our keys.
func TestWycheproofHKDF(t *testing.T) {
	t.Parallel()
	valid, invalid := 0, 0
	for _, g := range vectors[struct {
		Tests []struct {
			ID                   int `json:"tcId"`
			IKM, Salt, Info, OKM hexBytes
			Size                 int
			Result               string
		}
	}](t, "hkdf_sha256_test.json") {
		for _, v := range g.Tests {
			got, err := hkdf.Key(sha256.New, v.IKM, v.Salt, string(v.Info), v.Size)
			if v.Result != "valid" {
				invalid++
				if err == nil {
					t.Errorf("vector %d: no error", v.ID)
				}
				continue
			}
			valid++
			if err != nil || !bytes.Equal(got, v.OKM) {
				t.Errorf("vector %d: %x, %v", v.ID, got, err)
			}
		}
	}
	count(t, "HKDF-SHA256", valid, invalid, 80)
}
