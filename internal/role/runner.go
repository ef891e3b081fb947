package role

import (
	"context"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/bus"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/runner"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// runRunner starts, feeds and kills workers and sandboxes. It keeps the bus and
// the means to start children, and no file.
func runRunner(ctx context.Context, p *process) error {
	worker, sandbox, err := childImages()
	if err != nil {
		return err
	}
	if err := p.begin(); err != nil {
		return err
	}
	memory, err := budget(p.set)
	if err != nil {
		return err
	}
	spawner, report, err := jail.NewSpawner(jail.SpawnerConfig{Worker: worker, Sandbox: sandbox, Full: p.set["require"] == "full"})
	if err != nil {
		return fmt.Errorf("prepare jails: %w", err)
	}
	defer spawner.Close()
	egress := map[string][]id.Node{}
	for _, i := range p.nodes(wire.RoleEgress) {
		egress[i.Pool] = append(egress[i.Pool], i.Node)
	}
	late := &lateBus{}
	r := runner.New(runner.Config{
		Node: p.start.Node, Sign: p.sign, Bus: late, Jail: spawner, Egress: egress, Memory: memory, Log: p.log,
	})
	conn, err := p.connect(ctx, wire.RoleRunner, r.Handle)
	if err != nil {
		return err
	}
	defer conn.Close()
	late.Conn = conn
	busPort, err := port(p.start.Bus)
	if err != nil {
		return fmt.Errorf("read address of bus: %w", err)
	}
	profile := jail.Role(jail.RoleConfig{Name: "runner", Connect: []uint16{busPort}, Spawner: spawner})
	if err := p.ready(profile, &wire.Ready{Layers: wireLayers("children: ", report)}); err != nil {
		return err
	}
	return p.until(ctx, r.Run)
}

// lateBus is a connection that is made after its user: nothing comes before it is
// subscribed, and it is set before anything is sent.
type lateBus struct{ *bus.Conn }
