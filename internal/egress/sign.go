package egress

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/sign"
)

var errStreamSigned = errors.New("the connection signs what is sent: a body that is streamed cannot be")

// ownSigned notes the headers that a signature takes.
func (p *placed) ownSigned(in *injector) error {
	switch p.kind {
	case HMAC:
		if p.spec.Method.Sign == nil || len(p.places) == 0 {
			return fmt.Errorf("%w: nothing says how to sign, or where the signature goes", ErrCredential)
		}
	case SigV4:
		for _, name := range []string{"authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"} {
			p.owned[name] = true
		}
	case OAuth1:
		p.owned["authorization"] = true
		for _, name := range []string{"consumer_secret", "token_secret"} { // which PLAINTEXT sends, escaped twice
			once := sign.Escape(string(p.fields[name]))
			in.hide(once)
			in.hide(sign.Escape(once))
		}
		in.hide(sign.Escape(string(p.fields["token"])))
	case MTLS:
		return p.certificate(in)
	}
	return nil
}

// prepare makes the signature of kinds whose places carry it.
func (p *placed) prepare(x *exchange, at *instant) error {
	if p.kind != HMAC {
		return nil
	}
	r, err := x.signable(p.spec.Method.Sign)
	if err != nil {
		return err
	}
	r.Query = p.strip(r.Query)
	made, err := sign.Sign(p.spec.Method.Sign, r, p.value(at))
	if err != nil {
		return err
	}
	at.extra = map[string]string{"signature": made, "body_hash": sign.BodyHash(p.spec.Method.Sign, r.Body)}
	return nil
}

// finish signs what is whole now.
func (p *placed) finish(x *exchange, at *instant) error {
	switch p.kind {
	case SigV4:
		return p.sigV4(x, at)
	case OAuth1:
		return p.oauth1(x, at)
	default:
		return nil
	}
}

// signable describes the request that is about to be sent.
func (x *exchange) signable(s *credential.Signing) (*sign.Request, error) {
	if x.body.stream != nil && (s == nil || readsBody(s)) {
		return nil, errStreamSigned
	}
	kind := ""
	if v := x.header["Content-Type"]; len(v) > 0 {
		kind = v[0]
	}
	return &sign.Request{
		Method: x.method, Scheme: x.at.scheme, Host: x.at.authority(), Path: x.at.path, Query: x.at.query, ContentType: kind,
		Body: x.body.bytes, Form: strings.HasPrefix(kind, "application/x-www-form-urlencoded"),
	}, nil
}

// readsBody reports whether a signature covers the body.
func readsBody(s *credential.Signing) bool {
	for _, name := range credential.Uses(s.Message) {
		if name == "body" || name == "body_hash" || name == "params" || strings.HasPrefix(name, "param.") {
			return true
		}
	}
	return false
}

func (p *placed) text(template string, at *instant) (string, error) {
	return credential.Expand(template, p.value(at))
}

func (p *placed) sigV4(x *exchange, at *instant) error {
	s := p.spec.Method.Sign
	region, err := p.text(cmp.Or(s.Region, "us-east-1"), at)
	if err != nil {
		return err
	}
	service, err := p.text(s.Service, at)
	if err != nil {
		return err
	}
	// A space is %20 to AWS, which signs a plus as itself. A plus of a value is %2B here.
	x.at.query = strings.ReplaceAll(x.at.query, "+", "%20")
	r, err := x.signable(&credential.Signing{})
	if err != nil {
		return err
	}
	k := &sign.AWS{KeyID: string(p.fields["access_key_id"]), Secret: p.fields["secret_access_key"], Token: string(p.fields["session_token"]), Region: region, Service: service}
	for name, v := range sign.SigV4(k, r, at.now, x.body.stream != nil) {
		x.header[name] = []string{v}
	}
	return nil
}

func (p *placed) oauth1(x *exchange, at *instant) error {
	s := p.spec.Method.Sign
	if s == nil {
		s = &credential.Signing{Algorithm: credential.HMACSHA1}
	}
	r, err := x.signable(&credential.Signing{})
	if err != nil {
		return err
	}
	realm, err := p.text(s.Realm, at)
	if err != nil {
		return err
	}
	v, err := sign.OAuth1(&sign.Consumer{
		Key: string(p.fields["consumer_key"]), Secret: p.fields["consumer_secret"], Token: string(p.fields["token"]), TokenSecret: p.fields["token_secret"],
		Realm: realm, Algorithm: s.Algorithm,
	}, r, at.now, at.unique("nonce"))
	if err != nil {
		return err
	}
	x.header["Authorization"] = []string{v}
	return nil
}
