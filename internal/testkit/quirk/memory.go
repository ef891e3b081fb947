package quirk

import (
	"context"
	"net"
	"sync"
)

// NewInMemory is [New] without a socket: the server is reached over pipes of this process. Goroutines that
// wait for a pipe are idle for testing/synctest, so that its clock goes on.
func NewInMemory(switches ...Switch) *Server {
	s := unstarted(switches)
	_ = s.srv.Listener.Close() // of the socket that was made for it
	p := &pipes{waiting: make(chan net.Conn), closed: make(chan struct{})}
	s.srv.Listener, s.dial = p, p.dial
	s.srv.StartTLS()
	return s
}

// pipes is a listener whose connections are pipes. Nobody closes waiting.
type pipes struct {
	waiting chan net.Conn
	once    sync.Once
	closed  chan struct{} // closed by Close
}

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.waiting:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements net.Listener.
func (p *pipes) Addr() net.Addr { return pipeAddress{} }

type pipeAddress struct{}

func (pipeAddress) Network() string { return "pipe" }
func (pipeAddress) String() string  { return "127.0.0.1:443" }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.waiting <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
