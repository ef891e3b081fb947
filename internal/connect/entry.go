package connect

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// Limits of what is entered.
const (
	// MaxField is the longest value of a field, in bytes.
	MaxField = 16 << 10
	// MaxShared is the most customers or actions that a connection is shared with.
	MaxShared = 200
)

// values checks the values of the host variables and adds their defaults.
func (x *offer) values(given map[string]string) (map[string]string, error) {
	var wrong InvalidError
	out := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, ok := x.vars[name]; !ok {
			wrong = append(wrong, Wrong{"vars", unknownName("variable", name, x.varNames())})
		}
	}
	for _, name := range x.varNames() {
		v := x.vars[name]
		value := strings.TrimSpace(given[name])
		if value == "" {
			value = v.Default
		}
		accepted, err := v.Accept(value)
		if err != nil {
			wrong = append(wrong, Wrong{"vars." + name, after(err, credential.ErrValue)})
			continue
		}
		out[name] = accepted
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return out, nil
}

// varNames are the names of the variables in order.
func (x *offer) varNames() []string { return slices.Sorted(maps.Keys(x.vars)) }

// fields checks what was entered against what is asked for.
func fields(asked []credential.Field, given map[string]string) ([]lease.Field, error) {
	var wrong InvalidError
	var out []lease.Field
	for _, f := range asked {
		value := given[f.Name]
		if !f.Multiline {
			value = strings.TrimSpace(value)
		}
		if value == "" {
			value = f.Default
		}
		if text := fieldProblem(&f, value); text != "" {
			wrong = append(wrong, Wrong{"fields." + f.Name, text})
		} else if value != "" {
			out = append(out, lease.Field{Name: f.Name, Secret: []byte(value)})
		}
	}
	var names []string
	for _, f := range asked {
		names = append(names, f.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(names, name) {
			wrong = append(wrong, Wrong{"fields", unknownName("field", name, names)})
		}
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return out, nil
}

// maxUnknown is the longest name that is repeated to who gave it. What is longer, or no name of letters and underscores, may be a
// value in the wrong place.
const maxUnknown = 32

// unknownName says that there is no field or variable of a name, and which there are.
func unknownName(what, name string, has []string) string {
	text := "there is no " + what + " " + name
	if len(name) > maxUnknown || strings.ContainsFunc(name, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) {
		text = "something was given that is no name of a " + what
	}
	if len(has) == 0 {
		return text + "; there is none at all"
	}
	return text + "; there is " + strings.Join(has, ", ")
}

// fieldProblem says what is wrong with the value of a field, without the value.
func fieldProblem(f *credential.Field, value string) string {
	switch {
	case value == "" && f.Optional:
		return ""
	case value == "":
		return "it is missing"
	case len(value) > MaxField:
		return fmt.Sprintf("it is longer than %d bytes", MaxField)
	case !f.Multiline && strings.ContainsAny(value, "\r\n\x00"):
		return "it has more than one line"
	case f.Pattern == "":
		return ""
	}
	re, err := regexp.Compile(`\A(?:` + f.Pattern + `)\z`)
	if err != nil || !re.MatchString(value) {
		if f.Help != "" {
			return "it does not look like one"
		}
		return "it does not look like one; want " + f.Pattern
	}
	return ""
}

// binding is where a credential may be used: the base URL of the manifest, and its further bases.
func (x *offer) binding(values map[string]string) (lease.Binding, error) {
	b, err := x.place(x.manifest.BaseURL, values)
	if err != nil {
		return lease.Binding{}, fmt.Errorf("base URL of %s: %w", x.manifest.Name, err)
	}
	b.Follow = x.follow()
	b.Bases, err = x.bases(values)
	return b, err
}

// follow says to which hosts the manifest's actions are redirected for files.
func (x *offer) follow() (list []lease.Follow) {
	for i := range x.manifest.Actions {
		if a := &x.manifest.Actions[i]; len(a.Follow) > 0 {
			list = append(list, lease.Follow{Action: a.Name, Hosts: a.Follow})
		}
	}
	return list
}

// bases are the further places where a credential may be used.
func (x *offer) bases(values map[string]string) (list []lease.Base, err error) {
	for _, name := range slices.Sorted(maps.Keys(x.manifest.Bases)) {
		b, err := x.place(x.manifest.Bases[name], values)
		if err != nil {
			return nil, fmt.Errorf("base %s of %s: %w", name, x.manifest.Name, err)
		}
		list = append(list, lease.Base{Name: name, Host: b.Host, Port: b.Port, BasePath: b.BasePath})
	}
	return list, nil
}

// place is the binding to one base URL.
func (x *offer) place(template string, values map[string]string) (lease.Binding, error) {
	base, err := x.vars.Expand(template, values)
	if err != nil {
		return lease.Binding{}, err
	}
	b, err := egress.ParseBinding(base)
	if err != nil {
		return lease.Binding{}, err
	}
	return lease.Binding{Scheme: b.Scheme, Host: b.Host, Port: uint32(b.Port), BasePath: strings.TrimSuffix(b.BasePath, "/")}, nil
}

// record is the credential of a connection by a method, without its owner.
func (x *offer) record(m *credential.Method, values map[string]string, entered []lease.Field) (*lease.Record, error) {
	b, err := x.binding(values)
	if err != nil {
		return nil, err
	}
	r := &lease.Record{
		Connector: x.manifest.Name, Digest: x.manifest.Digest(), Kind: lease.Kind(m.Kind()), Binding: b, Fields: entered,
	}
	if r.Kind == lease.KindNone {
		return r, nil
	}
	if hosts := m.Recipe.Bound(); len(hosts) > 0 { // the provider's answer decides on the host
		r.Binding = lease.Binding{Scheme: "https", Host: hosts[0], Bases: b.Bases, Follow: b.Follow}
		if len(hosts) > 1 {
			r.Hosts = hosts
		}
	}
	spec := credential.Spec{Method: *m, Vars: x.vars, Values: values, Rate: x.manifest.Rate()}
	if r.Spec, err = spec.Bytes(); err != nil {
		return nil, fmt.Errorf("encode auth method %s: %w", m.ID, err)
	}
	return r, nil
}

// clientRecord is the credential of an OAuth client: of the method with any values.
func (x *offer) clientRecord(m *credential.Method, entered []lease.Field) (*lease.Record, error) {
	hosts := hostPatterns(x.manifest.Hosts, x.vars)
	if len(hosts) == 0 {
		return nil, invalid("connector", "%s names no hosts", x.manifest.Name)
	}
	first, port, ok := lease.SplitPort(hosts[0])
	if !ok {
		return nil, invalid("connector", "%s names the host %q", x.manifest.Name, hosts[0])
	}
	scheme, _, _ := strings.Cut(x.manifest.BaseURL, "://")
	r := &lease.Record{
		Connector: x.manifest.Name, Digest: x.manifest.Digest(), Kind: lease.KindOAuth2Client, Fields: entered, Hosts: hosts,
		Binding: lease.Binding{Scheme: scheme, Host: first, Port: port},
	}
	var err error
	if r.Spec, err = (&credential.Spec{Method: *m, Vars: x.vars}).Bytes(); err != nil {
		return nil, fmt.Errorf("encode auth method %s: %w", m.ID, err)
	}
	return r, nil
}

// after is what an error says behind the text of what it wraps.
func after(err, wrapped error) string {
	text := err.Error()
	if _, rest, ok := strings.Cut(text, wrapped.Error()+": "); ok {
		return rest
	}
	return text
}
