package wire

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
)

// Messages that start, bind and serve a worker or a sandbox.

// WorkerHello is the first frame of a worker, sent from inside its jail.
type WorkerHello struct {
	Key seal.PublicKey // X25519 public key, made in the jail
}

// Walk implements [Message].
func (m *WorkerHello) Walk(c *Coder) {
	c.Fixed(m.Key[:])
}

// FrameType implements [Typed].
func (*WorkerHello) FrameType() Type { return TypeWorkerHello }

// Bind makes a worker the worker of one instance, for life.
type Bind struct {
	Lease         []byte // sealed to the worker's key, see package lease
	Definition    []byte // canonical JSON of the published integration
	Config        []byte // sealed under the instance key
	ConfigVersion uint64
}

// Walk implements [Message].
func (m *Bind) Walk(c *Coder) {
	c.Bytes(&m.Lease)
	c.Bytes(&m.Definition)
	c.Bytes(&m.Config)
	c.Uint(&m.ConfigVersion)
}

// FrameType implements [Typed].
func (*Bind) FrameType() Type { return TypeBind }

// Bound answers a Bind. With an error the worker exits next.
type Bound struct {
	Error string
}

// Walk implements [Message].
func (m *Bound) Walk(c *Coder) {
	c.String(&m.Error)
}

// FrameType implements [Typed].
func (*Bound) FrameType() Type { return TypeBound }

// Renew adds a newer lease of the same instance to a bound worker.
type Renew struct {
	Lease []byte
}

// Walk implements [Message].
func (m *Renew) Walk(c *Coder) {
	c.Bytes(&m.Lease)
}

// FrameType implements [Typed].
func (*Renew) FrameType() Type { return TypeRenew }

// SandboxWant asks the runner for a sandbox for the code steps of one execution.
type SandboxWant struct {
	Execution id.Execution
	Fence     uint64
}

// Walk implements [Message].
func (m *SandboxWant) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
}

// FrameType implements [Typed].
func (*SandboxWant) FrameType() Type { return TypeSandboxWant }

// SandboxReady names the sandbox's public key, to which the worker opens a channel.
type SandboxReady struct {
	Execution id.Execution
	Fence     uint64
	Key       seal.PublicKey
}

// Walk implements [Message].
func (m *SandboxReady) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
	c.Fixed(m.Key[:])
}

// FrameType implements [Typed].
func (*SandboxReady) FrameType() Type { return TypeSandboxReady }

// SandboxGone says that the sandbox of an execution has ended, and how: memory, time,
// violation, crash or unavailable.
type SandboxGone struct {
	Execution id.Execution
	Fence     uint64
	Exit      string
}

// Walk implements [Message].
func (m *SandboxGone) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
	c.String(&m.Exit)
}

// FrameType implements [Typed].
func (*SandboxGone) FrameType() Type { return TypeSandboxGone }

// SandboxHello is the first frame of a sandbox, sent from inside its jail.
type SandboxHello struct {
	Key seal.PublicKey
}

// Walk implements [Message].
func (m *SandboxHello) Walk(c *Coder) {
	c.Fixed(m.Key[:])
}

// FrameType implements [Typed].
func (*SandboxHello) FrameType() Type { return TypeSandboxHello }

// SandboxOpen opens the channel between worker and sandbox.
type SandboxOpen struct {
	Execution     id.Execution
	Fence         uint64
	Encapsulation []byte
}

// Walk implements [Message].
func (m *SandboxOpen) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
	c.Bytes(&m.Encapsulation)
}

// FrameType implements [Typed].
func (*SandboxOpen) FrameType() Type { return TypeSandboxOpen }

// SandboxRun asks for one code step. Sealed holds a [CodeCall] under the channel.
type SandboxRun struct {
	Execution id.Execution
	Fence     uint64
	Call      uint64
	Sealed    []byte
}

// Walk implements [Message].
func (m *SandboxRun) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
	c.Uint(&m.Call)
	c.Bytes(&m.Sealed)
}

// FrameType implements [Typed].
func (*SandboxRun) FrameType() Type { return TypeSandboxRun }

// SandboxResult answers a SandboxRun. Sealed holds a [CodeResult] under the channel.
type SandboxResult struct {
	Execution id.Execution
	Fence     uint64
	Call      uint64
	Sealed    []byte
}

// Walk implements [Message].
func (m *SandboxResult) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
	c.Uint(&m.Call)
	c.Bytes(&m.Sealed)
}

// FrameType implements [Typed].
func (*SandboxResult) FrameType() Type { return TypeSandboxResult }

// SandboxClose ends the sandbox of an execution.
type SandboxClose struct {
	Execution id.Execution
	Fence     uint64
}

// Walk implements [Message].
func (m *SandboxClose) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
}

// FrameType implements [Typed].
func (*SandboxClose) FrameType() Type { return TypeSandboxClose }

// CodeCall is one code step: a program, its input and what makes it repeatable.
type CodeCall struct {
	Source  string    // JavaScript module
	Name    string    // what errors call the file
	Input   []byte    // JSON
	Now     time.Time // what Date shows
	Seed    [16]byte  // of Math.random
	Timeout time.Duration
	Memory  uint64 // bytes
}

// Walk implements [Message].
func (m *CodeCall) Walk(c *Coder) {
	c.String(&m.Source)
	c.String(&m.Name)
	c.Bytes(&m.Input)
	c.Time(&m.Now)
	c.Fixed(m.Seed[:])
	c.Duration(&m.Timeout)
	c.Uint(&m.Memory)
}

// CodeLog is one line of console output.
type CodeLog struct {
	Level string // debug, info, warn, error
	Text  string
}

// Walk implements [Message].
func (m *CodeLog) Walk(c *Coder) {
	c.String(&m.Level)
	c.String(&m.Text)
}

// CodeResult is the output of a code step, or its error.
type CodeResult struct {
	Output    []byte // JSON
	Logs      []CodeLog
	Truncated bool   // some log lines were dropped
	ErrorKind string // syntax, throw, timeout, memory, result; empty when it went well
	Message   string
	Line      uint32 // in the author's source, from 1
	Column    uint32
	Stack     string
}

// Walk implements [Message].
func (m *CodeResult) Walk(c *Coder) {
	c.Bytes(&m.Output)
	List(c, &m.Logs)
	c.Bool(&m.Truncated)
	c.String(&m.ErrorKind)
	c.String(&m.Message)
	c.Uint32(&m.Line)
	c.Uint32(&m.Column)
	c.String(&m.Stack)
}
