package role

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/bulkheadhq/bulkhead/internal/jail"
)

// publicFD is the descriptor on which the server finds the socket of the outside.
const publicFD = jail.ConnFD + 1

// listenPublic opens the address for the outside. The supervisor never accepts on it: it
// keeps it for the server that runs and the ones after it.
func listenPublic(address string) (file *os.File, at string, err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			err = fmt.Errorf("%w: another program uses it: stop that, or choose another address with --listen", err)
		case errors.Is(err, syscall.EACCES):
			err = fmt.Errorf("%w: ports below 1024 need root or CAP_NET_BIND_SERVICE: choose another with --listen", err)
		}
		return nil, "", fmt.Errorf("listen for webhooks: %w", err)
	}
	defer l.Close()
	if file, err = l.(*net.TCPListener).File(); err != nil {
		return nil, "", fmt.Errorf("listen for webhooks: %w", err)
	}
	return file, l.Addr().String(), nil
}

// inheritPublic is the supervisor's socket in the server.
func inheritPublic() (net.Listener, error) {
	f := os.NewFile(publicFD, "public")
	if f == nil {
		return nil, errAlone
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listen for webhooks: %w", err)
	}
	return l, nil
}
