package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

type instancesConnect struct {
	instanceRef
	Slots map[string]string `arg:"" name:"slot=connection" mapsep:"none" help:"Slot of the integration, and the connection for it: the name of one of the customer's, or an id."`
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

// connectionFor finds a connection for a slot: one of the customer's by its name, or one by its id, which the organization may
// share with the customer. What does not exist is an error that says how it is made.
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
	row, err := x.Customer(ctx, customer) // as people call it
	if err != nil {
		return n, err
	}
	how := fmt.Sprintf("bulkhead connections put %s %s --url …", row.ExternalID, name)
	if connector, _ := flow.SplitConnector(slot.Connector); !flow.BuiltInConnector(connector) {
		how = fmt.Sprintf("bulkhead connect-link %s %s --name %s", row.ExternalID, connector, name)
	}
	return n, usage("%s has no connection %s for the slot %s: %s", row.ExternalID, name, slot.Name, how)
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
