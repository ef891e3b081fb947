package egress

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
)

var (
	errBodyPlace = errors.New("the connection puts its credential into the body: it has to be a JSON object or a form")
	errBodyOwned = errors.New("this member of the body is set by the connection")
	errPathPlace = errors.New("the path must have exactly one place for the connection's credential")
)

// Kinds whose credential stands where the places of a method say, or that sign what is sent.
const (
	// Key sends the fields at the places of the method in Credential.Spec.
	Key Kind = "key"
	// OAuth2 and Session send tokens, at the places of the method.
	OAuth2  Kind = "oauth2"
	Session Kind = "session"
	// HMAC, SigV4 and OAuth1 sign every request.
	HMAC   Kind = "hmac"
	SigV4  Kind = "sigv4"
	OAuth1 Kind = "oauth1"
	// MTLS presents a client certificate.
	MTLS Kind = "mtls"
)

// specified reports whether a kind is described by a method.
func (k Kind) specified() bool {
	switch k {
	case Key, OAuth2, Session, HMAC, SigV4, OAuth1, MTLS:
		return true
	default:
		return false
	}
}

// placed is a credential that stands at the places of a method. It is immutable.
type placed struct {
	kind   Kind
	spec   *credential.Spec
	vars   map[string]string
	fields map[string][]byte
	places []credential.Place
	owned  map[string]bool // folded header names, "?" and parameter, "{" and member
}

// placedInjector makes the injector of a kind that is described by a method.
func placedInjector(c Credential) (*injector, error) {
	if c.Spec == nil {
		return nil, fmt.Errorf("%w: it has no method", ErrCredential)
	}
	vars, err := c.Spec.Vars.Accept(c.Spec.Values)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCredential, err)
	}
	m := &c.Spec.Method
	p := &placed{kind: c.Kind, spec: c.Spec, vars: vars, fields: map[string][]byte{}, places: m.Placed(), owned: map[string]bool{}}
	in := &injector{more: p}
	for name, v := range c.Fields {
		name = strings.TrimPrefix(name, lease.KeptPrefix)
		p.fields[name] = v.Reveal()
		if len(v.Reveal()) > maxFieldBytes {
			return nil, fmt.Errorf("%w: field %s is too long", ErrCredential, name)
		}
		if m.Hidden(name) {
			in.hide(string(v.Reveal()))
		}
	}
	for i := range p.places {
		if err := p.own(&p.places[i], in); err != nil {
			return nil, err
		}
	}
	if c.Kind != Key && c.Kind != OAuth2 && c.Kind != Session {
		return in, p.ownSigned(in)
	}
	if len(p.places) == 0 {
		return nil, fmt.Errorf("%w: it has no place", ErrCredential)
	}
	return in, nil
}

// maxFieldBytes is the longest field of a credential with places.
const maxFieldBytes = oauth.MaxToken

// own notes what a place takes, and checks what it will be filled with as far as it does not depend on the moment.
func (p *placed) own(place *credential.Place, in *injector) error {
	secret := false
	for _, name := range credential.Uses(place.Format + place.User) {
		first, _, _ := strings.Cut(name, ".")
		if _, ok := p.fields[name]; ok {
			secret = secret || p.spec.Method.Hidden(name)
		} else if _, ok := p.fields[first]; ok {
			secret = secret || p.spec.Method.Hidden(first)
		}
	}
	v, user, err := p.fill(place, &instant{now: time.Unix(0, 0), extra: map[string]string{"signature": "x", "body_hash": "x"}})
	if err != nil {
		return err
	}
	switch place.In {
	case credential.InHeader:
		name := textproto.CanonicalMIMEHeaderKey(place.Name)
		if reserved(name) || !token(place.Name) || !fieldValue(v) {
			return fmt.Errorf("%w: header %s cannot be used, or its value has line ends or spaces around it", ErrCredential, name)
		}
		p.owned[fold(name)] = true
	case credential.InBasic:
		if strings.Contains(user, ":") || strings.ContainsFunc(user+v, control) {
			return fmt.Errorf("%w: a user name has no colon, a password no control characters", ErrCredential)
		}
		p.owned["authorization"] = true
		in.hide(base64.StdEncoding.EncodeToString([]byte(user + ":" + v)))
	case credential.InCookie:
		if strings.ContainsAny(v, " \",;\\") || strings.ContainsFunc(v, control) {
			return fmt.Errorf("%w: cookie %s has characters that no cookie has", ErrCredential, place.Name)
		}
		p.owned["cookie"] = true
	case credential.InQuery:
		p.owned["?"+strings.ToLower(place.Name)] = true
	case credential.InBody:
		p.owned["{"+place.Name] = true
	case credential.InPath:
		if v == "." || v == ".." || strings.ContainsFunc(v, control) {
			return fmt.Errorf("%w: what stands in the path cannot", ErrCredential)
		}
	}
	switch {
	case !secret:
	case place.In == credential.InBody:
		in.hideEscaped(v)
		in.hideInJSON(v)
	case place.In == credential.InQuery || place.In == credential.InPath:
		in.hideEscaped(v)
	default:
		in.hide(v)
	}
	return nil
}

// instant is what templates mean by now and nonce, once for a request, and what only this request has.
type instant struct {
	now   time.Time
	once  map[string]string
	extra map[string]string
}

func (i *instant) unique(name string) string {
	if i.once == nil {
		i.once = map[string]string{}
	}
	if i.once[name] == "" {
		i.once[name] = oauth.Unique(name)
	}
	return i.once[name]
}

// value gives what a template of a place calls name.
func (p *placed) value(at *instant) func(name string) (string, error) {
	return func(name string) (string, error) {
		if v, ok := at.extra[name]; ok {
			return v, nil
		}
		if v, ok := p.fields[name]; ok {
			return string(v), nil
		}
		if v, ok := p.vars[name]; ok {
			return v, nil
		}
		if v, ok := oauth.Moment(name, at.now); ok {
			return v, nil
		}
		if name == "nonce" || name == "uuid" {
			return at.unique(name), nil
		}
		if field, member, ok := strings.Cut(name, "."); ok {
			var tree map[string]any
			if err := json.Unmarshal(p.fields[field], &tree); err == nil {
				if v, ok := tree[member].(string); ok {
					return v, nil
				}
			}
		}
		return "", fmt.Errorf("%w: there is no field %s", ErrCredential, name)
	}
}

// fill expands a place.
func (p *placed) fill(place *credential.Place, at *instant) (v, user string, err error) {
	if v, err = credential.Expand(place.Format, p.optional(p.value(at))); err != nil {
		return "", "", err
	}
	user, err = credential.Expand(place.User, p.value(at))
	return v, user, err
}

// optional makes fields that may be left empty empty, where they are.
func (p *placed) optional(value func(string) (string, error)) func(string) (string, error) {
	return func(name string) (string, error) {
		v, err := value(name)
		if err != nil {
			for _, f := range p.spec.Method.Entered() {
				if f.Name == name && f.Optional {
					return "", nil
				}
			}
		}
		return v, err
	}
}

// present puts the credential into the request that is about to be sent: headers and parameters of places, then the signature.
func (x *exchange) present() error {
	p := x.call.Lease.inject.more
	if p == nil || !x.credential {
		return nil
	}
	at := &instant{now: time.Now()}
	if err := p.prepare(x, at); err != nil {
		return err
	}
	var cookies []string
	x.at.query = p.strip(x.at.query)
	for i := range p.places {
		place := &p.places[i]
		if place.In == credential.InPath || place.In == credential.InBody {
			continue
		}
		v, user, err := p.fill(place, at)
		if err != nil {
			return err
		}
		if v == "" && place.In != credential.InBasic {
			continue
		}
		switch place.In {
		case credential.InHeader:
			if !fieldValue(v) {
				return errHeaderForm
			}
			x.header[textproto.CanonicalMIMEHeaderKey(place.Name)] = []string{v}
		case credential.InBasic:
			x.header["Authorization"] = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+v))}
		case credential.InCookie:
			cookies = append(cookies, place.Name+"="+v)
		case credential.InQuery:
			x.at.query = joined(x.at.query, Pair{place.Name, v})
		}
	}
	if len(cookies) > 0 {
		x.header["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	return p.finish(x, at)
}

func joined(query string, p Pair) string {
	var b strings.Builder
	b.WriteString(query)
	appendPair(&b, p)
	return b.String()
}

// strip takes parameters that are the credential's out of a query: of a redirect, or of the hop before.
func (p *placed) strip(query string) string {
	if query == "" {
		return ""
	}
	var kept []string
	for part := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); part != "" && err == nil && !p.ownsParam(plain) {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "&")
}

func (p *placed) ownsParam(name string) bool {
	name, _, _ = strings.Cut(name, "[")
	return p.owned["?"+strings.ToLower(strings.TrimSpace(name))]
}

// fillPath replaces the segments {name} of an escaped path by their credentials. Each stands in a path once: a second one came
// with a value of the flow, and would leave the credential where whoever gave that value can read it.
func (p *placed) fillPath(path string) (string, error) {
	for i := range p.places {
		place := &p.places[i]
		if place.In != credential.InPath {
			continue
		}
		mark := url.PathEscape("{" + place.Name + "}")
		if strings.Count(path, mark) != 1 {
			return "", errPathPlace
		}
		v, _, err := p.fill(place, &instant{now: time.Now()})
		if err != nil {
			return "", err
		}
		path = strings.ReplaceAll(path, mark, strings.ReplaceAll(url.PathEscape(v), "+", "%2B"))
	}
	return path, checkPath(path)
}

// fillBody adds members to a JSON object or fields to a form.
func (p *placed) fillBody(b *payload, form bool) error {
	for i := range p.places {
		place := &p.places[i]
		if place.In != credential.InBody {
			continue
		}
		v, _, err := p.fill(place, &instant{now: time.Now()})
		if err != nil {
			return err
		}
		switch {
		case form:
			if values, err := url.ParseQuery(string(b.bytes)); err != nil || values.Has(place.Name) {
				return errBodyOwned
			}
			b.bytes = []byte(joined(string(b.bytes), Pair{place.Name, v}))
		case b.stream == nil && strings.HasPrefix(b.contentType, "application/json") || b.empty():
			if err := addMember(b, place.Name, v); err != nil {
				return err
			}
		default:
			return errBodyPlace
		}
	}
	return nil
}

// addMember puts a member in front of a JSON object.
func addMember(b *payload, name, value string) error {
	if b.empty() {
		b.bytes, b.contentType = []byte("{}"), "application/json"
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b.bytes, &members); err != nil {
		return errBodyPlace
	}
	for other := range members {
		if strings.EqualFold(other, name) {
			return errBodyOwned
		}
	}
	n, errN := json.Marshal(name)
	v, errV := json.Marshal(value)
	if errN != nil || errV != nil {
		return errBodyPlace
	}
	rest := bytes.TrimSpace(b.bytes)[1:]
	out := append(append(append(append([]byte{'{'}, n...), ':'), v...), ',')
	if len(members) == 0 {
		out = out[:len(out)-1]
	}
	b.bytes = append(out, rest...)
	return nil
}

// puts reports whether a place is in a part of the request.
func (p *placed) puts(in credential.In) bool {
	for i := range p.places {
		if p.places[i].In == in {
			return true
		}
	}
	return false
}

// fillBody puts the credential into the body, if it goes there.
func (x *exchange) fillBody() error {
	p := x.call.Lease.inject.more
	if p == nil || !p.puts(credential.InBody) {
		return nil
	}
	if x.method == http.MethodGet || x.method == http.MethodHead {
		return errBodyPlace
	}
	return p.fillBody(x.body, x.call.Form != nil || strings.HasPrefix(x.body.contentType, "application/x-www-form-urlencoded"))
}
