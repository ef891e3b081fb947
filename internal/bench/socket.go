package bench

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// socket is one non-blocking TCP connection of the load, with what has come in and was not
// used. It serves HTTP/1.1 with bodies of known length, which is all that either end uses.
type socket struct {
	fd int
	in []byte

	request int // client: number of the request that is under way; -1: none
}

// readSize is how much is read at once.
const readSize = 16 << 10

// maxMessage bounds a message of either side.
const maxMessage = 1 << 20

var errClosed = errors.New("the connection was closed")

// fill reads what has come, once.
func (s *socket) fill() error {
	if cap(s.in)-len(s.in) < readSize {
		s.in = append(make([]byte, 0, 2*cap(s.in)+readSize), s.in...)
	}
	n, err := unix.Read(s.fd, s.in[len(s.in):cap(s.in)])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n == 0:
		return errClosed
	}
	s.in = s.in[:len(s.in)+n]
	if len(s.in) > maxMessage {
		return errors.New("a message is too large")
	}
	return nil
}

// write sends a small message, which the buffer of a connection that waits for its answer
// always has room for.
func (s *socket) write(b []byte) error {
	n, err := unix.Write(s.fd, b)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Write(s.fd, b)
	}
	if err == nil && n != len(b) {
		err = errors.New("it was cut short")
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// message takes one whole message from what has come: its first line and its body. They are
// valid until the next call of fill. ok is false when more must come.
func (s *socket) message() (line, body []byte, ok bool, err error) {
	end := bytes.Index(s.in, []byte("\r\n\r\n"))
	if end < 0 {
		return nil, nil, false, nil
	}
	head := s.in[:end+2]
	first := bytes.IndexByte(head, '\r')
	length, err := contentLength(head[first:])
	if err != nil {
		return nil, nil, false, fmt.Errorf("%w in %q", err, head)
	}
	if len(s.in) < end+4+length {
		return nil, nil, false, nil
	}
	line, body = head[:first], s.in[end+4:end+4+length]
	s.in = s.in[end+4+length:]
	return line, body, true, nil
}

// reuse lets the buffer begin at its start again.
func (s *socket) reuse(base []byte) {
	if len(s.in) == 0 {
		s.in = base[:0]
	}
}

var errLength = errors.New("no known length")

// contentLength is what a head says of its body. Heads are searched, not parsed: their
// writers are this platform and this load.
func contentLength(head []byte) (int, error) {
	at := bytes.Index(head, []byte("\r\nContent-Length: "))
	if at < 0 {
		if bytes.Contains(head, []byte("\r\nTransfer-Encoding:")) {
			return 0, errLength
		}
		return 0, nil
	}
	head = head[at+len("\r\nContent-Length: "):]
	end := bytes.IndexByte(head, '\r')
	if end < 0 {
		return 0, errLength
	}
	n, err := strconv.Atoi(string(head[:end]))
	if err != nil || n < 0 || n > maxMessage {
		return 0, errLength
	}
	return n, nil
}

func closeSocket(fd int) { _ = unix.Close(fd) }

// listen opens a port of this machine.
func listen() (fd int, address string, err error) {
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, "", fmt.Errorf("open upstream: %w", err)
	}
	at := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(unix.Bind(fd, at), unix.Listen(fd, 4096)); err != nil {
		closeSocket(fd)
		return -1, "", fmt.Errorf("open upstream: %w", err)
	}
	bound, err := unix.Getsockname(fd)
	in4, ok := bound.(*unix.SockaddrInet4)
	if err != nil || !ok {
		closeSocket(fd)
		return -1, "", fmt.Errorf("open upstream: %w", err)
	}
	return fd, fmt.Sprintf("127.0.0.1:%d", in4.Port), nil
}

// connect opens a connection to a port of this machine and makes it non-blocking.
func connect(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("connect: %w", err)
	}
	err = errors.Join(
		unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetNonblock(fd, true),
	)
	if err != nil {
		closeSocket(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}
