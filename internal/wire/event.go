package wire

// eventRefVersion begins the plain bytes of a stored event that is a reference. The JSON
// of an event begins with a brace, so the first byte tells the two apart.
const eventRefVersion = 1

// EventRef is what is sealed in the place of a large event: where its JSON is.
type EventRef struct {
	Version byte // set by [AppendEventRef]
	Blob    BlobRef
}

// Walk implements [Message].
func (m *EventRef) Walk(c *Coder) {
	c.Byte(&m.Version)
	if c.Reading() && m.Version != eventRefVersion {
		c.Fail("a reference to an event of another version")
		return
	}
	m.Blob.Walk(c)
}

// AppendEventRef appends the plain bytes of a stored event whose JSON is in a blob.
func AppendEventRef(dst []byte, blob *BlobRef) []byte {
	return AppendBody(dst, &EventRef{Version: eventRefVersion, Blob: *blob})
}

// ParseEventRef reads the plain bytes of a stored event. Without an error and without a
// reference they are the event's JSON themselves.
func ParseEventRef(plain []byte) (*BlobRef, error) {
	if len(plain) == 0 || plain[0] > eventRefVersion {
		return nil, nil //nolint:nilnil // the event itself
	}
	var m EventRef
	if err := ParseBody(plain, &m); err != nil {
		return nil, err
	}
	return &m.Blob, nil
}
