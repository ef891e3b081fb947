package flowfile

import (
	"bytes"
	_ "embed" // the JSON Schema
	"regexp"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// PlatformFormat is the version of the platform file.
const PlatformFormat = 1

// Limits of a platform file.
const (
	MaxPlatformCustomers    = 10_000
	MaxPlatformIntegrations = 1_000
	maxPlatformConnections  = 100 // of one customer
	maxPlatformInstances    = 100 // of one customer
	maxPlatformSecrets      = 100 // of one instance
)

//go:embed platform.json
var platformJSON []byte

// PlatformSchema returns the JSON Schema (2020-12) of a platform file. The caller owns the bytes.
func PlatformSchema() []byte { return bytes.Clone(platformJSON) }

// Platform is what a platform file wants to be there: published integrations, and customers with their connections and
// instances. It holds no secret, only where each is to be read.
type Platform struct {
	Integrations []string // file names and patterns, relative to the platform file
	Customers    []PlatformCustomer

	at func(path string) (Position, bool)
}

// Find is where the value of a path stands in the file, such as customers.acme.connections.shop.
func (p *Platform) Find(path string) (Position, bool) { return p.at(path) }

// PlatformCustomer is one customer, by the organization's own id of it.
type PlatformCustomer struct {
	ExternalID  string
	Name        string // empty: the external id
	Timezone    string // IANA name; empty: UTC
	Locale      string // empty: en
	Attributes  flow.Value
	Weight      int // 0: 1
	Connections []PlatformConnection
	Instances   []PlatformInstance
}

// PlatformConnection is one connection of a customer, by its name.
type PlatformConnection struct {
	Name       string
	Connector  string // empty: http
	URL        string
	Credential PlatformCredential
}

// PlatformCredential is how a connection proves who it is. At most one field is set; none means that nothing is sent.
type PlatformCredential struct {
	Bearer *SecretSource
	Basic  *PlatformBasic
	Header *PlatformNamed
	Query  *PlatformNamed
}

// PlatformBasic is HTTP basic authentication (RFC 7617).
type PlatformBasic struct {
	Username string
	Password SecretSource
}

// PlatformNamed is a secret in a header or query parameter of that name.
type PlatformNamed struct {
	Name  string
	Value SecretSource
}

// SecretSource says where a secret is read when the file is applied. Exactly one field is set.
type SecretSource struct {
	Env  string // name of an environment variable
	File string // file name, relative to the platform file; a line break at its end is not part of the secret
}

// PlatformInstance is an instance of one integration at its customer; a customer has at most one of each in a platform file.
type PlatformInstance struct {
	Integration string
	Version     int                     // 0: the newest published
	Config      flow.Value              // an object of literals, or absent
	Secrets     map[string]SecretSource // config values that are secret
	Connections map[string]string       // slot → name of a connection of the customer
	Paused      bool
}

// IsPlatform reports whether a text looks like a platform file: it is a map with the key platform.
func IsPlatform(text []byte) bool {
	root, _, _ := load("", text)
	return root != nil && root.Kind == source.Map && root.Get("platform") != nil
}

// DecodePlatform reads a platform file. Either the result is valid, or the problems say everything that is wrong and the
// result is nil.
func DecodePlatform(file string, text []byte) (*Platform, source.Problems) {
	root, d := open(file, text)
	if root == nil {
		return nil, source.Sort(d.Problems)
	}
	p := d.platform(root)
	if len(d.Problems) > 0 {
		return nil, source.Sort(d.Problems)
	}
	doc := &Document{d: d}
	p.at = doc.Find
	return p, nil
}

// externalPattern allows what systems use as ids of their customers.
func externalPattern() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$`)
}

const externalRule = "letters, digits and . _ : @ -, a letter or digit first, at most 128 characters"

func (d *decoder) platform(root *source.Node) *Platform {
	p := &Platform{}
	var format int
	d.Object(
		root, "", "platform",
		source.Required("platform", d.Integer(&format, PlatformFormat, PlatformFormat)),
		source.Optional("integrations", d.List("integration files", MaxPlatformIntegrations, func(n *source.Node, path string) {
			var file string
			d.Str(&file, "the name of an integration file")(n, path)
			p.Integrations = append(p.Integrations, file)
		})),
		source.Optional("customers", func(n *source.Node, path string) {
			d.Entries(n, path, "customers", MaxPlatformCustomers, externalPattern(), externalRule, func(key string, n *source.Node, path string) {
				c := PlatformCustomer{ExternalID: key}
				d.platformCustomer(n, path, &c)
				p.Customers = append(p.Customers, c)
			})
		}),
	)
	return p
}

func (d *decoder) platformCustomer(n *source.Node, path string, c *PlatformCustomer) {
	d.Object(
		n, path, "platform_customer",
		source.Optional("name", d.Str(&c.Name, "a name")),
		source.Optional("timezone", func(n *source.Node, path string) {
			if d.Str(&c.Timezone, "a time zone")(n, path); c.Timezone != "" && !validZone(c.Timezone) {
				d.Problem(n, path, "", "%q is not a time zone such as Europe/Berlin", source.Cut(c.Timezone, 80))
			}
		}),
		source.Optional("locale", d.Str(&c.Locale, "a language such as en or de-AT")),
		source.Optional("attributes", d.literalObject(&c.Attributes, "attributes")),
		source.Optional("weight", d.Integer(&c.Weight, 1, 1000)),
		source.Optional("connections", func(n *source.Node, path string) {
			d.Entries(n, path, "connections", maxPlatformConnections, slotPattern(), idRule, func(key string, n *source.Node, path string) {
				x := PlatformConnection{Name: key}
				d.platformConnection(n, path, &x)
				c.Connections = append(c.Connections, x)
			})
		}),
		source.Optional("instances", func(n *source.Node, path string) {
			d.Entries(n, path, "instances", maxPlatformInstances, namePattern(), nameRule, func(key string, n *source.Node, path string) {
				x := PlatformInstance{Integration: key}
				d.platformInstance(n, path, &x, c)
				c.Instances = append(c.Instances, x)
			})
		}),
	)
	d.connected(c, path)
}

// connected reports slots that are filled with connections that the customer does not have.
func (d *decoder) connected(c *PlatformCustomer, path string) {
	var names []string
	for i := range c.Connections {
		names = append(names, c.Connections[i].Name)
	}
	for i := range c.Instances {
		for slot, name := range c.Instances[i].Connections {
			if !slices.Contains(names, name) {
				at := source.Join(source.Join(source.Join(source.Join(path, "instances"), c.Instances[i].Integration), "connections"), slot)
				d.ProblemAt(at, source.DidYouMean(name, names), "the customer has no connection %q", source.Cut(name, 80))
			}
		}
	}
}

func (d *decoder) platformConnection(n *source.Node, path string, c *PlatformConnection) {
	d.Object(
		n, path, "platform_connection",
		source.Optional("connector", d.Str(&c.Connector, "the name of a connector")),
		source.Required("url", d.Str(&c.URL, "a base URL")),
		source.Optional("credential", func(n *source.Node, path string) {
			ways := []string{"bearer", "basic", "header", "query"}
			named := func(dst **PlatformNamed) source.Reader {
				return func(n *source.Node, path string) {
					v := &PlatformNamed{}
					*dst = v
					d.Object(n, path, "platform_named", source.Required("name", d.Str(&v.Name, "a name")), source.Required("value", d.secretSource(&v.Value)))
				}
			}
			ok := d.Object(
				n, path, "platform_credential",
				source.Optional("bearer", func(n *source.Node, path string) {
					c.Credential.Bearer = &SecretSource{}
					d.secretSource(c.Credential.Bearer)(n, path)
				}),
				source.Optional("basic", func(n *source.Node, path string) {
					v := &PlatformBasic{}
					c.Credential.Basic = v
					d.Object(n, path, "platform_basic", source.Required("username", d.Str(&v.Username, "a user name")), source.Required("password", d.secretSource(&v.Password)))
				}),
				source.Optional("header", named(&c.Credential.Header)),
				source.Optional("query", named(&c.Credential.Query)),
			)
			if ok {
				d.oneKey(n, path, "a credential", ways)
			}
		}),
	)
}

// secretSource reads where a secret is. A text is refused: a secret does not belong into a file that is kept.
func (d *decoder) secretSource(dst *SecretSource) source.Reader {
	return func(n *source.Node, path string) {
		if n.Kind == source.Scalar {
			d.At[path] = n
			d.Problem(n, path, "write {env: NAME} or {file: PATH}", "a secret is not written here, only where it is read")
			return
		}
		ok := d.Object(
			n, path, "platform_secret",
			source.Optional("env", d.Matching(&dst.Env, "the name of an environment variable", regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`), "letters, digits and underscores")),
			source.Optional("file", d.Str(&dst.File, "a file name")),
		)
		if ok {
			d.oneKey(n, path, "a secret", []string{"env", "file"})
		}
	}
}

func (d *decoder) platformInstance(n *source.Node, path string, x *PlatformInstance, c *PlatformCustomer) {
	state := "enabled"
	d.Object(
		n, path, "platform_instance",
		source.Optional("version", d.Integer(&x.Version, 1, 1<<30)),
		source.Optional("config", d.literalObject(&x.Config, "config values")),
		source.Optional("secrets", func(n *source.Node, path string) {
			x.Secrets = map[string]SecretSource{}
			d.Entries(n, path, "secrets", maxPlatformSecrets, idPattern(), idRule, func(key string, n *source.Node, path string) {
				var s SecretSource
				d.secretSource(&s)(n, path)
				x.Secrets[key] = s
				if x.Config.Get(key) != nil {
					d.ProblemKey(path, "", "%q is a config value already", source.Cut(key, 80))
				}
			})
		}),
		source.Optional("connections", func(n *source.Node, path string) {
			x.Connections = map[string]string{}
			d.Entries(n, path, "connections", maxPlatformConnections, slotPattern(), idRule, func(key string, n *source.Node, path string) {
				var name string
				d.Str(&name, "the name of a connection of "+c.ExternalID)(n, path)
				x.Connections[key] = name
			})
		}),
		source.Optional("state", source.Enum(d.Decoder, &state, "enabled", "paused")),
	)
	x.Paused = state == "paused"
}
