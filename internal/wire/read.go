package wire

import (
	"encoding/json"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Messages of a read: what is stored, opened by a worker and sealed to a viewer.

// ReadKind is what a read shows.
type ReadKind byte

// The values of [ReadKind].
const (
	ReadEvent   ReadKind = 1 + iota // the event that started the execution
	ReadOutput                      // its output, or its error
	ReadStep                        // what the journal holds under one step path
	ReadLabels                      // its labels
	ReadLogs                        // its log lines
	ReadConfig                      // config values of an instance
	ReadReply                       // what its respond step answered, as it was; for the server only
	ReadResolve                     // what the server needs of a config, see [Resolved]; for the server only
	readEnd
)

var readNames = [readEnd]string{
	ReadEvent: "event", ReadOutput: "output", ReadStep: "step", ReadLabels: "labels", ReadLogs: "logs", ReadConfig: "config",
	ReadReply: "reply", ReadResolve: "resolve",
}

// String names the kind as the API does; empty for an unknown one.
func (k ReadKind) String() string {
	if k < readEnd {
		return readNames[k]
	}
	return ""
}

// Class is what a viewer may see.
type Class byte

// The values of [Class].
const (
	ClassCustomer Class = 1 + iota // no secrets, and nothing of what is visible to the organization only
	ClassOperator                  // no secrets
	ClassServer                    // the server itself, for ReadReply and ReadResolve; its own key only
)

// Sealed is one stored ciphertext that a read is about.
type Sealed struct {
	Entry         // Path is the name for a label; Kind is 0 for what is not in the journal
	Status Status // of an output
}

// Walk implements [Message].
func (m *Sealed) Walk(c *Coder) {
	m.Entry.Walk(c)
	c.Byte((*byte)(&m.Status))
}

// Read asks a worker for one page of what is stored. The server sends it with everything
// that a worker needs to be bound; Signed is a signed lease.Dispatch that permits exactly
// this read.
type Read struct {
	View          id.View
	Customer      id.Customer
	Instance      id.Instance
	Definition    [32]byte // digest
	Config        []byte   // sealed under the instance key
	ConfigVersion uint64
	Signed        []byte

	Execution id.Execution // zero for what is of the instance
	Kind      ReadKind
	Day       uint32   // expiry day of the rows
	EventID   id.Event // place of the event
	Flow      string
	Rows      []Sealed
	Cursor    uint64 // of the page; names it, so that no page is taken for another
	Seq       uint32 // one entry of a step; 0: all
	Offset    uint64 // of a range of one value
	Length    uint64 // of the range in bytes; 0: the value itself
	Profile   []byte // for ReadResolve: the customer as flows see it, sealed at lease.ProfilePlace
}

// Walk implements [Message].
func (m *Read) Walk(c *Coder) {
	c.Fixed(m.View[:])
	c.Fixed(m.Customer[:])
	c.Fixed(m.Instance[:])
	c.Fixed(m.Definition[:])
	c.Bytes(&m.Config)
	c.Uint(&m.ConfigVersion)
	c.Bytes(&m.Signed)
	c.Fixed(m.Execution[:])
	c.Byte((*byte)(&m.Kind))
	c.Uint32(&m.Day)
	c.Fixed(m.EventID[:])
	c.String(&m.Flow)
	List(c, &m.Rows)
	c.Uint(&m.Cursor)
	c.Uint32(&m.Seq)
	c.Uint(&m.Offset)
	c.Uint(&m.Length)
	c.Bytes(&m.Profile)
}

// FrameType implements [Typed].
func (*Read) FrameType() Type { return TypeRead }

// Codes of ReadPage.Error.
const (
	ReadRefused     = "refused"     // the vault or the worker does not permit it
	ReadUnavailable = "unavailable" // no room, no worker, or too slow
	ReadBroken      = "broken"      // what is stored does not open
	ReadInvalid     = "invalid"     // there is nothing of that kind to read
)

// ReadPage answers a Read with one page, or with the code of an error.
type ReadPage struct {
	View   id.View
	Error  string
	Next   uint64 // cursor of the next page; 0: this is the last
	Sealed []byte // to the viewer, at lease.ReadPlace
}

// Walk implements [Message].
func (m *ReadPage) Walk(c *Coder) {
	c.Fixed(m.View[:])
	c.String(&m.Error)
	c.Uint(&m.Next)
	c.Bytes(&m.Sealed)
}

// FrameType implements [Typed].
func (*ReadPage) FrameType() Type { return TypeReadPage }

// ReadCall marks the numbers of calls that a worker makes for a read, in BlobRead, so
// that their answers find their way back and never answer an execution's call.
const ReadCall = 1 << 63

// Content is the plain content of a page of a read, as JSON.
type Content struct {
	Items []Item `json:"items"`
}

// Item is one thing that a page shows.
type Item struct {
	Kind    string          `json:"kind"`              // event, output, error, result, fault, attempt, label, log, config
	Path    string          `json:"path,omitempty"`    // of a step; the name of a label
	Seq     uint32          `json:"seq,omitempty"`     // in the journal
	Attempt uint32          `json:"attempt,omitempty"` // of attempts, from 1
	Value   json.RawMessage `json:"value,omitempty"`   // absent when it is larger than a page, or a range was asked for
	Size    uint64          `json:"size,omitempty"`    // bytes of the value as JSON, with Offset and Data or when it is absent
	Offset  uint64          `json:"offset,omitempty"`
	Data    []byte          `json:"data,omitempty"` // bytes of the value as JSON, from Offset
}

// LogLine is one log line of an execution, and the value of an item of kind log.
type LogLine struct {
	Time  time.Time `json:"time"`
	Level string    `json:"level"` // debug, info, warn, error
	Text  string    `json:"text"`
}

// Walk implements [Message].
func (m *LogLine) Walk(c *Coder) {
	c.Time(&m.Time)
	c.String(&m.Level)
	c.String(&m.Text)
}

// Limits of the log lines of one execution. What is over them is left out, and a last line
// says how much that was.
const (
	MaxLogLines = 1000
	MaxLogBytes = 256 << 10
)

// LogLines are log lines of one step, on their way to be stored.
type LogLines struct {
	Number uint32 // of the first line in the execution, from 1
	Path   string // of the step, or empty
	Lines  uint32
	Body   []byte // a [LogPage], sealed at lease.EntryPlace of [LogLines.Entry]
}

// Walk implements [Message].
func (m *LogLines) Walk(c *Coder) {
	c.Uint32(&m.Number)
	c.String(&m.Path)
	c.Uint32(&m.Lines)
	c.Bytes(&m.Body)
}

// Entry is what names the lines where they are sealed.
func (m *LogLines) Entry() *Entry { return &Entry{Kind: EntryLog, Path: m.Path, Epoch: m.Number} }

// LogPage is the plain body of [LogLines].
type LogPage struct {
	Lines []LogLine
}

// Walk implements [Message].
func (m *LogPage) Walk(c *Coder) { List(c, &m.Lines) }

// Resolved is what a worker says of an instance's config: times of its flows, and what is
// wrong with the config. It holds no other value of the config.
type Resolved struct {
	Schedules []ResolvedSchedule `json:"schedules,omitempty"`
	Problems  []ConfigProblem    `json:"problems,omitempty"`
}

// ResolvedSchedule is when a flow with a schedule or a poll starts. Exactly one of Cron
// and Every is set, unless Problem says why not.
type ResolvedSchedule struct {
	Flow     string        `json:"flow"`
	Kind     string        `json:"kind"` // schedule or poll
	Cron     string        `json:"cron,omitempty"`
	Timezone string        `json:"timezone,omitempty"`
	Every    time.Duration `json:"every,omitempty"`
	Jitter   time.Duration `json:"jitter,omitempty"`
	Problem  string        `json:"problem,omitempty"`
}

// ConfigProblem is what is wrong with one config value. It never holds the value.
type ConfigProblem struct {
	Name    string `json:"name"`
	Problem string `json:"problem"`
}
