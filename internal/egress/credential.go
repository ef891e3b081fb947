package egress

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// Kind is how a credential enters a request.
type Kind string

// The kinds of credentials, with the fields each needs.
const (
	// None sends no credential.
	None Kind = "none"
	// Bearer sends "Authorization: Bearer <token>" (RFC 6750); field "token".
	Bearer Kind = "bearer"
	// Basic sends user and password (RFC 7617); fields "username" and "password".
	Basic Kind = "basic"
	// Header sends field "value" in the header named by Credential.Name.
	Header Kind = "header"
	// Query sends field "value" in the query parameter named by Credential.Name.
	Query Kind = "query"
)

// Limits of a credential.
const (
	// MaxSecret is the longest field of a credential, in bytes.
	MaxSecret = 8 << 10
	// MinScrub is the shortest value that is removed from answers, in bytes: shorter ones
	// would be found everywhere.
	MinScrub     = 8
	maxParamName = 256
)

// ErrCredential is wrapped by every error about a [Credential] that cannot be used. Such an
// error names the field, never its value.
var ErrCredential = errors.New("invalid credential")

// Credential is the secret part of a connection. The zero Credential is unusable; say [None].
type Credential struct {
	Kind Kind
	// Name is the header or parameter of the kinds Header and Query.
	Name string
	// Spec is the method of the kinds that are described by one: [Key] and those behind it.
	Spec *credential.Spec
	// Fields are the secret values by name.
	Fields map[string]secret.Value
}

// injector is a credential ready to be put into requests.
type injector struct {
	header    string   // canonical name
	folded    string   // header in the form of fold
	value     []string // the header's value; shared by all requests, read only
	param     string   // folded parameter name
	paramPair string   // name=value, encoded
	more      *placed  // what is put into each request by a method
	cert      *mutual
	secrets   [][]byte // what answers are scrubbed of
	lines     [][]byte // the same, as it stands only
}

// owns reports whether a canonical header name is the credential's.
func (in *injector) owns(canonical string) bool {
	if in.more != nil {
		return in.more.owned[fold(canonical)]
	}
	return in.header != "" && fold(canonical) == in.folded
}

// ownsParam also covers name[] and name[x], which some servers read as name.
func (in *injector) ownsParam(name string) bool {
	if in.more != nil {
		return in.more.ownsParam(name)
	}
	if in.param == "" {
		return false
	}
	name, _, _ = strings.Cut(name, "[")
	return strings.EqualFold(strings.TrimSpace(name), in.param)
}

func newInjector(c Credential) (*injector, error) {
	if c.Kind.specified() {
		return placedInjector(c)
	}
	switch c.Kind {
	case None:
		return &injector{}, nil
	case Bearer:
		token, err := c.field("token")
		if err != nil {
			return nil, err
		}
		return headerInjector("Authorization", "Bearer "+token, token), nil
	case Basic:
		return basicInjector(c)
	case Header:
		value, err := c.field("value")
		if err != nil {
			return nil, err
		}
		name := textproto.CanonicalMIMEHeaderKey(c.Name)
		if !token(c.Name) || reserved(name) {
			return nil, fmt.Errorf("%w: the header name cannot be used", ErrCredential)
		}
		return headerInjector(name, value, value), nil
	case Query:
		return queryInjector(c)
	}
	return nil, fmt.Errorf("%w: unknown kind", ErrCredential)
}

// field returns a field that may stand in a header: present, no control characters, no space at an edge.
func (c Credential) field(name string) (string, error) {
	v, ok := c.Fields[name]
	value := string(v.Reveal())
	if !ok || value == "" || len(value) > MaxSecret || !fieldValue(value) {
		return "", fmt.Errorf("%w: field %s is missing, too long, or has spaces or line ends around it", ErrCredential, name)
	}
	return value, nil
}

func headerInjector(name, value string, secrets ...string) *injector {
	in := &injector{header: name, folded: fold(name), value: []string{value}}
	in.hide(value)
	for _, s := range secrets {
		in.hide(s)
	}
	return in
}

func (in *injector) hide(s string) {
	if len(s) >= MinScrub {
		in.secrets = append(in.secrets, []byte(s))
	}
}

// hideEscaped hides s as it stands in a URL or form too: what repeats a whole URL in base64 has no escapes to look through.
func (in *injector) hideEscaped(s string) {
	in.hide(s)
	if e := url.QueryEscape(s); e != s {
		in.hide(e)
	}
	if e := strings.ReplaceAll(url.PathEscape(s), "+", "%2B"); e != s && e != url.QueryEscape(s) {
		in.hide(e)
	}
}

// hideInJSON hides s as addMember writes it into a document: what repeats that in hex or base64 has no escapes to look through.
func (in *injector) hideInJSON(s string) {
	if e, err := json.Marshal(s); err == nil && len(e) != len(s)+len(`""`) {
		in.hide(string(e[1 : len(e)-1]))
	}
}

// basicInjector hides the user name too when the password is too short to be
// the secret: many services take the key as user name and nothing as password.
func basicInjector(c Credential) (*injector, error) {
	user, err := c.field("username")
	if err != nil {
		return nil, err
	}
	password := string(c.Fields["password"].Reveal())
	if strings.Contains(user, ":") || len(password) > MaxSecret || strings.ContainsFunc(password, control) {
		return nil, fmt.Errorf("%w: a user name has no colon, a password no control characters", ErrCredential)
	}
	pair := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	in := headerInjector("Authorization", "Basic "+pair, pair, password)
	if len(password) < MinScrub {
		in.hide(user)
	}
	return in, nil
}

func queryInjector(c Credential) (*injector, error) {
	value, err := c.field("value")
	if err != nil {
		return nil, err
	}
	if c.Name == "" || len(c.Name) > maxParamName || strings.ContainsFunc(c.Name, control) || strings.Contains(c.Name, "[") {
		return nil, fmt.Errorf("%w: the parameter name cannot be used", ErrCredential)
	}
	in := &injector{param: c.Name, paramPair: url.QueryEscape(c.Name) + "=" + url.QueryEscape(value)}
	in.hideEscaped(value)
	return in, nil
}

// appendPair appends one encoded parameter, with "&" in front unless b is empty.
func appendPair(b *strings.Builder, p Pair) {
	if b.Len() > 0 {
		b.WriteByte('&')
	}
	b.WriteString(url.QueryEscape(p.Name))
	b.WriteByte('=')
	b.WriteString(url.QueryEscape(p.Value))
}
