package dial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
)

// TestLocalhost asserts that localhost is this machine without asking anybody, and
// is as forbidden as its address.
func TestLocalhost(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	asked := resolverFunc(func(context.Context, string, string) ([]netip.Addr, error) {
		t.Error("a name server was asked for localhost")
		return nil, errors.New("asked")
	})
	allowed := New(Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Resolver: asked})
	for _, host := range []string{"localhost", "shop.localhost"} {
		c, err := allowed.DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Errorf("%s with loopback allowed: %v", host, err)
			continue
		}
		_ = c.Close()
		var denied *Denied
		if c, err := New(Policy{Resolver: asked}).DialContext(t.Context(), "tcp", net.JoinHostPort(host, port)); !errors.As(err, &denied) {
			t.Errorf("%s by default: %v, %v, want a refusal", host, c, err)
		}
	}
}

type resolverFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

func (f resolverFunc) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return f(ctx, network, host)
}
