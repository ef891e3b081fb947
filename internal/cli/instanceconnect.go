package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

type instancesConnect struct {
	instanceRef
	Slots map[string]string `arg:"" name:"slot=connection" mapsep:"none" help:"Slot of the integration, and the connection for it: the name of one of the customer's, internal/NAME of a shared one, or an id."`
}

// Run implements the command. Slots that are not named keep their connections.
func (m *instancesConnect) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		i, err := x.Instance(ctx, m.Instance)
		if err != nil {
			return err
		}
		v, _, err := published(ctx, x, i.Integration.String(), i.Version)
		if err != nil {
			return err
		}
		slots := maps.Clone(i.Slots)
		for _, name := range slices.Sorted(maps.Keys(m.Slots)) {
			slot := v.Slot(name)
			if slot == nil {
				return usage("%s: the integration has no such slot; it has %s", name, slotNames(v))
			}
			if slots[name], err = connectionFor(ctx, x, i.Customer.String(), slot, m.Slots[name]); err != nil {
				return err
			}
		}
		got, err := x.ChangeInstance(ctx, m.Instance, i.Revision, api.InstanceChange{Slots: slots})
		if err != nil {
			return err
		}
		return m.show(c, got, func() { showInstance(c, got, customerNames(ctx, x)(got.Customer)) })
	})
}

// connectionFor finds a connection for a slot: one of the customer's by its name, one that is shared with the customer by its
// owner's name and its own, such as internal/mail, or any by its id. What does not exist is an error that says how it is made.
func connectionFor(ctx context.Context, x *client.Client, customer string, slot *flow.Slot, name string) (id.Connection, error) {
	var n id.Connection
	if n.UnmarshalText([]byte(name)) == nil && !n.IsZero() {
		return n, nil
	}
	k, err := connectionNamed(ctx, x, customer, name)
	switch {
	case err != nil:
		return n, err
	case k != nil:
		return k.ID, nil
	}
	if owner, of, ok := strings.Cut(name, "/"); ok {
		switch k, err = connectionNamed(ctx, x, owner, of); {
		case err != nil:
			return n, err
		case k != nil:
			return k.ID, nil
		}
		return n, usage("%s has no connection %s for the slot %s: bulkhead connections --customer %s lists them", owner, of, slot.Name, owner)
	}
	row, err := x.Customer(ctx, customer) // as people call it
	if err != nil {
		return n, err
	}
	connector, _ := flow.SplitConnector(slot.Connector)
	shared, err := sharedFor(ctx, x, row.ID, connector, name)
	if err != nil {
		return n, err
	}
	if shared != "" {
		return n, usage("%s has no connection %s for the slot %s. internal/%s is shared with it: %s=internal/%s uses that one",
			row.ExternalID, name, slot.Name, shared, slot.Name, shared)
	}
	how := fmt.Sprintf("bulkhead connections put %s %s --url …", row.ExternalID, name)
	if !flow.BuiltInConnector(connector) {
		how = fmt.Sprintf("bulkhead connect-link %s %s --name %s", row.ExternalID, connector, name)
	}
	return n, usage("%s has no connection %s for the slot %s: %s", row.ExternalID, name, slot.Name, how)
}

// sharedFor is the name of a connection of the organization to a connector that is shared with a customer, one of a name before
// others; empty: there is none.
func sharedFor(ctx context.Context, x *client.Client, customer id.Customer, connector, name string) (found string, err error) {
	for k, err := range client.All(func(cursor string) (*api.Page[api.Connection], error) {
		return x.Connections(ctx, connect.InternalCustomer, client.List{Cursor: cursor})
	}) {
		switch {
		case err != nil:
			return "", err
		case k.Connector != connector || k.Shared == nil || !slices.ContainsFunc(k.Shared.Customers, func(with string) bool {
			return with == lease.SharedWithAll || with == customer.String()
		}):
		case k.Name == name:
			return name, nil
		case found == "":
			found = k.Name
		}
	}
	return found, nil
}

// there finds the instances of an integration that a customer has, without those that are being removed. There are none of an
// integration that is not published.
func there(ctx context.Context, x *client.Client, customer, integration string) ([]api.Instance, error) {
	var list []api.Instance
	switch _, err := x.Integration(ctx, integration); {
	case client.IsCode(err, api.CodeNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	for i, err := range client.All(func(cursor string) (*api.Page[api.Instance], error) {
		return x.Instances(ctx, client.InstanceQuery{Customer: customer, Integration: integration}, client.List{Cursor: cursor})
	}) {
		if err != nil {
			return nil, err
		}
		if i.State != "removing" {
			list = append(list, i)
		}
	}
	return list, nil
}
