package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

type applyCommand struct {
	remote
	File    []string `short:"f" required:"" help:"Platform file, integration file, or a directory of them; can be repeated."`
	DryRun  bool     `help:"Only show what would change; secrets that are not there are not needed."`
	Yes     bool     `short:"y" help:"Do not ask."`
	Secrets bool     `help:"Enter every secret again, also of connections that are there already."`
}

// Run implements the command.
func (m *applyCommand) Run(c *console) error {
	files, err := applied(m.File)
	if err != nil {
		return err
	}
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		plan := newPlan(c, x)
		plan.secrets, plan.credentials = m.Secrets, m.Secrets
		if m.DryRun {
			plan.read = plan.guess
		}
		for _, file := range files {
			if err := plan.file(ctx, file); err != nil {
				return err
			}
		}
		return plan.show(ctx, m)
	})
}

// applied lists the files that are meant: of a directory its YAML files but test cases.
func applied(names []string) ([]string, error) {
	var out []string
	for _, name := range names {
		found := []string{name}
		if isDir(name) {
			found = nil
			for _, pattern := range []string{"*.yaml", "*.yml"} {
				list, err := filepath.Glob(filepath.Join(name, pattern))
				if err != nil {
					return nil, usage("%s: %w", name, err)
				}
				found = append(found, list...)
			}
			found = slices.DeleteFunc(found, func(f string) bool { return strings.HasSuffix(f, ".test"+filepath.Ext(f)) })
			if len(found) == 0 {
				return nil, usage("%s: there is no YAML file in it", name)
			}
			slices.Sort(found)
		}
		out = append(out, found...)
	}
	return out, nil
}

// change is one thing that is to be done.
type change struct {
	Verb string `json:"verb"` // publish, make, change
	What string `json:"what"`
	Name string `json:"name"`
	Why  string `json:"why,omitempty"`

	do func(context.Context) error
}

// plan is what has to be done so that the platform is as the files say. Publishing comes
// first, then customers, their connections and their instances.
type plan struct {
	c           *console
	x           *client.Client
	read        func(flowfile.SecretSource, func(string) string) (string, error)
	secrets     bool // config is given again
	credentials bool // credentials are entered again
	missing     int  // secrets that are not there, while only looking
	publish     []change
	rest        []change
	fresh       map[string]*flow.Integration // published by this plan, by name
	next        map[string]uint32            // the versions that they get

	connections map[string]id.Connection // made or found, by customer and name
}

func newPlan(c *console, x *client.Client) *plan {
	return &plan{c: c, x: x, read: readSource, fresh: map[string]*flow.Integration{}, next: map[string]uint32{}, connections: map[string]id.Connection{}}
}

// unread stands for a secret that is not there while only looking.
const unread = "a secret that was not read"

// guess reads a secret, or goes on without: whoever only wants to see what would change, such
// as a check of a proposed change, need not have the secrets.
func (p *plan) guess(s flowfile.SecretSource, within func(string) string) (string, error) {
	text, err := readSource(s, within)
	if err != nil {
		p.missing++
		return unread, nil //nolint:nilerr // it is counted, and said
	}
	return text, nil
}

func (p *plan) file(ctx context.Context, name string) error {
	text, err := readFile(name, flow.MaxFileBytes)
	if err != nil {
		return err
	}
	if !flowfile.IsPlatform(text) {
		return p.integration(ctx, name)
	}
	file, problems := flowfile.DecodePlatform(name, text)
	if file == nil {
		if err := problems.Render(p.c.Err, style(p.c.Err)); err != nil {
			return err
		}
		return said(exitUsage)
	}
	within := func(f string) string {
		if filepath.IsAbs(f) {
			return f
		}
		return filepath.Join(filepath.Dir(name), f)
	}
	for n, pattern := range file.Integrations {
		found, err := filepath.Glob(within(pattern))
		if err != nil || len(found) == 0 {
			at, _ := file.Find(fmt.Sprintf("integrations[%d]", n))
			return usage("%s:%d: there is no file %s", name, at.Line, pattern)
		}
		slices.Sort(found)
		for _, f := range found {
			if strings.HasSuffix(f, ".test"+filepath.Ext(f)) {
				continue
			}
			if err := p.integration(ctx, f); err != nil {
				return err
			}
		}
	}
	for i := range file.Customers {
		if err := p.customer(ctx, &file.Customers[i], within); err != nil {
			return fmt.Errorf("customer %s: %w", file.Customers[i].ExternalID, err)
		}
	}
	return nil
}

// integration plans to publish a file, unless its content is the newest version.
func (p *plan) integration(ctx context.Context, name string) error {
	doc, err := loadFor(ctx, p.c, name, p.x)
	if err != nil {
		return err
	}
	text, err := readFile(name, flow.MaxFileBytes)
	if err != nil {
		return err
	}
	return p.definitionOf(ctx, doc.Integration, text)
}

// definitionOf plans to publish an integration that was read from a text.
func (p *plan) definitionOf(ctx context.Context, i *flow.Integration, text []byte) error {
	why, number := "new", uint32(1)
	old, err := p.x.Integration(ctx, i.Name)
	switch {
	case err == nil && old.Version > 0:
		digest, err := publishedDigest(i)
		if err != nil {
			return err
		}
		if old.Digest == hex.EncodeToString(digest[:]) {
			return nil
		}
		number = old.Version + 1
		why = fmt.Sprintf("version %d", number)
	case err != nil && !client.IsCode(err, api.CodeNotFound):
		return err
	}
	p.fresh[i.Name], p.next[i.Name] = i, number
	p.publish = append(p.publish, change{"publish", "integration", i.Name, why, func(ctx context.Context) error {
		_, err := p.x.Publish(ctx, api.PublishRequest{Source: string(text)})
		return err
	}})
	return nil
}

// publishedDigest is that of an integration as it is published: with the flows that its triggers bring along.
func publishedDigest(i *flow.Integration) ([sha256.Size]byte, error) {
	b, err := i.Encode()
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("encode integration: %w", err)
	}
	published, err := flow.Decode(b)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("read integration: %w", err)
	}
	if err := published.Expand(); err != nil {
		return [sha256.Size]byte{}, usage("%s: %w", i.Name, err)
	}
	return published.Digest(), nil
}

func (p *plan) add(verb, what, name, why string, do func(context.Context) error) {
	p.rest = append(p.rest, change{verb, what, name, why, do})
}

func (p *plan) customer(ctx context.Context, k *flowfile.PlatformCustomer, within func(string) string) error {
	want := api.CustomerRequest{ExternalID: k.ExternalID, CustomerFields: api.CustomerFields{
		Name: k.Name, Timezone: k.Timezone, Locale: k.Locale, Weight: uint32(max(k.Weight, 1)), // #nosec G115 -- the file allows 1000
	}}
	if want.Name == "" {
		want.Name = k.ExternalID
	}
	want.Timezone, want.Locale = orElse(want.Timezone, "UTC"), orElse(want.Locale, "en")
	want.Attributes = json.RawMessage("{}")
	if !k.Attributes.IsZero() {
		b, err := k.Attributes.MarshalJSON()
		if err != nil {
			return fmt.Errorf("encode attributes: %w", err)
		}
		want.Attributes = b
	}
	old, err := p.x.Customer(ctx, k.ExternalID)
	put := func(ctx context.Context) error {
		_, err := p.x.PutCustomer(ctx, want)
		return err
	}
	switch {
	case client.IsCode(err, api.CodeNotFound):
		old = nil
		p.add("make", "customer", k.ExternalID, want.Name, put)
	case err != nil:
		return err
	default:
		if why := customerDiff(old, &want); why != "" {
			p.add("change", "customer", k.ExternalID, why, put)
		}
	}
	for i := range k.Connections {
		if err := p.connection(ctx, k, old != nil, &k.Connections[i], within); err != nil {
			return fmt.Errorf("connection %s: %w", k.Connections[i].Name, err)
		}
	}
	for i := range k.Instances {
		if err := p.instance(ctx, k, old != nil, &k.Instances[i], within); err != nil {
			return fmt.Errorf("instance %s: %w", k.Instances[i].Integration, err)
		}
	}
	return nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// customerDiff names what differs.
func customerDiff(old *api.Customer, want *api.CustomerRequest) string {
	var out []string
	for _, f := range []struct{ name, old, want string }{
		{"name", old.Name, want.Name},
		{"timezone", old.Timezone, want.Timezone},
		{"locale", old.Locale, want.Locale},
		{"weight", fmt.Sprint(old.Weight), fmt.Sprint(want.Weight)},
	} {
		if f.old != f.want {
			out = append(out, fmt.Sprintf("%s %s → %s", f.name, f.old, f.want))
		}
	}
	if !sameJSON(old.Attributes, want.Attributes) {
		out = append(out, "attributes")
	}
	return strings.Join(out, ", ")
}

func sameJSON(a, b []byte) bool {
	var x, y any
	d, e := json.NewDecoder(bytes.NewReader(a)), json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	e.UseNumber()
	return d.Decode(&x) == nil && e.Decode(&y) == nil && reflect.DeepEqual(x, y)
}

func (p *plan) connection(ctx context.Context, k *flowfile.PlatformCustomer, known bool, n *flowfile.PlatformConnection, within func(string) string) error {
	var old *api.Connection
	if known {
		var err error
		if old, err = connectionNamed(ctx, p.x, k.ExternalID, n.Name); err != nil {
			return err
		}
	}
	at := k.ExternalID + "/" + n.Name
	verb, why := "make", n.URL
	bound, err := platformConnection(n, func(flowfile.SecretSource) (string, error) { return "", nil })
	if err != nil {
		return &fail{exitUsage, err}
	}
	if old != nil {
		p.connections[at] = old.ID
		verb, why = "change", "secret entered again"
		switch {
		case old.Host != bound.record(id.Customer{}).Binding.Authority():
			why = fmt.Sprintf("host %s → %s", old.Host, bound.record(id.Customer{}).Binding.Authority())
		case old.Kind != string(bound.kind):
			why = fmt.Sprintf("credential %s → %s", old.Kind, bound.kind)
		case !p.credentials:
			return nil
		}
	}
	with, err := platformConnection(n, func(s flowfile.SecretSource) (string, error) { return p.read(s, within) })
	if err != nil {
		return err
	}
	p.add(verb, "connection", at, why, func(ctx context.Context) error {
		owner, err := p.x.Customer(ctx, k.ExternalID)
		if err != nil {
			return err
		}
		r := with.record(owner.ID)
		if old != nil {
			r.Connection = old.ID
		}
		got, err := p.x.PutConnection(ctx, r, n.Name)
		if err == nil {
			p.connections[at] = got.ID
		}
		return err
	})
	return nil
}

func (p *plan) instance(ctx context.Context, k *flowfile.PlatformCustomer, known bool, n *flowfile.PlatformInstance, within func(string) string) error {
	i, version, err := p.definition(ctx, n)
	if err != nil {
		return err
	}
	config, err := p.config(i, n, within)
	if err != nil {
		return err
	}
	names, err := filled(i, k, n)
	if err != nil {
		return err
	}
	var old *api.Instance
	if known {
		if old, err = p.deployed(ctx, k.ExternalID, n.Integration); err != nil {
			return err
		}
	}
	at := k.ExternalID + "/" + n.Integration
	slots := func() (map[string]id.Connection, error) {
		out := map[string]id.Connection{}
		for slot, name := range names {
			connection, ok := p.connections[k.ExternalID+"/"+name]
			if !ok {
				return nil, fmt.Errorf("connection %s of %s was not made", name, k.ExternalID)
			}
			out[slot] = connection
		}
		return out, nil
	}
	if old == nil {
		p.add("make", "instance", at, fmt.Sprintf("version %d", p.number(n, version)), func(ctx context.Context) error {
			filled, err := slots()
			if err != nil {
				return err
			}
			made, err := p.x.Deploy(ctx, api.DeployRequest{Customer: k.ExternalID, Integration: n.Integration, Version: version, Config: config, Slots: filled})
			if err == nil && n.Paused {
				_, err = p.x.Pause(ctx, made.ID)
			}
			return err
		})
		return nil
	}
	return p.changed(ctx, old, n, wanted{i, version, config, slots}, at)
}

// wanted is what an instance is to be.
type wanted struct {
	integration *flow.Integration
	version     uint32 // 0: the one that this plan publishes
	config      []byte
	slots       func() (map[string]id.Connection, error)
}

// number is the number of a version, also of one that this plan is going to publish.
func (p *plan) number(n *flowfile.PlatformInstance, version uint32) uint32 {
	if version == 0 {
		return p.next[n.Integration]
	}
	return version
}

// changed plans what makes an instance as the file says. Secrets of its config cannot be
// read, so they are given with every other change, and with --secrets.
func (p *plan) changed(ctx context.Context, old *api.Instance, n *flowfile.PlatformInstance, want wanted, at string) error {
	var why []string
	if number := p.number(n, want.version); number != old.Version {
		why = append(why, fmt.Sprintf("version %d → %d", old.Version, number))
	}
	filled, err := want.slots()
	if err != nil || !maps.Equal(filled, old.Slots) {
		why = append(why, "connections")
	}
	if p.secrets || old.State == "needs_config" || old.ConfigVersion == 0 {
		why = append(why, "config")
	} else {
		different, err := p.drift(ctx, old, want.integration, want.config)
		if err != nil {
			return fmt.Errorf("compare config: %w", err)
		}
		if different != "" {
			why = append(why, different)
		}
	}
	other := len(why) > 0
	if paused := old.State == "paused"; paused != n.Paused {
		why = append(why, map[bool]string{true: "pause", false: "resume"}[n.Paused])
	}
	if len(why) == 0 {
		return nil
	}
	p.add("change", "instance", at, strings.Join(why, ", "), func(ctx context.Context) error {
		now := old
		if other {
			filled, err := want.slots()
			if err != nil {
				return err
			}
			now, err = p.x.Upgrade(ctx, old.ID, old.Revision, api.UpgradeRequest{Version: want.version, InstanceChange: api.InstanceChange{Config: want.config, Slots: filled}})
			if err != nil {
				return err
			}
		}
		var err error
		switch {
		case n.Paused && now.State != "paused":
			_, err = p.x.Pause(ctx, old.ID)
		case !n.Paused && now.State == "paused":
			_, err = p.x.Resume(ctx, old.ID)
		}
		return err
	})
	return nil
}

// definition is the version that an instance is to be on: 0 stands for the newest, where
// this plan publishes it.
func (p *plan) definition(ctx context.Context, n *flowfile.PlatformInstance) (*flow.Integration, uint32, error) {
	if i := p.fresh[n.Integration]; i != nil && n.Version == 0 {
		return i, 0, nil
	}
	i, version, err := published(ctx, p.x, n.Integration, uint32(n.Version)) // #nosec G115 -- the file allows 1<<30
	if client.IsCode(err, api.CodeNotFound) {
		err = usage("there is no integration %s: name its file under integrations", n.Integration)
	}
	return i, version, err
}

func (p *plan) config(i *flow.Integration, n *flowfile.PlatformInstance, within func(string) string) ([]byte, error) {
	values := map[string]json.RawMessage{}
	if !n.Config.IsZero() {
		b, err := n.Config.MarshalJSON()
		if err == nil {
			err = json.Unmarshal(b, &values)
		}
		if err != nil {
			return nil, fmt.Errorf("encode config: %w", err)
		}
	}
	for name, source := range n.Secrets {
		text, err := p.read(source, within)
		if err != nil {
			return nil, err
		}
		if values[name], err = json.Marshal(text); err != nil {
			return nil, fmt.Errorf("encode config: %w", err)
		}
	}
	b, err := i.SecretConfigJSON(values)
	if err != nil {
		return nil, &fail{exitUsage, err}
	}
	return b, nil
}

// deployed finds the instance of an integration at a customer, or nil.
func (p *plan) deployed(ctx context.Context, customer, integration string) (*api.Instance, error) {
	q := client.InstanceQuery{Customer: customer, Integration: integration}
	var found *api.Instance
	for i, err := range client.All(func(cursor string) (*api.Page[api.Instance], error) {
		return p.x.Instances(ctx, q, client.List{Cursor: cursor})
	}) {
		switch {
		case client.IsCode(err, api.CodeNotFound): // the integration is new
			return nil, nil //nolint:nilnil // it does not exist
		case err != nil:
			return nil, err
		case i.State == "removing":
			continue
		case found != nil:
			return nil, usage("%s has several instances of %s; a platform file knows one: change them with bulkhead instances", customer, integration)
		}
		found = &i
	}
	return found, nil
}

// show shows what is to be done, asks, and does it.
func (p *plan) show(ctx context.Context, m *applyCommand) error {
	all := slices.Concat(p.publish, p.rest)
	if m.JSON {
		for i := range all {
			if err := printJSON(p.c, &all[i]); err != nil {
				return err
			}
		}
	} else {
		colours := paint(terminal(p.c.Out))
		for i := range all {
			x := &all[i]
			sign, colour := "+", green
			if x.Verb == "change" {
				sign, colour = "~", yellow
			}
			fmt.Fprintf(p.c.Out, "%s %-11s %s  %s\n", colours.in(colour, sign), x.What, x.Name, colours.in(grey, x.Why))
		}
	}
	if len(all) == 0 {
		fmt.Fprintln(p.c.Err, "Everything is as the files say.")
	}
	if p.missing > 0 {
		fmt.Fprintf(p.c.Err, "%s not there and were not checked; applying needs them.\n", count(p.missing, "secret")+map[bool]string{true: " is", false: " are"}[p.missing == 1])
	}
	if len(all) == 0 || m.DryRun {
		return nil
	}
	if err := p.c.confirm(m.Yes, fmt.Sprintf("Make %s?", count(len(all), "change"))); err != nil {
		return err
	}
	if err := p.apply(ctx); err != nil {
		return err
	}
	if !m.JSON {
		fmt.Fprintf(p.c.Err, "Done: %s.\n", count(len(all), "change"))
	}
	return nil
}

// apply does what is to be done.
func (p *plan) apply(ctx context.Context) error {
	all := slices.Concat(p.publish, p.rest)
	for i := range all {
		if err := all[i].do(ctx); err != nil {
			fmt.Fprintf(p.c.Err, "%s of %s were done and stay. Apply can be run again.\n", strconv.Itoa(i), count(len(all), "change"))
			return fmt.Errorf("%s %s %s: %w", all[i].Verb, all[i].What, all[i].Name, advise(err))
		}
	}
	return nil
}
