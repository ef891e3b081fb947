package oauth

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
)

// FaultKind says what a fault means for the grant.
type FaultKind string

// The kinds of faults.
const (
	// Refused: the code or refresh token is not worth anything any more; a person has to connect again.
	Refused FaultKind = "refused"
	// Temporary: the provider said no for now.
	Temporary FaultKind = "temporary"
	// Configuration: the provider does not accept the client or the request. The grant may be well.
	Configuration FaultKind = "configuration"
	// Unsent: nothing was sent. The grant is as it was.
	Unsent FaultKind = "unsent"
	// Ambiguous: it was sent, and the answer is unknown: a rotating token may be used up.
	Ambiguous FaultKind = "ambiguous"
	// Protocol: the answer breaks the specifications or the recipe and is not accepted.
	Protocol FaultKind = "protocol"
)

// Fault is the error of everything in this package.
type Fault struct {
	Kind FaultKind
	// Code is the provider's error code when it consists of plain characters, else empty.
	Code string
	// Status is that of the answer, 0 without one.
	Status int
	// RetryAfter is what the answer asked for.
	RetryAfter time.Duration
	// Message is for people and holds nothing that was received.
	Message string
	cause   error
}

// Error is kind, message and code.
func (f *Fault) Error() string {
	text := string(f.Kind) + ": " + f.Message
	if f.Code != "" {
		text += " (" + f.Code + ")"
	}
	return text
}

// Unwrap returns the cause, if it is not something received.
func (f *Fault) Unwrap() error { return f.cause }

// FaultOf returns the fault in err; any other error is one of configuration.
func FaultOf(err error) *Fault {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f
	}
	return &Fault{Kind: Configuration, Message: err.Error(), cause: err}
}

func protocol(message string) *Fault   { return &Fault{Kind: Protocol, Message: message} }
func configured(message string) *Fault { return &Fault{Kind: Configuration, Message: message} }

// maxCode is the longest error code that is repeated.
const maxCode = 64

// plainCode lets through what can be an error code and nothing else: providers put tokens into messages.
func plainCode(code string) string {
	if len(code) > maxCode || strings.Trim(code, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-: ") != "" {
		return ""
	}
	return code
}

// rejected classifies an answer that says no.
func rejected(a *credential.Answer, code string, r *Response, now time.Time) *Fault {
	f := &Fault{Code: plainCode(code), Status: r.Status, RetryAfter: retryAfter(r.Header, now)}
	switch {
	case slices.Contains(a.Refused, code) || code == "invalid_grant":
		f.Kind, f.Message = Refused, "the provider refuses the grant"
	case slices.Contains(a.Temporary, code) || code == "temporarily_unavailable" || code == "slow_down" ||
		r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable:
		f.Kind, f.Message = Temporary, "the provider is busy"
	case r.Status >= http.StatusInternalServerError || r.Status == http.StatusRequestTimeout || code == "server_error":
		f.Kind, f.Message = Ambiguous, "the provider failed"
	case r.Status >= 300 && r.Status < 400:
		f.Kind, f.Message = Protocol, "the provider answers with a redirect, which is never followed with a secret"
	default:
		f.Kind, f.Message = Configuration, "the provider does not accept the request"
	}
	if r.Status != http.StatusOK {
		f.Message += ": status " + strconv.Itoa(r.Status)
	}
	return f
}

// maxRetryAfter is the longest wait that an answer can ask for.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads Retry-After (RFC 9110 section 10.2.3), and the rate limit reset of those that send no such header (44).
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if date, err := http.ParseTime(value); err == nil {
		return min(max(date.Sub(now), 0), maxRetryAfter)
	}
	if value == "" {
		value = h.Get("X-Ratelimit-Reset")
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	const pointInTime = 1 << 30 // more seconds than a wait has
	if n > pointInTime {
		return min(max(time.Unix(n, 0).Sub(now), 0), maxRetryAfter)
	}
	return min(time.Duration(n)*time.Second, maxRetryAfter)
}
