package credential

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Limits of a method.
const (
	maxName     = 64
	maxText     = 2 << 10
	maxBodyText = 8 << 10
	maxItems    = 50
	// MaxAssertion is the longest life of a JWT.
	MaxAssertion Seconds = 3600
	// MaxMargin is the longest margin of a refresh.
	MaxMargin Seconds = 86400
)

// Problem is one thing that is wrong, at a place such as "recipe.token.url".
type Problem struct{ At, Message string }

// Problems are all that is wrong, in the order of the document.
type Problems []Problem

// Error lists the problems, one a line.
func (p Problems) Error() string {
	var b strings.Builder
	for i, one := range p {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(one.At + ": " + one.Message)
	}
	return b.String()
}

type checker struct {
	problems Problems
	known    map[string]bool // names of templates
	urls     Vars            // names that may stand in URLs
}

func (c *checker) add(at, format string, args ...any) {
	c.problems = append(c.problems, Problem{at, fmt.Sprintf(format, args...)})
}

func (c *checker) result() error {
	if len(c.problems) == 0 {
		return nil
	}
	return c.problems
}

// Check reports everything that is wrong with m, as [Problems] with places below at. vars are the variables of the connector.
func (m *Method) Check(at string, vars Vars) error {
	c := &checker{known: map[string]bool{}, urls: Vars{}}
	for n := range strings.FieldsSeq(Names) {
		c.known[n] = true
	}
	for name, v := range vars {
		c.known[name] = true
		c.urls[name] = v
	}
	c.name(at+".id", m.ID)
	c.short(at+".title", m.Title)
	c.short(at+".help", m.Help)
	for _, f := range m.Entered() {
		c.known[f.Name] = true
	}
	for _, f := range m.Client() {
		c.known[f.Name] = true
	}
	c.fields(at, m)
	if m.Recipe != nil {
		c.learn(at, m.Recipe)
	}
	for i := range m.Places {
		c.place(at+".places["+strconv.Itoa(i)+"]", &m.Places[i])
	}
	c.use(at, m)
	return c.result()
}

// use checks that what the type needs is there.
func (c *checker) use(at string, m *Method) {
	switch m.Type {
	case None, Bearer, Basic:
	case MTLS:
		c.needs(at, m)
	case APIKey:
		if len(m.Places) == 0 {
			c.add(at+".places", "an API key needs a place, such as {in: header, name: X-Api-Key, format: \"{api_key}\"}")
		}
	case HMAC, SigV4, OAuth1:
		c.needs(at, m)
		if m.Type == HMAC && (m.Sign == nil || m.Sign.Message == "") {
			c.add(at+".sign.message", "a signature needs a message to sign")
		}
		if m.Type == SigV4 && (m.Sign == nil || m.Sign.Service == "") {
			c.add(at+".sign.service", "a signature of AWS needs the service")
		}
	case OAuth2Code, OAuth2Client, OAuth2JWT, Session:
		if m.Recipe == nil {
			c.add(at+".recipe", "%s needs a recipe", m.Type)
			return
		}
		c.recipe(at+".recipe", m.Type, m.Recipe)
		return
	default:
		c.add(at+".type", "unknown type %q", m.Type)
	}
	if m.Recipe != nil {
		c.add(at+".recipe", "%s has no recipe", m.Type)
	}
	if m.Sign != nil {
		c.signing(at+".sign", m.Sign)
	}
}

// needs checks that the fields that a type works with are entered when a method names its own.
func (c *checker) needs(at string, m *Method) {
	want := map[Type][]string{
		SigV4: {"access_key_id", "secret_access_key"}, OAuth1: {"consumer_key", "consumer_secret"}, MTLS: {"certificate", "private_key"},
	}[m.Type]
	for _, name := range want {
		if !slices.ContainsFunc(m.Entered(), func(f Field) bool { return f.Name == name }) {
			c.add(at+".fields", "%s needs a field %s", m.Type, name)
		}
	}
}

func (c *checker) name(at, name string) {
	if !nameText(name) || strings.ToLower(name) != name || strings.Contains(name, ".") {
		c.add(at, "a name begins with a small letter and has small letters, digits, _ and -, at most %d", maxName)
	}
}

func (c *checker) short(at, text string) {
	if len(text) > maxText || !plain(strings.NewReplacer("\n", "", "\t", "").Replace(text)) {
		c.add(at, "text of at most %d bytes without control characters", maxText)
	}
}

func (c *checker) fields(at string, m *Method) {
	if len(m.Fields) > maxItems {
		c.add(at+".fields", "at most %d fields", maxItems)
		return
	}
	seen := map[string]bool{}
	for i, f := range m.Fields {
		at := at + ".fields[" + strconv.Itoa(i) + "]"
		c.name(at+".name", f.Name)
		if seen[f.Name] {
			c.add(at+".name", "there is a field %q already", f.Name)
		}
		seen[f.Name] = true
		c.short(at+".title", f.Title)
		c.short(at+".help", f.Help)
		if f.Pattern != "" {
			if _, err := compile(f.Pattern); err != nil {
				c.add(at+".pattern", "%v", err)
			}
		}
		if f.Secret && f.Default != "" {
			c.add(at+".default", "a secret has no default")
		}
	}
}

func (c *checker) vars(at string, v Vars) {
	if len(v) > MaxVars {
		c.add(at, "at most %d variables", MaxVars)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		def := v[name]
		c.name(at+"."+name, name)
		if strings.Contains(" "+Names+" ", " "+name+" ") {
			c.add(at+"."+name, "the name has a meaning of its own in templates")
		}
		if def.Type == VarURL {
			c.add(at+"."+name+".type", "only kept values are URLs")
		}
		c.variable(at+"."+name, &def)
	}
}

func (c *checker) variable(at string, v *Var) {
	switch v.kind() {
	case VarLabel, VarSegment, VarText:
		if len(v.Suffixes) > 0 {
			c.add(at+".suffixes", "only hosts have suffixes")
		}
	case VarHost, VarURL:
		if len(v.Suffixes) == 0 && len(v.Enum) == 0 {
			c.add(at+".suffixes", "a host that a person or an answer decides on needs the suffixes that it may end in")
		}
	default:
		c.add(at+".type", "unknown type %q", v.Type)
	}
	for i, s := range v.Suffixes {
		if s == AnyHost && v.Type != VarURL {
			continue
		}
		if !hostName(strings.TrimPrefix(s, ".")) {
			c.add(at+".suffixes["+strconv.Itoa(i)+"]", "a host in small letters, with a dot in front for every host below it; at least two labels")
		}
	}
	if v.Pattern != "" {
		if _, err := compile(v.Pattern); err != nil {
			c.add(at+".pattern", "%v", err)
			return
		}
	}
	if v.Default != "" {
		if _, err := v.Accept(v.Default); err != nil {
			c.add(at+".default", "%v", err)
		}
	}
	for i, e := range v.Enum {
		one := *v
		one.Enum = nil
		if accepted, err := one.Accept(e); err != nil {
			c.add(at+".enum["+strconv.Itoa(i)+"]", "%v", err)
		} else if accepted != e {
			c.add(at+".enum["+strconv.Itoa(i)+"]", "write it as %q", accepted)
		}
	}
}

// template checks that all names are known.
func (c *checker) template(at, text string, most int) {
	if len(text) > most {
		c.add(at, "a template of at most %d bytes", most)
	}
	for _, name := range Uses(text) {
		if !c.knows(name) {
			c.add(at, "nothing is called {%s} here", name)
		}
	}
}

// knows also takes field.member, set.access_token, and the parameters of a message to sign.
func (c *checker) knows(name string) bool {
	first, _, dotted := strings.Cut(name, ".")
	return c.known[name] || dotted && (c.known[first] || first == "param")
}

func (c *checker) templates(at string, m map[string]string) {
	if len(m) > maxItems {
		c.add(at, "at most %d", maxItems)
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if k == "" || len(k) > maxText || !plain(k) {
			c.add(at, "a name is text without control characters")
		}
		c.template(at+"."+k, m[k], maxText)
	}
}

// url checks a URL template: https, no user, and only names that cannot leave the place they stand in.
func (c *checker) url(at, url string) {
	if url == "" {
		c.add(at, "a URL is missing")
		return
	}
	if len(url) > maxText || !plain(url) || strings.ContainsAny(url, " \\") {
		c.add(at, "a URL of at most %d bytes without spaces and control characters", maxText)
		return
	}
	c.template(at, url, maxText)
	if used := spans(url); len(used) > 0 && used[0].start == 0 && c.urls[used[0].name].Type == VarURL {
		c.names(at, url[used[0].end:], "")
		return
	}
	scheme, host, rest := hostOf(url)
	local := host == "localhost" || strings.HasPrefix(host, "localhost:") || strings.HasPrefix(host, "127.0.0.1:")
	if scheme != "https" && (scheme != "http" || !local) {
		c.add(at, "a URL begins with https://")
		return
	}
	if strings.Contains(host, "@") || strings.Trim(strings.TrimLeft(host, "."), ".") == "" {
		c.add(at, "a URL has a host and no user")
	}
	c.names(at, host, host)
	c.names(at, rest, "")
}

// names checks the names in a part of a URL; host is that part when it is the host.
func (c *checker) names(at, part, host string) {
	for _, s := range spans(part) {
		v, ok := c.urls[s.name]
		kind := v.kind()
		whole := s.end-s.start == len(part)
		switch {
		case !ok && c.known[s.name] && host == "":
			if !slices.Contains([]string{"client_id", "access_token", "refresh_token", "token", "now", "nonce", "uuid"}, s.name) {
				c.add(at, "{%s} has no rule that keeps it inside a URL: keep it with a type", s.name)
			}
		case !ok:
			if c.known[s.name] {
				c.add(at, "{%s} cannot decide on the host: that needs a variable, or a kept value of type host or url", s.name)
			}
		case kind == VarText:
			c.add(at, "{%s} is text, which has no place in a URL", s.name)
		case host != "" && (kind == VarSegment || kind == VarURL):
			c.add(at, "{%s} is a %s, which cannot be in a host", s.name, kind)
		case host != "" && kind == VarHost && !whole && !strings.HasPrefix(part[s.end:], ":"):
			c.add(at, "{%s} is a whole host: nothing stands beside it", s.name)
		case host != "" && kind == VarLabel && len(v.Enum) == 0 && !anchored(part[s.end:]):
			c.add(at, "{%s} needs a fixed domain of two labels behind it", s.name)
		case host == "" && kind == VarURL:
			c.add(at, "{%s} is a URL: it stands at the beginning", s.name)
		}
	}
}

// anchored reports whether what follows a variable in a host is a fixed domain.
func anchored(rest string) bool {
	dot := strings.IndexByte(rest, '.')
	if dot < 0 {
		return false
	}
	fixed := rest[dot+1:]
	if i := strings.LastIndexByte(fixed, '}'); i >= 0 {
		return anchored(fixed[i+1:]) // the last variable decides
	}
	name, _, _ := strings.Cut(fixed, ":")
	return hostName(strings.ToLower(name))
}
