package quirk

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // of WSSE and OAuth 1.0
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"
)

// documentURL is where the client's metadata document stands.
const documentURL = "https://here.example.net/client.json"

// Keys of providers without OAuth.
const (
	Key       = "key-0123456789abcdef"
	KeySecret = "key-secret-0123456789"
	// TokenSecret is that of OAuth 1.0.
	TokenSecret = "token-secret-0123456789"
)

// api answers the calls of integrations: {"account": …} when the credential is good and where it belongs.
func (s *Server) api(w http.ResponseWriter, r *http.Request, body []byte) {
	if s.on[Echo] {
		s.echo(w, r, body, 200)
		return
	}
	if s.on[RedirectAway] && r.URL.Path == "/api/me" {
		w.Header().Set("Location", Evil+"/api/elsewhere")
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	if why := s.wrongCall(r, body); why != "" {
		s.note("call: %s", why)
		reply(w, 401, map[string]any{"error": why})
		return
	}
	reply(w, 200, map[string]any{"account": Account})
}

func (s *Server) wrongCall(r *http.Request, body []byte) string {
	q := r.URL.Query()
	switch {
	case s.on[HMACCalls]:
		return s.wrongHMAC(r, body)
	case s.on[AWSCalls]:
		return s.wrongAWS(r, body)
	case s.on[OAuth1Calls], s.on[OAuth1SHA256], s.on[OAuth1Plain]:
		return s.wrongOAuth1(r)
	case s.on[WSSE]:
		return s.wrongWSSE(r)
	case s.on[InstanceURL] && r.Host != "eu.example.com":
		return "another instance"
	case s.on[CallbackData] && !strings.HasSuffix(r.URL.Path, "/realm-9"):
		return "no realm"
	case s.on[AnswerIDs] && r.Header.Get("X-Team") != Account:
		return "no team"
	case s.on[LookUp] && r.URL.Path != "/api/cloud-1/me" && r.URL.Path != "/api/resources":
		return "no cloud id"
	case s.on[DateHeader]:
		if t, err := http.ParseTime(r.Header.Get("X-Date")); err != nil || time.Until(t).Abs() > time.Minute {
			return "X-Date"
		}
	case s.on[VersionHeader] && r.Header.Get("X-Api-Version") != "2026-01/acme":
		return "X-Api-Version"
	}
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	want := "Bearer"
	switch {
	case s.on[TokenScheme]:
		want = "Token"
	case s.on[TokenPair]:
		want, value = "Token", strings.TrimPrefix(value, "token=")
	case s.on[BareHeader]:
		want, scheme, value = "", "", r.Header.Get("Authorization")
	case s.on[CustomHeader]:
		want, scheme, value = "", "", r.Header.Get("X-Api-Key")
	case s.on[QueryToken]:
		want, scheme, value = "", "", q.Get("auth_token")
	case s.on[BodyToken]:
		var m map[string]any
		_ = json.Unmarshal(body, &m)
		want, scheme = "", ""
		value, _ = m["api_token"].(string)
		if m["name"] != "x" {
			return "the body has changed"
		}
	case s.on[PathToken]:
		want, scheme, value = "", "", strings.TrimPrefix(strings.TrimSuffix(r.URL.Path, "/me"), "/api/bot")
	case s.on[SeveralPlaces]:
		if r.Header.Get("X-App") != ClientID || q.Get("v") == "" {
			return "X-App and v"
		}
	case s.on[CookieToken]:
		c, err := r.Cookie("B1SESSION")
		if err != nil {
			return "no cookie"
		}
		want, scheme, value = "", "", c.Value
	case s.on[SessionExchange]:
		want, scheme, value = "", "", q.Get("BhRestToken")
	}
	if scheme != want || value == "" {
		return "no " + want + " token"
	}
	return s.wrongToken(r, value)
}

func (s *Server) wrongToken(r *http.Request, value string) string {
	t := s.tokens[value]
	switch {
	case t == nil || t.refresh || t.grant.revoked:
		return "unknown token"
	case !s.Now().Before(t.expires):
		s.Counts.Expired++
		return "expired token"
	case s.on[SessionExchange] && t.set != "session", s.on[StepURL] && t.set != "session":
		return "not a session"
	case s.on[SecondResource] && strings.HasPrefix(r.Host, "eu.") != (t.set == "other"):
		return "token of another resource"
	case s.on[LongLived] && t.set != "long":
		return "short-lived token"
	case strings.HasPrefix(r.URL.Path, "/api/user") != (t.set == "user") && s.on[TwoTokens]:
		return "token of the other identity"
	}
	return ""
}

// wrongHMAC checks X-Signature: base64 of HMAC-SHA256 over method, path, query, hash of the body and time stamp.
func (s *Server) wrongHMAC(r *http.Request, body []byte) string {
	sum := sha256.Sum256(body)
	text := strings.Join([]string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, hex.EncodeToString(sum[:]), r.Header.Get("X-Timestamp")}, "\n")
	h := hmac.New(sha256.New, []byte(KeySecret))
	h.Write([]byte(text))
	at, err := strconv.ParseInt(r.Header.Get("X-Timestamp"), 10, 64)
	if err != nil || time.Since(time.UnixMilli(at)).Abs() > time.Minute {
		return "time stamp"
	}
	return wrong(r.Header.Get("X-Signature") != base64.StdEncoding.EncodeToString(h.Sum(nil)) || r.Header.Get("X-Key") != Key, "signature")
}

// wrongWSSE checks UsernameToken: the digest is base64 of SHA-1 over nonce, time and secret.
func (s *Server) wrongWSSE(r *http.Request) string {
	f := attributes(strings.TrimPrefix(r.Header.Get("X-WSSE"), "UsernameToken "))
	sum := sha1.Sum([]byte(f["Nonce"] + f["Created"] + KeySecret)) //nolint:gosec // WSSE is what it is
	return wrong(f["Username"] != Key || f["PasswordDigest"] != base64.StdEncoding.EncodeToString(sum[:]) || f["Nonce"] == "", "digest")
}

// attributes reads name="value" pairs.
func attributes(text string) map[string]string {
	out := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		out[name] = strings.Trim(value, `"`)
	}
	return out
}

// wrongAWS checks a Signature Version 4, written anew after the user guide: what is signed are the headers that the request names.
func (s *Server) wrongAWS(r *http.Request, body []byte) string {
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return "no signature"
	}
	f := attributes(rest)
	scope := strings.Split(f["Credential"], "/")
	stamp := r.Header.Get("X-Amz-Date")
	if len(scope) != 5 || scope[0] != Key || scope[2] != "eu-west-1" || scope[3] != "execute-api" || !strings.HasPrefix(stamp, scope[1]) {
		return "scope " + f["Credential"]
	}
	canonical := r.Method + "\n" + strings.ReplaceAll(r.URL.EscapedPath(), "%", "%25") + "\n" + sortedQuery(r.URL.Query()) + "\n"
	for name := range strings.SplitSeq(f["SignedHeaders"], ";") {
		v := r.Header.Get(name)
		if name == "host" {
			v = r.Host
		}
		canonical += name + ":" + strings.TrimSpace(v) + "\n"
	}
	sum := sha256.Sum256(body)
	canonical += "\n" + f["SignedHeaders"] + "\n" + hex.EncodeToString(sum[:])
	hash := sha256.Sum256([]byte(canonical))
	text := "AWS4-HMAC-SHA256\n" + stamp + "\n" + strings.Join(scope[1:], "/") + "\n" + hex.EncodeToString(hash[:])
	key := []byte("AWS4" + KeySecret)
	for _, part := range scope[1:] {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return wrong(hex.EncodeToString(h.Sum(nil)) != f["Signature"], "signature")
}

func sortedQuery(q url.Values) string {
	return strings.ReplaceAll(q.Encode(), "+", "%20")
}

// wrongOAuth1 checks RFC 5849 section 3.2.
func (s *Server) wrongOAuth1(r *http.Request) string {
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "OAuth ")
	if !ok {
		return "no signature"
	}
	f := attributes(rest)
	for k, v := range f {
		f[k], _ = url.PathUnescape(v)
	}
	if f["oauth_consumer_key"] != Key || f["oauth_token"] != "tok" || f["oauth_nonce"] == "" || f["realm"] != "acme" {
		return "parameters"
	}
	key := KeySecret + "&" + TokenSecret
	if s.on[OAuth1Plain] {
		return wrong(f["oauth_signature_method"] != "PLAINTEXT" || f["oauth_signature"] != key, "plain signature")
	}
	var pairs []string
	for k, v := range f {
		if k != "realm" && k != "oauth_signature" {
			pairs = append(pairs, strict(k)+"="+strict(v))
		}
	}
	for k, vs := range r.URL.Query() {
		for _, v := range vs {
			pairs = append(pairs, strict(k)+"="+strict(v))
		}
	}
	sort.Strings(pairs)
	base := r.Method + "&" + strict("https://"+r.Host+r.URL.EscapedPath()) + "&" + strict(strings.Join(pairs, "&"))
	h, method := hmac.New(sha1.New, []byte(key)), "HMAC-SHA1"
	if s.on[OAuth1SHA256] {
		h, method = hmac.New(sha256.New, []byte(key)), "HMAC-SHA256"
	}
	h.Write([]byte(base))
	return wrong(f["oauth_signature_method"] != method || f["oauth_signature"] != base64.StdEncoding.EncodeToString(h.Sum(nil)), "signature")
}

// strict is the encoding of RFC 5849 section 3.6.
func strict(s string) string {
	return strings.NewReplacer("+", "%20", "*", "%2A", "%7E", "~").Replace(url.QueryEscape(s))
}
