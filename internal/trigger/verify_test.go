package trigger

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// delivery is a request as a sender makes it.
type delivery struct {
	verify  flow.Verify
	secrets map[string]string
	at      int64 // seconds since 1970
	body    string
	headers []string
	hidden  string // the header that the flow must not see
}

func secrets(names ...string) (list []flow.SecretRef) {
	for _, n := range names {
		list = append(list, flow.SecretRef("config."+n))
	}
	return list
}

func sign(key, data string) []byte {
	h := hmac.New(sha256.New, []byte(key))
	_, _ = h.Write([]byte(data))
	return h.Sum(nil)
}

func token(key, header, claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	data := part([]byte(header)) + "." + part([]byte(claims))
	return data + "." + part(sign(key, data))
}

// publicPEM is a public key as a config value holds it.
func publicPEM(k any) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(k))}))
}

func number(s string) *big.Int {
	return new(big.Int).SetBytes(must(base64.RawURLEncoding.DecodeString(s)))
}

// senders are requests whose signatures were published, or were made as the documents of
// the senders say where they publish no secret.
func senders() map[string]delivery {
	slack := "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
	joe := "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
	stripe := `{"id": "evt_1", "object": "event"}`
	shopify := `{"id":820982911946154508}`
	return map[string]delivery{
		// docs.github.com, Validating webhook deliveries
		"github": {
			flow.Verify{HMAC: &flow.VerifyHMAC{Header: "X-Hub-Signature-256", Algorithm: "sha256", Prefix: "sha256=", Secrets: secrets("s")}},
			map[string]string{"s": "It's a Secret to Everybody"},
			0, "Hello, World!",
			[]string{"Content-Type: text/plain", "X-Hub-Signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
			"x-hub-signature-256",
		},
		// the Standard Webhooks libraries
		"standard webhooks": {
			flow.Verify{StandardWebhooks: &flow.VerifyStandard{Secret: "config.s"}},
			map[string]string{"s": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
			1614265330, `{"test": 2432232314}`,
			[]string{
				"Content-Type: application/json", "webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp: 1614265330",
				"webhook-signature: v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v2,x v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
			},
			"webhook-signature",
		},
		// api.slack.com, Verifying requests from Slack
		"slack": {
			flow.Verify{HMAC: &flow.VerifyHMAC{
				Header: "X-Slack-Signature", Algorithm: "sha256", Prefix: "v0=", Secrets: secrets("s"), Signed: "v0:{timestamp}:{body}",
				Timestamp: &flow.VerifyTimestamp{Header: "X-Slack-Request-Timestamp"},
			}},
			map[string]string{"s": "8f742231b10e8888abcd99yyyzzz85a5"},
			1531420618, slack,
			[]string{
				"Content-Type: application/x-www-form-urlencoded", "X-Slack-Request-Timestamp: 1531420618",
				"X-Slack-Signature: v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
			},
			"x-slack-signature",
		},
		// docs.stripe.com, Verify webhook signatures manually: a list in one header
		"stripe": {
			flow.Verify{HMAC: &flow.VerifyHMAC{
				Header: "Stripe-Signature", Algorithm: "sha256", Prefix: "v1=", Secrets: secrets("s"), Signed: "{timestamp}.{body}",
				Timestamp: &flow.VerifyTimestamp{Header: "Stripe-Signature"},
			}},
			map[string]string{"s": "whsec_test_secret"},
			1492774577, stripe,
			[]string{"Content-Type: application/json", "Stripe-Signature: t=1492774577,v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd,v1=" +
				hex.EncodeToString(sign("whsec_test_secret", "1492774577."+stripe))},
			"stripe-signature",
		},
		// shopify.dev, Validate the origin of your webhook
		"shopify": {
			flow.Verify{HMAC: &flow.VerifyHMAC{Header: "X-Shopify-Hmac-Sha256", Algorithm: "sha256", Encoding: "base64", Secrets: secrets("gone", "old", "s")}},
			map[string]string{"old": "rotated", "s": "hush"},
			0, shopify,
			[]string{"Content-Type: application/json", "X-Shopify-Hmac-Sha256: " + base64.StdEncoding.EncodeToString(sign("hush", shopify))},
			"x-shopify-hmac-sha256",
		},
		"method and path": {
			flow.Verify{HMAC: &flow.VerifyHMAC{Header: "X-Sig", Algorithm: "sha512", Encoding: "base64url", Secrets: secrets("s"), Signed: "{method} {body}"}},
			map[string]string{"s": "k"},
			0, `{}`,
			[]string{"Content-Type: application/json", "X-Sig: " + func() string {
				h := hmac.New(sha512.New, []byte("k"))
				_, _ = h.Write([]byte("POST {}"))
				return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
			}()},
			"x-sig",
		},
		"header": {
			flow.Verify{Header: &flow.VerifyHeader{Name: "X-Api-Key", Secret: "config.s"}},
			map[string]string{"s": "k"},
			0, `{}`,
			[]string{"Content-Type: application/json", "X-Api-Key: k"},
			"x-api-key",
		},
		"basic": { // RFC 7617, 2
			flow.Verify{Basic: &flow.VerifyBasic{Username: "Aladdin", Password: "config.s"}},
			map[string]string{"s": "open sesame"},
			0, `{}`,
			[]string{"Content-Type: application/json", "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
			"authorization",
		},
		"bearer": { // RFC 6750, 2.1
			flow.Verify{Bearer: &flow.VerifyBearer{Secret: "config.s"}},
			map[string]string{"s": "mF_9.B5f-4.1JqM"},
			0, `{}`,
			[]string{"Content-Type: application/json", "Authorization: Bearer mF_9.B5f-4.1JqM"},
			"authorization",
		},
		"RS256": { // RFC 7515, A.2
			flow.Verify{JWT: &flow.VerifyJWT{Algorithm: "RS256", Secret: "config.s", Issuer: "joe"}},
			map[string]string{"s": publicPEM(&rsa.PublicKey{E: 65537, N: number("ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ")})},
			1300819300, `{}`,
			[]string{"Content-Type: application/json", "Authorization: Bearer eyJhbGciOiJSUzI1NiJ9." + joe + ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"},
			"authorization",
		},
		"ES256": { // RFC 7515, A.3
			flow.Verify{JWT: &flow.VerifyJWT{Algorithm: "ES256", Secret: "config.s", Header: "X-Token"}},
			map[string]string{"s": publicPEM(must(ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, number("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU").Bytes(), number("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0").Bytes()))))},
			1300819300, `{}`,
			[]string{"Content-Type: application/json", "X-Token: eyJhbGciOiJFUzI1NiJ9." + joe + ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"},
			"x-token",
		},
		"HS256": {
			flow.Verify{JWT: &flow.VerifyJWT{Algorithm: "HS256", Secret: "config.s", Audience: "us"}},
			map[string]string{"s": "k"},
			1000, `{}`,
			[]string{"Content-Type: application/json", "Authorization: bearer " + token("k", `{"alg":"HS256"}`, `{"exp":2000,"nbf":500.5,"aud":["them","us"]}`)},
			"authorization",
		},
	}
}

func (s *delivery) clock() func() time.Time {
	at := time.Now()
	if s.at > 0 {
		at = time.Unix(s.at, 0)
	}
	return func() time.Time { return at }
}

func (s *delivery) config() string { return string(must(json.Marshal(s.secrets))) }

func TestSendersAreRecognised(t *testing.T) {
	t.Parallel()
	for name, s := range senders() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, store.Options{})
			r.door.now = s.clock()
			n := r.deploy(webhook(flow.Webhook{Verify: s.verify}), s.config())
			got := r.post(r.hookURL(n), s.body, s.headers...)
			e := r.event(n, got.execution(t))
			if _, seen := e["headers"].(map[string]any)[s.hidden]; seen {
				t.Errorf("the flow sees %s", s.hidden)
			}
			if _, seen := e["headers_all"].(map[string]any)[s.hidden]; seen {
				t.Errorf("the flow sees %s", s.hidden)
			}
		})
	}
}

// Every change of a request, of the time or of the secrets makes its sender unknown; the same
// request is taken where the flow checks nothing, so it is the check that refuses it.
func TestForgedRequestsAreRefused(t *testing.T) {
	t.Parallel()
	forgeries := map[string]func(s *delivery){
		"no header":           func(s *delivery) { s.headers = s.headers[:1] },
		"another secret":      func(s *delivery) { s.secrets = map[string]string{"s": "another", "old": "x"} },
		"no secret":           func(s *delivery) { s.secrets = map[string]string{} },
		"an empty secret":     func(s *delivery) { s.secrets = map[string]string{"s": ""} },
		"a changed signature": func(s *delivery) { last := len(s.headers) - 1; s.headers[last] = change(s.headers[last]) },
		"an empty signature": func(s *delivery) {
			last := len(s.headers) - 1
			name, _, _ := strings.Cut(s.headers[last], ": ")
			s.headers[last] = name + ": "
		},
		"the header twice": func(s *delivery) { s.headers = append(s.headers, s.headers[len(s.headers)-1]) },
		"another body":     func(s *delivery) { s.body += " " },
		"later":            func(s *delivery) { s.at += 10_000 },
		"long before":      func(s *delivery) { s.at -= 1000 },
	}
	// What some senders do not sign.
	unsigned := map[string][]string{
		"another body": {"header", "basic", "bearer", "RS256", "ES256", "HS256"},
		"later":        {"github", "shopify", "method and path", "header", "basic", "bearer"},
		"long before":  {"github", "shopify", "method and path", "header", "basic", "bearer", "RS256", "ES256"},
	}
	for name := range senders() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, store.Options{})
			refused, taken := 0, 0
			for what, forge := range forgeries {
				s := senders()[name]
				if slices.Contains(unsigned[what], name) {
					continue
				}
				forge(&s)
				r.door.now = s.clock()
				n := r.deploy(webhook(flow.Webhook{Verify: s.verify}), s.config())
				if got := r.post(r.hookURL(n), s.body, s.headers...); got.status != 401 || strings.Contains(got.body, "secret") {
					t.Errorf("%s: %+v", what, got)
				} else {
					refused++
				}
				if got := r.post(r.hookURL(r.deploy(webhook(open()), "{}")), s.body, s.headers...); got.status == 202 {
					taken++
				} else {
					t.Errorf("%s without a check: %+v", what, got)
				}
			}
			t.Logf("%d forgeries refused, %d taken without the check", refused, taken)
		})
	}
}

// change changes a letter in the middle of the last part of a header, where no padding is.
func change(h string) string {
	b := []byte(h)
	at := len(b) - 8
	if b[at] == 'a' {
		b[at] = 'b'
	} else {
		b[at] = 'a'
	}
	return string(b)
}

func TestTokensThatClaimTooMuch(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.door.now = func() time.Time { return time.Unix(10_000, 0) }
	n := r.deploy(webhook(flow.Webhook{Verify: flow.Verify{JWT: &flow.VerifyJWT{
		Algorithm: "HS256", Secret: "config.s", Issuer: "i", Audience: "us", Tolerance: flow.Duration(time.Minute),
	}}}), `{"s":"k"}`)
	url := r.hookURL(n)
	good := `{"exp":11000,"iss":"i","aud":"us"}`
	for what, tt := range map[string]struct {
		token string
		want  int
	}{
		"good":                 {token("k", `{"alg":"HS256","typ":"JWT"}`, good), 202},
		"within the tolerance": {token("k", `{"alg":"HS256"}`, `{"exp":9950,"nbf":10050,"iss":"i","aud":"us"}`), 202},
		"no algorithm":         {token("k", `{"alg":"none"}`, good), 401},
		"unsigned":             {strings.TrimRight(token("k", `{"alg":"none"}`, good), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"), 401},
		"another algorithm":    {token("k", `{"alg":"HS512"}`, good), 401},
		"a critical extension": {token("k", `{"alg":"HS256","crit":["exp"]}`, good), 401},
		"its own key":          {token("attacker", `{"alg":"HS256","jwk":{"kty":"oct","k":"YXR0YWNrZXI"}}`, good), 401},
		"expired":              {token("k", `{"alg":"HS256"}`, `{"exp":9000,"iss":"i","aud":"us"}`), 401},
		"without an end":       {token("k", `{"alg":"HS256"}`, `{"iss":"i","aud":"us"}`), 401},
		"an end that is null":  {token("k", `{"alg":"HS256"}`, `{"exp":null,"iss":"i","aud":"us"}`), 401},
		"an endless end":       {token("k", `{"alg":"HS256"}`, `{"exp":1e300,"iss":"i","aud":"us"}`), 401},
		"not yet":              {token("k", `{"alg":"HS256"}`, `{"exp":11000,"nbf":10500,"iss":"i","aud":"us"}`), 401},
		"another issuer":       {token("k", `{"alg":"HS256"}`, `{"exp":11000,"iss":"j","aud":"us"}`), 401},
		"no issuer":            {token("k", `{"alg":"HS256"}`, `{"exp":11000,"aud":"us"}`), 401},
		"another audience":     {token("k", `{"alg":"HS256"}`, `{"exp":11000,"iss":"i","aud":["them"]}`), 401},
		"no audience":          {token("k", `{"alg":"HS256"}`, `{"exp":11000,"iss":"i"}`), 401},
		"four parts":           {token("k", `{"alg":"HS256"}`, good) + ".x", 401},
		"no token":             {"x", 401},
	} {
		if got := r.post(url, "{}", "Content-Type: application/json", "Authorization: Bearer "+tt.token); got.status != tt.want {
			t.Errorf("%s: status %d, want %d", what, got.status, tt.want)
		}
	}
}

func TestALargeBodyIsCheckedInParts(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	v := flow.Verify{HMAC: &flow.VerifyHMAC{
		Header: "X-Sig", Algorithm: "sha256", Secrets: secrets("s"), Signed: "{timestamp}.{body}.end", Timestamp: &flow.VerifyTimestamp{Header: "X-Time"},
	}}
	n := r.deploy(webhook(flow.Webhook{Verify: v}), `{"s":"k"}`)
	url, stamp := r.hookURL(n), time.Now().UTC().Format(time.RFC3339)
	for _, size := range []int{lease.MaxMacData - 30, lease.MaxMacData, 3 * lease.MaxMacData, 1_900_000} {
		body := strings.Repeat("x", size)
		good := hex.EncodeToString(sign("k", stamp+"."+body+".end"))
		headers := []string{"Content-Type: text/plain", "X-Time: " + stamp, "X-Sig: " + good}
		if got := r.post(url, body, headers...); got.status != 202 {
			t.Errorf("%d bytes: %+v", size, got)
		}
		if got := r.post(url, body[1:]+"y", headers...); got.status != 401 {
			t.Errorf("%d bytes, forged: %+v", size, got)
		}
	}
}

// vaultFunc is a vault that answers as a function does.
type vaultFunc func(op string, body []byte) ([]byte, error)

// Call implements [engine.Vault].
func (f vaultFunc) Call(_ context.Context, op string, body []byte) ([]byte, error) {
	return f(op, body)
}

// A sender that goes away in the middle of its check leaves no session open in the vault.
func TestASenderThatLeavesEndsItsSession(t *testing.T) {
	t.Parallel()
	ctx, leave := context.WithCancel(context.Background())
	open, parts := 0, 0
	d := NewDoor(Options{Vault: vaultFunc(func(_ string, body []byte) ([]byte, error) {
		var m lease.MacCall
		if err := wire.ParseBody(body, &m); err != nil {
			return nil, err
		}
		leave()
		var a lease.MacAnswer
		for i := range m.Checks {
			parts++
			verdict := lease.MacPart
			if m.Checks[i].Part == 0 {
				open++
			}
			if !m.Checks[i].More {
				open--
				verdict = lease.MacMismatch
			}
			a.Results = append(a.Results, lease.MacResult{Verdict: verdict})
		}
		return wire.AppendBody(nil, &a), nil
	})})
	p := &proof{body: true, check: lease.MacCheck{Kind: lease.MacHMAC, Secrets: []string{"s"}}}
	result, err := d.ask(ctx, p, make([]byte, 3*lease.MaxMacData), nil)
	if err != nil || result.Verdict != lease.MacMismatch || open != 0 || parts != 5 {
		t.Errorf("%+v, %v; %d sessions are open after %d parts", result, err, open, parts)
	}
}

// A vault that cannot be asked lets nobody in.
func TestWithoutTheVaultNothingIsVerified(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	n := r.deploy(webhook(flow.Webhook{Verify: flow.Verify{Header: &flow.VerifyHeader{Name: "X-Key", Secret: "config.s"}}}), `{"s":"k"}`)
	url := r.hookURL(n)
	r.mu.Lock()
	r.down = true
	r.mu.Unlock()
	got := r.post(url, "{}", "X-Key: k")
	if got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("%+v", got)
	}
	list, err := r.store.Customer(t.Context(), n.customer).Hooks(n.id)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
}

// Nothing that a connector would check is taken unchecked.
func TestARecipeThatIsNotThereRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	i := webhook(flow.Webhook{Verify: flow.Verify{Connector: "shop"}})
	if got := r.post(r.hookURL(r.deploy(i, `{}`)), "{}"); got.status != 401 {
		t.Errorf("%+v", got)
	}
}
