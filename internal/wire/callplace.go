package wire

import "github.com/bulkheadhq/bulkhead/internal/seal"

// Place is the associated data of the sealed [Request]: it is this call under this lease. The runner's number for the
// worker is not part of it, because the runner fills it in.
func (m *Call) Place() []byte {
	return seal.Tuple(nil, []byte("call/1"), m.Lease[:], seal.Uint(m.Call))
}

// Place is the associated data of the sealed [Response]: it answers this call under this lease.
func (m *Answer) Place() []byte {
	return seal.Tuple(nil, []byte("answer/1"), m.Lease[:], seal.Uint(m.Call))
}

// ReplyBody is the plain content of a [Reply]: what a respond step answers to the request of a synchronous webhook. It is
// sealed one-shot to the viewer's key with lease.PurposeView at [Reply.Place].
type ReplyBody struct {
	Status      uint32
	Headers     []Pair
	ContentType string // empty when there is no body
	Body        []byte
}

// Walk implements [Message].
func (m *ReplyBody) Walk(c *Coder) {
	c.Uint32(&m.Status)
	List(c, &m.Headers)
	c.String(&m.ContentType)
	c.Bytes(&m.Body)
}

// Place is the associated data of the sealed [ReplyBody]: it belongs to this view of this execution.
func (m *Reply) Place() []byte {
	return seal.Tuple(nil, []byte("reply/1"), m.View[:], m.Execution[:])
}
