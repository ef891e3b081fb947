package sign

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
)

func fixed(values map[string]string) func(string) (string, error) {
	return func(name string) (string, error) { return values[name], nil }
}

// TestHMAC takes the second test case of RFC 4231 and of RFC 2202.
func TestHMAC(t *testing.T) {
	t.Parallel()
	const data = "what do ya want for nothing?"
	for _, c := range []struct {
		s    credential.Signing
		want string
	}{
		{credential.Signing{}, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{credential.Signing{Algorithm: credential.HMACSHA1}, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
		{credential.Signing{Algorithm: credential.HMACSHA1, Encoding: credential.UpperHex}, "EFFCDF6AE5EB2FA2D27416D5F184DF9C259A7C79"},
		{credential.Signing{Algorithm: credential.HMACSHA1, Encoding: credential.Base64}, "7/zfauXrL6LSdBbV8YTfnCWafHk="},
		{credential.Signing{Algorithm: credential.HMACSHA1, Encoding: credential.Base64URL}, "7_zfauXrL6LSdBbV8YTfnCWafHk"},
		{credential.Signing{Key: "{hexed}", KeyEncoding: credential.Hex}, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{credential.Signing{Key: "{based}", KeyEncoding: credential.Base64}, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{credential.Signing{Algorithm: credential.SHA256}, "b381e7fec653fc3ab9b178272366b8ac87fed8d31cb25ed1d0e1f3318644c89c"},
	} {
		c.s.Message = "{body}"
		got, err := Sign(&c.s, &Request{Body: []byte(data)}, fixed(map[string]string{"secret": "Jefe", "hexed": "4a656665", "based": "SmVmZQ=="}))
		if err != nil || got != c.want {
			t.Errorf("%+v: got %s, %v, want %s", c.s, got, err, c.want)
		}
	}
	for _, s := range []credential.Signing{{Algorithm: "md5"}, {Key: "{none}"}, {KeyEncoding: credential.Base64}} {
		s.Message = "x"
		_, err := Sign(&s, &Request{}, fixed(map[string]string{"secret": "!secret-value!"}))
		if !errors.Is(err, ErrSigning) || strings.Contains(err.Error(), "secret-value") {
			t.Errorf("%+v: got %v", s, err)
		}
	}
}

func TestMessage(t *testing.T) {
	t.Parallel()
	r := &Request{Method: "POST", Scheme: "https", Host: "api.example.com:8443", Path: "/a%2Fb", Query: "z=1&a=x%20y", ContentType: "application/x-www-form-urlencoded", Body: []byte("k=v&b=2"), Form: true}
	s := &credential.Signing{Algorithm: credential.SHA1, BodyHash: credential.SHA1, BodyEncoding: credential.Base64}
	for template, want := range map[string]string{
		"{method} {url}":              "POST https://api.example.com:8443/a%2Fb?z=1&a=x%20y",
		"{host}{path}?{query}":        "api.example.com:8443/a%2Fb?z=1&a=x%20y",
		"{params}":                    "a=x y&b=2&k=v&z=1",
		"{query.a}|{param.k}":         "x y|v",
		"{body}|{content_type}|{now}": "k=v&b=2|application/x-www-form-urlencoded|17",
		"{body_hash}":                 "ddMM5YoXIDxGKqBlCIQrRXvpvLY=",
	} {
		got, err := credential.Expand(template, func(name string) (string, error) {
			if v, ok := r.value(name, s); ok {
				return v, nil
			}
			return "17", nil
		})
		if template == "{body_hash}" { // of which only the form is known here
			got, want = got[len(got)-1:], "="
		}
		if err != nil || got != want {
			t.Errorf("%s: got %q, want %q", template, got, want)
		}
	}
}

// TestSigV4 takes requests of AWS' published test suite and of its user guide.
func TestSigV4(t *testing.T) {
	t.Parallel()
	now := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	k := AWS{KeyID: "AKID" + "EXAMPLE", Secret: []byte("wJalrXUtnFEMI/K7MDENG" + "+bPxRfiCYEXAMPLEKEY"), Region: "us-east-1", Service: "service"}
	iam := k
	iam.Service = "iam"
	const form = "application/x-www-form-urlencoded"
	for name, c := range map[string]struct {
		k               AWS
		r               Request
		signed, want    string
		session, region string
	}{
		"get-vanilla":                      {k: k, r: Request{Method: "GET", Path: "/"}, signed: "host;x-amz-date", want: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		"post-vanilla":                     {k: k, r: Request{Method: "POST", Path: "/"}, signed: "host;x-amz-date", want: "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		"get-vanilla-query-order-key-case": {k: k, r: Request{Method: "GET", Path: "/", Query: "Param2=value2&Param1=value1"}, signed: "host;x-amz-date", want: "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		"post-x-www-form-urlencoded":       {k: k, r: Request{Method: "POST", Path: "/", ContentType: form, Body: []byte("Param1=value1")}, signed: "content-type;host;x-amz-date", want: "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
		"user guide":                       {k: iam, r: Request{Method: "GET", Host: "iam.amazonaws.com", Path: "/", Query: "Action=ListUsers&Version=2010-05-08", ContentType: form + "; charset=utf-8"}, signed: "content-type;host;x-amz-date", want: "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"},
	} {
		if c.r.Host == "" {
			c.r.Host = "example.amazonaws.com"
		}
		got := SigV4(&c.k, &c.r, now, false)
		want := "AWS4-HMAC-SHA256 Credential=" + k.KeyID + "/20150830/us-east-1/" + c.k.Service + "/aws4_request, SignedHeaders=" + c.signed + ", Signature=" + c.want
		if got["Authorization"] != want || got["X-Amz-Date"] != "20150830T123600Z" {
			t.Errorf("%s: got %v, want %s", name, got, want)
		}
	}
}

func TestSigV4Forms(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"": "/", "/": "/", "/a b": "/a%2520b", "/a%2Fb/ü": "/a%252Fb/%25C3%25BC"} {
		if got := canonicalPath("execute-api", path); got != want {
			t.Errorf("%q: got %s, want %s", path, got, want)
		}
	}
	if got := canonicalPath("s3", "/a%20b+c"); got != "/a%20b%2Bc" {
		t.Errorf("s3: %s", got)
	}
	if got := canonicalQuery("b=2&a=%7E&a=1&c"); got != "a=1&a=~&b=2&c=" {
		t.Errorf("query: %s", got)
	}
	k := &AWS{KeyID: "k", Secret: []byte("s"), Token: "session", Region: "eu-west-1", Service: "s3"}
	got := SigV4(k, &Request{Method: "PUT", Host: "b.s3.amazonaws.com", Path: "/x"}, time.Unix(0, 0), true)
	if got["X-Amz-Content-Sha256"] != "UNSIGNED-PAYLOAD" || got["X-Amz-Security-Token"] != "session" ||
		!strings.Contains(got["Authorization"], "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,") {
		t.Errorf("got %v", got)
	}
}

// TestOAuth1 takes the request of X's guide "Creating a signature".
func TestOAuth1(t *testing.T) {
	t.Parallel()
	c := &Consumer{
		Key: "xvz1evFS4wEEPTGEFPHBog", Secret: []byte("kAcSOqF21Fu85e7zjz7ZN2U4ZRhf" + "V3WpwPAoE3Z7kBw"),
		Token: "370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb", TokenSecret: []byte("LswwdoUaIvS8ltyTt5jkRh4J50vUPVVHtR2YPi5kE"),
	}
	r := &Request{
		Method: "POST", Scheme: "https", Host: "api.twitter.com", Path: "/1.1/statuses/update.json", Query: "include_entities=true",
		Body: []byte("status=Hello%20Ladies%20%2b%20Gentlemen%2c%20a%20signed%20OAuth%20request%21"), Form: true,
	}
	got, err := OAuth1(c, r, time.Unix(1318622958, 0), "kYjzVBB8Y0ZFabxSWbWovY3uYSQ2pTgmZeNu2VS4cg")
	if want := `oauth_signature="hCtSmYh%2BiHYCEqBWrE7C7hYmtUk%3D"`; err != nil || !strings.HasSuffix(got, want) || !strings.HasPrefix(got, `OAuth oauth_consumer_key="xvz1evFS4wEEPTGEFPHBog", oauth_nonce=`) {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	c.Algorithm = credential.PlainText
	c.Secret, c.TokenSecret, c.Realm = []byte("a b"), []byte("c&d"), `re"alm`
	if got, err := OAuth1(c, r, time.Unix(0, 0), "n"); err != nil || !strings.HasSuffix(got, `oauth_signature="a%2520b%26c%2526d"`) || !strings.HasPrefix(got, `OAuth realm="re\"alm", `) {
		t.Errorf("PLAINTEXT: got %s, %v", got, err)
	}
	c.Algorithm = credential.SHA1
	if _, err := OAuth1(c, r, time.Unix(0, 0), "n"); !errors.Is(err, ErrSigning) {
		t.Errorf("got %v", err)
	}
}
