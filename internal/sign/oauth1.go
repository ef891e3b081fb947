package sign

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
)

// Consumer is who signs by OAuth 1.0.
type Consumer struct {
	Key         string
	Secret      []byte
	Token       string
	TokenSecret []byte
	// Realm is a parameter that is not signed.
	Realm string
	// Algorithm is HMACSHA1 unless set; HMACSHA256, HMACSHA512 and PlainText are the others.
	Algorithm credential.Algorithm
}

// OAuth1 makes the header Authorization of RFC 5849 section 3.5.1. The signature covers the method, the URL, and the parameters
// of query and form.
func OAuth1(c *Consumer, r *Request, now time.Time, nonce string) (string, error) {
	kind, method := cmp.Or(c.Algorithm, credential.HMACSHA1), ""
	switch kind {
	case credential.HMACSHA1:
		method = "HMAC-SHA1"
	case credential.HMACSHA256:
		method = "HMAC-SHA256"
	case credential.HMACSHA512:
		method = "HMAC-SHA512"
	case credential.PlainText:
		method = "PLAINTEXT"
	default:
		return "", fmt.Errorf("%w: OAuth 1.0 knows no such method", ErrSigning)
	}
	own := [][2]string{
		{"oauth_consumer_key", c.Key},
		{"oauth_nonce", nonce},
		{"oauth_signature_method", method},
		{"oauth_timestamp", strconv.FormatInt(now.Unix(), 10)},
		{"oauth_token", c.Token},
		{"oauth_version", "1.0"},
	}
	own = slices.DeleteFunc(own, func(p [2]string) bool { return p[1] == "" })
	key := unreserved(string(c.Secret)) + "&" + unreserved(string(c.TokenSecret))
	signature := key
	if of := keyedHash(kind); of != nil {
		signature = base64.StdEncoding.EncodeToString(mac(of, []byte(key), []byte(baseString(r, own))))
	}
	var b strings.Builder
	b.WriteString("OAuth ")
	if c.Realm != "" {
		b.WriteString(`realm="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(c.Realm) + `", `)
	}
	for _, p := range own {
		b.WriteString(p[0] + `="` + unreserved(p[1]) + `", `)
	}
	b.WriteString(`oauth_signature="` + unreserved(signature) + `"`)
	return b.String(), nil
}

// baseString is RFC 5849 section 3.4.1.
func baseString(r *Request, own [][2]string) string {
	all := append(r.params(), own...)
	for i := range all {
		all[i] = [2]string{unreserved(all[i][0]), unreserved(all[i][1])}
	}
	slices.SortFunc(all, func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	var params strings.Builder
	for i, p := range all {
		if i > 0 {
			params.WriteByte('&')
		}
		params.WriteString(p[0] + "=" + p[1])
	}
	uri := strings.ToLower(r.Scheme) + "://" + strings.ToLower(r.Host) + r.Path
	return strings.ToUpper(r.Method) + "&" + unreserved(uri) + "&" + unreserved(params.String())
}
