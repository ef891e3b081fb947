package role

import (
	"context"
	"errors"
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
	late := &lateBus{}
	r := runner.New(runner.Config{Node: p.start.Node, Sign: p.sign, Bus: late, Jail: spawner, Memory: memory, Log: p.log})
	conn, err := p.connect(ctx, wire.RoleRunner, r.Handle, r.Lost)
	if err != nil {
		return err
	}
	defer conn.Close()
	late.Conn = conn
	p.onPeers(func(left []id.Node) {
		egress := map[string][]id.Node{}
		for _, i := range p.live(wire.RoleEgress) {
			egress[i.Pool] = append(egress[i.Pool], i.Node)
		}
		r.ServersGone(left)
		r.SetEgress(egress)
	})
	busPort, err := port(p.start.Bus)
	if err != nil {
		return fmt.Errorf("read address of bus: %w", err)
	}
	profile := jail.Role(jail.RoleConfig{Name: "runner", Connect: []uint16{busPort}, Spawner: spawner})
	if err := p.ready(profile, &wire.Ready{Layers: wireLayers("children: ", report)}); err != nil {
		return err
	}
	running, end := context.WithCancel(ctx)
	defer end()
	go func() {
		<-p.stopped
		p.mu.Lock()
		grace := p.grace
		p.mu.Unlock()
		late, stop := context.WithTimeout(ctx, grace)
		defer stop()
		r.Drain(late.Done())
		end()
	}()
	return r.Run(running)
}

// lateBus is a connection that is made after its user: nothing comes before it is
// subscribed, and it is set before anything is sent.
type lateBus struct{ *bus.Conn }

// Ask asks again when a question or its answer was lost: what runners ask may be asked twice.
func (l *lateBus) Ask(ctx context.Context, to wire.Role, topic wire.Topic, m, answer wire.Typed) error {
	for {
		err := l.Conn.Ask(ctx, to, topic, m, answer)
		if !errors.Is(err, bus.ErrLost) || ctx.Err() != nil {
			return err
		}
	}
}
