package credential

import (
	"slices"
	"strings"
	"time"
)

// Seconds is a whole number of seconds in a document.
type Seconds int32

// Duration is s as a duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// Recipe is everything the token engine must know of a provider. What is not set is as the
// specifications say (RFC 6749, 7009, 7523, 7636, 7662, 9207); the numbers are the items of
// the survey. Templates are texts with {name}: see [Names].
type Recipe struct {
	// Issuer is what the provider calls itself in iss of callbacks and ID tokens (15). When empty, an iss that comes must be
	// of the host of the authorize URL.
	Issuer    string     `json:"issuer,omitempty"`
	Authorize *Authorize `json:"authorize,omitempty"`
	Callback  *Callback  `json:"callback,omitempty"`
	// Token obtains the first tokens: from a code, or of the client or assertion alone. A session has steps instead.
	Token  *Request `json:"token,omitempty"`
	Answer *Answer  `json:"answer,omitempty"`
	// Assertion is made whenever a request has {assertion}, or authenticates its client by one.
	Assertion *Assertion `json:"assertion,omitempty"`
	Refresh   *Refresh   `json:"refresh,omitempty"`
	// Steps follow the token request in their order (27, 29, 32, 43), or are all there is for a session.
	Steps []Step `json:"steps,omitempty"`
	// Introspect asks for an expiry that no answer told (36).
	Introspect *Step `json:"introspect,omitempty"`
	// Revoke gives the tokens up when the connection is deleted (43); RFC 7009 with the token {token}, which is the refresh
	// token if there is one. Without it the tokens live on until they expire.
	Revoke *Request `json:"revoke,omitempty"`
	// Discovery finds URLs and registers a client (45).
	Discovery *Discovery `json:"discovery,omitempty"`
	// BaseURL is the template of the connection's base URL when the first answer or the callback decides on it (25). It begins
	// with a kept value of type url, or has one of type host as its host, with a single suffix that begins with a dot, or a list of
	// whole hosts: until it is known, the connection is bound to all hosts below the suffix, or of the list, and then to that host
	// for good. Or its host is fixed, and only its path is decided on.
	BaseURL string   `json:"base_url,omitempty"`
	Account *Account `json:"account,omitempty"`
	// Margin is how long before their end tokens are refreshed (35); 0 is the lesser of 15 minutes and half their life.
	Margin Seconds `json:"margin_s,omitempty"`
}

// Account says which account at the provider a connection stands for: templates over kept values.
type Account struct {
	// ID never changes; reconnecting to another one is noticed by it, and the events of an app find their connections by it. A
	// value of the callback, which a browser can change, is part of it only where a step proves it.
	ID string `json:"id"`
	// Label is for people.
	Label string `json:"label,omitempty"`
}

// PKCE is how a code is bound to who asked for it (3).
type PKCE string

// The forms of PKCE. The method plain of RFC 7636 is not offered.
const (
	S256    PKCE = "S256" // the default
	PKCEOff PKCE = "off"  // for providers that refuse unknown parameters
)

// Authorize is the request that a browser carries.
type Authorize struct {
	// URL may have a query already (1).
	URL string `json:"url"`
	// Params are fixed parameters (2), templates over the variables and {nonce}. An empty one is left out (7).
	Params map[string]string `json:"params,omitzero"`
	// Rename gives standard parameters other names, and Drop leaves some out (6).
	Rename map[string]string `json:"rename,omitzero"`
	Drop   []string          `json:"drop,omitempty"`
	PKCE   PKCE              `json:"pkce,omitempty"`
	// Scopes are always asked for (9), Separator stands between scopes; a space unless set (4).
	Scopes    []string `json:"scopes,omitempty"`
	Separator string   `json:"separator,omitempty"`
	// ScopeSets are further parameters with scopes (user_scope), each with those that are always asked for (9).
	ScopeSets map[string][]string `json:"scope_sets,omitzero"`
	// Raw are parameters whose values are not percent-encoded more than a URL needs; "*" is all of them (5, 20).
	Raw []string `json:"raw,omitempty"`
	// Fragment puts the parameters behind # (8).
	Fragment bool `json:"fragment,omitempty"`
}

// Callback is what the browser brings back.
type Callback struct {
	// Code and State are the names of parameters; "code" and "state" unless set (11, 13).
	Code  string `json:"code,omitempty"`
	State string `json:"state,omitempty"`
	// Unstated says that the provider starts the flow and sends no state (10): the pending start is found by the browser's
	// cookie alone, and a person confirms the account before the connection is used.
	Unstated bool `json:"unstated,omitempty"`
	// Keep are parameters to keep (14). They can be used in the token request.
	Keep []Keep `json:"keep,omitempty"`
	// Webhook says that the code comes by a webhook (12).
	Webhook *Webhook `json:"webhook,omitempty"`
}

// Webhook says where in a webhook a code is, and by what it belongs to a callback.
type Webhook struct {
	// Code and Match are paths in its JSON body.
	Code  string `json:"code"`
	Match string `json:"match"`
	// Param is the callback's parameter that equals Match.
	Param string `json:"param"`
}

// Body is the format of a request's body.
type Body string

// The formats of request bodies (17).
const (
	BodyForm  Body = "form" // the default
	BodyJSON  Body = "json"
	BodyQuery Body = "query" // the parameters stand in the URL
	BodyXML   Body = "xml"   // Text
	BodyText  Body = "text"  // Text as it is
	BodyNone  Body = "none"
)

// ClientAuth is how a client proves itself (16).
type ClientAuth string

// The ways. The secret is sent in exactly one of them, once.
const (
	AuthBody        ClientAuth = "body"         // client_id and client_secret as parameters; the default
	AuthBasic       ClientAuth = "basic"        // RFC 6749 section 2.3.1: both form-encoded, then Basic
	AuthBasicRaw    ClientAuth = "basic_raw"    // Basic without the form encoding
	AuthBasicSecret ClientAuth = "basic_secret" // the secret as user name, no password
	AuthNone        ClientAuth = "none"         // client_id only
	AuthKeyJWT      ClientAuth = "private_key_jwt"
	AuthSecretJWT   ClientAuth = "client_secret_jwt"
	AuthAssertion   ClientAuth = "assertion" // client_assertion as the recipe's Assertion says
	AuthTLS         ClientAuth = "tls"       // RFC 8705: client_id, and the client's certificate
	AuthCustom      ClientAuth = "custom"    // nothing is added: Params, Headers, Text or Sign say it
)

// Request is one request of the token engine. Redirects of it are never followed.
type Request struct {
	URL string `json:"url,omitempty"`
	// Method is POST unless set (18).
	Method string `json:"method,omitempty"`
	Body   Body   `json:"body,omitempty"`
	// Text is the template of the body for the formats xml, text and json. Values are escaped for the first and the last;
	// for json there are no parameters then.
	Text       string     `json:"text,omitempty"`
	ClientAuth ClientAuth `json:"client_auth,omitempty"`
	// Params are added to the standard parameters and win over them (19); templates. An empty one is left out.
	Params map[string]string `json:"params,omitzero"`
	// Headers are templates (19).
	Headers map[string]string `json:"headers,omitzero"`
	// Rename gives standard parameters other names (6), and Drop leaves some out: redirect_uri, grant_type (19).
	Rename map[string]string `json:"rename,omitzero"`
	Drop   []string          `json:"drop,omitempty"`
	// Sign signs the request (16).
	Sign *Signing `json:"sign,omitempty"`
	// SignPlaces are where {signature} and what goes with it stand.
	SignPlaces []Place `json:"sign_places,omitempty"`
}

// RefreshBy is what a refresh is made with.
type RefreshBy string

// The ways to refresh.
const (
	ByRefreshToken RefreshBy = "refresh_token" // the default of the code grant (RFC 6749 section 6)
	ByAccessToken  RefreshBy = "access_token"  // no standard parameters: Params name {access_token} (32)
	ByMint         RefreshBy = "mint"          // the token request again; the default of all but the code grant
	ByNothing      RefreshBy = "none"          // tokens end, and a person reconnects
)

// Refresh keeps tokens alive. Every field of Request that is not set is the token request's (30, 34).
type Refresh struct {
	Request
	By RefreshBy `json:"by,omitempty"`
	// Reusable says that a used refresh token stays valid (31). Otherwise it is taken to be worth one use.
	Reusable bool `json:"reusable,omitempty"`
	// Extends says that an answer without tokens means that the present ones live longer (33).
	Extends bool `json:"extends,omitempty"`
	// Answer is as the recipe's unless set.
	Answer *Answer `json:"answer,omitempty"`
}

// Step is one more request, with what has been obtained so far.
type Step struct {
	// Name is for messages.
	Name string `json:"name"`
	Request
	Answer Answer `json:"answer,omitzero"`
	// Set puts the tokens of the answer into a set of their own: {set.access_token} (27). Without it they replace the main ones.
	Set string `json:"set,omitempty"`
	// Repeat runs the step after each refresh too; a session repeats all.
	Repeat bool `json:"repeat,omitempty"`
}

// AnswerFormat is the format of an answer's body.
type AnswerFormat string

// The formats of answers.
const (
	AnswerJSON AnswerFormat = "json" // the default
	AnswerForm AnswerFormat = "form" // (23)
	AnswerXML  AnswerFormat = "xml"  // elements by their names; no attributes
	AnswerText AnswerFormat = "text" // the path "." is all of it
	AnswerNone AnswerFormat = "none" // the body is not read
)

// Answer says how an answer is read. A path is names and indexes joined by dots ("data.tokens.0.jwt"), or "header:Name",
// "cookie:Name" (28), or "claim:access_token.name" for a claim of a token that is a JWT; "." is the whole.
type Answer struct {
	Format AnswerFormat `json:"format,omitempty"`
	// Access, Refresh and ID are paths of tokens (22); "access_token", "refresh_token" and "id_token" unless set.
	Access  string `json:"access,omitempty"`
	Refresh string `json:"refresh,omitempty"`
	ID      string `json:"id,omitempty"`
	// NoToken is set for answers that bring no token but values to keep.
	NoToken bool `json:"no_token,omitempty"`
	// Types are values of token_type that are taken besides Bearer.
	Types []string `json:"types,omitempty"`
	// Scope is the path of the granted scopes; "scope" unless set.
	Scope string `json:"scope,omitempty"`
	// MoreScopes takes scopes that were not asked for.
	MoreScopes bool    `json:"more_scopes,omitempty"`
	Expiry     *Expiry `json:"expiry,omitempty"`
	// Fail are conditions under which an answer with status 200 is an error (21). A member "error" always is.
	Fail []Condition `json:"fail,omitempty"`
	// Error is the path of the error code; "error" unless set.
	Error string `json:"error,omitempty"`
	// Refused are codes that mean what invalid_grant does, Temporary those that mean: later again (38).
	Refused   []string `json:"refused,omitempty"`
	Temporary []string `json:"temporary,omitempty"`
	// Keep are values to keep (25).
	Keep []Keep `json:"keep,omitempty"`
	// Sets are more tokens in the same answer, with lives of their own (26).
	Sets []Set `json:"sets,omitempty"`
}

// Condition holds when the value at Path is one of Is, or is none of Not. A missing value is the empty text.
type Condition struct {
	Path string   `json:"path"`
	Is   []string `json:"is,omitempty"`
	Not  []string `json:"not,omitempty"`
}

// Set is a second set of tokens. Its refresh brings it at the paths of the recipe's answer, as if it were the main one.
type Set struct {
	// Name is how templates call it: {user.access_token}.
	Name    string  `json:"name"`
	Access  string  `json:"access"`
	Refresh string  `json:"refresh,omitempty"`
	Expiry  *Expiry `json:"expiry,omitempty"`
}

// ExpiryForm is how an end is told (24).
type ExpiryForm string

// The forms of an end.
const (
	ExpirySeconds  ExpiryForm = "seconds" // from now; the default
	ExpiryMillis   ExpiryForm = "milliseconds"
	ExpiryMinutes  ExpiryForm = "minutes"
	ExpiryUnix     ExpiryForm = "unix" // a point in time
	ExpiryUnixMs   ExpiryForm = "unix_ms"
	ExpiryISO      ExpiryForm = "iso8601"
	ExpiryDate     ExpiryForm = "date"     // as Layout, a layout of package time
	ExpiryDuration ExpiryForm = "duration" // PT1H, 1h30m or 01:30:00
	ExpiryJWT      ExpiryForm = "jwt"      // claim exp of the access token
)

// Expiry says where the end of a token's life is told.
type Expiry struct {
	// Path is "expires_in" unless set.
	Path   string     `json:"path,omitempty"`
	Form   ExpiryForm `json:"form,omitempty"`
	Layout string     `json:"layout,omitempty"`
	// Default is the life when the answer does not tell; 0 is unknown: then a refused call refreshes.
	Default Seconds `json:"default_s,omitempty"`
}

// Keep is a value that is kept with the tokens and can be used as {name}.
type Keep struct {
	Name string `json:"name"`
	// From is a path of the answer or a parameter of the callback.
	From string `json:"from"`
	// Var is the rule for values that are used in URLs; without it the value is any text and can not be.
	Var
	// Required refuses the connection when the value is missing.
	Required bool `json:"required,omitempty"`
	// Secret values are removed from answers like tokens.
	Secret bool `json:"secret,omitempty"`
}

// Discovery finds a provider's URLs before anybody connects (45): from a protected resource (RFC 9728), or from an issuer (RFC
// 8414). What is found must be of the host of the resource or issuer, or of one of Hosts, and becomes a recipe with fixed URLs;
// those that the recipe has already stay.
type Discovery struct {
	// Resource or Issuer is the template of a URL.
	Resource string   `json:"resource,omitempty"`
	Issuer   string   `json:"issuer,omitempty"`
	Hosts    []string `json:"hosts,omitempty"`
	// Register makes a client by RFC 7591 when there is none, under ClientName.
	Register   bool   `json:"register,omitempty"`
	ClientName string `json:"client_name,omitempty"`
	// Document is the URL of a client id metadata document, which is the client id then.
	Document string `json:"document,omitempty"`
}

// Ruled reports whether the value follows the rule of a variable, and so may stand in URLs.
func (k *Keep) Ruled() bool {
	return k.Type != "" || len(k.Enum)+len(k.Suffixes) > 0 || k.Pattern != ""
}

// Kept are all values that the recipe keeps, of callback and answers.
func (r *Recipe) Kept() []Keep {
	var out []Keep
	if r.Callback != nil {
		out = append(out, r.Callback.Keep...)
	}
	if r.Answer != nil {
		out = append(out, r.Answer.Keep...)
	}
	if r.Refresh != nil && r.Refresh.Answer != nil {
		out = append(out, r.Refresh.Answer.Keep...)
	}
	for i := range r.Steps {
		out = append(out, r.Steps[i].Answer.Keep...)
	}
	if r.Introspect != nil {
		out = append(out, r.Introspect.Answer.Keep...)
	}
	return out
}

// Bound are the hosts, or the pattern of hosts, "*.example.com", to which a connection is bound while BaseURL is not known; none
// when no answer decides on the base URL. Of several hosts the first answer chooses one.
func (r *Recipe) Bound() []string {
	if r == nil || r.BaseURL == "" {
		return nil
	}
	if _, host, _ := hostOf(r.BaseURL); host != "" && len(spans(host)) == 0 {
		return []string{strings.ToLower(host)} // only the path is decided on
	}
	used := spans(r.BaseURL)
	if len(used) == 0 {
		return nil
	}
	for _, k := range r.Kept() {
		if k.Name != used[0].name {
			continue
		}
		if len(k.Suffixes) == 1 && strings.HasPrefix(k.Suffixes[0], ".") {
			return []string{"*" + k.Suffixes[0]}
		}
		if !slices.ContainsFunc(k.Suffixes, func(s string) bool { return strings.HasPrefix(s, ".") || s == AnyHost }) && len(k.Suffixes) > 0 {
			return slices.Clone(k.Suffixes)
		}
	}
	return nil
}

// Hosts are the templates of the hosts to which the token engine sends secrets and tokens: those of its requests, in their order,
// each once. A URL that a kept value begins has that value for its host. Where a browser goes is not among them.
func (r *Recipe) Hosts() (hosts []string) {
	if r == nil {
		return nil
	}
	var requests []*Request
	if r.Token != nil {
		requests = append(requests, r.Token)
	}
	for i := range r.Steps {
		requests = append(requests, &r.Steps[i].Request)
	}
	if r.Refresh != nil {
		requests = append(requests, &r.Refresh.Request)
	}
	if r.Introspect != nil {
		requests = append(requests, &r.Introspect.Request)
	}
	if r.Revoke != nil {
		requests = append(requests, r.Revoke)
	}
	for _, q := range requests {
		_, host, _ := hostOf(q.URL)
		if used := spans(q.URL); host == "" && len(used) > 0 {
			host = "{" + used[0].name + "}"
		}
		if host != "" && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}
