package wire

import "github.com/bulkheadhq/bulkhead/internal/id"

// JournalGet asks for committed entries of an execution that is resumed and whose journal
// is too long for its dispatch: for the entries behind After, in order, or for the entries
// of Seqs with their bodies.
type JournalGet struct {
	Call      uint64 // chosen by the worker, repeated in the page
	Execution id.Execution
	Fence     uint64
	After     uint32   // the entries behind this one, while Seqs is empty
	Seqs      []uint32 // these entries
	Wakes     bool     // Seqs are of wakes
}

// Walk implements [Message].
func (m *JournalGet) Walk(c *Coder) {
	c.Uint(&m.Call)
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
	c.Uint32(&m.After)
	c.Uint32s(&m.Seqs)
	c.Bool(&m.Wakes)
}

// FrameType implements [Typed].
func (*JournalGet) FrameType() Type { return TypeJournalGet }

// JournalPage answers a JournalGet. Of entries that were asked for by After, larger bodies
// are left out: a resume needs few of them. Of entries that were asked for by their number,
// the first always comes, and further ones as long as the page has room.
type JournalPage struct {
	Call      uint64
	Execution id.Execution
	Entries   []Entry
	Last      bool   // no entry follows
	Error     string // a code; the entries could not be read
}

// Walk implements [Message].
func (m *JournalPage) Walk(c *Coder) {
	c.Uint(&m.Call)
	c.Fixed(m.Execution[:])
	List(c, &m.Entries)
	c.Bool(&m.Last)
	c.String(&m.Error)
}

// FrameType implements [Typed].
func (*JournalPage) FrameType() Type { return TypeJournalPage }
