package role

import (
	"context"
	"net"
	"strconv"

	"github.com/bulkheadhq/bulkhead/internal/bus"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// runBus carries frames of known roles. It keeps its listening port and no file.
func runBus(ctx context.Context, p *process) error {
	if err := p.begin(); err != nil {
		return err
	}
	s, err := bus.NewServer(bus.ServerConfig{Operator: p.start.Operator, Account: p.start.Account, Listen: p.start.Bus, Log: p.log})
	if err != nil {
		return err
	}
	defer s.Shutdown(ctx)
	profile := jail.Role(jail.RoleConfig{Name: "bus"})
	if err := p.ready(profile, &wire.Ready{Address: s.Addr(), Pin: s.Pin()}); err != nil {
		return err
	}
	return p.until(ctx, func(ctx context.Context) error { <-ctx.Done(); return nil })
}

// port is the port of an address, for what a role may connect to.
func port(address string) (uint16, error) {
	_, s, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}
