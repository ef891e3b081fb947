package credential

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of variables.
const (
	// MaxVars is the most variables of a connector, and MaxValue the longest value in bytes.
	MaxVars  = 50
	MaxValue = 2 << 10
	maxLabel = 63
	maxHost  = 253
	// maxPattern is the longest pattern of a field or variable.
	maxPattern = 256
)

// ErrValue is wrapped by every error about the value of a variable. Such an error names the variable, not the value.
var ErrValue = errors.New("invalid value")

// VarType is what a variable may be.
type VarType string

// The types of variables.
const (
	// VarLabel is one label of a host name, or one segment of a path: letters, digits, hyphen and underscore. The default
	// of variables.
	VarLabel VarType = "label"
	// VarSegment is one segment of a path, with dots; not for hosts.
	VarSegment VarType = "segment"
	// VarHost is a host name below one of Suffixes.
	VarHost VarType = "host"
	// VarURL is an https URL without user, query and fragment, on port 443, whose host is below one of Suffixes. Only what is
	// kept can be one.
	VarURL VarType = "url"
	// VarText is any text without control characters and braces; not for URLs.
	VarText VarType = "text"
)

// Var is a typed variable of host, URL and parameter templates (1).
type Var struct {
	Title string `json:"title,omitempty"`
	Help  string `json:"help,omitempty"`
	// Type is VarHost where there are Suffixes, else VarLabel, unless set.
	Type VarType `json:"type,omitempty"`
	// Enum are the only values. Pattern is an RE2 expression for the whole value; it can not widen the type.
	Enum    []string `json:"enum,omitempty"`
	Pattern string   `json:"pattern,omitempty"`
	// Suffixes are what hosts end in: ".example.com" is every host below example.com, "example.com" that host alone, and
	// [AnyHost] every host name that a person enters.
	Suffixes []string `json:"suffixes,omitempty"`
	// Default is taken when nothing is entered.
	Default string `json:"default,omitempty"`
}

// Vars are variables by name.
type Vars map[string]Var

// kind is the type that v has.
func (v *Var) kind() VarType {
	switch {
	case v.Type != "":
		return v.Type
	case len(v.Suffixes) > 0:
		return VarHost
	default:
		return VarLabel
	}
}

// Accept checks a value and returns it in the form to use: hosts in lower case, URLs without a slash at the end. Errors wrap
// [ErrValue].
func (v *Var) Accept(value string) (string, error) {
	if value == "" {
		return "", fmt.Errorf("%w: it is empty", ErrValue)
	}
	if len(value) > MaxValue {
		return "", fmt.Errorf("%w: it has more than %d bytes", ErrValue, MaxValue)
	}
	value, err := v.form(value)
	if err != nil {
		return "", err
	}
	if len(v.Enum) > 0 && !slices.Contains(v.Enum, value) {
		return "", fmt.Errorf("%w: it is none of %s", ErrValue, strings.Join(v.Enum, ", "))
	}
	if v.Pattern == "" {
		return value, nil
	}
	re, err := compile(v.Pattern)
	if err != nil {
		return "", err
	}
	if !re.MatchString(value) {
		return "", fmt.Errorf("%w: it does not match %s", ErrValue, v.Pattern)
	}
	return value, nil
}

// form checks a value against its type.
func (v *Var) form(value string) (string, error) {
	switch v.kind() {
	case VarLabel:
		if len(value) > maxLabel || strings.Trim(value, labelBytes) != "" || value[0] == '-' || value[len(value)-1] == '-' {
			return "", fmt.Errorf("%w: it is letters, digits, hyphen and underscore, at most %d", ErrValue, maxLabel)
		}
		return value, nil
	case VarSegment:
		if len(value) > maxHost || strings.Trim(value, labelBytes+".~") != "" || strings.Trim(value, ".") == "" {
			return "", fmt.Errorf("%w: it is letters, digits and -._~, at most %d", ErrValue, maxHost)
		}
		return value, nil
	case VarHost:
		return v.host(value)
	case VarURL:
		rest, ok := strings.CutPrefix(value, "https://")
		if !ok {
			return "", fmt.Errorf("%w: it is a URL that begins with https://", ErrValue)
		}
		host, path, slash := strings.Cut(rest, "/")
		host, err := v.host(strings.TrimSuffix(host, ":443"))
		if err != nil {
			return "", err
		}
		path = strings.TrimRight(path, "/")
		if strings.Trim(path, labelBytes+"./~") != "" || strings.Contains("/"+path+"/", "/../") || strings.Contains("/"+path+"/", "/./") || strings.Contains(path, "//") {
			return "", fmt.Errorf("%w: its path has letters, digits and -._~ between slashes", ErrValue)
		}
		if slash && path != "" {
			return "https://" + host + "/" + path, nil
		}
		return "https://" + host, nil
	default:
		if !plain(value) || strings.ContainsAny(value, "{}") {
			return "", fmt.Errorf("%w: it is text without control characters and braces", ErrValue)
		}
		return value, nil
	}
}

const labelBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// host accepts a name of at least two labels below the suffixes. Addresses are refused: their last label is a number.
func (v *Var) host(value string) (string, error) {
	host := strings.ToLower(value)
	if !hostName(host) {
		return "", fmt.Errorf("%w: it is a host name", ErrValue)
	}
	if !BelowAny(host, v.Suffixes) {
		return "", fmt.Errorf("%w: it is not a host of %s", ErrValue, strings.Join(v.Suffixes, ", "))
	}
	return host, nil
}

// AnyHost among the suffixes of a variable leaves the host to the person who enters it: for software that customers run
// themselves. An answer or a callback never decides like that.
const AnyHost = "*"

// BelowAny reports whether a lower-case host is one of the hosts, or below one of the suffixes, which begin with a dot.
func BelowAny(host string, suffixes []string) bool {
	return slices.ContainsFunc(suffixes, func(s string) bool {
		if strings.HasPrefix(s, ".") {
			return len(host) > len(s) && strings.HasSuffix(host, s)
		}
		return host == s || s == AnyHost
	})
}

// hostName is a DNS name of at least two labels whose last is no number (RFC 1123 section 2.1).
func hostName(host string) bool {
	labels := strings.Split(host, ".")
	if len(host) > maxHost || len(labels) < 2 {
		return false
	}
	for _, l := range labels {
		if l == "" || len(l) > maxLabel || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 })
}

func compile(pattern string) (*regexp.Regexp, error) {
	if len(pattern) > maxPattern {
		return nil, fmt.Errorf("a pattern has at most %d bytes", maxPattern)
	}
	if _, err := regexp.Compile(pattern); err != nil { // alone: one that closes the group around it would not be anchored
		return nil, fmt.Errorf("not a pattern: %w", err)
	}
	re, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("not a pattern: %w", err)
	}
	return re, nil
}

// Accept checks the values entered for the variables, and adds the defaults. Errors wrap [ErrValue] and name the variable.
func (v Vars) Accept(values map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for name := range values {
		if _, ok := v[name]; !ok {
			return nil, fmt.Errorf("%w: there is no variable %q", ErrValue, name)
		}
	}
	for name, def := range v {
		value := values[name]
		if value == "" {
			value = def.Default
		}
		accepted, err := def.Accept(value)
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", name, err)
		}
		out[name] = accepted
	}
	return out, nil
}

// Check reports problems of the definitions below a place.
func (v Vars) Check(at string) error {
	c := &checker{}
	c.vars(at, v)
	return c.result()
}

// CheckURL reports what is wrong with a URL template of a connector, such as its base URL: it begins with https://, and
// no value can lead it to a host that is not meant.
func (v Vars) CheckURL(at, url string) error {
	c := v.checker()
	c.url(at, url)
	return c.result()
}

// CheckHost is CheckURL for a host template: "{region}.api.example.com".
func (v Vars) CheckHost(at, host string) error {
	c := v.checker()
	if strings.ContainsAny(host, "/?#") {
		c.add(at, "a host, without scheme and path")
	} else {
		c.url(at, "https://"+host)
	}
	return c.result()
}

func (v Vars) checker() *checker {
	c := &checker{known: map[string]bool{}, urls: v}
	for name := range v {
		c.known[name] = true
	}
	return c
}

// Expand puts values, which [Vars.Accept] has returned, into a template of variables only.
func (v Vars) Expand(template string, values map[string]string) (string, error) {
	return Expand(template, func(name string) (string, error) {
		value, ok := values[name]
		if !ok {
			return "", fmt.Errorf("%w: there is no variable %q", ErrValue, name)
		}
		return value, nil
	})
}
