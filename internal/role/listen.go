package role

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
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

// private is a Unix socket that only its user may open.
type private struct {
	*net.UnixListener
	path string
}

// Close implements [net.Listener].
func (p *private) Close() error {
	_ = os.Remove(p.path)
	return p.UnixListener.Close()
}

// listenPrivate opens a Unix socket that only this user may open, from its first moment on: it
// is made in a directory that nobody else may enter, whatever the umask, and moved to its
// place when it is protected. Only the owner of that place may be at it.
func listenPrivate(path string) (_ net.Listener, err error) {
	dir := filepath.Join(filepath.Dir(path), ".new")
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	made := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, path)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &private{l, path}, nil
}
