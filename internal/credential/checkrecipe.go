package credential

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// learn gathers the names that a recipe makes, with the rules of those that may stand in URLs.
func (c *checker) learn(at string, r *Recipe) {
	keep := func(at string, keeps []Keep) {
		if len(keeps) > maxItems {
			c.add(at, "at most %d values", maxItems)
		}
		for i := range keeps {
			k := &keeps[i]
			at := at + "[" + strconv.Itoa(i) + "]"
			c.name(at+".name", k.Name)
			if k.From == "" {
				c.add(at+".from", "where the value comes from is missing")
			}
			if strings.Contains(" "+Names+" ", " "+k.Name+" ") {
				c.add(at+".name", "{%s} has a meaning of its own", k.Name)
			}
			c.known[k.Name] = true
			if slices.Contains(k.Suffixes, AnyHost) {
				c.add(at+".suffixes", "an answer does not decide on any host: name those that it may")
			}
			if k.Ruled() {
				c.variable(at, &k.Var)
				c.urls[k.Name] = k.Var
			}
		}
	}
	answer := func(at string, a *Answer) {
		if a == nil {
			return
		}
		keep(at+".keep", a.Keep)
		for _, s := range a.Sets {
			c.known[s.Name] = true
		}
	}
	if r.Callback != nil {
		keep(at+".recipe.callback.keep", r.Callback.Keep)
	}
	answer(at+".recipe.answer", r.Answer)
	for i := range r.Steps {
		answer(at+".recipe.steps["+strconv.Itoa(i)+"].answer", &r.Steps[i].Answer)
		if r.Steps[i].Set != "" {
			c.known[r.Steps[i].Set] = true
		}
	}
	if r.Refresh != nil {
		answer(at+".recipe.refresh.answer", r.Refresh.Answer)
	}
}

func (c *checker) recipe(at string, t Type, r *Recipe) {
	if r.Issuer != "" {
		c.url(at+".issuer", r.Issuer)
	}
	if t == OAuth2Code && r.Authorize == nil {
		c.add(at+".authorize", "a code comes from an authorize request")
	}
	if t != OAuth2Code && (r.Authorize != nil || r.Callback != nil) {
		c.add(at+".authorize", "%s has no authorize request", t)
	}
	if r.Authorize != nil {
		c.authorize(at+".authorize", r.Authorize, r.Discovery != nil)
	}
	switch {
	case t == Session:
		if len(r.Steps) == 0 || r.Token != nil {
			c.add(at+".steps", "a session is obtained in steps, and has no token request")
		}
	case r.Token == nil:
		c.add(at+".token", "the token request is missing")
	case r.Discovery != nil && r.Token.URL == "":
		c.rest(at+".token", r.Token)
	default:
		c.request(at+".token", r.Token)
	}
	c.answer(at+".answer", r.Answer)
	c.refresh(at+".refresh", r.Refresh, r.Token)
	if len(r.Steps) > maxItems {
		c.add(at+".steps", "at most %d steps", maxItems)
	}
	for i := range r.Steps {
		c.step(at+".steps["+strconv.Itoa(i)+"]", &r.Steps[i])
	}
	if r.Introspect != nil {
		c.step(at+".introspect", r.Introspect)
		if r.Token != nil && cmp.Or(r.Introspect.ClientAuth, r.Token.ClientAuth) != AuthCustom {
			c.once(at+".introspect", &r.Introspect.Request)
		}
	}
	if r.Revoke != nil {
		whole := *r.Revoke
		if r.Token != nil {
			whole.ClientAuth = cmp.Or(whole.ClientAuth, r.Token.ClientAuth)
		}
		c.request(at+".revoke", &whole)
	}
	if r.BaseURL != "" {
		c.url(at+".base_url", r.BaseURL)
		if len(r.Bound()) == 0 {
			c.add(at+".base_url", "its host is fixed, or it begins with, or has as its host, a kept value of type url or host with one suffix that begins with a dot, or with whole hosts")
		}
	}
	if r.Assertion != nil {
		c.assertion(at+".assertion", r.Assertion)
	}
	if t == OAuth2JWT && r.Assertion == nil {
		c.add(at+".assertion", "the JWT bearer grant needs an assertion")
	}
	if r.Account != nil {
		c.template(at+".account.id", r.Account.ID, maxText)
		c.template(at+".account.label", r.Account.Label, maxText)
		c.proved(at, r)
	}
	if r.Margin < 0 || r.Margin > MaxMargin {
		c.add(at+".margin_s", "seconds, at most %d", MaxMargin)
	}
	if d := r.Discovery; d != nil && (d.Issuer == "") == (d.Resource == "") {
		c.add(at+".discovery", "either resource or issuer")
	}
}

// proved refuses an account that a browser decides on: the events of an app go to the connections of their account, and whoever
// comes back from a provider may have changed what the callback says. A step whose URL has the value proves it by the new token.
func (c *checker) proved(at string, r *Recipe) {
	if r.Callback == nil {
		return
	}
	for _, k := range r.Callback.Keep {
		asked := func(s Step) bool { return slices.Contains(Uses(s.URL), k.Name) }
		if slices.Contains(Uses(r.Account.ID), k.Name) && !slices.ContainsFunc(r.Steps, asked) {
			c.add(at+".account.id", "{%s} is what a browser says: a step has to ask for it, with the token, at a URL that holds it", k.Name)
		}
	}
}

func (c *checker) authorize(at string, a *Authorize, discovered bool) {
	if !discovered || a.URL != "" {
		c.url(at+".url", a.URL)
	}
	c.templates(at+".params", a.Params)
	if a.PKCE != "" && a.PKCE != S256 && a.PKCE != PKCEOff {
		c.add(at+".pkce", "S256 or off; the method plain protects nothing")
	}
	c.templates(at+".rename", a.Rename)
	for _, grant := range []string{"response_type"} {
		if v := a.Params[grant]; v != "" && v != "code" {
			c.add(at+".params."+grant, "only code: tokens never come through a browser")
		}
	}
	switch a.Params["response_mode"] {
	case "", "query":
	default:
		c.add(at+".params.response_mode", "only query")
	}
	c.scopes(at+".scopes", a.Scopes)
	for _, set := range slices.Sorted(maps.Keys(a.ScopeSets)) {
		c.scopes(at+".scope_sets."+set, a.ScopeSets[set])
	}
}

func (c *checker) scopes(at string, scopes []string) {
	for i, s := range scopes {
		if s == "" || strings.ContainsAny(s, " \t\r\n") || !plain(s) {
			c.add(at+"["+strconv.Itoa(i)+"]", "one scope, without spaces")
		}
	}
}

func (c *checker) request(at string, r *Request) {
	c.url(at+".url", r.URL)
	c.rest(at, r)
	if r.ClientAuth != AuthCustom {
		c.once(at, r)
	}
}

// rest checks all of a request but its URL.
func (c *checker) rest(at string, r *Request) {
	if r.Method != "" && !slices.Contains([]string{"GET", "POST", "PUT", "DELETE", "PATCH"}, r.Method) {
		c.add(at+".method", "GET, POST, PUT, PATCH or DELETE")
	}
	switch r.Body {
	case "", BodyForm, BodyQuery, BodyNone:
		if r.Text != "" {
			c.add(at+".text", "only the formats xml, text and json have one")
		}
	case BodyXML, BodyText, BodyJSON:
		c.template(at+".text", r.Text, maxBodyText)
	default:
		c.add(at+".body", "form, json, query, xml, text or none")
	}
	switch r.ClientAuth {
	case "", AuthBody, AuthBasic, AuthBasicRaw, AuthBasicSecret, AuthNone, AuthKeyJWT, AuthSecretJWT, AuthAssertion, AuthTLS, AuthCustom:
	default:
		c.add(at+".client_auth", "unknown way %q", r.ClientAuth)
	}
	if g := r.Params["grant_type"]; g == "password" {
		c.add(at+".params.grant_type", "the password grant is not offered: it hands a person's password on (RFC 9700 section 2.4)")
	}
	c.templates(at+".params", r.Params)
	c.templates(at+".headers", r.Headers)
	for _, h := range slices.Sorted(maps.Keys(r.Headers)) {
		if !HeaderName(h) {
			c.add(at+".headers."+h, "a header that the platform sets, or no header name")
		}
	}
	c.templates(at+".rename", r.Rename)
	if r.Sign != nil {
		c.signing(at+".sign", r.Sign)
	}
	for i := range r.SignPlaces {
		c.place(at+".sign_places["+strconv.Itoa(i)+"]", &r.SignPlaces[i])
	}
}

// once refuses a client secret beside the one that client_auth sends (RFC 6749 section 2.3).
func (c *checker) once(at string, r *Request) {
	texts := []string{r.Text, r.URL}
	texts = slices.AppendSeq(texts, maps.Values(r.Params))
	texts = slices.AppendSeq(texts, maps.Values(r.Headers))
	for _, text := range texts {
		if slices.Contains(Uses(text), "client_secret") {
			c.add(at+".client_auth", "the client secret would be sent twice: with {client_secret} in a template this is custom")
			return
		}
	}
}

// refresh checks what a refresh becomes when what it leaves open is as in the token request.
func (c *checker) refresh(at string, r *Refresh, token *Request) {
	if r == nil {
		return
	}
	if token == nil {
		token = &Request{ClientAuth: AuthCustom}
	}
	whole := r.Request
	whole.Body, whole.ClientAuth = cmp.Or(r.Body, token.Body), cmp.Or(r.ClientAuth, token.ClientAuth)
	if whole.ClientAuth != AuthCustom {
		c.once(at, &whole)
	}
	if !slices.Contains([]RefreshBy{"", ByRefreshToken, ByAccessToken, ByMint, ByNothing}, r.By) {
		c.add(at+".by", "refresh_token, access_token, mint or none")
	}
	if r.URL != "" {
		c.url(at+".url", r.URL)
	}
	c.rest(at, &whole)
	c.answer(at+".answer", r.Answer)
}

func (c *checker) step(at string, s *Step) {
	c.name(at+".name", s.Name)
	whole := s.Request
	whole.ClientAuth = cmp.Or(s.ClientAuth, AuthCustom)
	c.request(at, &whole)
	c.answer(at+".answer", &s.Answer)
	if s.Set != "" {
		c.name(at+".set", s.Set)
	}
}

func (c *checker) answer(at string, a *Answer) {
	if a == nil {
		return
	}
	if !slices.Contains([]AnswerFormat{"", AnswerJSON, AnswerForm, AnswerXML, AnswerText, AnswerNone}, a.Format) {
		c.add(at+".format", "json, form, xml, text or none")
	}
	c.expiry(at+".expiry", a.Expiry)
	for i, s := range a.Sets {
		at := at + ".sets[" + strconv.Itoa(i) + "]"
		c.name(at+".name", s.Name)
		if s.Access == "" {
			c.add(at+".access", "the path of the token is missing")
		}
		c.expiry(at+".expiry", s.Expiry)
	}
	for i, f := range a.Fail {
		if f.Path == "" || len(f.Is)+len(f.Not) == 0 {
			c.add(at+".fail["+strconv.Itoa(i)+"]", "a path, and is or not")
		}
	}
}

func (c *checker) expiry(at string, e *Expiry) {
	if e == nil {
		return
	}
	if !slices.Contains([]ExpiryForm{"", ExpirySeconds, ExpiryMillis, ExpiryMinutes, ExpiryUnix, ExpiryUnixMs, ExpiryISO, ExpiryDate, ExpiryDuration, ExpiryJWT}, e.Form) {
		c.add(at+".form", "unknown form %q", e.Form)
	}
	if (e.Form == ExpiryDate) != (e.Layout != "") {
		c.add(at+".layout", "the form date, and only it, has a layout such as 2006-01-02 15:04:05")
	}
	if e.Default < 0 {
		c.add(at+".default_s", "seconds")
	}
}

func (c *checker) assertion(at string, a *Assertion) {
	if !slices.Contains([]Algorithm{"", RS256, ES256, EdDSA, HS256}, a.Algorithm) {
		c.add(at+".algorithm", "RS256, ES256, EdDSA or HS256")
	}
	if a.Lifetime < 0 || a.Lifetime > MaxAssertion {
		c.add(at+".lifetime_s", "seconds, at most %d", MaxAssertion)
	}
	c.template(at+".key", a.Key, maxText)
	c.template(at+".key_id", a.KeyID, maxText)
	c.template(at+".issuer", a.Issuer, maxText)
	c.template(at+".subject", a.Subject, maxText)
	c.template(at+".audience", a.Audience, maxText)
	c.templates(at+".claims", a.Claims)
}

func (c *checker) signing(at string, s *Signing) {
	if !slices.Contains([]Algorithm{"", HMACSHA1, HMACSHA256, HMACSHA512, SHA1, SHA256, SHA512, PlainText}, s.Algorithm) {
		c.add(at+".algorithm", "unknown algorithm %q", s.Algorithm)
	}
	c.encoding(at+".encoding", s.Encoding)
	c.encoding(at+".body_encoding", s.BodyEncoding)
	if s.KeyEncoding != Text {
		c.encoding(at+".key_encoding", s.KeyEncoding)
	}
	if !slices.Contains([]Algorithm{"", SHA1, SHA256, SHA512}, s.BodyHash) {
		c.add(at+".body_hash", "sha1, sha256 or sha512")
	}
	c.template(at+".key", s.Key, maxText)
	c.template(at+".message", s.Message, maxBodyText)
	c.template(at+".region", s.Region, maxText)
	c.template(at+".service", s.Service, maxText)
	c.template(at+".realm", s.Realm, maxText)
}

func (c *checker) encoding(at string, e Encoding) {
	if !slices.Contains([]Encoding{"", Hex, UpperHex, Base64, Base64URL}, e) {
		c.add(at, "unknown encoding %q", e)
	}
}

func (c *checker) place(at string, p *Place) {
	c.template(at+".format", p.Format, maxText)
	c.template(at+".user", p.User, maxText)
	switch p.In {
	case InHeader:
		if !HeaderName(p.Name) {
			c.add(at+".name", "a header that the platform sets, or no header name")
		}
	case InQuery, InBody, InPath, InCookie:
		if p.Name == "" || len(p.Name) > maxName || !plain(p.Name) || strings.ContainsAny(p.Name, " []{}&=;,\"") {
			c.add(at+".name", "a name without spaces and brackets, at most %d bytes", maxName)
		}
	case InBasic:
		if p.Name != "" || p.User == "" {
			c.add(at+".user", "basic has a user and a format, which is the password, and no name")
		}
		return
	default:
		c.add(at+".in", "header, query, body, path, cookie or basic")
	}
	if p.User != "" {
		c.add(at+".user", "only basic has a user")
	}
	if p.Format == "" {
		c.add(at+".format", "what goes there is missing, such as \"{api_key}\"")
	}
}

// HeaderName reports whether a recipe may set a header: a token (RFC 9110 section 5.6.2) that
// does not change how the message is framed or routed.
func HeaderName(name string) bool {
	if name == "" || len(name) > maxName || strings.Trim(name, labelBytes+"!#$%&'*+.^`|~") != "" {
		return false
	}
	switch strings.ReplaceAll(strings.ToLower(name), "_", "-") {
	case "host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "expect",
		"accept-encoding", "content-encoding", "via", "x-http-method-override", "x-original-url", "x-rewrite-url":
		return false
	}
	return !strings.HasPrefix(strings.ToLower(name), "proxy-")
}
