package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Limits of requests and answers.
const (
	// MaxAnswer is the largest body of an answer, in bytes.
	MaxAnswer = 1 << 20
	// MaxToken is the longest token or kept value, in bytes.
	MaxToken = 16 << 10
	// maxRequest is the largest body of a request.
	maxRequest = 64 << 10
)

// ErrUnsent is wrapped by errors of a [Doer] when no byte of the request has reached the other side.
var ErrUnsent = errors.New("nothing was sent")

// Doer sends one request and returns the answer whole. It follows no redirect, refuses bodies over [MaxAnswer], and wraps
// [ErrUnsent] when nothing was sent.
type Doer interface {
	Do(ctx context.Context, r *Request) (*Response, error)
}

// Request is one request with its secrets in clear. It prints as method and host.
type Request struct {
	Method string
	URL    *url.URL
	Header http.Header
	Body   []byte
	// Certificate and Key are the client's, in PEM, when it proves itself by TLS (RFC 8705).
	Certificate, Key []byte
}

// Format prints method and host.
func (r *Request) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "%s %s", r.Method, r.URL.Host) }

// Response is an answer as it came.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	// Sent is when its request was sent, which lives are counted from. Zero: now.
	Sent time.Time
}

// Format prints the status.
func (r *Response) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "status %d", r.Status) }
