package wire

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Pause tells the other egress nodes that a provider wants no calls of a connection for a time. Who sends one wrongly can
// keep a connection from being used, which every egress node can do anyway.
type Pause struct {
	Connection id.Connection
	For        time.Duration
}

// Walk implements [Message].
func (m *Pause) Walk(c *Coder) {
	c.Fixed(m.Connection[:])
	c.Duration(&m.For)
}

// FrameType implements [Typed].
func (*Pause) FrameType() Type { return TypePause }
