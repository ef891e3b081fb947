package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// connection fills one slot of a run: a base URL and a credential for it.
type connection struct {
	binding egress.Binding
	kind    lease.Kind
	fields  []lease.Field
}

// record is the connection as the vault keeps it.
func (c *connection) record(customer id.Customer) *lease.Record {
	return &lease.Record{
		Connection: id.NewConnection(now()), Customer: customer, Connector: flow.ConnectorHTTP, Kind: c.kind,
		Binding: lease.Binding{Scheme: c.binding.Scheme, Host: c.binding.Host, Port: uint32(c.binding.Port), BasePath: c.binding.BasePath},
		Fields:  c.fields,
	}
}

// readConnections reads --connection and --connection-secret for the slots of an
// integration. Secrets come from the environment, never from the command line, which
// every process of the machine can read.
func readConnections(i *flow.Integration, urls, secrets map[string]string) (map[string]connection, error) {
	out := map[string]connection{}
	for slot, url := range urls {
		if i.Slot(slot) == nil {
			return nil, usage("--connection %s: the integration has no such slot; it has %s", slot, slotNames(i))
		}
		b, err := egress.ParseBinding(url)
		if err != nil {
			if !strings.Contains(url, "://") {
				return nil, usage("--connection %s: %w; did you mean http://%s?", slot, err, url)
			}
			return nil, usage("--connection %s: %w", slot, err)
		}
		out[slot] = connection{binding: b, kind: lease.KindNone}
	}
	for slot, text := range secrets {
		c, ok := out[slot]
		if i.Slot(slot) == nil {
			return nil, usage("--connection-secret %s: the integration has no such slot; it has %s", slot, slotNames(i))
		}
		if !ok {
			return nil, usage("--connection-secret %s: give its address too, with --connection %s=URL", slot, slot)
		}
		if err := c.readSecret(text); err != nil {
			return nil, usage("--connection-secret %s: %w", slot, err)
		}
		out[slot] = c
	}
	for n := range i.Connections {
		if slot := i.Connections[n].Name; out[slot].kind == "" {
			return nil, usage("connection %s is missing: add --connection %s=URL", slot, slot)
		}
	}
	return out, nil
}

func slotNames(i *flow.Integration) string {
	var names []string
	for n := range i.Connections {
		names = append(names, i.Connections[n].Name)
	}
	if len(names) == 0 {
		return "none"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// readSecret reads TYPE:env:NAME, where TYPE is bearer, basic, header:NAME or
// query:NAME. The value of basic is user:password.
func (c *connection) readSecret(text string) error {
	const want = "want bearer:env:NAME, basic:env:NAME, header:X-Api-Key:env:NAME or query:key:env:NAME"
	kind, variable, ok := strings.Cut(text, ":env:")
	if !ok || variable == "" {
		return fmt.Errorf("%s", want)
	}
	value, ok := os.LookupEnv(variable)
	if !ok || value == "" {
		return fmt.Errorf("the environment variable %s is not set", variable)
	}
	kind, name, named := strings.Cut(kind, ":")
	c.kind = lease.Kind(kind)
	switch {
	case kind == "bearer" && !named:
		c.fields = []lease.Field{{Name: "token", Secret: []byte(value)}}
	case kind == "basic" && !named:
		user, password, ok := strings.Cut(value, ":")
		if !ok {
			return fmt.Errorf("the variable %s must hold user:password", variable)
		}
		c.fields = []lease.Field{{Name: "username", Secret: []byte(user)}, {Name: "password", Secret: []byte(password)}}
	case (kind == "header" || kind == "query") && name != "":
		c.fields = []lease.Field{{Name: "name", Secret: []byte(name)}, {Name: "value", Secret: []byte(value)}}
	default:
		return fmt.Errorf("%s", want)
	}
	return nil
}
