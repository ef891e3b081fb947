package sign

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
	"time"
)

// AWS is who signs by Signature Version 4.
type AWS struct {
	KeyID   string
	Secret  []byte
	Token   string // of temporary credentials
	Region  string
	Service string
}

const (
	amzTime   = "20060102T150405Z"
	amzDay    = "20060102"
	algorithm = "AWS4-HMAC-SHA256"
)

// SigV4 makes the headers Authorization, X-Amz-Date, X-Amz-Content-Sha256 (for S3 only, which demands it) and, with temporary
// credentials, X-Amz-Security-Token, as "Create a signed AWS API request" of the IAM user guide says. The signature covers host,
// method, path, query, body, content type, and these headers. unsigned leaves the body out, which only S3 over TLS accepts.
func SigV4(k *AWS, r *Request, now time.Time, unsigned bool) map[string]string {
	now = now.UTC()
	out := map[string]string{"X-Amz-Date": now.Format(amzTime)}
	hash := hexSum(r.Body)
	if unsigned {
		hash = "UNSIGNED-PAYLOAD"
	}
	if k.Service == "s3" || unsigned {
		out["X-Amz-Content-Sha256"] = hash
	}
	if k.Token != "" {
		out["X-Amz-Security-Token"] = k.Token
	}
	headers := [][2]string{{"host", r.Host}}
	if r.ContentType != "" {
		headers = append(headers, [2]string{"content-type", r.ContentType})
	}
	for name, v := range out {
		headers = append(headers, [2]string{strings.ToLower(name), v})
	}
	slices.SortFunc(headers, func(a, b [2]string) int { return cmp.Compare(a[0], b[0]) })
	var canonical, signed strings.Builder
	for i, h := range headers {
		canonical.WriteString(h[0] + ":" + strings.Join(strings.Fields(h[1]), " ") + "\n")
		if i > 0 {
			signed.WriteByte(';')
		}
		signed.WriteString(h[0])
	}
	request := strings.Join([]string{r.Method, canonicalPath(k.Service, r.Path), canonicalQuery(r.Query), canonical.String(), signed.String(), hash}, "\n")
	scope := now.Format(amzDay) + "/" + k.Region + "/" + k.Service + "/aws4_request"
	text := strings.Join([]string{algorithm, now.Format(amzTime), scope, hexSum([]byte(request))}, "\n")
	key := append([]byte("AWS4"), k.Secret...)
	for _, part := range []string{now.Format(amzDay), k.Region, k.Service, "aws4_request"} {
		key = mac(sha256.New, key, []byte(part))
	}
	signature := hex.EncodeToString(mac(sha256.New, key, []byte(text)))
	out["Authorization"] = algorithm + " Credential=" + k.KeyID + "/" + scope + ", SignedHeaders=" + signed.String() + ", Signature=" + signature
	return out
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// canonicalPath is the path with every segment encoded twice, for all services but S3, where it is once.
func canonicalPath(service, path string) string {
	if path == "" {
		return "/"
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		plain, err := url.PathUnescape(s)
		if err != nil {
			plain = s
		}
		segments[i] = unreserved(plain)
		if service != "s3" {
			segments[i] = unreserved(segments[i])
		}
	}
	return strings.Join(segments, "/")
}

// canonicalQuery is the query sorted by encoded name, then value.
func canonicalQuery(query string) string {
	var all [][2]string
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		n, errN := url.QueryUnescape(name)
		v, errV := url.QueryUnescape(value)
		if errN != nil || errV != nil {
			n, v = name, value
		}
		all = append(all, [2]string{unreserved(n), unreserved(v)})
	}
	slices.SortFunc(all, func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	var b strings.Builder
	for i, p := range all {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p[0] + "=" + p[1])
	}
	return b.String()
}

// Escape encodes all but the unreserved characters.
func Escape(s string) string { return unreserved(s) }

// unreserved encodes all but the unreserved characters (RFC 3986 section 2.3), which is also what RFC 5849 section 3.6 wants.
func unreserved(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}
