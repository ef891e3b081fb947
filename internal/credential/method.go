package credential

import "strings"

// Type is the kind of an auth method.
type Type string

// The types of auth methods.
const (
	// None needs no credential.
	None Type = "none"
	// Bearer is a token in the header Authorization (RFC 6750); field token.
	Bearer Type = "bearer"
	// Basic is a name with a password (RFC 7617); fields username and password.
	Basic Type = "basic"
	// APIKey is any set of fields at any places.
	APIKey Type = "api_key"
	// HMAC signs every request with a shared secret, as [Signing] says.
	HMAC Type = "hmac"
	// SigV4 signs every request as AWS does; fields access_key_id, secret_access_key and session_token.
	SigV4 Type = "sigv4"
	// OAuth1 signs every request as RFC 5849 says; fields consumer_key, consumer_secret, token and token_secret.
	OAuth1 Type = "oauth1"
	// MTLS presents a client certificate; fields certificate and private_key, and perhaps [FieldServerCA], all PEM.
	MTLS Type = "mtls"
	// OAuth2Code is the authorization code grant (RFC 6749 section 4.1).
	OAuth2Code Type = "oauth2_code"
	// OAuth2Client is the client credentials grant (RFC 6749 section 4.4).
	OAuth2Client Type = "oauth2_client"
	// OAuth2JWT is the JWT bearer grant (RFC 7523 section 2.1): service accounts.
	OAuth2JWT Type = "oauth2_jwt"
	// Session obtains tokens from entered fields in the steps of the recipe.
	Session Type = "session"
)

// FieldServerCA is the field of [MTLS] with the authorities by which the service's certificate is judged, instead of those that the
// egress node trusts.
const FieldServerCA = "server_ca"

// Method is one auth method of a connector.
type Method struct {
	// ID names the method within its connector.
	ID    string `json:"id"`
	Title string `json:"title,omitempty"`
	Help  string `json:"help,omitempty"`
	Type  Type   `json:"type"`
	// Fields are what a person enters; empty are those of the type, see [Method.Entered].
	Fields []Field `json:"fields,omitempty"`
	// Places are where the credential goes (40); empty are those of the type, see [Method.Placed].
	Places []Place `json:"places,omitempty"`
	// Recipe is for the types that obtain tokens.
	Recipe *Recipe `json:"recipe,omitempty"`
	// Sign is for the types that sign requests.
	Sign *Signing `json:"sign,omitempty"`
	// Test proves that a connection works (43).
	Test *Test `json:"test,omitempty"`
}

// Field is one thing that a person enters.
type Field struct {
	// Name is how templates call it.
	Name  string `json:"name"`
	Title string `json:"title,omitempty"`
	Help  string `json:"help,omitempty"`
	// Secret fields are shown as dots while they are entered. All fields are sealed, secret or not.
	Secret bool `json:"secret,omitempty"`
	// Optional fields may stay empty.
	Optional bool `json:"optional,omitempty"`
	// Multiline fields hold keys, certificates and JSON.
	Multiline bool `json:"multiline,omitempty"`
	// Pattern is an RE2 expression for the whole value.
	Pattern string `json:"pattern,omitempty"`
	Default string `json:"default,omitempty"`
}

// Test is the action that proves that a connection works.
type Test struct {
	// Action is an action of the connector without required inputs.
	Action string `json:"action"`
	// Expect is the status of its answer; 0 is any below 300.
	Expect int `json:"expect,omitempty"`
}

// In says in which part of a request a credential stands.
type In string

// The parts of a request.
const (
	InHeader In = "header"
	InQuery  In = "query"
	// InBody is a top-level member of a JSON body or a field of a form.
	InBody In = "body"
	// InPath replaces the segment {name} of an action's path.
	InPath In = "path"
	// InCookie is one cookie.
	InCookie In = "cookie"
	// InBasic is the header Authorization with user and password (RFC 7617).
	InBasic In = "basic"
)

// Place is one place of a credential in requests (40, 41). Several may be used at once.
type Place struct {
	In In `json:"in"`
	// Name is the header, parameter, member, segment or cookie; none for basic.
	Name string `json:"name,omitempty"`
	// Format is a template over the fields, the variables, and now, now_ms, now_iso, now_http, nonce and uuid,
	// which are made anew for every request. For basic it is the password.
	Format string `json:"format,omitempty"`
	// User is the template of the user name of basic.
	User string `json:"user,omitempty"`
}

// Kind is how the credential record of a connection by this method is called: see package lease.
func (m *Method) Kind() string {
	switch m.Type {
	case None, HMAC, SigV4, MTLS, OAuth1, Session:
		return string(m.Type)
	case OAuth2Code, OAuth2Client, OAuth2JWT:
		return "oauth2"
	default:
		return "key"
	}
}

// Obtains reports whether the method obtains tokens by its recipe.
func (m *Method) Obtains() bool {
	switch m.Type {
	case OAuth2Code, OAuth2Client, OAuth2JWT, Session:
		return true
	default:
		return false
	}
}

// HasClient reports whether the method needs an OAuth client (a registration at the provider).
func (m *Method) HasClient() bool { return strings.HasPrefix(string(m.Type), "oauth2_") }

// Entered are the fields that a person enters for a connection. Those of the client are not among them: see [Method.Client].
func (m *Method) Entered() []Field {
	if len(m.Fields) > 0 {
		return m.Fields
	}
	hidden := func(name, title string) Field { return Field{Name: name, Title: title, Secret: true} }
	switch m.Type {
	case Bearer:
		return []Field{hidden("token", "Token")}
	case Basic:
		return []Field{{Name: "username", Title: "User name"}, hidden("password", "Password")}
	case APIKey:
		return []Field{hidden("api_key", "API key")}
	case HMAC:
		return []Field{hidden("secret", "Secret")}
	case SigV4:
		session := hidden("session_token", "Session token")
		session.Optional = true
		return []Field{{Name: "access_key_id", Title: "Access key id"}, hidden("secret_access_key", "Secret access key"), session}
	case OAuth1:
		return []Field{
			{Name: "consumer_key", Title: "Consumer key"},
			hidden("consumer_secret", "Consumer secret"),
			{Name: "token", Title: "Token"},
			hidden("token_secret", "Token secret"),
		}
	case MTLS:
		return append(pair(), Field{
			Name: FieldServerCA, Title: "CA certificates of the service (PEM)", Multiline: true, Optional: true,
			Help: "Only where the service's own certificate is of a private authority. Then no other authority is trusted.",
		})
	default:
		return nil
	}
}

// pair are a certificate and its key.
func pair() []Field {
	return []Field{
		{Name: "certificate", Title: "Certificate (PEM)", Multiline: true},
		{Name: "private_key", Title: "Private key (PEM)", Secret: true, Multiline: true},
	}
}

// Client are the fields of the OAuth client that a connection needs: entered once, in a
// connection template, or with the connection (39). Empty when there is no client.
func (m *Method) Client() []Field {
	if !m.HasClient() {
		return nil
	}
	fields := []Field{{Name: "client_id", Title: "Client id"}}
	secret := Field{Name: "client_secret", Title: "Client secret", Secret: true}
	auth := AuthBody
	if m.Recipe != nil && m.Recipe.Token != nil && m.Recipe.Token.ClientAuth != "" {
		auth = m.Recipe.Token.ClientAuth
	}
	key := m.Recipe != nil && m.Recipe.Assertion != nil && !strings.HasPrefix(string(m.Recipe.Assertion.Algorithm), "HS")
	switch {
	case m.Type == OAuth2JWT && key:
		return nil // the service account is entered with the connection
	case auth == AuthNone:
		return fields
	case auth == AuthTLS:
		return append(fields, pair()...)
	case auth == AuthKeyJWT || auth == AuthAssertion && key:
		return append(fields, pair()[1], Field{Name: "key_id", Title: "Key id", Optional: true})
	default:
		return append(fields, secret)
	}
}

// Placed are the places of the credential.
func (m *Method) Placed() []Place {
	if len(m.Places) > 0 {
		return m.Places
	}
	switch m.Type {
	case Bearer:
		return []Place{{In: InHeader, Name: "Authorization", Format: "Bearer {token}"}}
	case Basic:
		return []Place{{In: InBasic, User: "{username}", Format: "{password}"}}
	case OAuth2Code, OAuth2Client, OAuth2JWT, Session:
		return []Place{{In: InHeader, Name: "Authorization", Format: "Bearer {access_token}"}}
	default:
		return nil
	}
}

// Hidden reports whether a value of a record is secret: removed from answers wherever it stands. Names that nothing declares are.
func (m *Method) Hidden(name string) bool {
	for _, fields := range [][]Field{m.Entered(), m.Client()} {
		for _, f := range fields {
			if f.Name == name {
				return f.Secret
			}
		}
	}
	if m.Recipe == nil {
		return true
	}
	for _, k := range m.Recipe.Kept() {
		if k.Name == name {
			return k.Secret
		}
	}
	return true
}
