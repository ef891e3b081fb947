package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
)

type instancesHooks struct {
	List   hooksList   `cmd:"" default:"withargs" help:"Show the addresses of the webhooks of an instance. They are secrets."`
	Rotate hooksRotate `cmd:"" help:"Give a webhook a new address."`
}

type hooksList struct{ instanceRef }

// Run implements the command.
func (m *hooksList) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		i, err := x.Instance(ctx, m.Instance)
		if err != nil {
			return err
		}
		t := &table{head: []string{"FLOW", "ADDRESS"}}
		return listing(&m.remote, c, 0, "webhooks", func(string) (*api.Page[api.Hook], error) {
			return &api.Page[api.Hook]{Items: i.Hooks}, nil
		}, t, func(k *api.Hook) []string { return []string{k.Flow, k.URL} })
	})
}

type hooksRotate struct {
	instanceRef
	Flow    string        `arg:"" help:"Name of the flow."`
	Overlap time.Duration `default:"24h" help:"How long the old address works on; 0: it ends at once."`
}

// Run implements the command.
func (m *hooksRotate) Run(c *console) error {
	if m.Overlap < 0 {
		return usage("--overlap %v: want a time that is not negative", m.Overlap)
	}
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		h, err := x.RotateHook(ctx, m.Instance, m.Flow, m.Overlap)
		if err != nil {
			return err
		}
		return m.show(c, h, func() {
			fmt.Fprintf(c.Out, "%s\n", h.URL)
			if m.Overlap > 0 {
				fmt.Fprintf(c.Err, "The old address works for another %v.\n", m.Overlap)
			}
		})
	})
}
