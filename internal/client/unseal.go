package client

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Unseal gives the supervisor behind a socket the secret from which the root key is made,
// and returns when the vault is open or has refused it. The secret stays the caller's.
func Unseal(ctx context.Context, socket string, given []byte) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("reach the supervisor: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	frame := wire.AppendFrame(nil, &wire.Unseal{Secret: given})
	defer clear(frame)
	if _, err := conn.Write(frame); err != nil {
		return fmt.Errorf("unseal: %w", err)
	}
	f, err := wire.NewReader(conn).Read()
	if err != nil {
		return fmt.Errorf("unseal: %w", err)
	}
	if f.Type == wire.TypeError {
		var m wire.Error
		if err := f.Parse(&m); err != nil {
			return fmt.Errorf("unseal: %w", err)
		}
		return fmt.Errorf("unseal: %w", errors.New(m.Message))
	}
	return f.Parse(&wire.Ready{})
}
