package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

type instancesCommand struct {
	List     instancesList     `cmd:"" default:"withargs" help:"List instances."`
	Show     instancesShow     `cmd:"" help:"Show an instance with the addresses of its webhooks and its next runs."`
	Choices  instancesChoices  `cmd:"" help:"List what a config variable may be set to, as the connected service knows."`
	Connect  instancesConnect  `cmd:"" help:"Give slots of an instance other connections; the instance keeps its id, its state and the addresses of its webhooks."`
	Pause    instancesPause    `cmd:"" help:"Accept events, but run nothing."`
	Resume   instancesResume   `cmd:"" help:"Run again."`
	Upgrade  instancesUpgrade  `cmd:"" help:"Move to another version; what runs ends on the version it began on."`
	Rollback instancesRollback `cmd:"" help:"Return to the version before."`
	Remove   instancesRemove   `cmd:"" help:"Run the remove flow, then delete the instance with its keys."`
	Hooks    instancesHooks    `cmd:"" help:"Show the addresses of its webhooks, and give them new ones."`
	Refused  instancesRefused  `cmd:"" help:"List deliveries that its webhooks refused, with the reason."`
}

type instancesList struct {
	remote
	Customer    string `placeholder:"CUSTOMER" help:"Id or external id."`
	Integration string `placeholder:"NAME" help:"Name or id."`
	Status      string `placeholder:"STATUS" help:"Such as enabled, paused or failing."`
	Limit       int    `default:"100" help:"Show at most so many; 0: all."`
}

// Run implements the command.
func (m *instancesList) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		names := customerNames(ctx, x)
		t := &table{head: []string{"CUSTOMER", "INTEGRATION", "VERSION", "STATE", "CHANGED", "ID"}}
		t.tint = tint(t, 3)
		q := client.InstanceQuery{Customer: m.Customer, Integration: m.Integration, State: m.Status}
		return listing(&m.remote, c, m.Limit, "instances", func(cursor string) (*api.Page[api.Instance], error) {
			return x.Instances(ctx, q, client.List{Cursor: cursor})
		}, t, func(k *api.Instance) []string {
			return []string{names(k.Customer), k.Name, number(k.Version), k.State, ago(k.Changed), k.ID.String()}
		})
	})
}

// tint colours one column by what it says.
func tint(t *table, column int) func(int, int) string {
	return func(row, at int) string {
		if at != column {
			return ""
		}
		return statusColour(t.rows[row][at])
	}
}

// instanceRef names an instance.
type instanceRef struct {
	remote
	Ref      string      `arg:"" name:"instance" help:"Id, or CUSTOMER/INTEGRATION."`
	Instance id.Instance `kong:"-"`
}

// with is that of remote, with the id of the instance.
func (m *instanceRef) with(c *console, f func(context.Context, *client.Client) error) error {
	return m.remote.with(c, func(ctx context.Context, x *client.Client) (err error) {
		if m.Instance, err = findInstance(ctx, x, m.Ref); err != nil {
			return err
		}
		return f(ctx, x)
	})
}

// findInstance reads an id of an instance, or asks the platform which one
// CUSTOMER/INTEGRATION is.
func findInstance(ctx context.Context, x *client.Client, ref string) (i id.Instance, err error) {
	if !strings.Contains(ref, "/") {
		if err := i.UnmarshalText([]byte(ref)); err != nil {
			return i, usage("%s: want the id of an instance, or CUSTOMER/INTEGRATION: %w", ref, err)
		}
		return i, nil
	}
	found, err := x.InstanceNamed(ctx, ref)
	if err != nil {
		return i, err
	}
	return found.ID, nil
}

type instancesShow struct{ instanceRef }

// Run implements the command.
func (m *instancesShow) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		i, err := x.Instance(ctx, m.Instance)
		if err != nil {
			return err
		}
		return m.show(c, i, func() { showInstance(c, i, customerNames(ctx, x)(i.Customer)) })
	})
}

func showInstance(c *console, i *api.Instance, customer string) {
	p := paint(terminal(c.Out))
	line := func(name, format string, args ...any) {
		fmt.Fprintf(c.Out, "%s %s\n", p.in(grey, fmt.Sprintf("%-12s", name)), fmt.Sprintf(format, args...))
	}
	line("instance", "%s", i.ID)
	line("customer", "%s", oneLine(customer))
	line("integration", "%s version %d", i.Name, i.Version)
	line("state", "%s", p.in(statusColour(i.State), i.State))
	line("changed", "%s", ago(i.Changed))
	for _, slot := range slices.Sorted(maps.Keys(i.Slots)) {
		line("connection", "%s: %s", slot, i.Slots[slot])
	}
	for _, h := range i.Hooks {
		line("webhook", "%s: %s", h.Flow, h.URL)
	}
	for _, s := range i.Schedules {
		plan := s.Cron
		if plan == "" {
			plan = fmt.Sprintf("every %gs", s.EverySeconds)
		} else if s.Timezone != "" {
			plan += " in " + s.Timezone
		}
		line(s.Kind, "%s: %s, next %s", s.Flow, plan, ago(s.Next))
	}
}

// change runs one change of an instance and shows what it is then.
func (m *instanceRef) change(c *console, f func(context.Context, *client.Client) (*api.Instance, error)) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		i, err := f(ctx, x)
		if err != nil {
			return err
		}
		return m.show(c, i, func() { fmt.Fprintf(c.Out, "%s is %s, on version %d of %s\n", i.ID, i.State, i.Version, i.Name) })
	})
}

type instancesPause struct{ instanceRef }

// Run implements the command.
func (m *instancesPause) Run(c *console) error {
	return m.change(c, func(ctx context.Context, x *client.Client) (*api.Instance, error) { return x.Pause(ctx, m.Instance) })
}

type instancesResume struct{ instanceRef }

// Run implements the command.
func (m *instancesResume) Run(c *console) error {
	return m.change(c, func(ctx context.Context, x *client.Client) (*api.Instance, error) { return x.Resume(ctx, m.Instance) })
}

type instancesUpgrade struct {
	instanceRef
	Version uint32 `placeholder:"NUMBER" help:"Default: the newest."`
}

// Run implements the command.
func (m *instancesUpgrade) Run(c *console) error {
	return m.change(c, func(ctx context.Context, x *client.Client) (*api.Instance, error) {
		i, err := x.Instance(ctx, m.Instance)
		if err != nil {
			return nil, err
		}
		return x.Upgrade(ctx, m.Instance, i.Revision, api.UpgradeRequest{Version: m.Version})
	})
}

type instancesRollback struct{ instanceRef }

// Run implements the command.
func (m *instancesRollback) Run(c *console) error {
	return m.change(c, func(ctx context.Context, x *client.Client) (*api.Instance, error) {
		i, err := x.Instance(ctx, m.Instance)
		if err != nil {
			return nil, err
		}
		return x.RollBack(ctx, m.Instance, i.Revision)
	})
}

type instancesRemove struct {
	instanceRef
	Yes bool `short:"y" help:"Do not ask."`
}

// Run implements the command.
func (m *instancesRemove) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		i, err := x.Instance(ctx, m.Instance)
		if err != nil {
			return err
		}
		if err := c.confirm(m.Yes, fmt.Sprintf("Remove %s of %s, with its state and keys?", i.Name, customerNames(ctx, x)(i.Customer))); err != nil {
			return err
		}
		if err := x.Remove(ctx, m.Instance); err != nil {
			return err
		}
		return m.show(c, map[string]any{"removing": m.Instance}, func() { fmt.Fprintf(c.Out, "%s is being removed\n", m.Instance) })
	})
}

type instancesRefused struct{ instanceRef }

// Run implements the command.
func (m *instancesRefused) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		t := &table{head: []string{"WHEN", "FLOW", "REASON", "BYTES", "REPEATS"}}
		return listing(&m.remote, c, 0, "refused deliveries", func(string) (*api.Page[api.Rejection], error) {
			return x.Rejections(ctx, m.Instance)
		}, t, func(k *api.Rejection) []string {
			return []string{ago(k.At), k.Flow, k.Reason, fmt.Sprint(k.Size), fmt.Sprint(k.Repeats)}
		})
	})
}

type deployCommand struct {
	remote
	Integration string            `arg:"" help:"Name of a published integration, or a file that is published first."`
	Customer    string            `required:"" placeholder:"CUSTOMER" help:"Id or external id."`
	Version     uint32            `placeholder:"NUMBER" help:"Default: the newest."`
	Config      map[string]string `mapsep:"none" placeholder:"NAME=VALUE" help:"A config value; of a secret one env:NAME."`
	Connection  map[string]string `mapsep:"none" placeholder:"SLOT=NAME" help:"The customer's connection for a slot, internal/NAME of one that is shared with it, or an id; default: the one named like the slot."`
	Upgrade     bool              `xor:"there" help:"When the customer has an instance: move it to the version. It keeps its connections and config but for what --connection and --config say; --config gives all values."`
	Another     bool              `xor:"there" help:"When the customer has an instance: make one more, with webhook addresses, config and state of its own."`
}

// Run implements the command.
func (m *deployCommand) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		name, file := m.Integration, ""
		if strings.ContainsAny(name, "./") {
			doc, err := loadFor(ctx, c, name, x)
			if err != nil {
				return err
			}
			name, file = doc.Integration.Name, name
		}
		old, err := m.old(ctx, x, name)
		if err != nil {
			return err
		}
		if file != "" {
			v, err := publishText(ctx, x, file)
			if err != nil {
				return err
			}
			m.Version = v.Version
		}
		i, version, err := published(ctx, x, name, m.Version)
		if err != nil {
			return err
		}
		slots, err := m.slots(ctx, x, i, old)
		if err != nil {
			return err
		}
		var config []byte
		if old == nil || len(m.Config) > 0 {
			if config, err = configJSON(i, m.Config); err != nil {
				return err
			}
		}
		var got *api.Instance
		if old == nil {
			got, err = x.Deploy(ctx, api.DeployRequest{Customer: m.Customer, Integration: name, Version: version, Config: config, Slots: slots})
		} else {
			got, err = x.Upgrade(ctx, old.ID, old.Revision, api.UpgradeRequest{Version: version, InstanceChange: api.InstanceChange{Config: config, Slots: slots}})
		}
		if err != nil {
			return err
		}
		if got, err = x.Instance(ctx, got.ID); err != nil { // with the addresses of its webhooks
			return err
		}
		return m.show(c, got, func() { showInstance(c, got, m.Customer) })
	})
}

// old is the instance that is moved to the version; nil when one is made. A customer who has an instance gets another only when
// that is said: each has webhook addresses of its own, and both would do the work of one.
func (m *deployCommand) old(ctx context.Context, x *client.Client, name string) (*api.Instance, error) {
	list, err := there(ctx, x, m.Customer, name)
	switch {
	case err != nil:
		return nil, err
	case m.Another || len(list) == 0:
		return nil, nil //nolint:nilnil // one is made
	case m.Upgrade && len(list) == 1:
		return &list[0], nil
	case m.Upgrade:
		return nil, usage("%s has %s of %s: name one with bulkhead instances upgrade INSTANCE", m.Customer, count(len(list), "instance"), name)
	}
	return nil, usage("%s has %s of %s already, %s on version %d:\n          --upgrade moves it to this version, --another makes one more, and\n          bulkhead instances connect gives it another connection",
		m.Customer, count(len(list), "instance"), name, list[0].ID, list[0].Version)
}

// publishText publishes a file that has been checked.
func publishText(ctx context.Context, x *client.Client, file string) (*api.Version, error) {
	text, err := readFile(file, flow.MaxFileBytes)
	if err != nil {
		return nil, err
	}
	return x.Publish(ctx, api.PublishRequest{Source: string(text)})
}

// published is a version of an integration, the newest for 0.
func published(ctx context.Context, x *client.Client, name string, version uint32) (*flow.Integration, uint32, error) {
	if version == 0 {
		i, err := x.Integration(ctx, name)
		if err != nil {
			return nil, 0, err
		}
		if version = i.Version; version == 0 {
			return nil, 0, usage("%s has no published version: bulkhead integrations publish makes one", name)
		}
	}
	v, err := x.Version(ctx, name, version)
	if err != nil {
		return nil, 0, err
	}
	i, err := flow.Decode(v.Definition)
	if err != nil {
		return nil, 0, fmt.Errorf("read version %d of %s: %w", version, name, err)
	}
	return i, version, nil
}

// slots finds the connections for the slots of an integration. An instance that is there keeps those that are not named.
func (m *deployCommand) slots(ctx context.Context, x *client.Client, i *flow.Integration, old *api.Instance) (map[string]id.Connection, error) {
	for slot := range m.Connection {
		if i.Slot(slot) == nil {
			return nil, usage("--connection %s: the integration has no such slot; it has %s", slot, slotNames(i))
		}
	}
	out := map[string]id.Connection{}
	for n := range i.Connections {
		slot := &i.Connections[n]
		name, given := m.Connection[slot.Name]
		if old != nil && !given {
			if k, ok := old.Slots[slot.Name]; ok {
				out[slot.Name] = k
				continue
			}
		}
		if !given {
			name = slot.Name
		}
		k, err := connectionFor(ctx, x, m.Customer, slot, name)
		if err != nil {
			return nil, err
		}
		out[slot.Name] = k
	}
	return out, nil
}

type triggerCommand struct {
	instanceRef
	Flow    string `placeholder:"NAME" help:"Flow to start; not needed when there is one."`
	Input   string `short:"i" help:"File with the trigger's body as JSON; - is standard input."`
	Detach  bool   `short:"d" help:"Do not wait for the end: print the execution's id."`
	Test    bool   `help:"Mark the execution as a test."`
	Explain bool   `help:"Show what every step got."`
}

// Run implements the command.
func (m *triggerCommand) Run(c *console) error {
	var body []byte
	if m.Input != "" {
		var err error
		if body, err = readInput(c, m.Input); err != nil {
			return err
		}
	}
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		i, err := x.Instance(ctx, m.Instance)
		if err != nil {
			return err
		}
		v, _, err := published(ctx, x, i.Name, i.Version)
		if err != nil {
			return err
		}
		f, err := pickFlow(v, m.Flow)
		if err != nil {
			return err
		}
		request := api.ExecutionRequest{Flow: f.Name, Test: m.Test, Event: triggerEvent(f, body)}
		state := store.InstanceState(i.State)
		if state == store.InstancePaused {
			return m.later(ctx, c, x, request)
		}
		if m.Detach {
			s, err := x.Trigger(ctx, m.Instance, request)
			if err != nil {
				return m.refused(state, err)
			}
			return m.show(c, s, func() { fmt.Fprintln(c.Out, s.Execution) })
		}
		s, err := x.Start(ctx, m.Instance, request)
		if err != nil {
			return m.refused(state, err)
		}
		defer s.Close()
		p := &progress{c: c, paint: paint(terminal(c.Err)), json: m.JSON, explain: m.Explain}
		return p.follow(ctx, platform{}, s, nil)
	})
}

// triggerEvent is what a flow that was started by hand sees as trigger; the platform adds
// the customer.
func triggerEvent(f *flow.Flow, body []byte) json.RawMessage {
	e := newEvent(f, body)
	e["source"] = "bulkhead trigger"
	delete(e, "customer")
	b, err := json.Marshal(e)
	if err != nil { // the body was checked, the rest is texts
		return nil
	}
	return b
}
