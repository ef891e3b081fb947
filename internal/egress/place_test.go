package egress

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/testkit/quirk"
)

const planted = "pl4nted-S3cret/7f+9a="

// placedLease is a lease for a method whose every field is the planted secret unless it is named.
func placedLease(t *testing.T, base string, m credential.Method, fields map[string]string) (*Lease, error) {
	t.Helper()
	b, err := ParseBinding(base)
	if err != nil {
		t.Fatal(err)
	}
	c := Credential{Kind: Kind(m.Kind()), Spec: &credential.Spec{Method: m}, Fields: map[string]secret.Value{}}
	if m.Type == credential.OAuth2Client || m.Type == credential.Session {
		c.Fields["access_token"] = secret.New([]byte(planted))
	}
	for _, f := range m.Entered() {
		c.Fields[f.Name] = secret.New([]byte(planted))
	}
	for name, v := range fields {
		c.Fields[name] = secret.New([]byte(v))
	}
	return NewLease(LeaseSpec{Binding: b, Credential: c})
}

func at(in credential.In, name, format string) credential.Place {
	return credential.Place{In: in, Name: name, Format: format}
}

func keyMethod(places ...credential.Place) credential.Method {
	return credential.Method{ID: "key", Type: credential.APIKey, Places: places}
}

// kinds are a method of every kind that has places or signs.
func kinds() map[string]credential.Method {
	return map[string]credential.Method{
		"bearer": {ID: "m", Type: credential.Bearer}, "basic": {ID: "m", Type: credential.Basic},
		"header": keyMethod(at(credential.InHeader, "X-Api-Key", "{api_key}")), "prefixed": keyMethod(at(credential.InHeader, "Authorization", "Token token={api_key}")),
		"query": keyMethod(at(credential.InQuery, "key", "{api_key}")), "cookie": keyMethod(at(credential.InCookie, "session", "{api_key}")),
		"body": keyMethod(at(credential.InBody, "api_key", "{api_key}")), "path": keyMethod(at(credential.InPath, "key", "{api_key}")),
		"several": keyMethod(at(credential.InHeader, "X-Api-Key", "{api_key}"), at(credential.InQuery, "key", "{api_key}"), at(credential.InBody, "k", "{api_key}")),
		"user":    keyMethod(credential.Place{In: credential.InBasic, User: "{api_key}"}),
		"hmac": {ID: "m", Type: credential.HMAC, Sign: &credential.Signing{Message: "{method}{body_hash}"}, Places: []credential.Place{
			at(credential.InHeader, "X-Sign", "{signature}"), at(credential.InHeader, "X-Also", "{secret}"),
		}},
		"sigv4":  {ID: "m", Type: credential.SigV4, Sign: &credential.Signing{Region: "eu-west-1", Service: "s3"}},
		"oauth1": {ID: "m", Type: credential.OAuth1, Sign: &credential.Signing{Algorithm: credential.PlainText}},
		"oauth2": {ID: "m", Type: credential.OAuth2Client, Recipe: &credential.Recipe{Token: &credential.Request{URL: quirk.IDP + "/token"}}},
	}
}

func TestEveryKindIsScrubbed(t *testing.T) {
	t.Parallel()
	s := quirk.New(quirk.Echo)
	t.Cleanup(s.Close)
	c, err := New(Options{Dialer: s, Roots: s.Roots(), Recorder: RecorderFunc(func(Flow) {})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for name, m := range kinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := placedLease(t, quirk.API, m, nil)
			if err != nil {
				t.Fatal(err)
			}
			path := "/api/echo"
			if name == "path" {
				path = "/api/%7Bkey%7D/echo"
			}
			a, err := c.Do(t.Context(), &Call{Lease: l, Method: "POST", Path: path, Body: []byte(`{"a":1}`)})
			if err != nil {
				t.Fatal(err)
			}
			text := string(a.Body)
			for _, v := range a.Headers {
				text += strings.Join(v, "\n")
			}
			if strings.Contains(text, planted) || strings.Contains(text, planted[2:14]) {
				t.Errorf("the answer holds the secret: %s", text)
			}
			if a.ScrubHits == 0 && name != "path" { // which is not echoed
				t.Errorf("nothing was echoed: %s", text)
			}
			// Red twin: the same answer to a call whose lease has nothing to remove.
			l.scrub = nil
			if a, err = c.Do(t.Context(), &Call{Lease: l, Method: "POST", Path: path, Body: []byte(`{"a":1}`)}); err != nil || name != "path" && name != "basic" && name != "user" && !strings.Contains(string(a.Body), planted[:14]) {
				t.Errorf("the twin shows nothing: %v", err)
			}
		})
	}
}

func TestPlacesBelongToTheConnection(t *testing.T) {
	t.Parallel()
	s := quirk.New(quirk.Echo)
	t.Cleanup(s.Close)
	c, err := New(Options{Dialer: s, Roots: s.Roots(), Recorder: RecorderFunc(func(Flow) {})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	all := keyMethod(
		at(credential.InHeader, "X-Api-Key", "{api_key}"), at(credential.InQuery, "key", "{api_key}"), at(credential.InBody, "k", "{api_key}"), at(credential.InCookie, "c", "{api_key}"),
	)
	l, err := placedLease(t, quirk.API, all, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]*Call{
		"header":      {Headers: []Pair{{"x_api_key", "mine"}}, Body: []byte(`{}`)},
		"cookie":      {Headers: []Pair{{"Cookie", "c=mine"}}, Body: []byte(`{}`)},
		"parameter":   {Query: []Pair{{"KEY", "mine"}}, Body: []byte(`{}`)},
		"parameter[]": {Query: []Pair{{"key[0]", "mine"}}, Body: []byte(`{}`)},
		"member":      {Body: []byte(`{"K":"mine"}`)},
		"form field":  {Form: []Pair{{"k", "mine"}}},
		"no object":   {Body: []byte(`[1]`)},
		"text":        {Body: []byte(`x`), ContentType: "text/plain"},
		"no body":     {Method: "GET"},
	} {
		call.Lease, call.Path = l, "/api/echo"
		if call.Method == "" {
			call.Method = "POST"
		}
		var f *Fault
		if _, err := c.Do(t.Context(), call); !errors.As(err, &f) || f.Type != InvalidInput || f.Outcome != NotSent {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestPlacesFillRequests(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	}))
	t.Cleanup(s.Close)
	c := localRig(t)
	m := keyMethod(
		at(credential.InHeader, "Authorization", "Key {api_key}"), at(credential.InQuery, "sig", "{api_key}"), at(credential.InBody, "k", "{api_key}"),
		at(credential.InCookie, "a", "{api_key}"), at(credential.InCookie, "b", "{api_key}"), at(credential.InPath, "who", "{api_key}"), at(credential.InHeader, "X-Id", "{uuid}"),
	)
	l, err := placedLease(t, s.URL, m, map[string]string{"api_key": "a/b+c&d=e"})
	if err == nil {
		_, err = c.Do(t.Context(), &Call{Lease: l, Method: "POST", Path: "/x/%7Bwho%7D/y", Query: []Pair{{"q", "1"}}, Body: []byte(` {"n": 1} `)})
	}
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(body, &members); err != nil || members["k"] != "a/b+c&d=e" || members["n"] != 1.0 {
		t.Errorf("body %s", body)
	}
	if got.URL.EscapedPath() != "/x/a%2Fb%2Bc&d=e/y" || got.URL.RawQuery != "q=1&sig=a%2Fb%2Bc%26d%3De" || got.Header.Get("Authorization") != "Key a/b+c&d=e" ||
		got.Header.Get("Cookie") != "a=a/b+c&d=e; b=a/b+c&d=e" || len(got.Header.Get("X-Id")) != 36 {
		t.Errorf("got %s %v", got.URL, got.Header)
	}
	first := got.Header.Get("X-Id")
	if _, err := c.Do(t.Context(), &Call{Lease: l, Method: "POST", Path: "/%7Bwho%7D", Form: []Pair{{"n", "1"}}}); err != nil || string(body) != "n=1&k=a%2Fb%2Bc%26d%3De" || got.Header.Get("X-Id") == first {
		t.Errorf("form %s, id %s, %v", body, got.Header.Get("X-Id"), err)
	}
	for path, what := range map[string]string{"/elsewhere": "without a place for the credential", "/%7Bwho%7D/items/%7Bwho%7D": "with a second place, which a value has made"} {
		got = nil
		if _, err := c.Do(t.Context(), &Call{Lease: l, Method: "POST", Path: path, Body: []byte(`{}`)}); err == nil || got != nil {
			t.Errorf("a path %s is sent", what)
		}
	}
	for _, v := range []string{"..", "a\nb"} {
		if _, err := placedLease(t, s.URL, m, map[string]string{"api_key": v}); !errors.Is(err, ErrCredential) || strings.Contains(err.Error(), v) {
			t.Errorf("%q: got %v", v, err)
		}
	}
}

func TestClientCertificate(t *testing.T) {
	t.Parallel()
	s := quirk.New(quirk.TLSClient)
	t.Cleanup(s.Close)
	var seen []string
	s.Slow = func(r *http.Request) {
		for _, c := range r.TLS.PeerCertificates {
			seen = append(seen, c.Subject.CommonName)
		}
	}
	c, err := New(Options{Dialer: s, Roots: s.Roots(), Recorder: RecorderFunc(func(Flow) {})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cert, _ := quirk.NewCertificate("client.example.net")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{
		"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})),
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		"server_ca":   "",
	}
	l, err := placedLease(t, quirk.API, credential.Method{ID: "m", Type: credential.MTLS}, fields)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Do(t.Context(), &Call{Lease: l, Path: "/api/me"}) // without a token: 401
	if len(seen) != 1 || seen[0] != "client.example.net" {
		t.Errorf("the provider saw %v", seen)
	}
	if _, err := placedLease(t, quirk.API, credential.Method{ID: "m", Type: credential.MTLS}, nil); !errors.Is(err, ErrCredential) || strings.Contains(err.Error(), planted) {
		t.Errorf("no certificate: got %v", err)
	}
}

// AWS signs a space of a query as %20, and a plus as what it is.
func TestSignedQueriesHaveNoPlus(t *testing.T) {
	t.Parallel()
	var got string
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.URL.RawQuery }))
	t.Cleanup(s.Close)
	m := credential.Method{ID: "m", Type: credential.SigV4, Sign: &credential.Signing{Service: "execute-api"}}
	l, err := placedLease(t, s.URL, m, nil)
	if err == nil {
		_, err = localRig(t).Do(t.Context(), &Call{Lease: l, Path: "/x", Query: []Pair{{"q", "a b+c"}}})
	}
	if err != nil || got != "q=a%20b%2Bc" {
		t.Errorf("sent %s, %v", got, err)
	}
}

func TestSignedBodiesAreNotStreamed(t *testing.T) {
	t.Parallel()
	c := localRig(t)
	l, err := placedLease(t, "https://api.example.com", kinds()["hmac"], nil)
	if err != nil {
		t.Fatal(err)
	}
	var f *Fault
	if _, err := c.Do(t.Context(), &Call{Lease: l, Method: "POST", Stream: strings.NewReader("x"), StreamSize: 1}); !errors.As(err, &f) || f.Type != InvalidInput {
		t.Errorf("got %v", err)
	}
}

// A key that stands in a JSON body is written with escapes there. What repeats the body in hex or base64 repeats those.
func TestEchoedBodyIsScrubbedHoweverItIsWritten(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		for n := range 3 {
			_, _ = fmt.Fprintln(w, "abc"[:n]+base64.StdEncoding.EncodeToString(append([]byte("abc"[:n]), body...)))
		}
		_, _ = fmt.Fprintf(w, "%x\n%X\n%s", body, body, url.QueryEscape(url.QueryEscape(string(body))))
	})
	const key = `m+/="Qk7vXe0RkG2yUa7i\&<`
	found := func(b []byte) bool {
		core := []byte("Qk7vXe0RkG2yUa7i")
		for _, line := range bytes.Split(b, []byte("\n")) {
			for n := range 3 {
				if plain, _ := base64.StdEncoding.DecodeString(string(line[min(n, len(line)):])); bytes.Contains(plain, core) {
					return true
				}
			}
			if plain, _ := hex.DecodeString(string(line)); bytes.Contains(plain, core) || bytes.Contains(line, core) {
				return true
			}
		}
		return false
	}
	for _, off := range []bool{false, true} { // the red twin: the lease removes nothing
		r := localRig(t)
		m := keyMethod(at(credential.InBody, "k", "{api_key}"))
		l := newLease(t, s.URL, Credential{Kind: Key, Spec: &credential.Spec{Method: m}, Fields: map[string]secret.Value{"api_key": secret.New([]byte(key))}})
		if off {
			l.scrub = nil
		}
		a, err := r.Do(t.Context(), &Call{Lease: l, Method: "POST", Body: []byte(`{"a":1}`)})
		if err != nil {
			t.Fatal(err)
		}
		if found(a.Body) != off {
			t.Errorf("scrubbing off %v: %s", off, a.Body)
		}
	}
}
