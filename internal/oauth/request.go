package oauth

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/sign"
)

// draft is a request that is being made.
type draft struct {
	g      *Grant
	spec   *credential.Request
	auth   credential.ClientAuth
	extra  map[string]string // what only this request's templates know
	url    *url.URL
	params []Pair
	header http.Header
}

// make builds one request: the standard parameters, those of client authentication, then the recipe's own.
func (g *Grant) make(spec *credential.Request, auth credential.ClientAuth, standard []Pair, extra map[string]string) (*Request, error) {
	g.once = map[string]string{}
	if extra == nil {
		extra = map[string]string{}
	}
	d := &draft{g: g, spec: spec, auth: auth, extra: extra, params: standard, header: http.Header{"Accept": {"application/json"}}}
	for _, p := range standard {
		if _, ok := extra[p.Name]; !ok {
			extra[p.Name] = p.Value
		}
	}
	var err error
	if d.url, err = g.expandURL(spec.URL, extra); err != nil {
		return nil, err
	}
	extra["token_url"] = (&url.URL{Scheme: d.url.Scheme, Host: d.url.Host, Path: d.url.Path}).String()
	for _, step := range []func() error{d.assert, d.authenticate, d.ownParams, d.headers} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return d.finish()
}

// uses reports whether a template of the request has a name.
func (d *draft) uses(name string) bool {
	in := func(text string) bool { return slices.Contains(credential.Uses(text), name) }
	for _, m := range []map[string]string{d.spec.Params, d.spec.Headers} {
		for _, text := range m {
			if in(text) {
				return true
			}
		}
	}
	return in(d.spec.Text) || in(d.spec.URL)
}

// assert makes the JWT that a template names.
func (d *draft) assert() error {
	wanted := slices.ContainsFunc(d.params, func(p Pair) bool { return p.Name == "assertion" })
	if !wanted && !d.uses("assertion") {
		return nil
	}
	jwt, err := d.g.jwt(d.g.recipe.Assertion, d.extra)
	if err != nil {
		return err
	}
	d.extra["assertion"] = jwt
	for i := range d.params {
		if d.params[i].Name == "assertion" {
			d.params[i].Value = jwt
		}
	}
	return nil
}

// authenticate adds what proves the client, in one way only.
func (d *draft) authenticate() error {
	id, secret := string(d.g.in.Client["client_id"].Reveal()), string(d.g.in.Client["client_secret"].Reveal())
	basic := func(user, password string) {
		d.header["Authorization"] = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
	}
	switch d.auth {
	case credential.AuthCustom:
		d.params = reshape(d.params, d.spec.Rename, d.spec.Drop)
		return nil
	case credential.AuthBasic:
		basic(url.QueryEscape(id), url.QueryEscape(secret))
	case credential.AuthBasicRaw:
		basic(id, secret)
	case credential.AuthBasicSecret:
		basic(secret, "")
	case credential.AuthNone, credential.AuthTLS:
		d.params = append(d.params, Pair{"client_id", id})
	case credential.AuthKeyJWT, credential.AuthSecretJWT, credential.AuthAssertion:
		jwt, err := d.g.jwt(d.clientAssertion(), d.extra)
		if err != nil {
			return err
		}
		d.params = append(
			d.params, Pair{"client_id", id}, Pair{"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			Pair{"client_assertion", jwt},
		)
	default:
		d.params = append(d.params, Pair{"client_id", id}, Pair{"client_secret", secret})
	}
	d.params = reshape(d.params, d.spec.Rename, d.spec.Drop)
	return nil
}

// clientAssertion is the JWT of RFC 7523 section 3 for the way of authentication.
func (d *draft) clientAssertion() *credential.Assertion {
	switch {
	case d.auth == credential.AuthAssertion && d.g.recipe.Assertion != nil:
		return d.g.recipe.Assertion
	case d.auth == credential.AuthSecretJWT:
		return &credential.Assertion{Algorithm: credential.HS256}
	default:
		return &credential.Assertion{KeyID: "{key_id}"}
	}
}

// ownParams adds the recipe's parameters. An empty one takes a standard one away.
func (d *draft) ownParams() error {
	for _, name := range slices.Sorted(maps.Keys(d.spec.Params)) {
		v, err := d.g.expand(d.spec.Params[name], d.extra, nil)
		if err != nil {
			return err
		}
		d.params = put(d.params, name, v)
	}
	d.params = slices.DeleteFunc(d.params, func(p Pair) bool { return p.Value == "" })
	return nil
}

func (d *draft) headers() error {
	for _, name := range slices.Sorted(maps.Keys(d.spec.Headers)) {
		v, err := d.g.expand(d.spec.Headers[name], d.extra, nil)
		if err != nil {
			return err
		}
		if strings.ContainsAny(v, "\r\n\x00") || len(v) > MaxToken {
			return configured("the value of a header cannot be used")
		}
		if v != "" {
			d.header.Set(name, v)
		}
	}
	return nil
}

// finish writes the body, signs, and puts it all together.
func (d *draft) finish() (*Request, error) {
	method := cmp.Or(d.spec.Method, http.MethodPost)
	body, kind, err := d.body(method)
	if err != nil {
		return nil, err
	}
	if kind != "" && d.header.Get("Content-Type") == "" {
		d.header.Set("Content-Type", kind)
	}
	if len(body) > maxRequest {
		return nil, configured("the request is too large")
	}
	r := &Request{Method: method, URL: d.url, Header: d.header, Body: body}
	if d.spec.Sign != nil {
		if err := d.sign(r); err != nil {
			return nil, err
		}
	}
	if d.auth == credential.AuthTLS {
		r.Certificate, r.Key = d.g.in.Client["certificate"].Reveal(), d.g.in.Client["private_key"].Reveal()
		if len(r.Certificate) == 0 || len(r.Key) == 0 {
			return nil, configured("the client has no certificate")
		}
	}
	return r, nil
}

// body writes parameters or text in the format of the request.
func (d *draft) body(method string) (body []byte, kind string, err error) {
	format := cmp.Or(d.spec.Body, credential.BodyForm)
	if method == http.MethodGet && (format == credential.BodyForm || format == credential.BodyJSON) {
		format = credential.BodyQuery
	}
	var escape func(string) string
	switch format {
	case credential.BodyQuery, credential.BodyNone:
		if len(d.params) > 0 && format == credential.BodyQuery {
			d.url.RawQuery = strings.TrimPrefix(attach(strings.TrimSuffix("?"+d.url.RawQuery, "?"), encodeParams(d.params, nil), false), "?")
		}
		return nil, "", nil
	case credential.BodyJSON:
		if d.spec.Text == "" {
			return jsonObject(d.params), "application/json", nil
		}
		escape, kind = jsonText, "application/json"
	case credential.BodyXML:
		escape, kind = xmlText, "application/xml"
	case credential.BodyText:
		kind = "text/plain; charset=utf-8"
	default:
		return []byte(encodeParams(d.params, nil)), "application/x-www-form-urlencoded", nil
	}
	text, err := d.g.expand(d.spec.Text, d.extra, escape)
	return []byte(text), kind, err
}

func jsonObject(params []Pair) []byte {
	m := make(map[string]string, len(params))
	for _, p := range params {
		m[p.Name] = p.Value
	}
	b, _ := json.Marshal(m) // a map of texts
	return b
}

// jsonText is s as it stands between the quotes of a JSON string.
func jsonText(s string) string {
	b, _ := json.Marshal(s) // a text
	return string(b[1 : len(b)-1])
}

func xmlText(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a buffer takes everything
	return b.String()
}

// sign puts the signature of a token request where the recipe says.
func (d *draft) sign(r *Request) error {
	value := func(name string) (string, error) { return d.g.text(name, d.extra) }
	made, err := sign.Sign(d.spec.Sign, &sign.Request{
		Method: r.Method, Scheme: r.URL.Scheme, Host: r.URL.Host, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery,
		ContentType: r.Header.Get("Content-Type"), Body: r.Body, Form: d.spec.Body == "" || d.spec.Body == credential.BodyForm,
	}, value)
	if err != nil {
		return configured(err.Error())
	}
	d.extra["signature"], d.extra["body_hash"] = made, sign.BodyHash(d.spec.Sign, r.Body)
	for _, p := range d.spec.SignPlaces {
		v, err := d.g.expand(p.Format, d.extra, nil)
		if err != nil {
			return err
		}
		switch p.In {
		case credential.InHeader:
			r.Header.Set(p.Name, v)
		case credential.InQuery:
			r.URL.RawQuery = strings.TrimPrefix(attach(strings.TrimSuffix("?"+r.URL.RawQuery, "?"), encodeParams([]Pair{{p.Name, v}}, nil), false), "?")
		default:
			return configured("a signature of a token request goes into a header or the query")
		}
	}
	return nil
}
