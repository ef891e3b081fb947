package openapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/credential"
)

// authPlace is where the document says that a credential goes.
type authPlace struct{ in, name string }

// security is the ways to authenticate that a document offers.
type security struct {
	d       *document
	vars    credential.Vars
	methods []credential.Method
	joined  []string               // keys that are only of use together
	places  map[string][]authPlace // by schemes of a requirement, joined
	byNeed  map[string][]string    // schemes of a requirement, joined → ids of methods; none: it cannot be met
	dropped []string               // what cannot be offered, and why
}

// readSecurity makes a method of every combination of schemes that some operation takes.
func readSecurity(d *document, service string, vars credential.Vars) *security {
	s := &security{d: d, vars: vars, byNeed: map[string][]string{}, places: map[string][]authPlace{}}
	schemes := d.root.at("components", "securitySchemes")
	s.joined = s.together(schemes)
	s.requirements(d.root.get("security"), schemes, service)
	for _, key := range []string{"paths", "x-ms-paths"} {
		d.root.get(key).each(func(_ string, item *node) {
			item.each(func(k string, o *node) {
				if isMethod(k) {
					s.requirements(o.get("security"), schemes, service)
				}
			})
		})
	}
	if len(s.byNeed) == 0 { // schemes that no operation refers to: the document forgot to
		schemes.each(func(name string, _ *node) {
			if len(s.methods) < connector.MaxMethods {
				s.require(s.with(name), schemes, service)
			}
		})
	}
	return s
}

// together are the keys that an operation asks for at once, by parameters that must be given.
func (s *security) together(schemes *node) []string {
	var out []string
	s.d.root.get("paths").each(func(_ string, item *node) {
		item.each(func(k string, o *node) {
			if !isMethod(k) {
				return
			}
			var here []string
			for _, p := range o.get("parameters").list() {
				t := s.d.deref(p)
				schemes.each(func(name string, scheme *node) {
					if t.get("required").yes() && t.get("in").str() == scheme.get("in").str() && t.get("name").str() == scheme.get("name").str() && t.get("name").str() != "" {
						here = append(here, name)
					}
				})
			}
			if len(here) > len(out) {
				out = here
			}
		})
	})
	slices.Sort(out)
	if out = slices.Compact(out); len(out) < 2 {
		return nil
	}
	return out
}

// with is the schemes of a requirement of one: where operations ask for several keys by parameters that must be given, one
// alone cannot be meant.
func (s *security) with(name string) []string {
	if slices.Contains(s.joined, name) {
		return s.joined
	}
	return []string{name}
}

func (s *security) requirements(list, schemes *node, service string) {
	for _, r := range list.list() {
		if names := s.needs(r); len(names) > 0 {
			s.require(names, schemes, service)
		}
	}
}

// needs are the schemes of a requirement, sorted.
func (s *security) needs(requirement *node) []string {
	if !requirement.is(kindMap) {
		return nil
	}
	if len(requirement.keys) == 1 {
		return s.with(requirement.keys[0])
	}
	names := slices.Clone(requirement.keys)
	slices.Sort(names)
	return names
}

func (s *security) require(names []string, schemes *node, service string) {
	key := strings.Join(names, " ")
	if _, known := s.byNeed[key]; known {
		return
	}
	s.byNeed[key] = nil
	made, places, err := s.make(names, schemes, service)
	if err != nil {
		s.dropped = append(s.dropped, fmt.Sprintf("%s: %v", line(key, maxTitle), err))
		return
	}
	for _, m := range made {
		if err := m.Check("auth", s.vars); err != nil {
			s.dropped = append(s.dropped, fmt.Sprintf("%s: %v", line(key, maxTitle), err))
			continue
		}
		if len(s.methods) == connector.MaxMethods {
			s.dropped = append(s.dropped, fmt.Sprintf("%s: there are more than %d methods", line(key, maxTitle), connector.MaxMethods))
			return
		}
		s.byNeed[key] = append(s.byNeed[key], m.ID)
		s.methods = append(s.methods, m)
	}
	s.places[key] = places
}

// id is a name for a method that no other has.
func (s *security) id(names []string, suffix string) string {
	id := fieldName(strings.Join(names, "_")) + suffix
	for slices.ContainsFunc(s.methods, func(m credential.Method) bool { return m.ID == id }) {
		id = suffixed(id, strings.Join(names, " ")+suffix)
	}
	return id
}

// make makes the methods of one requirement. Several schemes at once are one method with the places of all.
func (s *security) make(names []string, schemes *node, service string) ([]credential.Method, []authPlace, error) {
	if len(names) == 1 {
		scheme := s.d.deref(schemes.get(names[0]))
		if scheme == nil {
			return nil, nil, fmt.Errorf("no such scheme is declared")
		}
		return s.one(names, scheme, service)
	}
	joined := credential.Method{ID: s.id(names, ""), Title: line(strings.Join(names, " and "), maxTitle), Type: credential.APIKey}
	var places []authPlace
	for _, n := range names {
		scheme := s.d.deref(schemes.get(n))
		m, p, err := s.one([]string{n}, scheme, service)
		if err != nil {
			return nil, nil, err
		}
		if m[0].Type != credential.APIKey && m[0].Type != credential.Basic && m[0].Type != credential.Bearer {
			return nil, nil, fmt.Errorf("%s together with others cannot be offered", n)
		}
		if m[0].Type == credential.APIKey && len(p) == 1 && slices.Contains(places, p[0]) {
			continue // the same key under another name
		}
		for _, one := range p {
			if slices.Contains(places, one) {
				return nil, nil, fmt.Errorf("two credentials stand in the same place, %s %s", one.in, one.name)
			}
		}
		for _, f := range m[0].Entered() {
			renamed := f
			renamed.Name = fieldName(n + "_" + f.Name)
			renamed.Title = line(n, maxTitle)
			joined.Fields = append(joined.Fields, renamed)
			for _, place := range m[0].Placed() {
				if !strings.Contains(place.Format+place.User, "{"+f.Name+"}") {
					continue
				}
				place.Format = strings.ReplaceAll(place.Format, "{"+f.Name+"}", "{"+renamed.Name+"}")
				place.User = strings.ReplaceAll(place.User, "{"+f.Name+"}", "{"+renamed.Name+"}")
				joined.Places = appendPlace(joined.Places, place, f.Name, renamed.Name)
			}
		}
		places = append(places, p...)
	}
	return []credential.Method{joined}, places, nil
}

// appendPlace adds a place, or the second field of one that is there.
func appendPlace(places []credential.Place, p credential.Place, old, renamed string) []credential.Place {
	if p.In == credential.InBasic {
		for i := range places {
			if places[i].In == credential.InBasic {
				places[i].Format = strings.ReplaceAll(places[i].Format, "{"+old+"}", "{"+renamed+"}")
				places[i].User = strings.ReplaceAll(places[i].User, "{"+old+"}", "{"+renamed+"}")
				return places
			}
		}
	}
	return append(places, p)
}

// fieldName is a name for a field or method: small letters, digits and underscores, a letter first.
func fieldName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x80 && (letter(byte(r)) || digit(byte(r))) {
			return r
		}
		return '_'
	}, s)
	s = strings.ToLower(identifier(s, "auth"))
	const longest = 64
	if len(s) > longest {
		s = s[:longest]
	}
	return s
}

const awsType = "x-amazon-apigateway-authtype"

func (s *security) one(names []string, scheme *node, service string) ([]credential.Method, []authPlace, error) {
	m := credential.Method{ID: s.id(names, ""), Title: line(scheme.get("x-ms-summary").str(), maxTitle)}
	if m.Title == "" {
		m.Title = line(names[0], maxTitle)
	}
	m.Help = clip(scheme.get("description").str(), maxDescription)
	switch t := scheme.get("type").str(); t {
	case "apiKey":
		return s.key(m, scheme, service)
	case "http":
		return s.http(m, scheme)
	case "oauth2":
		return s.oauth(names, m, scheme)
	case "openIdConnect":
		u := scheme.get("openIdConnectUrl").str()
		issuer := strings.TrimSuffix(u, "/.well-known/openid-configuration")
		if !strings.HasPrefix(u, "https://") || issuer == u {
			return nil, nil, fmt.Errorf("its OpenID Connect URL cannot be used")
		}
		m.Type = credential.OAuth2Code
		m.Recipe = &credential.Recipe{Discovery: &credential.Discovery{Issuer: issuer}}
		return []credential.Method{m}, authorization(), nil
	case "mutualTLS":
		m.Type = credential.MTLS
		return []credential.Method{m}, nil, nil
	default:
		return nil, nil, fmt.Errorf("the type %q cannot be offered", clip(t, 50))
	}
}

func authorization() []authPlace { return []authPlace{{"header", "Authorization"}} }

func (s *security) key(m credential.Method, scheme *node, service string) ([]credential.Method, []authPlace, error) {
	name := scheme.get("name").str()
	if strings.EqualFold(scheme.get(awsType).str(), "awsSigv4") {
		m.Type, m.Sign = credential.SigV4, &credential.Signing{Service: service}
		m.ID = s.id([]string{"aws"}, "")
		places := authorization()
		for _, name := range []string{"Date", "Content-Sha256", "Security-Token", "Algorithm", "Credential", "Signature", "SignedHeaders"} {
			places = append(places, authPlace{"header", "X-Amz-" + name})
		}
		return []credential.Method{m}, places, nil
	}
	place := credential.Place{Name: name, Format: "{api_key}"}
	in := scheme.get("in").str()
	switch in {
	case "header", "query", "cookie":
		place.In = credential.In(in)
	default:
		return nil, nil, fmt.Errorf("a key in %q cannot be sent", clip(in, 50))
	}
	if name == "" {
		return nil, nil, fmt.Errorf("it does not say where the key goes")
	}
	m.Type, m.Places = credential.APIKey, []credential.Place{place}
	return []credential.Method{m}, []authPlace{{in, name}}, nil
}

func (s *security) http(m credential.Method, scheme *node) ([]credential.Method, []authPlace, error) {
	switch word := scheme.get("scheme").str(); strings.ToLower(word) {
	case "basic":
		m.Type = credential.Basic
	case "bearer":
		m.Type = credential.Bearer
	default:
		return nil, nil, fmt.Errorf("the HTTP scheme %q cannot be offered: basic and bearer can", clip(word, 50))
	}
	return []credential.Method{m}, authorization(), nil
}

func (s *security) oauth(names []string, m credential.Method, scheme *node) ([]credential.Method, []authPlace, error) {
	var out []credential.Method
	var seen []string
	flows := scheme.get("flows")
	for _, name := range []string{"authorizationCode", "clientCredentials"} {
		f := flows.get(name)
		token := s.url(f.get("tokenUrl"))
		if f == nil {
			continue
		}
		if token == "" {
			return nil, nil, fmt.Errorf("the flow %s has no token URL that begins with https://", name)
		}
		one := m
		one.Recipe = &credential.Recipe{Token: &credential.Request{URL: token}}
		if refresh := s.url(f.get("refreshUrl")); refresh != "" && refresh != token {
			one.Recipe.Refresh = &credential.Refresh{Request: credential.Request{URL: refresh}}
		}
		if name == "authorizationCode" {
			authorize := s.url(f.get("authorizationUrl"))
			if authorize == "" {
				return nil, nil, fmt.Errorf("the flow %s has no authorization URL that begins with https://", name)
			}
			one.Type = credential.OAuth2Code
			one.Recipe.Authorize = &credential.Authorize{URL: authorize}
		} else {
			one.Type = credential.OAuth2Client
			one.ID = s.id(names, "_client")
		}
		out = append(out, one)
	}
	flows.each(func(name string, _ *node) { seen = append(seen, clip(name, 50)) })
	if len(out) == 0 {
		return nil, nil, fmt.Errorf("of OAuth 2.0 only the flows authorizationCode and clientCredentials are offered, and it has %s", strings.Join(seen, ", "))
	}
	return out, authorization(), nil
}

// url is a URL of the document that may be used: https, and no template.
func (s *security) url(n *node) string {
	u := n.str()
	if !strings.HasPrefix(u, "https://") || strings.ContainsAny(u, "{}\\ \"<>") {
		return ""
	}
	return u
}

// operation is the methods that an operation takes, and the scopes that it needs. all: every method of the connector.
func (s *security) operation(o *node) (ids, scopes []string) {
	list := o.get("security")
	if list == nil {
		list = s.d.root.get("security")
	}
	for _, r := range list.list() {
		names := s.needs(r)
		for _, id := range s.byNeed[strings.Join(names, " ")] {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
		for _, n := range names {
			for _, scope := range texts(r.get(n)) {
				if !slices.Contains(scopes, scope) && len(scopes) < maxScopes {
					scopes = append(scopes, scope)
				}
			}
		}
	}
	if len(ids) == len(s.methods) {
		ids = nil
	}
	return ids, scopes
}

// placesOf are the places of the credentials that an operation takes.
func (s *security) placesOf(o *node) []authPlace {
	list := o.get("security")
	if list == nil {
		list = s.d.root.get("security")
	}
	var out []authPlace
	for _, r := range list.list() {
		out = append(out, s.places[strings.Join(s.needs(r), " ")]...)
	}
	if list.size() == 0 { // nothing says that it takes one; where there is one, it is sent
		for _, p := range s.places {
			out = append(out, p...)
		}
	}
	return out
}

const maxScopes = 50
