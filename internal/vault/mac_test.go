package vault

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// checked is an instance with secrets.
type checked struct {
	*tenant
	version uint64
	sealed  []byte
}

func (w *world) checked(config map[string]string) *checked {
	w.tb.Helper()
	a := w.tenant("token")
	b, err := json.Marshal(config)
	if err != nil {
		w.tb.Fatal(err)
	}
	got := w.saveInstance(a.customer, a.instance, string(b))
	return &checked{a, got.Version, got.Config}
}

// hmacOf is the HMAC-SHA256 of data.
func hmacOf(key, data string) []byte {
	h := hmac.New(sha256.New, []byte(key))
	_, _ = h.Write([]byte(data))
	return h.Sum(nil)
}

// check is a check of one secret of the instance.
func (c *checked) check(kind lease.MacKind, algorithm, secret, data string, candidates ...[]byte) lease.MacCheck {
	return lease.MacCheck{
		Customer: c.customer, Instance: c.instance, ConfigVersion: c.version, Config: c.sealed, Kind: kind, Algorithm: algorithm,
		Secrets: []string{secret}, Data: []byte(data), Candidates: candidates,
	}
}

func (w *world) mac(checks ...lease.MacCheck) []lease.MacResult {
	w.tb.Helper()
	a := &lease.MacAnswer{}
	w.call(lease.OpMac, &lease.MacCall{Checks: checks}, a)
	if len(a.Results) != len(checks) {
		w.tb.Fatalf("%d results of %d checks", len(a.Results), len(checks))
	}
	return a.Results
}

// decodedKey is one whose Base64 has each of its letters that are not letters.
const decodedKey = "\xfb\xff\xfe of the test"

// decoded is a check of a signature by that key, which stands in a config value in some form.
func (c *checked) decoded(d lease.MacDecoding, name string) lease.MacCheck {
	m := c.check(lease.MacHMAC, "sha256", name, "Hello, World!", hmacOf(decodedKey, "Hello, World!"))
	m.Decoding = d
	return m
}

func TestForgedSignaturesDoNotMatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.checked(map[string]string{
		"hook": "It's a Secret to Everybody", "old": "before",
		"b64": base64.StdEncoding.EncodeToString([]byte(decodedKey)), "whsec": "whsec_" + base64.StdEncoding.EncodeToString([]byte(decodedKey)),
	})
	good := hmacOf("It's a Secret to Everybody", "Hello, World!")
	flipped := bytes.Clone(good)
	flipped[31] ^= 1
	for what, tt := range map[string]struct {
		check lease.MacCheck
		want  lease.MacVerdict
	}{
		"the signature":           {c.check(lease.MacHMAC, "sha256", "hook", "Hello, World!", good), lease.MacMatch},
		"the second of two":       {c.check(lease.MacHMAC, "sha256", "hook", "Hello, World!", flipped, good), lease.MacMatch},
		"one bit off":             {c.check(lease.MacHMAC, "sha256", "hook", "Hello, World!", flipped), lease.MacMismatch},
		"shortened":               {c.check(lease.MacHMAC, "sha256", "hook", "Hello, World!", good[:16]), lease.MacMismatch},
		"empty":                   {c.check(lease.MacHMAC, "sha256", "hook", "Hello, World!", nil), lease.MacMismatch},
		"none":                    {c.check(lease.MacHMAC, "sha256", "hook", "Hello, World!"), lease.MacMismatch},
		"another body":            {c.check(lease.MacHMAC, "sha256", "hook", "Hello, World?", good), lease.MacMismatch},
		"another secret":          {c.check(lease.MacHMAC, "sha256", "old", "Hello, World!", good), lease.MacMismatch},
		"another algorithm":       {c.check(lease.MacHMAC, "sha512", "hook", "Hello, World!", good), lease.MacMismatch},
		"the secret itself":       {c.check(lease.MacEqual, "", "old", "", []byte("before")), lease.MacMatch},
		"a part of it":            {c.check(lease.MacEqual, "", "old", "", []byte("befor")), lease.MacMismatch},
		"no such secret":          {c.check(lease.MacEqual, "", "nope", "", []byte("")), lease.MacMissing},
		"HMAC with the empty key": {c.check(lease.MacHMAC, "sha256", "nope", "x", hmacOf("", "x")), lease.MacMissing},
		"an unknown algorithm":    {c.check(lease.MacHMAC, "md5", "hook", "x", good), lease.MacRefused},
		"an unknown kind":         {c.check(9, "sha256", "hook", "x", good), lease.MacRefused},
		"a secret that is no key": {func() lease.MacCheck {
			m := c.check(lease.MacHMAC, "sha256", "hook", "x", good)
			m.Decoding = lease.MacStandard
			return m
		}(), lease.MacMissing},
		"the key in Base64":             {c.decoded(lease.MacBase64, "b64"), lease.MacMatch},
		"the same as Standard Webhooks": {c.decoded(lease.MacStandard, "b64"), lease.MacMatch},
		"with whsec_ in Standard":       {c.decoded(lease.MacStandard, "whsec"), lease.MacMatch},
		"with whsec_ it is no Base64":   {c.decoded(lease.MacBase64, "whsec"), lease.MacMissing},
		"the text of it as the key":     {c.decoded(lease.MacRaw, "b64"), lease.MacMismatch},
		"no Base64":                     {c.decoded(lease.MacBase64, "hook"), lease.MacMissing},
		"an unknown form of the key":    {c.decoded(9, "b64"), lease.MacRefused},
		"too many secrets": {func() lease.MacCheck {
			m := c.check(lease.MacEqual, "", "hook", "")
			m.Secrets = make([]string, 9)
			return m
		}(), lease.MacRefused},
		"too many signatures": {c.check(lease.MacHMAC, "sha256", "hook", "x", make([][]byte, 17)...), lease.MacRefused},
		"data over the limit": {c.check(lease.MacHMAC, "sha256", "hook", string(make([]byte, lease.MaxMacData+1)), good), lease.MacRefused},
		"a part of nothing":   {func() lease.MacCheck { m := c.check(lease.MacHMAC, "sha256", "hook", "x", good); m.Part = 1; return m }(), lease.MacRefused},
		"any of several": {func() lease.MacCheck {
			m := c.check(lease.MacHMAC, "sha256", "old", "Hello, World!", good)
			m.Secrets = []string{"nope", "old", "hook"}
			return m
		}(), lease.MacMatch},
		"none of several, missing": {func() lease.MacCheck {
			m := c.check(lease.MacHMAC, "sha256", "old", "Hello, World!", good)
			m.Secrets = []string{"nope", "old"}
			return m
		}(), lease.MacMismatch},
	} {
		got := w.mac(tt.check)[0]
		if got.Verdict != tt.want {
			t.Errorf("%s: verdict %d, want %d", what, got.Verdict, tt.want)
		}
		if what == "any of several" && got.Secret != 2 {
			t.Errorf("secret %d matched, want 2", got.Secret)
		}
	}
}

// The config of another customer, a moved or an older one, and that of an instance that is
// gone open nothing, opened before or not.
func TestChecksUseTheNewestConfigOfTheCustomer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.checked(map[string]string{"s": "a"}), w.checked(map[string]string{"s": "b"})
	good := a.check(lease.MacEqual, "", "s", "", []byte("a"))
	if got := w.mac(good)[0].Verdict; got != lease.MacMatch {
		t.Fatalf("verdict %d", got)
	}
	n := &attempts{t: t, what: "checks"}
	try := func(what string, change func(*lease.MacCheck)) {
		m := good
		change(&m)
		var err error
		if w.mac(m)[0].Verdict != lease.MacMatch {
			err = ErrRefused
		}
		n.refused(what, err)
	}
	try("another customer's name", func(m *lease.MacCheck) { m.Customer = b.customer })
	try("another customer's name, nothing opened", func(m *lease.MacCheck) { m.Customer, m.Config = b.customer, nil })
	try("another's config", func(m *lease.MacCheck) { m.Instance, m.Customer, m.ConfigVersion = b.instance, b.customer, b.version })
	newer := w.saveInstance(a.customer, a.instance, `{"s":"new"}`)
	try("an older version", func(*lease.MacCheck) {})
	try("an older version, nothing sent", func(m *lease.MacCheck) { m.Config = nil })
	try("an older config as the newest", func(m *lease.MacCheck) { m.ConfigVersion = newer.Version })
	w.call(lease.OpInstanceDelete, &lease.InstanceCall{Customer: a.customer, Instance: a.instance}, nil)
	try("an instance that is gone", func(m *lease.MacCheck) {
		m.ConfigVersion, m.Config, m.Candidates = newer.Version, newer.Config, [][]byte{[]byte("new")}
	})
	n.report(7)
}

// The config travels once: later checks of the same secrets come without it.
func TestTheConfigIsAskedForWhenItIsNeeded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.checked(map[string]string{"s": "a", "other": "b"})
	without := c.check(lease.MacEqual, "", "s", "", []byte("a"))
	without.Config = nil
	ask := func(want lease.MacVerdict, m lease.MacCheck) {
		t.Helper()
		if got := w.mac(m)[0].Verdict; got != want {
			t.Errorf("verdict %d, want %d", got, want)
		}
	}
	ask(lease.MacUnopened, without)
	ask(lease.MacMatch, c.check(lease.MacEqual, "", "s", "", []byte("a")))
	ask(lease.MacMatch, without)
	other := without
	other.Secrets, other.Candidates = []string{"other"}, [][]byte{[]byte("b")}
	ask(lease.MacUnopened, other)
	w.clock.add(macLife)
	ask(lease.MacUnopened, without)
}

func TestOpeningSecretsForChecksIsALeaf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.checked(map[string]string{"s": "a"})
	good, bad := c.check(lease.MacEqual, "", "s", "", []byte("a")), c.check(lease.MacEqual, "", "s", "", []byte("x"))
	before, _ := w.vault.Head()
	for range 50 {
		w.mac(good, bad, good)
	}
	if after, _ := w.vault.Head(); after != before+1 {
		t.Errorf("%d leaves for the first checks, want 1", after-before)
	}
	w.clock.add(macLife)
	if _, err := w.vault.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, _ := w.vault.Head()
	if after != before+2 {
		t.Errorf("%d leaves when they were closed, want 2", after-before)
	}
	if _, err := w.vault.VerifyLog(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNoCheckWithoutALeaf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.checked(map[string]string{"s": "a"})
	w.thief().exec(`CREATE TRIGGER no_leaf BEFORE INSERT ON leaf BEGIN SELECT RAISE(ABORT, 'disk is full'); END`)
	err := w.try(lease.OpMac, &lease.MacCall{Checks: []lease.MacCheck{c.check(lease.MacEqual, "", "s", "", []byte("a"))}}, &lease.MacAnswer{})
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
}

func TestAnHMACInParts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.checked(map[string]string{"s": "a", "t": "b"})
	data := make([]byte, 5*lease.MaxMacData/2)
	_, _ = rand.Read(data)
	send := func(change func(part int, m *lease.MacCheck)) (last lease.MacResult) {
		session := [16]byte{}
		_, _ = rand.Read(session[:])
		for part, at := 0, 0; at < len(data); part, at = part+1, at+lease.MaxMacData {
			end := min(at+lease.MaxMacData, len(data))
			m := c.check(lease.MacHMAC, "sha256", "t", string(data[at:end]))
			m.Secrets, m.Session, m.Part, m.More = []string{"t", "s"}, session, uint32(part), end < len(data)
			if !m.More {
				m.Candidates = [][]byte{hmacOf("a", string(data))}
			}
			change(part, &m)
			if last = w.mac(m)[0]; last.Verdict == lease.MacRefused {
				return last
			}
		}
		return last
	}
	if got := send(func(int, *lease.MacCheck) {}); got.Verdict != lease.MacMatch || got.Secret != 1 {
		t.Errorf("%+v, want a match of the second secret", got)
	}
	for what, tt := range map[string]struct {
		change func(part int, m *lease.MacCheck)
		want   lease.MacVerdict
	}{
		"another byte":         {func(part int, m *lease.MacCheck) { m.Data[0] ^= byte(part) }, lease.MacMismatch},
		"a part left out":      {func(part int, m *lease.MacCheck) { m.Part += uint32(part) }, lease.MacRefused},
		"another session":      {func(part int, m *lease.MacCheck) { m.Session[0] ^= byte(part) }, lease.MacRefused},
		"another instance":     {func(part int, m *lease.MacCheck) { m.Instance[15] ^= byte(part) }, lease.MacRefused},
		"no session":           {func(_ int, m *lease.MacCheck) { m.Session = [16]byte{} }, lease.MacRefused},
		"a token, not an HMAC": {func(_ int, m *lease.MacCheck) { m.Kind = lease.MacJWS }, lease.MacRefused},
	} {
		if got := send(tt.change); got.Verdict != tt.want {
			t.Errorf("%s: verdict %d, want %d", what, got.Verdict, tt.want)
		}
	}
}

// Sessions are bounded, and who finds no room for one takes nothing from the other checks of
// its call.
func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.checked(map[string]string{"s": "a"})
	begin := func(n byte) lease.MacVerdict {
		m := c.check(lease.MacHMAC, "sha256", "s", "x")
		m.Session, m.More = [16]byte{1, n}, true
		got := w.mac(m, c.check(lease.MacEqual, "", "s", "", []byte("a")))
		if got[1].Verdict != lease.MacMatch {
			t.Errorf("another check of the call: verdict %d", got[1].Verdict)
		}
		return got[0].Verdict
	}
	for n := range byte(maxMacSessions) {
		if got := begin(n); got != lease.MacPart {
			t.Fatalf("session %d: verdict %d", n, got)
		}
	}
	if got := begin(200); got != lease.MacBusy {
		t.Errorf("verdict %d, want MacBusy", got)
	}
	w.clock.add(macSession)
	if got := begin(201); got != lease.MacPart {
		t.Errorf("after their time: verdict %d", got)
	}
}

func TestTokensAreCheckedByTheNamedAlgorithm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	public := func(k any) string {
		b, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}))
	}
	r, _ := rsa.GenerateKey(rand.Reader, 2048)
	e, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	other, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	edPublic, ed, _ := ed25519.GenerateKey(rand.Reader)
	c := w.checked(map[string]string{
		"rsa": public(&r.PublicKey), "ec": public(&e.PublicKey), "ec384": public(&other.PublicKey), "ed": public(edPublic), "text": "a secret", "pem": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
	})
	data := "eyJhbGciOiJub25lIn0.e30"
	sum := sha256.Sum256([]byte(data))
	rsaSignature, err := rsa.SignPKCS1v15(rand.Reader, r, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	x, y, err := ecdsa.Sign(rand.Reader, e, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	ecSignature := append(x.FillBytes(make([]byte, 32)), y.FillBytes(make([]byte, 32))...)
	edSignature := ed25519.Sign(ed, []byte(data))
	for what, tt := range map[string]struct {
		algorithm, secret string
		signature         []byte
		want              lease.MacVerdict
	}{
		"RS256":                         {"RS256", "rsa", rsaSignature, lease.MacMatch},
		"ES256":                         {"ES256", "ec", ecSignature, lease.MacMatch},
		"EdDSA":                         {"EdDSA", "ed", edSignature, lease.MacMatch},
		"HS256":                         {"HS256", "text", hmacOf("a secret", data), lease.MacMatch},
		"a key of another kind":         {"RS256", "ec", ecSignature, lease.MacMissing},
		"a key of another curve":        {"ES256", "ec384", ecSignature, lease.MacMissing},
		"the public key as the secret":  {"HS256", "rsa", hmacOf(public(&r.PublicKey), data), lease.MacMissing},
		"no algorithm":                  {"none", "text", nil, lease.MacMissing},
		"zeros":                         {"ES256", "ec", make([]byte, 64), lease.MacMismatch},
		"a signature of another length": {"ES256", "ec", append(ecSignature, 0), lease.MacMismatch},
		"no signature":                  {"EdDSA", "ed", nil, lease.MacMismatch},
		"a damaged key":                 {"RS256", "pem", ecSignature, lease.MacMissing},
	} {
		if got := w.mac(c.check(lease.MacJWS, tt.algorithm, tt.secret, data, tt.signature))[0].Verdict; got != tt.want {
			t.Errorf("%s: verdict %d, want %d", what, got, tt.want)
		}
	}
}

func BenchmarkMac(b *testing.B) {
	w := newWorld(b)
	c := w.checked(map[string]string{"s": "a"})
	m := &lease.MacCall{}
	for range 64 {
		m.Checks = append(m.Checks, c.check(lease.MacHMAC, "sha256", "s", string(make([]byte, 1024)), hmacOf("a", "x")))
	}
	w.mac(m.Checks...)
	for i := range m.Checks {
		m.Checks[i].Config = nil
	}
	from, _ := w.vault.Live(w.server.node)
	for b.Loop() {
		if _, err := w.vault.mac(context.Background(), from.Node, m); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/check")
}
