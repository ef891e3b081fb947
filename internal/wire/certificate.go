package wire

// Certificate gives the server what it proves with to the outside who it is, over the control
// socket: at its start when it speaks TLS, and again when the files have been renewed.
// Both parts are PEM, as the operator keeps them; only the server parses them.
type Certificate struct {
	Chain []byte // certificates, the server's own first
	Key   []byte // its private key; cleared after use
}

// Walk implements [Message].
func (m *Certificate) Walk(c *Coder) {
	c.Bytes(&m.Chain)
	c.Bytes(&m.Key)
}

// FrameType implements [Typed].
func (*Certificate) FrameType() Type { return TypeCertificate }
