package wire

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Messages between worker and egress, and between egress and the others.

// ResponseMode is the way an answer is read.
type ResponseMode byte

// The values of [ResponseMode].
const (
	ResponseAuto ResponseMode = 1 + iota
	ResponseJSON
	ResponseText
	ResponseFile
)

// Call carries one request from a worker to egress. Sealed holds a [Request] under the
// lease's channel at [Call.Place].
type Call struct {
	Lease  id.Lease
	Egress id.Node // which egress node holds the lease
	Worker uint64  // the runner's number for the worker, returned in the answer
	Call   uint64
	Sealed []byte
}

// Walk implements [Message].
func (m *Call) Walk(c *Coder) {
	c.Fixed(m.Lease[:])
	c.Fixed(m.Egress[:])
	c.Uint(&m.Worker)
	c.Uint(&m.Call)
	c.Bytes(&m.Sealed)
}

// FrameType implements [Typed].
func (*Call) FrameType() Type { return TypeCall }

// Answer carries the response. Sealed holds a [Response] under the lease's channel
// at [Answer.Place]. Error is set instead when the call was not made: [ErrorLease] or [ErrorReplaced].
type Answer struct {
	Lease  id.Lease
	Worker uint64
	Call   uint64
	Sealed []byte
	Error  string
}

// Walk implements [Message].
func (m *Answer) Walk(c *Coder) {
	c.Fixed(m.Lease[:])
	c.Uint(&m.Worker)
	c.Uint(&m.Call)
	c.Bytes(&m.Sealed)
	c.String(&m.Error)
}

// FrameType implements [Typed].
func (*Answer) FrameType() Type { return TypeAnswer }

// Why a call was not made. Another lease is needed for it.
const (
	// ErrorLease means that the lease is unknown or has ended: what was under way under it is not answered any more.
	ErrorLease = "lease"
	// ErrorReplaced means that a credential of the lease was replaced since it was granted. What is under way under it ends.
	ErrorReplaced = "replaced"
)

// Pair is a name and a value: a header or a query parameter.
type Pair struct {
	Name  string
	Value string
}

// Walk implements [Message].
func (m *Pair) Walk(c *Coder) {
	c.String(&m.Name)
	c.String(&m.Value)
}

// BlobRef names a sealed blob and the key that opens it.
type BlobRef struct {
	Blob        id.Blob
	Key         []byte // 32 bytes
	Size        uint64 // plain bytes
	Chunks      uint32
	Name        string
	ContentType string
	Day         uint32
}

// Walk implements [Message].
func (m *BlobRef) Walk(c *Coder) {
	c.Fixed(m.Blob[:])
	c.Bytes(&m.Key)
	c.Uint(&m.Size)
	c.Uint32(&m.Chunks)
	c.String(&m.Name)
	c.String(&m.ContentType)
	c.Uint32(&m.Day)
}

// FormPart is one part of a multipart body.
type FormPart struct {
	Name        string
	FileName    string
	ContentType string
	Data        []byte
	Blob        *BlobRef
}

// Walk implements [Message].
func (m *FormPart) Walk(c *Coder) {
	c.String(&m.Name)
	c.String(&m.FileName)
	c.String(&m.ContentType)
	c.Bytes(&m.Data)
	Optional(c, &m.Blob)
}

// Request is what an action asks of egress. It names a slot, never a host.
type Request struct {
	Execution      id.Execution
	Step           string // path, for the flow record
	Slot           string // connection slot of the instance
	Action         string // of the connector, "request" for http: a connection may be shared for some only
	Method         string
	Base           string // one of the bases in the connection's record; empty: its first
	Path           string // escaped
	Query          []Pair
	Headers        []Pair
	Body           []byte
	HasBody        bool
	ContentType    string
	BodyBlob       *BlobRef   // streamed instead of Body
	Parts          []FormPart // multipart
	Accept         ResponseMode
	Expect         []string // status patterns such as 2xx or 404
	IdempotencyKey string
	Timeout        time.Duration
	Day            uint32 // expiry day of blobs made for the answer
}

// Walk implements [Message].
func (m *Request) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.String(&m.Step)
	c.String(&m.Slot)
	c.String(&m.Action)
	c.String(&m.Method)
	c.String(&m.Base)
	c.String(&m.Path)
	List(c, &m.Query)
	List(c, &m.Headers)
	c.Bytes(&m.Body)
	c.Bool(&m.HasBody)
	c.String(&m.ContentType)
	Optional(c, &m.BodyBlob)
	List(c, &m.Parts)
	c.Byte((*byte)(&m.Accept))
	c.Strings(&m.Expect)
	c.String(&m.IdempotencyKey)
	c.Duration(&m.Timeout)
	c.Uint32(&m.Day)
}

// Response is what came back, scrubbed, or why nothing did.
type Response struct {
	Status     uint32
	Headers    []Pair // lower-case names
	Body       []byte
	Text       bool     // Body is text, not bytes
	Blob       *BlobRef // the body, when it is large or a file was asked for
	Scrubbed   uint32   // secret values removed
	ErrorType  string   // of format.md; empty when the status was expected
	Message    string   // for the author; holds no secret
	Definite   bool     // an answer came: the idempotency key advances
	RetryAfter time.Duration
	Duration   time.Duration
}

// Walk implements [Message].
func (m *Response) Walk(c *Coder) {
	c.Uint32(&m.Status)
	List(c, &m.Headers)
	c.Bytes(&m.Body)
	c.Bool(&m.Text)
	Optional(c, &m.Blob)
	c.Uint32(&m.Scrubbed)
	c.String(&m.ErrorType)
	c.String(&m.Message)
	c.Bool(&m.Definite)
	c.Duration(&m.RetryAfter)
	c.Duration(&m.Duration)
}

// LeaseDrop tells egress that a worker has ended: the lease is forgotten.
type LeaseDrop struct {
	Lease id.Lease
}

// Walk implements [Message].
func (m *LeaseDrop) Walk(c *Coder) {
	c.Fixed(m.Lease[:])
}

// FrameType implements [Typed].
func (*LeaseDrop) FrameType() Type { return TypeLeaseDrop }

// LeaseGive hands egress its half of a lease before the first call under it.
type LeaseGive struct {
	Lease  id.Lease
	Sealed []byte
}

// Walk implements [Message].
func (m *LeaseGive) Walk(c *Coder) {
	c.Fixed(m.Lease[:])
	c.Bytes(&m.Sealed)
}

// FrameType implements [Typed].
func (*LeaseGive) FrameType() Type { return TypeLeaseGive }

// FlowRecord says who called whom: one before the dial and one after. It holds no path,
// query, header or body.
type FlowRecord struct {
	Request    id.Event // joins the two
	Time       time.Time
	Customer   id.Customer
	Instance   id.Instance
	Execution  id.Execution
	Connection id.Connection
	Node       id.Node
	Done       bool // false before the dial
	Method     string
	Host       string
	Address    string
	Status     uint32
	Sent       uint64
	Received   uint64
	Duration   time.Duration
	Verdict    string // ok, denied, failed, limit
	Scrubbed   uint32
}

// Walk implements [Message].
func (m *FlowRecord) Walk(c *Coder) {
	c.Fixed(m.Request[:])
	c.Time(&m.Time)
	c.Fixed(m.Customer[:])
	c.Fixed(m.Instance[:])
	c.Fixed(m.Execution[:])
	c.Fixed(m.Connection[:])
	c.Fixed(m.Node[:])
	c.Bool(&m.Done)
	c.String(&m.Method)
	c.String(&m.Host)
	c.String(&m.Address)
	c.Uint32(&m.Status)
	c.Uint(&m.Sent)
	c.Uint(&m.Received)
	c.Duration(&m.Duration)
	c.String(&m.Verdict)
	c.Uint32(&m.Scrubbed)
}

// FrameType implements [Typed].
func (*FlowRecord) FrameType() Type { return TypeFlowRecord }
