package vault

import (
	"context"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Call serves an operation of package lease for a live server. from is the sender as
// the bus established it. Errors are [ErrRefused], [ErrBusy] or [ErrUnavailable].
func (v *Vault) Call(ctx context.Context, from id.Node, op string, body []byte) ([]byte, error) {
	i, ok := v.Live(from)
	if !off(sendersChecked) && (!ok || i.Role != wire.RoleServer) {
		return nil, v.refuse(ctx, "call", from, fmt.Errorf("%w: the sender is not a live server", ErrRefused))
	}
	if err := v.allowCall(from, op); err != nil {
		return nil, v.refuse(ctx, "call", from, err)
	}
	answer, err := v.serve(ctx, i, op, body)
	if err != nil {
		return nil, v.refuse(ctx, known(op), from, err)
	}
	if answer == nil {
		return nil, nil
	}
	return wire.AppendBody(nil, answer), nil
}

// known keeps what a sender wrote out of the log unless it is an operation's name.
func known(op string) string {
	switch op {
	case lease.OpCustomer, lease.OpCustomerDelete, lease.OpPayloadKey, lease.OpInstance, lease.OpInstanceDelete, lease.OpConnection, lease.OpConnectionDelete, lease.OpBlindKey, lease.OpPeers, lease.OpMac, lease.OpVersions,
		lease.OpOAuthStart, lease.OpAccount, lease.OpTokenBegin, lease.OpTokenRaw, lease.OpTokenSave:
		return op
	}
	return "unknown operation"
}

func (v *Vault) serve(ctx context.Context, from *lease.Identity, op string, body []byte) (wire.Message, error) {
	switch op {
	case lease.OpCustomer:
		m := &lease.CustomerCall{}
		return nil, do(body, m, func() error { return v.makeCustomer(ctx, from.Node, m.Customer) })
	case lease.OpCustomerDelete:
		m := &lease.CustomerCall{}
		return nil, do(body, m, func() error { return v.destroyCustomer(ctx, from.Node, m.Customer) })
	case lease.OpPayloadKey:
		m, a := &lease.PayloadKeyCall{}, &lease.PayloadKeyAnswer{}
		return a, do(body, m, func() (err error) {
			a.Key, err = v.payloadKey(ctx, from.Node, m.Customer, m.Day)
			return err
		})
	case lease.OpInstance:
		m, a := &lease.InstanceCall{}, &lease.InstanceAnswer{}
		return a, do(body, m, func() (err error) {
			a.Version, a.Config, err = v.saveInstance(ctx, from.Node, m)
			return err
		})
	case lease.OpInstanceDelete:
		m := &lease.InstanceCall{}
		return nil, do(body, m, func() error { return v.destroyInstance(ctx, from.Node, m) })
	case lease.OpConnection:
		m, a := &lease.ConnectionCall{}, &lease.ConnectionAnswer{}
		return a, do(body, m, func() (err error) {
			a.Version, err = v.saveConnection(ctx, from.Node, m)
			return err
		})
	case lease.OpConnectionDelete:
		m := &lease.ConnectionCall{}
		return nil, do(body, m, func() error { return v.destroyConnection(ctx, from.Node, m) })
	case lease.OpMac:
		m := &lease.MacCall{}
		if err := wire.ParseBody(body, m); err != nil {
			return nil, err
		}
		return v.mac(ctx, from.Node, m)
	case lease.OpOAuthStart:
		m := &lease.StartCall{}
		if err := wire.ParseBody(body, m); err != nil {
			return nil, err
		}
		return v.start(ctx, from.Node, m)
	case lease.OpAccount:
		m, a := &lease.AccountCall{}, &lease.SealedAnswer{}
		return a, do(body, m, func() (err error) {
			a.Sealed, err = v.accountLabel(ctx, from, m)
			return err
		})
	case lease.OpBlindKey:
		return v.blindKey(ctx, from, body)
	case lease.OpVersions:
		m, a := &lease.VersionsCall{}, &lease.VersionsAnswer{}
		return a, do(body, m, func() error { return v.versions(m, a) })
	case lease.OpPeers:
		if len(body) != 0 {
			return nil, fmt.Errorf("%w: a body where none belongs", ErrRefused)
		}
		return &lease.PeersAnswer{Peers: v.Peers()}, nil
	}
	return nil, fmt.Errorf("%w: unknown operation", ErrRefused)
}

// do parses the body of an operation and runs it.
func do(body []byte, m wire.Message, run func() error) error {
	if err := wire.ParseBody(body, m); err != nil {
		return err
	}
	return run()
}

// blindKey gives a server the key of its blind index, which opens nothing.
func (v *Vault) blindKey(ctx context.Context, from *lease.Identity, body []byte) (wire.Message, error) {
	if len(body) != 0 {
		return nil, fmt.Errorf("%w: a body where none belongs", ErrRefused)
	}
	v.mu.RLock()
	sealed, err := seal.Seal(from.Seal, lease.PurposeServer, lease.BlindKeyPlace(from.Node), v.blind)
	v.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	if err := v.store.Write(ctx, func(tx *keystore.Tx) error {
		return tx.Append(v.leaf(leafBlindKey, id.Customer{}, from.Node, nil))
	}); err != nil {
		return nil, err
	}
	return &lease.SealedAnswer{Sealed: sealed}, nil
}
