package role

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// codeStart is the code of the error that ends a role.
const codeStart = "start"

// control is one end of the socket between the supervisor and a role. Sending is safe
// for concurrent use; one goroutine reads at a time.
type control struct {
	conn io.ReadWriteCloser
	in   *wire.Reader

	mu sync.Mutex // held while a frame is written
}

func newControl(conn io.ReadWriteCloser) *control {
	return &control{conn: conn, in: wire.NewReader(conn)}
}

// openControl takes the inherited descriptor of this process.
func openControl(fd uintptr) (*control, error) {
	f := os.NewFile(fd, "control")
	if f == nil {
		return nil, errAlone
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeSocket == 0 {
		return nil, errAlone
	}
	return newControl(f), nil
}

func (c *control) send(m wire.Typed) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var frame []byte
	if secret, ok := m.(*wire.Certificate); ok { // its key stays nowhere
		frame = make([]byte, 0, len(secret.Chain)+len(secret.Key)+64)
		defer func() { clear(secret.Key); clear(frame) }()
	}
	frame = wire.AppendFrame(frame, m)
	if _, err := c.conn.Write(frame); err != nil {
		return fmt.Errorf("send %v: %w", m.FrameType(), err)
	}
	return nil
}

// startError is a role's own account of why it did not start.
type startError struct{ text string }

func (e *startError) Error() string { return e.text }

// receive reads the next frame, which must be of m's type. An Error frame is
// returned as the error it carries.
func (c *control) receive(m wire.Typed) error {
	f, err := c.in.Read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("wait for %v: the process ended", m.FrameType())
		}
		return fmt.Errorf("wait for %v: %w", m.FrameType(), err)
	}
	if f.Type == wire.TypeError {
		var e wire.Error
		if err := f.Parse(&e); err != nil {
			return fmt.Errorf("wait for %v: %w", m.FrameType(), err)
		}
		return &startError{e.Message}
	}
	if err := f.Parse(m); err != nil {
		return fmt.Errorf("wait for %v: %w", m.FrameType(), err)
	}
	return nil
}

// settings are a role's flags as they come in a Start frame.
type settings map[string]string

func readSettings(pairs []wire.Pair) settings {
	s := settings{}
	for _, p := range pairs {
		s[p.Name] = p.Value
	}
	return s
}
