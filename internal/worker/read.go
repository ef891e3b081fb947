package worker

import "github.com/bulkheadhq/bulkhead/internal/wire"

// read answers a read.
func (s *server) read(f wire.Frame) error {
	m := &wire.Read{}
	if err := f.Parse(m); err != nil {
		return err
	}
	s.write(&wire.ReadPage{View: m.View, Error: wire.ReadUnavailable})
	return nil
}
