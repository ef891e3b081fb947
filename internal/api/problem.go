package api

import (
	"net/http"
	"strconv"
	"time"
)

// Problem is an error answer (RFC 9457). Its code is stable; its texts are for people.
type Problem struct {
	Title     string  `json:"title" doc:"What kind of problem it is."`
	Status    int     `json:"status" doc:"The HTTP status."`
	Code      Code    `json:"code" doc:"Stable name of the kind, for programs."`
	Detail    string  `json:"detail,omitempty" doc:"What is wrong with this request."`
	Errors    []Place `json:"errors,omitempty" doc:"Where it is wrong."`
	RequestID string  `json:"request_id,omitempty" doc:"Also in the header X-Request-Id and in the server's log."`

	RetryAfter time.Duration `json:"-"` // of the header Retry-After, where there is one
}

// Error implements error.
func (p *Problem) Error() string {
	text := p.Title
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	for _, e := range p.Errors {
		text += "; " + e.Place + ": " + e.Message
	}
	return text
}

// Place says what is wrong at one place of a request. It never repeats a value.
type Place struct {
	Place   string `json:"place" doc:"Such as body.name or query.limit."`
	Message string `json:"message"`
}

// Code names a kind of problem. Codes never change their meaning.
type Code string

// The codes of all problems.
const (
	CodeMalformed       Code = "malformed"
	CodeUnauthenticated Code = "unauthenticated"
	CodeForbidden       Code = "forbidden"
	CodeNotFound        Code = "not-found"
	CodeMethod          Code = "method-not-allowed"
	CodeTimeout         Code = "timeout"
	CodeConflict        Code = "conflict"
	CodeInUse           Code = "in-use"
	CodeNoTest          Code = "no-test"
	CodeNoChoices       Code = "no-choices"
	CodeNotEnabled      Code = "not-enabled"
	CodeInProgress      Code = "in-progress"
	CodeAnswerNotKept   Code = "answer-not-kept"
	CodeGone            Code = "gone"
	CodeChanged         Code = "changed"
	CodeTooLarge        Code = "too-large"
	CodeMediaType       Code = "media-type"
	CodeInvalid         Code = "invalid"
	CodeInvalidInput    Code = "invalid-input"
	CodeInvalidSource   Code = "invalid-source"
	CodeKeyReused       Code = "key-reused"
	CodeRevisionNeeded  Code = "revision-needed"
	CodeRateLimited     Code = "rate-limited"
	CodeBusy            Code = "busy"
	CodeInternal        Code = "internal"
	CodeUnavailable     Code = "unavailable"
	CodeNotAnswered     Code = "not-answered"
)

// Kind describes a kind of problem.
type Kind struct {
	Code   Code
	Status int
	Title  string
	Help   string // what to do about it
}

// Kinds is the table of all problems, in the order of their statuses.
func Kinds() []Kind {
	return []Kind{
		{CodeMalformed, http.StatusBadRequest, "the request cannot be read", "Send JSON (RFC 8259) without unknown or repeated names."},
		{CodeUnauthenticated, http.StatusUnauthorized, "no valid token", "Send Authorization: Bearer with a token that has not expired or been revoked."},
		{CodeForbidden, http.StatusForbidden, "the token may not do this", "Use a token whose role has the permission that the detail names."},
		{CodeNotFound, http.StatusNotFound, "not found", "Check the id. What belongs to another organization is not found either."},
		{CodeMethod, http.StatusMethodNotAllowed, "method not allowed", "See the header Allow."},
		{CodeTimeout, http.StatusRequestTimeout, "the request did not arrive in time", "Send it again."},
		{CodeConflict, http.StatusConflict, "it conflicts with what is there", "See the detail."},
		{CodeInUse, http.StatusConflict, "it is in use", "Remove what uses it first."},
		{CodeNoTest, http.StatusConflict, "the connection has no test", "Its connector names no request that would prove it: run a flow that uses it."},
		{CodeNoChoices, http.StatusConflict, "no action lists it", "Enter the value by hand."},
		{CodeNotEnabled, http.StatusConflict, "the instance takes no events", "Give it the config and connections that it needs."},
		{CodeInProgress, http.StatusConflict, "the first request with this key has not been answered yet", "Repeat the request later with the same Idempotency-Key."},
		{CodeAnswerNotKept, http.StatusConflict, "the answer to the first request with this key held a secret and was not kept", "It was done. If its answer is lost, revoke what it made and use a new Idempotency-Key."},
		{CodeGone, http.StatusGone, "it has expired", "Payloads are destroyed after their retention; metadata stays."},
		{CodeChanged, http.StatusPreconditionFailed, "it has changed meanwhile", "Get it again, and send its ETag as If-Match."},
		{CodeTooLarge, http.StatusRequestEntityTooLarge, "too large", "See the limits in GET /api/v1/server."},
		{CodeMediaType, http.StatusUnsupportedMediaType, "unsupported media type", "Send application/json."},
		{CodeInvalid, http.StatusUnprocessableEntity, "invalid request", "See the detail and the places in errors."},
		{CodeInvalidInput, http.StatusUnprocessableEntity, "the input is invalid", "Send an event that matches the schema of the flow's trigger."},
		{CodeInvalidSource, http.StatusUnprocessableEntity, "the integration is invalid", "Correct the places in errors; POST /api/v1/integrations/validate says more."},
		{CodeKeyReused, http.StatusUnprocessableEntity, "the Idempotency-Key was used for another request", "Use a new key for a new request."},
		{CodeRevisionNeeded, http.StatusPreconditionRequired, "the revision is needed", "Send the ETag of what you change as If-Match."},
		{CodeRateLimited, http.StatusTooManyRequests, "too many requests", "Wait for the seconds in Retry-After."},
		{CodeBusy, http.StatusTooManyRequests, "too much is pending", "The customer has as many pending events as are allowed: wait for the seconds in Retry-After."},
		{CodeInternal, http.StatusInternalServerError, "the server failed", "Look for the request id in the server's log."},
		{CodeNotAnswered, http.StatusBadGateway, "the connected service did not answer what was asked", "See the detail; the execution that it names says more."},
		{CodeUnavailable, http.StatusServiceUnavailable, "a part of the platform does not answer", "See GET /readyz; try again later."},
	}
}

// problemOf makes a problem of a kind.
func problemOf(c Code, detail string, places ...Place) *Problem {
	for _, k := range Kinds() {
		if k.Code == c {
			return &Problem{Title: k.Title, Status: k.Status, Code: c, Detail: detail, Errors: places}
		}
	}
	return &Problem{Title: "the server failed", Status: http.StatusInternalServerError, Code: CodeInternal}
}

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.RetryAfter+time.Second-1)/time.Second)))
	}
	return h
}

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }
