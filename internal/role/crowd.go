package role

import (
	"net"
	"sync"
	"sync/atomic"
)

// maxConnections is how many connections the outside may have open at a time. More are
// closed at once: without a bound, whoever can reach the address fills the memory of the
// process that schedules and journals, with connections that need no token.
const maxConnections = 16 << 10

// crowded is a listener with a bound on its open connections.
type crowded struct {
	net.Listener
	most int64
	open *atomic.Int64
}

func crowd(l net.Listener, most int64) net.Listener { return crowded{l, most, &atomic.Int64{}} }

// Accept implements net.Listener.
func (c crowded) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c.open.Add(1) <= c.most {
			return &counted{Conn: conn, leave: sync.OnceFunc(func() { c.open.Add(-1) })}, nil
		}
		c.open.Add(-1)
		_ = conn.Close() // nobody was told anything on it
	}
}

// counted is a connection that counts until it is closed.
type counted struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
