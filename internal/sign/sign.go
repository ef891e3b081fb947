package sign

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha1" // #nosec G505 -- some providers take nothing else; it protects their side, not ours
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/url"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/credential"
)

// ErrSigning is wrapped by the errors of this package.
var ErrSigning = errors.New("cannot sign")

// Request is what is signed. All is as it will be sent.
type Request struct {
	Method string
	// Scheme is https or http; Host has the port unless it is the scheme's own.
	Scheme, Host string
	// Path and Query are escaped; the query is without "?".
	Path, Query string
	ContentType string
	// Body is the whole body. Form says that it is one of names and values.
	Body []byte
	Form bool
}

// URL is the whole URL.
func (r *Request) URL() string {
	u := r.Scheme + "://" + r.Host + r.Path
	if r.Query != "" {
		u += "?" + r.Query
	}
	return u
}

// value returns what a template calls name, if it is of the request.
func (r *Request) value(name string, s *credential.Signing) (string, bool) {
	switch name {
	case "method":
		return r.Method, true
	case "host":
		return r.Host, true
	case "path":
		return r.Path, true
	case "query":
		return r.Query, true
	case "url":
		return r.URL(), true
	case "body":
		return string(r.Body), true
	case "content_type":
		return r.ContentType, true
	case "body_hash":
		return bodyHash(s, r.Body), true
	case "params":
		return sortedParams(r), true
	}
	if single, ok := strings.CutPrefix(name, "query."); ok {
		v, _ := url.ParseQuery(r.Query)
		return v.Get(single), true
	}
	if single, ok := strings.CutPrefix(name, "param."); ok {
		for _, p := range r.params() {
			if p[0] == single {
				return p[1], true
			}
		}
		return "", true
	}
	return "", false
}

// params are the parameters of query and form, decoded.
func (r *Request) params() [][2]string {
	texts := []string{r.Query}
	if r.Form {
		texts = append(texts, string(r.Body))
	}
	var out [][2]string
	for _, text := range texts {
		for part := range strings.SplitSeq(text, "&") {
			if part == "" {
				continue
			}
			name, value, _ := strings.Cut(part, "=")
			n, errN := url.QueryUnescape(name)
			v, errV := url.QueryUnescape(value)
			if errN == nil && errV == nil {
				out = append(out, [2]string{n, v})
			}
		}
	}
	return out
}

func sortedParams(r *Request) string {
	all := r.params()
	slices.SortStableFunc(all, func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	var b strings.Builder
	for i, p := range all {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p[0] + "=" + p[1])
	}
	return b.String()
}

// Sign makes the signature of a request. value gives what the templates call everything else:
// fields, variables, now, nonce.
func Sign(s *credential.Signing, r *Request, value func(name string) (string, error)) (string, error) {
	all := func(name string) (string, error) {
		if v, ok := r.value(name, s); ok {
			return v, nil
		}
		return value(name)
	}
	message, err := credential.Expand(s.Message, all)
	if err != nil {
		return "", err
	}
	algorithm := cmp.Or(s.Algorithm, credential.HMACSHA256)
	if sum := plainHash(algorithm); sum != nil {
		h := sum()
		h.Write([]byte(message))
		return encode(s.Encoding, h.Sum(nil)), nil
	}
	keyed := keyedHash(algorithm)
	if keyed == nil {
		return "", fmt.Errorf("%w: unknown algorithm", ErrSigning)
	}
	text, err := credential.Expand(cmp.Or(s.Key, "{secret}"), value)
	if err != nil {
		return "", err
	}
	key, err := decode(s.KeyEncoding, text)
	if err != nil {
		return "", err
	}
	if len(key) == 0 {
		return "", fmt.Errorf("%w: the key is empty", ErrSigning)
	}
	return encode(s.Encoding, mac(keyed, key, []byte(message))), nil
}

// BodyHash is {body_hash} of a recipe.
func BodyHash(s *credential.Signing, body []byte) string { return bodyHash(s, body) }

func bodyHash(s *credential.Signing, body []byte) string {
	sum := plainHash(cmp.Or(s.BodyHash, credential.SHA256))
	if sum == nil {
		return ""
	}
	h := sum()
	h.Write(body)
	return encode(s.BodyEncoding, h.Sum(nil))
}

func mac(of func() hash.Hash, key, message []byte) []byte {
	h := hmac.New(of, key)
	h.Write(message)
	return h.Sum(nil)
}

func keyedHash(a credential.Algorithm) func() hash.Hash {
	switch a {
	case credential.HMACSHA1:
		return sha1.New
	case credential.HMACSHA256:
		return sha256.New
	case credential.HMACSHA512:
		return sha512.New
	default:
		return nil
	}
}

func plainHash(a credential.Algorithm) func() hash.Hash {
	switch a {
	case credential.SHA1:
		return sha1.New
	case credential.SHA256:
		return sha256.New
	case credential.SHA512:
		return sha512.New
	default:
		return nil
	}
}

func encode(e credential.Encoding, b []byte) string {
	switch e {
	case credential.Base64:
		return base64.StdEncoding.EncodeToString(b)
	case credential.Base64URL:
		return base64.RawURLEncoding.EncodeToString(b)
	case credential.UpperHex:
		return strings.ToUpper(hex.EncodeToString(b))
	default:
		return hex.EncodeToString(b)
	}
}

func decode(e credential.Encoding, text string) ([]byte, error) {
	var b []byte
	var err error
	switch e {
	case "", credential.Text:
		return []byte(text), nil
	case credential.Hex, credential.UpperHex:
		b, err = hex.DecodeString(text)
	case credential.Base64:
		b, err = base64.StdEncoding.DecodeString(text)
	case credential.Base64URL:
		b, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the key is not %s", ErrSigning, e) // the decoder's error repeats bytes of the key
	}
	return b, nil
}
