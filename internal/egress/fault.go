package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/dial"
)

// Type is an error type of the integration format.
type Type string

// The types of faults that this package makes.
const (
	Auth         Type = "auth"          // 401, 403
	Timeout      Type = "timeout"       // the deadline passed, or a 408
	RateLimited  Type = "rate-limited"  // 429
	NotFound     Type = "not-found"     // 404, 410
	InvalidInput Type = "invalid-input" // a call that cannot be made, or another 4xx
	Upstream     Type = "upstream"      // 5xx, conflicts, connection trouble, answers that cannot be read
	EgressDenied Type = "egress-denied" // binding or address policy
	Limit        Type = "limit"         // size, ratio or budget
	Interrupted  Type = "interrupted"   // the caller gave up
)

// Outcome says what is known about the effect of a request.
type Outcome string

// The outcomes. Only [Answered] lets the idempotency key advance.
const (
	// NotSent: no byte reached the other side.
	NotSent Outcome = "not-sent"
	// Unknown: the request may have had its effect. Answers of intermediaries (502, 504), 408
	// and 409 (which providers send while an earlier try with the same key still runs) are of this kind too.
	Unknown Outcome = "unknown"
	// Answered: a definite error answer came.
	Answered Outcome = "answered"
)

// MaxRetryAfter is the longest wait that an answer can ask for.
const MaxRetryAfter = 24 * time.Hour

// Fault is the error of [Client.Do].
type Fault struct {
	Type    Type
	Outcome Outcome
	// Status is the status of the answer, 0 without one.
	Status int
	// RetryAfter is what the answer's Retry-After asked for, 0 without one.
	RetryAfter time.Duration
	// Message is for people; it holds no payload, path, query or secret.
	Message string
	// Answer is the scrubbed answer when one came and was read, else nil.
	Answer *Answer
	cause  error
}

// Error is type and message.
func (f *Fault) Error() string { return string(f.Type) + ": " + f.Message }

// Unwrap returns a [*dial.Denied], a context error or an error of the call's own callbacks, if
// one was the cause. Errors that may repeat what the other side sent are not kept.
func (f *Fault) Unwrap() error { return f.cause }

// Definite reports whether the idempotency key advances after this fault.
func (f *Fault) Definite() bool { return f.Outcome == Answered }

func refuse(t Type, cause error) *Fault {
	return &Fault{Type: t, Outcome: NotSent, Message: cause.Error(), cause: cause}
}

func deny(message string) *Fault {
	return &Fault{Type: EgressDenied, Outcome: NotSent, Message: message}
}

// statusFault is the fault of an answer that the call did not expect.
func statusFault(a *Answer, now time.Time) *Fault {
	f := &Fault{Type: statusType(a.Status), Outcome: Answered, Status: a.Status, Answer: a}
	switch a.Status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusBadGateway, http.StatusGatewayTimeout:
		f.Outcome = Unknown
	}
	if wait, ok := ParseRetryAfter(a.Headers.Get("Retry-After"), now); ok {
		f.RetryAfter = wait
	}
	f.Message = "the service answered " + strconv.Itoa(a.Status)
	if text := http.StatusText(a.Status); text != "" {
		f.Message += " (" + strings.ToLower(text) + ")"
	}
	return f
}

func statusType(status int) Type {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return Auth
	case http.StatusTooManyRequests:
		return RateLimited
	case http.StatusNotFound, http.StatusGone:
		return NotFound
	case http.StatusRequestTimeout:
		return Timeout
	case http.StatusConflict, http.StatusLocked, http.StatusTooEarly, http.StatusMisdirectedRequest:
		return Upstream
	}
	if status >= 400 && status < 500 {
		return InvalidInput
	}
	return Upstream
}

// ParseRetryAfter reads a Retry-After value (RFC 9110 section 10.2.3): seconds or a date. A date in the past
// is zero; more than [MaxRetryAfter] is cut to it; ok is false for anything else.
func ParseRetryAfter(value string, now time.Time) (wait time.Duration, ok bool) {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0, false
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseUint(value, 10, 32)
		if err != nil || seconds > uint64(MaxRetryAfter/time.Second) {
			return MaxRetryAfter, true
		}
		return time.Duration(seconds) * time.Second, true
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	return min(max(date.Sub(now), 0), MaxRetryAfter), true
}

// transportFault classifies an error without an answer. sent is false while no connection was had.
func transportFault(ctx context.Context, err error, sent bool) *Fault {
	f := &Fault{Type: Upstream, Outcome: NotSent}
	if sent {
		f.Outcome = Unknown
	}
	if own, ok := errors.AsType[*Fault](err); ok {
		f.Type, f.Message, f.RetryAfter, f.cause = own.Type, own.Message, own.RetryAfter, own.cause
		if own.Outcome == Answered {
			f.Outcome = Answered
		}
		return f
	}
	if denied, ok := errors.AsType[*dial.Denied](err); ok {
		return &Fault{Type: EgressDenied, Outcome: NotSent, Message: denied.Error(), cause: denied}
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		f.cause = ctxErr
		if errors.Is(ctxErr, context.DeadlineExceeded) {
			f.Type, f.Message = Timeout, "the service did not answer in time"
		} else {
			f.Type, f.Message = Interrupted, "the request was given up"
		}
		return f
	}
	f.Message = transportMessage(err)
	return f
}

// transportMessage describes an error in our words; only texts of the operating
// system and of certificate checks are repeated, never bytes of an answer.
func transportMessage(err error) string {
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if e.IsNotFound {
			return fmt.Sprintf("the name %q"+textUnresolved, strings.TrimSuffix(e.Name, "."))
		}
		return fmt.Sprintf("the name %q"+textNoLookup, strings.TrimSuffix(e.Name, "."))
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return textCertificate + e.Err.Error()
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return textNoTLS
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" { // an alert of TLS: a text of ours for a number
		return textAlert + strings.TrimPrefix(e.Err.Error(), "tls: ")
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && (e.Op == "dial" || e.Op == "read" || e.Op == "write") {
		return textTrouble + e.Op + ": " + e.Err.Error()
	}
	return textBroken
}
