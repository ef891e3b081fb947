package role

import (
	"context"
	"errors"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/vault"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// vaultTasks bounds how many questions the vault works on at a time.
const vaultTasks = 16

// vaultQueue bounds how many wait.
const vaultQueue = 1024

// runVault answers leases and the server's operations. It keeps its keystore's
// directory and the bus.
func runVault(ctx context.Context, p *process) error {
	var m wire.VaultStart
	if err := p.control.receive(&m); err != nil {
		return err
	}
	root := secret.New(m.Root)
	clear(m.Root)
	v, err := vault.Open(ctx, vaultConfig(p, &m, root))
	if err != nil {
		return err
	}
	defer v.Close()
	operator, account := v.Bus()
	if err := p.control.send(&wire.VaultReady{Authority: v.Authority(), Operator: operator, Account: account}); err != nil {
		return err
	}
	started := make(chan struct{})
	p.told = func(f wire.Frame) error { return p.certify(ctx, v, f, started) }
	go p.watch()
	select {
	case <-started:
	case <-p.stopped:
		return nil
	}
	tasks := make(chan func(), vaultQueue)
	conn, err := p.connect(ctx, wire.RoleVault, vaultHandler(ctx, v, tasks), nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	busPort, err := port(p.start.Bus)
	if err != nil {
		return fmt.Errorf("read address of bus: %w", err)
	}
	profile := jail.Role(jail.RoleConfig{Name: "vault", Connect: []uint16{busPort}, ReadWrite: []string{m.Dir}})
	if err := p.ready(profile, &wire.Ready{}); err != nil {
		return err
	}
	for range vaultTasks {
		go func() {
			for t := range tasks {
				t()
			}
		}()
	}
	return p.until(ctx, v.Run)
}

func vaultConfig(p *process, m *wire.VaultStart, root secret.Value) vault.Config {
	cfg := vault.Config{Dir: m.Dir, Temporary: m.Temporary, Root: root, Key: p.seal, NewRun: true, IdentityLife: m.Life, LeaseRequests: m.Requests, LeaseBytes: m.Bytes, Log: p.log}
	for _, l := range m.Live {
		cfg.Live = append(cfg.Live, l.Node)
	}
	return cfg
}

// certify takes the supervisor's word about processes that it has started or that have
// ended, and the vault's own Start, which closes started.
func (p *process) certify(ctx context.Context, v *vault.Vault, f wire.Frame, started chan struct{}) error {
	switch f.Type {
	case wire.TypeStart:
		if err := f.Parse(&p.start); err != nil {
			return err
		}
		defer close(started)
		return p.started()
	case wire.TypeRetire:
		var m wire.Retire
		if err := f.Parse(&m); err != nil {
			return err
		}
		return v.Retire(ctx, m.Node)
	case wire.TypeEnroll:
		var m wire.Enroll
		if err := f.Parse(&m); err != nil {
			return err
		}
		answer, err := v.Enroll(ctx, &m)
		if err != nil {
			return p.control.send(&wire.Error{Code: "enroll", Message: err.Error()})
		}
		return p.control.send(answer)
	default:
		return wire.ErrMalformed
	}
}

// vaultHandler answers each question on its own goroutine. A queue that is full
// refuses instead of waiting, so that the bus is never held up.
func vaultHandler(ctx context.Context, v *vault.Vault, tasks chan<- func()) func(id.Node, wire.Topic, wire.Frame, func(wire.Typed)) {
	return func(from id.Node, topic wire.Topic, f wire.Frame, answer func(wire.Typed)) {
		if answer == nil {
			return
		}
		task := func() {
			a, err := askVault(ctx, v, from, topic, f)
			if err != nil {
				answer(vault.Answer(err))
				return
			}
			answer(a)
		}
		select {
		case tasks <- task:
		default:
			answer(&wire.Error{Code: "busy", Message: "the vault is busy"})
		}
	}
}

func askVault(ctx context.Context, v *vault.Vault, from id.Node, topic wire.Topic, f wire.Frame) (wire.Typed, error) {
	switch {
	case topic == wire.TopicLease && f.Type == wire.TypeLeaseRequest:
		var m wire.LeaseRequest
		if err := f.Parse(&m); err != nil {
			return nil, err
		}
		if m.Runner != from {
			return nil, errors.New("a lease request in another runner's name")
		}
		return v.Lease(ctx, &m)
	case topic == wire.TopicVault && f.Type == wire.TypeVaultCall:
		var m wire.VaultCall
		if err := f.Parse(&m); err != nil {
			return nil, err
		}
		return v.Serve(ctx, from, &m)
	case topic == wire.TopicToken && f.Type == wire.TypeVaultCall:
		var m wire.VaultCall
		if err := f.Parse(&m); err != nil {
			return nil, err
		}
		return v.ServeToken(ctx, from, &m)
	default:
		return nil, fmt.Errorf("%w: %v on topic %s", wire.ErrMalformed, f.Type, topic)
	}
}
