package oauth

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/credential"
)

const (
	// usualLife is the life of an assertion.
	usualLife credential.Seconds = 300
	// backdate is how much iat lies in the past, for clocks of providers that are behind.
	backdate = 10
	minRSA   = 2048
)

// jwt makes a signed assertion (RFC 7519, 7523).
func (g *Grant) jwt(a *credential.Assertion, extra map[string]string) (string, error) {
	if a == nil {
		return "", configured("the recipe has no assertion")
	}
	text := func(template, usual string) (string, error) { return g.expand(cmp.Or(template, usual), extra, nil) }
	algorithm := cmp.Or(a.Algorithm, credential.RS256)
	usualKey := "{private_key}"
	if algorithm == credential.HS256 {
		usualKey = "{client_secret}"
	}
	header := map[string]any{"alg": string(algorithm), "typ": "JWT"}
	now := g.in.Now.Unix()
	claims := map[string]any{"iat": now - backdate, "exp": now + int64(cmp.Or(a.Lifetime, usualLife)), "jti": Unique("uuid")}
	for _, c := range []struct{ name, template, usual string }{
		{"iss", a.Issuer, "{client_id}"}, {"sub", a.Subject, "{client_id}"}, {"aud", a.Audience, "{token_url}"},
	} {
		v, err := text(c.template, c.usual)
		if err != nil {
			return "", err
		}
		if v != "" {
			claims[c.name] = v
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.Claims)) {
		v, err := text(a.Claims[name], "")
		if err != nil {
			return "", err
		}
		if delete(claims, name); v != "" {
			claims[name] = v
		}
	}
	kid, err := text(a.KeyID, "")
	if err != nil {
		return "", err
	}
	if kid != "" {
		header["kid"] = kid
	}
	key, err := text(a.Key, usualKey)
	if err != nil {
		return "", err
	}
	return signJWT(algorithm, header, claims, []byte(key))
}

func signJWT(algorithm credential.Algorithm, header, claims map[string]any, key []byte) (string, error) {
	h, errH := json.Marshal(header)
	c, errC := json.Marshal(claims)
	if errH != nil || errC != nil {
		return "", configured("the claims of the assertion cannot be encoded")
	}
	message := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c)
	signature, err := jws(algorithm, key, []byte(message))
	if err != nil {
		return "", err
	}
	return message + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// jws is a signature of RFC 7518 section 3, or RFC 8037.
func jws(algorithm credential.Algorithm, key, message []byte) ([]byte, error) {
	if algorithm == credential.HS256 {
		if len(key) == 0 {
			return nil, configured("the client has no secret")
		}
		h := hmac.New(sha256.New, key)
		h.Write(message)
		return h.Sum(nil), nil
	}
	private, err := privateKey(key)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(message)
	switch k := private.(type) {
	case *rsa.PrivateKey:
		if algorithm == credential.RS256 && k.N.BitLen() >= minRSA {
			s, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
			if err == nil {
				return s, nil
			}
		}
	case *ecdsa.PrivateKey:
		const half = 32
		if algorithm == credential.ES256 && k.Curve.Params().BitSize == 8*half {
			r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
			if err == nil {
				out := make([]byte, 2*half)
				r.FillBytes(out[:half])
				s.FillBytes(out[half:])
				return out, nil
			}
		}
	case ed25519.PrivateKey:
		if algorithm == credential.EdDSA {
			return ed25519.Sign(k, message), nil
		}
	}
	return nil, configured("the private key is not one for " + string(algorithm))
}

// privateKey reads a PEM private key: PKCS #8, PKCS #1 or SEC 1. Its errors say nothing of it.
func privateKey(text []byte) (any, error) {
	// Keys that were pasted out of JSON have their line ends escaped.
	block, _ := pem.Decode([]byte(strings.ReplaceAll(string(text), `\n`, "\n")))
	if block == nil {
		return nil, configured("the private key is not PEM")
	}
	if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	if k, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	return nil, configured("the private key cannot be read: PKCS #8, PKCS #1 or SEC 1 without a passphrase")
}

// claimsOf reads the claims of a JWT without checking who signed it: it came over TLS from whom it is about.
func claimsOf(token []byte) (map[string]any, bool) {
	parts := strings.Split(string(token), ".")
	const compact = 3
	if len(parts) != compact {
		return nil, false
	}
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return nil, false
	}
	tree, err := parseJSON(text)
	if err != nil {
		return nil, false
	}
	claims, ok := tree.(map[string]any)
	return claims, ok
}
