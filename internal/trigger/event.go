package trigger

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Limits of a request.
const (
	// MaxBody is the largest body of a webhook, in bytes.
	MaxBody = 10 << 20
	// maxFields bounds the parameters of a query and the fields of a form.
	maxFields = 1000
)

// Errors of a body, to be compared with errors.Is.
var (
	// ErrTooLarge: the body is over MaxBody, or has more than a thousand fields.
	ErrTooLarge = errors.New("the body is too large")
	// ErrMalformed: the body is not what its type says.
	ErrMalformed = errors.New("the body is not what its type says")
	// ErrUnsupported: the body is of a type that webhooks do not take: files, or bytes that are no text.
	ErrUnsupported = errors.New("the body is of a type that webhooks do not take")
)

// Request is an HTTP request as the event of a flow.
type Request struct {
	Method string
	Header http.Header
	Query  url.Values
	Raw    []byte      // the body as it came
	body   expr.Value  // the body as expressions see it; nil without one
	cloud  *cloudEvent // what the sender says of its event; nil: it speaks no CloudEvents

	buf []byte // `{"body":`, then the body as JSON
}

// bodyOpen begins an event, so that a JSON body is part of it from the moment it is read.
const bodyOpen = `{"body":`

// ReadRequest reads the body of a request, of at most MaxBody bytes, by the type that it
// declares: JSON (RFC 8259), a form, or text. Without a type it is JSON if it can be, else text.
// An event of CloudEvents 1.0 is read in both modes, with the same result.
//
// Errors: ErrTooLarge, ErrMalformed, ErrUnsupported, or that of the reader.
func ReadRequest(r *http.Request) (*Request, error) {
	q := &Request{Method: r.Method, Header: r.Header}
	var err error
	if q.Query, err = url.ParseQuery(r.URL.RawQuery); err != nil || len(q.Query) > maxFields {
		return nil, ErrMalformed
	}
	size := 512
	if r.ContentLength > 0 {
		size = int(min(r.ContentLength, MaxBody)) + 1
	}
	// The rest of the event, which is appended later, mostly fits too.
	q.buf = append(make([]byte, 0, len(bodyOpen)+size+1024), bodyOpen...)
	if r.ContentLength > MaxBody {
		return nil, ErrTooLarge
	}
	if q.buf, err = readAll(q.buf, r.Body, len(bodyOpen)+MaxBody); err != nil {
		return nil, err
	}
	q.Raw = q.buf[len(bodyOpen):]
	if mediaType(q.Header.Get("Content-Type")) == structuredType {
		return q, q.structured()
	}
	q.cloud = binaryEvent(q.Header)
	return q, q.parse()
}

// readAll appends what a reader has to a buffer, up to a limit of its length.
func readAll(b []byte, r io.Reader, limit int) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if len(b) > limit {
			return nil, ErrTooLarge
		}
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// parse reads the body and makes it the first field of the event.
func (q *Request) parse() error {
	if len(q.Raw) == 0 {
		q.buf = append(q.buf, "null"...)
		return nil
	}
	declared := q.Header.Get("Content-Type")
	kind, _, err := mime.ParseMediaType(declared)
	if declared != "" && err != nil {
		return ErrMalformed
	}
	switch {
	case isJSON(kind):
		if q.body, err = expr.ParseJSON(q.Raw); err != nil {
			return ErrMalformed
		}
	case kind == "application/x-www-form-urlencoded":
		return q.form()
	case strings.HasPrefix(kind, "multipart/"):
		return ErrUnsupported
	case kind == "":
		if q.body, err = expr.ParseJSON(q.Raw); err != nil {
			return q.text()
		}
	default:
		return q.text()
	}
	return nil
}

func isJSON(kind string) bool { return kind == "application/json" || strings.HasSuffix(kind, "+json") }

// mediaType is a media type without its parameters; empty: it is none.
func mediaType(declared string) string {
	if declared == "application/json" {
		return declared
	}
	kind, _, err := mime.ParseMediaType(declared)
	if err != nil {
		return ""
	}
	return kind
}

func (q *Request) text() error {
	if !utf8.Valid(q.Raw) {
		return ErrUnsupported
	}
	q.replace(expr.String(string(q.Raw)))
	return nil
}

// form makes an object of a form, with the first value of each field.
func (q *Request) form() error {
	values, err := url.ParseQuery(string(q.Raw))
	switch {
	case err != nil:
		return ErrMalformed
	case len(values) > maxFields:
		return ErrTooLarge
	}
	keys := make([]string, 0, len(values))
	vals := make([]expr.Value, 0, len(values))
	for _, name := range sorted(values) {
		keys = append(keys, strings.ToValidUTF8(name, "\ufffd"))
		vals = append(vals, expr.String(strings.ToValidUTF8(values[name][0], "\ufffd")))
	}
	if len(slices.Compact(slices.Sorted(slices.Values(keys)))) != len(values) {
		return ErrMalformed
	}
	q.replace(expr.NewObject(keys, vals))
	return nil
}

// replace puts a value where the raw body stood, which is kept for the check of a signature.
func (q *Request) replace(v expr.Value) {
	q.body = v
	b, err := expr.AppendJSON(append(make([]byte, 0, len(q.buf)+1024), bodyOpen...), v)
	if err != nil { // a text or an object of texts always prints
		b = append(b[:len(bodyOpen)], "null"...)
	}
	q.buf = b
}

// Envelope is what the platform says about an event.
type Envelope struct {
	ID       string // the event's, as its sender says; empty: the platform's own
	Source   string
	Type     string
	Time     time.Time
	Customer *store.CustomerRow

	sender *sender // waits for the answer, or nil
	poll   bool    // look for items instead of running the flow
}

// Event is the request as JSON, as expressions see it: trigger and customer. It ends the
// Request, whose buffer it takes over; rest continues what does not fit into that, so that a
// large body is not copied. hidden are headers that prove who the sender is, in canonical
// form, beside those that always do.
func (q *Request) Event(e *Envelope, hidden ...string) (event []byte, rest [][]byte) {
	n := len(q.buf)
	tail := q.said(q.buf[n:], e, hidden)
	if n+len(tail) <= cap(q.buf) {
		return q.buf[:n+len(tail)], nil
	}
	return q.buf, [][]byte{tail}
}

// answer is the request as JSON, as the output of a wait is: {body, headers, query, time}. It ends
// the Request, whose buffer it takes over.
func (q *Request) answer(at time.Time, hidden []string) []byte {
	b := append(q.sent(q.buf, hidden), `,"time":"`...)
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"', '}')
}

// said appends everything of an event but its body.
func (q *Request) said(b []byte, e *Envelope, hidden []string) []byte {
	b = append(b, `,"method":`...)
	b = q.sent(appendText(b, q.Method), hidden)
	return append(e.fields(b), '}')
}

// sent appends the headers that a flow may see, and the query.
func (q *Request) sent(b []byte, hidden []string) []byte {
	names := make([]string, 0, len(q.Header))
	for name := range q.Header {
		if !secretHeader(name) && !slices.Contains(hidden, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	b = append(b, `,"headers":{`...)
	for n, name := range names {
		b = appendKey(b, n, strings.ToLower(name))
		b = appendText(b, q.Header[name][0])
	}
	b = append(b, `},"headers_all":{`...)
	for n, name := range names {
		b = appendKey(b, n, strings.ToLower(name))
		b = append(b, '[')
		for k, value := range q.Header[name] {
			if k > 0 {
				b = append(b, ',')
			}
			b = appendText(b, value)
		}
		b = append(b, ']')
	}
	b = append(b, `},"query":{`...)
	for n, name := range sorted(q.Query) {
		b = appendKey(b, n, name)
		b = appendText(b, q.Query[name][0])
	}
	return append(b, '}')
}

// Event is the JSON of an event that is no request; body is JSON, or empty for none.
func (e *Envelope) Event(body []byte) []byte {
	b := append(make([]byte, 0, len(body)+512), bodyOpen...)
	if len(body) == 0 {
		b = append(b, "null"...)
	}
	return append(e.fields(append(b, body...)), '}')
}

func (e *Envelope) fields(b []byte) []byte {
	b = append(b, `,"time":"`...)
	b = e.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	if e.ID != "" {
		b = appendText(append(b, `,"id":`...), e.ID)
	}
	b = appendText(append(b, `,"source":`...), e.Source)
	b = appendText(append(b, `,"type":`...), e.Type)
	if e.sender != nil {
		b = e.sender.field(b)
	}
	if e.poll {
		b = append(b, `,"poll":true`...)
	}
	if c := e.Customer; c != nil {
		b = engine.AppendCustomer(append(b, `,"customer":`...), c)
	}
	return b
}

// secretHeader names the headers that prove who somebody is, whatever a flow declares.
func secretHeader(name string) bool {
	return name == "Authorization" || name == "Proxy-Authorization" || name == "Cookie"
}

func sorted(v url.Values) []string {
	names := make([]string, 0, len(v))
	for name := range v {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func appendKey(b []byte, n int, name string) []byte {
	if n > 0 {
		b = append(b, ',')
	}
	return append(appendText(b, name), ':')
}

// appendText appends a text as JSON. What is not UTF-8 in it is replaced.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			out, err := expr.AppendJSON(b, expr.String(strings.ToValidUTF8(s, "\ufffd")))
			if err != nil { // a valid text within the limits always prints
				return append(b, `""`...)
			}
			return out
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
