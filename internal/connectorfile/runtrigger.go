package connectorfile

import (
	"crypto/hmac"
	"crypto/sha1" // #nosec G505 -- signatures of providers that know nothing else
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// delivery is what the vendor's example sends.
func (r *run) delivery() (*connector.Delivery, bool) {
	q := r.c.Request
	if q == nil {
		q = &CaseRequest{}
	}
	d := &connector.Delivery{Method: q.Method, URL: q.URL, Header: lookup(q.Headers), Raw: q.Body}
	if d.Method == "" {
		d.Method = "POST"
	}
	u, err := url.Parse(q.URL)
	if err != nil {
		r.add(r.at+".request.url", "%s", err)
		return nil, false
	}
	query := u.Query()
	for name, raw := range q.Query {
		query[name] = texts(raw)
	}
	d.Query = query.Get
	if q.Text != nil {
		d.Raw = []byte(*q.Text)
	}
	if d.Body, err = parse(d.Raw, d.Header("content-type")); err != nil {
		r.add(r.at+".request", "%s", err)
		return nil, false
	}
	return d, true
}

// parse reads a delivery's body by its type: a form, a text, or else JSON.
func parse(raw []byte, contentType string) (expr.Value, error) {
	if len(raw) == 0 {
		return expr.Null(), nil
	}
	switch mediaType(contentType) {
	case "application/x-www-form-urlencoded":
	case "text/plain":
		return expr.String(string(raw)), nil
	default:
		return expr.ParseJSON(raw)
	}
	var keys []string
	var values []expr.Value
	for _, f := range connector.ParseQuery(string(raw)) {
		if !slices.Contains(keys, f.Name) {
			keys, values = append(keys, f.Name), append(values, expr.String(f.Value))
		}
	}
	return expr.NewObject(keys, values), nil
}

func (r *run) trigger(t *connector.Trigger) {
	if t.Type == connector.TriggerPoll {
		r.add(r.at+".trigger", "a trigger of type poll is its action: write a case of that")
		return
	}
	d, ok := r.delivery()
	if !ok {
		return
	}
	if r.c.Challenge != "" {
		if t.Challenge == nil {
			r.add(r.at+".challenge", "the trigger knows no check of its address")
		} else if text, asked := t.Challenge.Asked(d); !asked || text != r.c.Challenge {
			r.add(r.at+".challenge", "the answer is %q", text)
		}
		return
	}
	r.proof(t.Verify, d)
	in := expr.Null()
	if len(r.c.With) > 0 {
		var err error
		if in, err = expr.ParseJSON(r.c.With); err != nil {
			r.add(r.at+".with", "%s", err)
			return
		}
	}
	events := []expr.Value{d.Body}
	if t.App != nil {
		var err error
		if events, err = t.App.Events(d.Body); err != nil {
			r.add(r.at+".request", "%s", err)
			return
		}
	}
	taken := false
	for _, e := range events {
		one := *d
		one.Body = e
		if t.Takes(&one, in) {
			taken = true
			r.event(t, &one)
		}
	}
	if taken == r.c.Ignored {
		r.add(r.at, "the delivery is taken as an event: %t", taken)
	}
}

// event compares what is taken from one event.
func (r *run) event(t *connector.Trigger, d *connector.Delivery) {
	raw, err := expr.AppendJSON(nil, d.Body)
	if err == nil {
		r.fits(r.at+".request.body", "payload", t.Name, t.Payload, raw)
	}
	want := r.c.Event
	if want == nil {
		return
	}
	if t.Key != "" {
		if key := t.ID(d); key == "" || key != want.Key {
			r.add(r.at+".event.key", "it is %q", key)
		}
	} else if want.Key != "" {
		r.add(r.at+".event.key", "the trigger says nothing of the delivery's id")
	}
	if t.App != nil {
		if account, ok := d.Text(t.App.Account); !ok || account != want.Account {
			r.add(r.at+".event.account", "it is %q", account)
		}
	}
	if len(want.Body) > 0 && !sameJSON(want.Body, raw) {
		r.add(r.at+".event.body", "it is %s", raw)
	}
}

// proof checks that the recipe takes the example's signature, and no other.
func (r *run) proof(v *connector.Verify, d *connector.Delivery) {
	secret := r.c.Request.secret()
	if v == nil || v.Type == "none" || secret == "" {
		return
	}
	p, err := v.Proof(d)
	if err != nil {
		r.add(r.at+".request.headers", "%s", err)
		return
	}
	if p.Algorithm == "" {
		if subtle.ConstantTimeCompare([]byte(p.Plain), []byte(secret)) != 1 {
			r.add(r.at+".request.secret", "it is not what the delivery has")
		}
		return
	}
	if r.c.Request.Time != "" {
		if now, err := time.Parse(time.RFC3339, r.c.Request.Time); err != nil || !v.Fresh(p, now) {
			r.add(r.at+".request.time", "the delivery says that it was made at %s", p.At.Format(time.RFC3339))
		}
	}
	key := []byte(secret)
	encoded, standard := strings.CutPrefix(secret, "whsec_")
	if standard && v.Type == "standard-webhooks" || v.Key == connector.KeyBase64 {
		if v.Key == connector.KeyBase64 {
			encoded = secret
		}
		if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			r.add(r.at+".request.secret", "%s", err)
			return
		}
	}
	mac := hmac.New(hashes()[p.Algorithm], key)
	mac.Write(p.Signed)
	if sum := mac.Sum(nil); !slices.ContainsFunc(p.Signatures, func(s []byte) bool { return hmac.Equal(s, sum) }) {
		r.add(r.at+".request.headers", "the signature is not that of the body: expected %x, or in base64 %s", sum, base64.StdEncoding.EncodeToString(sum))
	}
}

func (q *CaseRequest) secret() string {
	if q == nil {
		return ""
	}
	return q.Secret
}

func hashes() map[string]func() hash.Hash {
	return map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New}
}
