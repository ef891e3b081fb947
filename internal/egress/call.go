package egress

import (
	"io"
	"net/http"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Limits of a call and its answer.
const (
	// DefaultTimeout is the time for a whole call: redirects, answer and all.
	DefaultTimeout = 30 * time.Second
	// MaxTimeout is the longest time a call may ask for.
	MaxTimeout = 10 * time.Minute
	// DefaultMaxBytes is the largest answer body, decompressed, of a call without a Sink.
	DefaultMaxBytes = 16 << 20
	// MaxAnswer is the largest answer body, decompressed, that a call may ask for.
	MaxAnswer = 1 << 30
	// Inline is the largest body that is kept in Answer.Body when the call has a Sink.
	Inline = 256 << 10
	// MaxBody is the largest request body held in memory.
	MaxBody = 16 << 20
	// MaxRedirects is how many redirects of one call are followed.
	MaxRedirects = 5
	// MaxAnswerHeader is the most header bytes of an answer.
	MaxAnswerHeader = 64 << 10
	// MaxKey is the longest idempotency key.
	MaxKey = 255
)

// Mode is how the caller wants the body of an answer.
type Mode string

// The modes of an answer. The zero Mode is ModeAuto.
const (
	ModeAuto Mode = "auto"
	ModeJSON Mode = "json"
	ModeText Mode = "text"
	ModeFile Mode = "file"
)

// Call is one request in the name of a lease.
type Call struct {
	Lease *Lease
	// Execution is on whose behalf the call is made, for the flow record.
	Execution id.Execution
	// Action is what the call is for. A binding may let redirects of some actions lead to other origins.
	Action string
	// Method is upper case; empty is GET.
	Method string
	// Base is the name of one of the binding's bases; empty is its first place.
	Base string
	// Host chooses the host under a pattern binding; empty for an exact one.
	Host string
	// Path is escaped, begins with one slash and is put behind the binding's base path; empty
	// is the base path itself.
	Path string
	// Query and Headers are not yet encoded.
	Query   []Pair
	Headers []Pair

	// At most one of the next four is set.

	// Body is sent as it is, as JSON unless ContentType or a header says otherwise.
	Body []byte
	// Stream is sent once; StreamSize is its length in bytes, negative when unknown.
	Stream     io.Reader
	StreamSize int64
	// Form is sent as application/x-www-form-urlencoded.
	Form []Pair
	// Multipart is sent as multipart/form-data.
	Multipart []Part

	// ContentType overrides the body's default type.
	ContentType string
	// Response is how the body is wanted.
	Response Mode
	// Expect lists statuses of 400 and more that are not errors, "404" or "4xx". Below 400 none is an error; a
	// redirect that is listed is not followed but is the answer.
	Expect []string
	// IdempotencyKey is sent with every method that has an effect, unless Headers has one.
	IdempotencyKey string
	// Once keeps the connection layer from sending the request again when a reused
	// connection turns out to be dead; such a request faults with outcome Unknown.
	Once bool
	// Timeout is the time for all; 0 is DefaultTimeout.
	Timeout time.Duration
	// MaxBytes bounds the decompressed body; 0 is DefaultMaxBytes, or MaxAnswer with a Sink.
	MaxBytes int64
	// Sink, when set, is called for a body larger than Inline, and for every body in ModeFile, with the answer
	// so far (status and headers). The scrubbed body is written to what it returns, which is closed when
	// the body is whole. After a fault it is not closed but, if it has one, its Abort method is called.
	Sink func(*Answer) (io.WriteCloser, error)

	// within is what requests of the action look like for which the connection is shared; nil: it is shared for all.
	within []permitted
}

// Part is one part of a multipart body.
type Part struct {
	Name string
	// FileName makes the part a file.
	FileName    string
	ContentType string
	// Data is the content, or Stream with Size bytes.
	Data   []byte
	Stream io.Reader
	Size   int64
}

// Aborter is the optional ability of a sink to drop what was written to it.
type Aborter interface{ Abort() }

// Answer is what came back, scrubbed.
type Answer struct {
	Status int
	// Headers are without Content-Encoding and Content-Length, which no longer describe the body.
	Headers http.Header
	// Format is what the body is: ModeJSON, ModeText or ModeFile.
	Format Mode
	// Body is the decompressed body; nil when it went to the sink.
	Body []byte
	// Size is the length of the body in bytes, wherever it went.
	Size int64
	// Streamed is set when the body went to the sink.
	Streamed bool
	// Duration is the time the whole call took.
	Duration time.Duration
	// ScrubHits is how many places were redacted in headers and body.
	ScrubHits int
}

// expected reports whether status is not an error for this call.
func (c *Call) expected(status int) bool {
	return status < http.StatusBadRequest || statusListed(c.Expect, status)
}
