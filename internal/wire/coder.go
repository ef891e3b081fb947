package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Limits of every decoded message. A message over a limit is refused whole.
const (
	// MaxFrame is the largest frame in bytes, its header included. What is larger
	// travels through the blob store.
	MaxFrame = 4 << 20
	// MaxList is the most elements of any list in a message.
	MaxList = 1 << 16
)

// ErrMalformed is wrapped by every decoding error.
var ErrMalformed = errors.New("malformed frame")

// Coder walks the fields of a message in order, in one of two directions:
// appending them to a buffer or reading them from one. A message describes its
// layout once, in its Walk method, so that the two directions cannot disagree.
//
// Byte slices that are read point into the input: who keeps a message keeps its
// input. After the first error every further step does nothing.
type Coder struct {
	buf     []byte
	at      int
	reading bool
	err     error
}

// Message is a value with a layout.
type Message interface {
	// Walk walks every field of the message.
	Walk(c *Coder)
}

// AppendBody appends the fields of m, without a frame header.
func AppendBody(dst []byte, m Message) []byte {
	if dst == nil {
		dst = make([]byte, 0, bodyRoom)
	}
	c := Coder{buf: dst}
	m.Walk(&c)
	return c.buf
}

// bodyRoom is what a new body begins with: usual ones need no more.
const bodyRoom = 512

// ParseBody reads the fields of m from b, which must hold nothing else.
func ParseBody(b []byte, m Message) error {
	c := Coder{buf: b, reading: true}
	m.Walk(&c)
	if c.err == nil && c.at != len(b) {
		c.fail("bytes after the last field")
	}
	return c.err
}

// Reading reports the direction: true while a message is read.
func (c *Coder) Reading() bool { return c.reading }

func (c *Coder) fail(what string) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s at byte %d", ErrMalformed, what, c.at)
	}
}

// Fail makes the whole message malformed, for checks that a layout makes itself.
func (c *Coder) Fail(what string) { c.fail(what) }

// take returns the next n bytes of the input.
func (c *Coder) take(n uint64) []byte {
	if c.err != nil {
		return nil
	}
	if n > uint64(len(c.buf)-c.at) {
		c.fail("a field goes past the end")
		return nil
	}
	b := c.buf[c.at : c.at+int(n) : c.at+int(n)]
	c.at += int(n)
	return b
}

// Uint walks an unsigned number (a varint).
func (c *Coder) Uint(p *uint64) {
	if !c.reading {
		c.buf = binary.AppendUvarint(c.buf, *p)
		return
	}
	if c.err != nil {
		return
	}
	v, n := binary.Uvarint(c.buf[c.at:])
	if n <= 0 {
		c.fail("a number is cut or too large")
		return
	}
	*p = v
	c.at += n
}

// Uint32 walks an unsigned number of 32 bits.
func (c *Coder) Uint32(p *uint32) {
	v := uint64(*p)
	c.Uint(&v)
	if v > 1<<32-1 {
		c.fail("a number over 32 bits")
		return
	}
	*p = uint32(v)
}

// Byte walks one byte.
func (c *Coder) Byte(p *byte) {
	if !c.reading {
		c.buf = append(c.buf, *p)
		return
	}
	if b := c.take(1); b != nil {
		*p = b[0]
	}
}

// Bool walks a truth value, which is exactly 0 or 1.
func (c *Coder) Bool(p *bool) {
	var b byte
	if *p {
		b = 1
	}
	c.Byte(&b)
	if b > 1 {
		c.fail("a truth value other than 0 and 1")
	}
	*p = b == 1
}

// Int walks a signed number (a zigzag varint).
func (c *Coder) Int(p *int64) {
	v := uint64(*p)<<1 ^ uint64(*p>>63)
	c.Uint(&v)
	*p = int64(v>>1) ^ -int64(v&1)
}

// Time walks a time as microseconds since 1970, UTC. The zero Time stays zero.
func (c *Coder) Time(p *time.Time) {
	var us int64
	if !p.IsZero() {
		us = p.UnixMicro()
	}
	c.Int(&us)
	if c.reading && c.err == nil {
		*p = time.Time{}
		if us != 0 {
			*p = time.UnixMicro(us).UTC()
		}
	}
}

// Duration walks a duration as nanoseconds.
func (c *Coder) Duration(p *time.Duration) { c.Int((*int64)(p)) }

// Bytes walks a byte string. Reading gives a part of the input, nil when empty.
func (c *Coder) Bytes(p *[]byte) {
	n := uint64(len(*p))
	c.Uint(&n)
	if !c.reading {
		c.buf = append(c.buf, *p...)
		return
	}
	b := c.take(n)
	if len(b) == 0 {
		b = nil
	}
	*p = b
}

// String walks a text.
func (c *Coder) String(p *string) {
	if !c.reading {
		c.buf = binary.AppendUvarint(c.buf, uint64(len(*p)))
		c.buf = append(c.buf, *p...)
		return
	}
	var b []byte
	c.Bytes(&b)
	*p = string(b)
}

// Fixed walks a byte array of known length, such as an id or a key.
func (c *Coder) Fixed(p []byte) {
	if !c.reading {
		c.buf = append(c.buf, p...)
		return
	}
	copy(p, c.take(uint64(len(p))))
}

// List walks a list of messages, each by its layout.
func List[T any, P interface {
	*T
	Message
}](c *Coder, p *[]T,
) {
	n := listLen(c, len(*p))
	if c.reading {
		*p = nil
		if n > 0 && c.err == nil {
			*p = make([]T, 0, min(n, 64))
		}
	}
	for i := range n {
		if c.err != nil {
			return
		}
		if c.reading {
			var v T
			*p = append(*p, v)
		}
		P(&(*p)[i]).Walk(c)
	}
}

// Strings walks a list of texts.
func (c *Coder) Strings(p *[]string) {
	n := listLen(c, len(*p))
	if c.reading {
		*p = nil
	}
	for i := range n {
		if c.err != nil {
			return
		}
		if c.reading {
			*p = append(*p, "")
		}
		c.String(&(*p)[i])
	}
}

// Uint32s walks a list of numbers.
func (c *Coder) Uint32s(p *[]uint32) {
	n := listLen(c, len(*p))
	if c.reading {
		*p = nil
	}
	for i := range n {
		if c.err != nil {
			return
		}
		if c.reading {
			*p = append(*p, 0)
		}
		c.Uint32(&(*p)[i])
	}
}

// Optional walks a message that may be absent.
func Optional[T any, P interface {
	*T
	Message
}](c *Coder, p **T,
) {
	present := *p != nil
	c.Bool(&present)
	if !present || c.err != nil {
		return
	}
	if c.reading {
		*p = new(T)
	}
	P(*p).Walk(c)
}

func listLen(c *Coder, n int) int {
	v := uint64(n)
	c.Uint(&v)
	if v > MaxList {
		c.fail("a list is too long")
		return 0
	}
	return int(v)
}
