package wire

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Messages between server, runner and worker: units of work, the journal, views and blobs.

// EntryKind is the kind of a journal entry.
type EntryKind byte

// The values of [EntryKind].
const (
	EntryResult     EntryKind = 1 + iota // the step finished; Body is its output
	EntryFault                           // the step faulted for good; Body is the error
	EntryAttempt                         // an attempt failed with a definite answer
	EntryIntent                          // an effect that must happen once is about to begin
	EntryCheckpoint                      // a batch of a loop is finished
	EntryClock                           // the first now() of the step
	EntryWake                            // the answer to a wait: Epoch is a [WakeReason], which says what Hash and Body are
	EntryLog                             // log lines, which are stored beside the journal: see [LogLines]
	EntryReply                           // what a respond step answered; Body is a [ReplyBody]
	EntryRetry                           // written by a server: the execution was retried after a fault; Epoch is its number of wakes then, Path the step that faulted
)

// WaitKind is the kind of a wait.
type WaitKind byte

// The values of [WaitKind].
const (
	WaitTimer WaitKind = 1 + iota
	WaitCallback
	WaitEvent
	WaitChild
)

// Status is the state of an execution after its stay in a worker.
type Status byte

// The values of [Status].
const (
	StatusCompleted Status = 1 + iota
	StatusFaulted
	StatusWaiting
	StatusCancelled
)

// ViewKind is the kind of page that a view shows.
type ViewKind byte

// The values of [ViewKind].
const (
	ViewInput ViewKind = 1 + iota
	ViewOutput
	ViewError
	ViewLog
	ViewResult
)

// StepState is the state of a step.
type StepState byte

// The values of [StepState].
const (
	StepStarted StepState = 1 + iota
	StepDone
	StepFailed
	StepRetrying
	StepSkipped
	StepSleeping
	StepReplayed
)

// StateOp is the operation on a state value.
type StateOp byte

// The values of [StateOp].
const (
	StateGet StateOp = 1 + iota
	StatePut
	StateDelete
)

// Entry is one record of an execution's journal. The body is sealed to the payload key
// by the worker (or by the server, for wakes).
type Entry struct {
	Seq   uint32    // position in the journal, from 1; 0 while not assigned
	Kind  EntryKind // what it records
	Path  string    // the step, with loop indices: lines[3].sent
	Epoch uint32    // attempts that got a definite answer, for the idempotency key
	Hash  [16]byte  // hash of the resolved input
	Body  []byte    // sealed; may be empty

	Took      time.Duration // of the try that it records; 0: not known. Comes from workers, does not go to them
	ErrorType string        // of a fault or a failed attempt, in clear; the same
}

// Walk implements [Message].
func (m *Entry) Walk(c *Coder) {
	c.Uint32(&m.Seq)
	c.Byte((*byte)(&m.Kind))
	c.String(&m.Path)
	c.Uint32(&m.Epoch)
	c.Fixed(m.Hash[:])
	c.Bytes(&m.Body)
	c.Duration(&m.Took)
	c.String(&m.ErrorType)
}

// Wait is a reason for an execution to sleep, registered before anyone may answer it.
type Wait struct {
	Path  string // the step that waits
	Kind  WaitKind
	At    time.Time    // when the timer fires, or when the wait times out
	Key   [32]byte     // SHA-256 of the callback token, or zero
	Child id.Execution // the execution waited for, or zero
	// Listen is a [Listen], sealed to the server as a label is, at lease.ListenPlace; empty: it is for no event.
	Listen []byte
}

// Walk implements [Message].
func (m *Wait) Walk(c *Coder) {
	c.String(&m.Path)
	c.Byte((*byte)(&m.Kind))
	c.Time(&m.At)
	c.Fixed(m.Key[:])
	c.Fixed(m.Child[:])
	c.Bytes(&m.Listen)
}

// Child starts an execution of another flow of the same instance, in the same commit as
// the entries beside it.
type Child struct {
	Execution id.Execution
	Flow      string
	Event     []byte // sealed trigger of the child
	Path      string // the step that calls
	Await     bool   // the parent waits for its output

	// Of an item that a poll found: Key is an HMAC that tells it from the others, and makes it
	// start once. Noted is one that starts nothing, and has neither an execution nor an event.
	Key   [32]byte
	Noted bool
}

// Walk implements [Message].
func (m *Child) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.String(&m.Flow)
	c.Bytes(&m.Event)
	c.String(&m.Path)
	c.Bool(&m.Await)
	c.Fixed(m.Key[:])
	c.Bool(&m.Noted)
}

// Label is a searchable value of an execution.
type Label struct {
	Name   string
	Sealed []byte // for display, sealed to the payload key
	Value  []byte // sealed to the server, which stores its blind index
}

// Walk implements [Message].
func (m *Label) Walk(c *Coder) {
	c.String(&m.Name)
	c.Bytes(&m.Sealed)
	c.Bytes(&m.Value)
}

// Finish ends an execution's stay in a worker.
type Finish struct {
	Status    Status
	ErrorType string // type of the fault, else empty
	ErrorStep string // path of the step that faulted
	Output    []byte // sealed output, or sealed fault
	Wakes     uint32 // how many wakes the worker has seen, so that none is lost when Status is waiting
}

// Walk implements [Message].
func (m *Finish) Walk(c *Coder) {
	c.Byte((*byte)(&m.Status))
	c.String(&m.ErrorType)
	c.String(&m.ErrorStep)
	c.Bytes(&m.Output)
	c.Uint32(&m.Wakes)
}

// Append asks the server to commit entries, waits, children and the finish of one
// execution at once. Nothing of it is visible before all of it is.
type Append struct {
	Execution id.Execution
	Fence     uint64
	Entries   []Entry
	Waits     []Wait
	Children  []Child
	Labels    []Label
	Logs      []LogLines
	Finish    *Finish
}

// Walk implements [Message].
func (m *Append) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
	List(c, &m.Entries)
	List(c, &m.Waits)
	List(c, &m.Children)
	List(c, &m.Labels)
	List(c, &m.Logs)
	Optional(c, &m.Finish)
}

// FrameType implements [Typed].
func (*Append) FrameType() Type { return TypeAppend }

// Last is the number of the last entry; 0: there is none, or it has no number.
func (m *Append) Last() uint32 {
	if len(m.Entries) == 0 {
		return 0
	}
	return m.Entries[len(m.Entries)-1].Seq
}

// Appended answers an Append. A stale append was refused because another worker holds a
// higher fence: the execution must be dropped.
type Appended struct {
	Execution id.Execution
	Fence     uint64
	Seq       uint32 // of the last entry committed
	Stale     bool
}

// Walk implements [Message].
func (m *Appended) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
	c.Uint32(&m.Seq)
	c.Bool(&m.Stale)
}

// FrameType implements [Typed].
func (*Appended) FrameType() Type { return TypeAppended }

// UnitExecution is one execution to run or to resume.
type UnitExecution struct {
	Execution id.Execution
	Fence     uint64
	Flow      string    // name of the flow
	Started   time.Time // recorded time of acceptance
	Seed      [16]byte  // for uuid() and Math.random
	Expires   time.Time // wall-time end of its life
	Day       uint32    // expiry day of its payload key, days since 1970
	Test      bool
	EventID   id.Event // what trigger.id shows, and the place of the sealed event
	Event     []byte   // sealed trigger
	Journal   []Entry  // committed entries in order, or none of them when they are many
	Entries   uint32   // how many are committed; more than Journal holds: the worker asks for them
	Wakes     []Entry  // answers to waits, in order of arrival
	WakesAway bool     // their bodies are left out: the worker asks for those that it needs
	Viewer    id.View  // who watches it, or zero
	LogLines  uint32   // log lines that are stored
	LogBytes  uint32   // their bytes
}

// Walk implements [Message].
func (m *UnitExecution) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
	c.String(&m.Flow)
	c.Time(&m.Started)
	c.Fixed(m.Seed[:])
	c.Time(&m.Expires)
	c.Uint32(&m.Day)
	c.Bool(&m.Test)
	c.Fixed(m.EventID[:])
	c.Bytes(&m.Event)
	List(c, &m.Journal)
	c.Uint32(&m.Entries)
	List(c, &m.Wakes)
	c.Bool(&m.WakesAway)
	c.Fixed(m.Viewer[:])
	c.Uint32(&m.LogLines)
	c.Uint32(&m.LogBytes)
}

// Unit is up to MaxUnit executions of one instance.
type Unit struct {
	Executions []UnitExecution
}

// Walk implements [Message].
func (m *Unit) Walk(c *Coder) {
	List(c, &m.Executions)
}

// FrameType implements [Typed].
func (*Unit) FrameType() Type { return TypeUnit }

// Cancel ends an execution that runs in a worker.
type Cancel struct {
	Execution id.Execution
	Fence     uint64
}

// Walk implements [Message].
func (m *Cancel) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
}

// FrameType implements [Typed].
func (*Cancel) FrameType() Type { return TypeCancel }

// Wake delivers the answer to a wait of a running execution.
type Wake struct {
	Execution id.Execution
	Fence     uint64
	Entry     Entry
}

// Walk implements [Message].
func (m *Wake) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
	m.Entry.Walk(c)
}

// FrameType implements [Typed].
func (*Wake) FrameType() Type { return TypeWake }

// Released says that the worker holds nothing more of an execution.
type Released struct {
	Execution id.Execution
	Fence     uint64
	Fault     string // why the worker or runner gave it up without a finish: memory, crash, lease; empty when it finished
}

// Walk implements [Message].
func (m *Released) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
	c.String(&m.Fault)
}

// FrameType implements [Typed].
func (*Released) FrameType() Type { return TypeReleased }

// Reply carries the sealed answer of a synchronous webhook to the viewer that waits for
// it.
type Reply struct {
	View      id.View
	Execution id.Execution
	Fence     uint64
	Sealed    []byte
	Server    id.Node // where the sender waits, as the event says; zero: where the execution is from
}

// Walk implements [Message].
func (m *Reply) Walk(c *Coder) {
	c.Fixed(m.View[:])
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
	c.Bytes(&m.Sealed)
	c.Fixed(m.Server[:])
}

// FrameType implements [Typed].
func (*Reply) FrameType() Type { return TypeReply }

// View carries one sealed page to a viewer: a step's input, output, log line or the
// result.
type View struct {
	View      id.View
	Execution id.Execution
	Kind      ViewKind
	Path      string
	Sealed    []byte
}

// Walk implements [Message].
func (m *View) Walk(c *Coder) {
	c.Fixed(m.View[:])
	c.Fixed(m.Execution[:])
	c.Byte((*byte)(&m.Kind))
	c.String(&m.Path)
	c.Bytes(&m.Sealed)
}

// FrameType implements [Typed].
func (*View) FrameType() Type { return TypeView }

// Progress tells a viewer how a step goes: metadata only.
type Progress struct {
	View      id.View
	Execution id.Execution
	Path      string
	State     StepState
	Attempt   uint32
	Duration  time.Duration
	ErrorType string
}

// Walk implements [Message].
func (m *Progress) Walk(c *Coder) {
	c.Fixed(m.View[:])
	c.Fixed(m.Execution[:])
	c.String(&m.Path)
	c.Byte((*byte)(&m.State))
	c.Uint32(&m.Attempt)
	c.Duration(&m.Duration)
	c.String(&m.ErrorType)
}

// FrameType implements [Typed].
func (*Progress) FrameType() Type { return TypeProgress }

// State reads or changes one value of the instance's state. Names are HMACs under the
// instance key, values are sealed under it.
type State struct {
	Call      uint64 // chosen by the worker, repeated in the result
	Execution id.Execution
	Fence     uint64
	Op        StateOp
	Name      [32]byte
	Version   uint64 // for a put or delete: the version that was read, 0 for none
	Value     []byte
}

// Walk implements [Message].
func (m *State) Walk(c *Coder) {
	c.Uint(&m.Call)
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
	c.Byte((*byte)(&m.Op))
	c.Fixed(m.Name[:])
	c.Uint(&m.Version)
	c.Bytes(&m.Value)
}

// FrameType implements [Typed].
func (*State) FrameType() Type { return TypeState }

// StateResult answers a State. A conflict means that the value changed since it was
// read; Value and Version are then the present ones.
type StateResult struct {
	Call      uint64
	Execution id.Execution
	Version   uint64 // 0: there is no value
	Value     []byte
	Conflict  bool
}

// Walk implements [Message].
func (m *StateResult) Walk(c *Coder) {
	c.Uint(&m.Call)
	c.Fixed(m.Execution[:])
	c.Uint(&m.Version)
	c.Bytes(&m.Value)
	c.Bool(&m.Conflict)
}

// FrameType implements [Typed].
func (*StateResult) FrameType() Type { return TypeStateResult }

// BlobWrite stores one sealed chunk. The first has Index 0, the last says so; the blob
// exists once the last is acknowledged with a BlobChunk.
type BlobWrite struct {
	Call      uint64
	Blob      id.Blob
	Execution id.Execution
	Day       uint32 // expiry day: the blob is removed after it
	Index     uint32
	Last      bool
	Data      []byte
}

// Walk implements [Message].
func (m *BlobWrite) Walk(c *Coder) {
	c.Uint(&m.Call)
	c.Fixed(m.Blob[:])
	c.Fixed(m.Execution[:])
	c.Uint32(&m.Day)
	c.Uint32(&m.Index)
	c.Bool(&m.Last)
	c.Bytes(&m.Data)
}

// FrameType implements [Typed].
func (*BlobWrite) FrameType() Type { return TypeBlobWrite }

// BlobRead asks for one chunk.
type BlobRead struct {
	Call      uint64
	Blob      id.Blob
	Execution id.Execution
	Index     uint32
}

// Walk implements [Message].
func (m *BlobRead) Walk(c *Coder) {
	c.Uint(&m.Call)
	c.Fixed(m.Blob[:])
	c.Fixed(m.Execution[:])
	c.Uint32(&m.Index)
}

// FrameType implements [Typed].
func (*BlobRead) FrameType() Type { return TypeBlobRead }

// BlobChunk answers a BlobRead, and a BlobWrite with empty data. An error code says why
// there is none.
type BlobChunk struct {
	Call      uint64
	Blob      id.Blob
	Execution id.Execution
	Index     uint32
	Last      bool
	Data      []byte
	Error     string
}

// Walk implements [Message].
func (m *BlobChunk) Walk(c *Coder) {
	c.Uint(&m.Call)
	c.Fixed(m.Blob[:])
	c.Fixed(m.Execution[:])
	c.Uint32(&m.Index)
	c.Bool(&m.Last)
	c.Bytes(&m.Data)
	c.String(&m.Error)
}

// FrameType implements [Typed].
func (*BlobChunk) FrameType() Type { return TypeBlobChunk }
