package contract

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// planted begins every value that the mock server looks for.
const planted = "planted-"

// lease is a planted credential, and where it has to stand.
type lease struct {
	lease *egress.Lease
	wants []want
}

// want is one place in which a text has to stand, and no other.
type want struct {
	in, name string // header or query
	value    string
	once     string // the part of value that stands nowhere else in the request
	signed   bool   // value is the beginning only
}

// plant makes a lease whose credential egress places or signs with as a method says. Of methods that present a certificate it
// makes one without a credential.
func plant(m *credential.Method, base string) *lease {
	l := &lease{}
	c := egress.Credential{Kind: egress.None}
	if m != nil && m.Type != credential.None {
		c = l.credential(m)
	}
	made, err := egress.NewLease(spec(c, base))
	if err != nil { // egress refuses to place it: the call goes without
		l.wants = nil
		if made, err = egress.NewLease(spec(egress.Credential{Kind: egress.None}, base)); err != nil {
			return &lease{}
		}
	}
	l.lease = made
	return l
}

func (l *lease) credential(m *credential.Method) egress.Credential {
	values := map[string]string{}
	c := egress.Credential{Kind: egress.Kind(m.Kind()), Fields: map[string]secret.Value{}, Spec: &credential.Spec{Method: *m}}
	switch c.Kind {
	case egress.Key, egress.SigV4:
		for _, f := range m.Entered() {
			values[f.Name] = planted + strings.ReplaceAll(f.Name, "_", "-") + "-0123456789"
		}
		delete(values, "session_token")
	case egress.OAuth2:
		values["access_token"] = planted + "access-token-0123456789"
	default:
		return egress.Credential{Kind: egress.None}
	}
	for name, v := range values {
		c.Fields[name] = secret.New([]byte(v))
	}
	if c.Kind == egress.SigV4 {
		l.wants = []want{{in: "header", name: "Authorization", value: "AWS4-HMAC-SHA256 Credential=" + values["access_key_id"] + "/", once: values["access_key_id"], signed: true}}
		return c
	}
	fill := func(template string) string {
		for name, v := range values {
			template = strings.ReplaceAll(template, "{"+name+"}", v)
		}
		return template
	}
	for _, p := range m.Placed() {
		w := want{in: string(p.In), name: p.Name, value: fill(p.Format)}
		switch p.In {
		case credential.InBasic:
			pair := base64.StdEncoding.EncodeToString([]byte(fill(p.User) + ":" + fill(p.Format)))
			w = want{in: "header", name: "Authorization", value: "Basic " + pair, once: pair}
		case credential.InCookie:
			w = want{in: "header", name: "Cookie", value: p.Name + "=" + w.value, once: w.value}
		}
		if w.once == "" {
			w.once = w.value[max(0, strings.Index(w.value, planted)):]
		}
		l.wants = append(l.wants, w)
	}
	return c
}

// check looks for the planted credential: each part in its place, and nowhere else.
func (l *lease) check(r *http.Request, body []byte) *Failure {
	text := whole(r, body)
	if len(l.wants) == 0 && strings.Contains(text, planted) {
		return failf("judge", "a credential is sent that nobody asked for", "")
	}
	if strings.Contains(text, planted+"secret-access-key") {
		return failf("judge", "the key of a signature is sent", "")
	}
	for _, w := range l.wants {
		if n := strings.Count(text, w.once); n != 1 {
			return failf("judge", "the credential is not there exactly once", "%s %s: %d times", w.in, w.name, n)
		}
		got := r.Header.Values(w.name)
		if w.in == "query" {
			got = r.URL.Query()[w.name]
		}
		if len(got) != 1 || got[0] != w.value && !(w.signed && strings.HasPrefix(got[0], w.value)) {
			return failf("judge", "the credential is not in the declared place", "%s %s", w.in, w.name)
		}
	}
	return nil
}

// strip takes the credential away again: the rest is judged without it.
func (l *lease) strip(r *http.Request) {
	for _, w := range l.wants {
		if w.in != "query" {
			r.Header.Del(w.name)
			continue
		}
		q := r.URL.Query()
		q.Del(w.name)
		r.URL.RawQuery = q.Encode()
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Amz-") && len(l.wants) == 1 && l.wants[0].signed && (name == "X-Amz-Date" || name == "X-Amz-Content-Sha256") {
			r.Header.Del(name)
		}
	}
}

// takes tells whether a parameter of the document is where the credential stands.
func (l *lease) takes(in, name string) bool {
	for _, w := range l.wants {
		if w.in == in && strings.EqualFold(w.name, name) {
			return true
		}
		if w.signed && in == "header" && strings.HasPrefix(strings.ToLower(name), "x-amz-") {
			switch strings.ToLower(strings.TrimPrefix(name[len("x-amz"):], "-")) {
			case "date", "content-sha256", "security-token", "algorithm", "credential", "signature", "signedheaders":
				return true
			}
		}
	}
	return false
}
