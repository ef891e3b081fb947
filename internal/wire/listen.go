package wire

// Listen says for which events of a connector a wait is. The server makes blind indexes of it and forgets it.
type Listen struct {
	Slot    string // of the instance
	Trigger string // of the connector of that slot
	Terms   []Term // what an event must have, in order of Place; none: every event of the trigger is waited for
}

// Term is one condition: what stands at a place of an event is this text.
type Term struct {
	Place string // body:a.b, header:NAME or query:NAME
	Text  string
}

// MaxTerms bounds the terms of one wait, MaxTermText the bytes of one text.
const (
	MaxTerms    = 16
	MaxTermText = 4 << 10
)

// Walk implements [Message].
func (m *Listen) Walk(c *Coder) {
	c.String(&m.Slot)
	c.String(&m.Trigger)
	List(c, &m.Terms)
}

// Walk implements [Message].
func (m *Term) Walk(c *Coder) {
	c.String(&m.Place)
	c.String(&m.Text)
}
