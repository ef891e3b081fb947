package egress

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"sync/atomic"
)

var (
	errBodyTwice = errors.New("a request has one of body, stream, form and multipart")
	errBodySize  = errors.New("the request body is too large")
	errPart      = errors.New("a part has a name, and a content type without control characters")
)

// payload is a request body. Bytes can be sent again, a stream cannot.
type payload struct {
	bytes       []byte
	stream      io.Reader
	size        int64 // -1: unknown
	contentType string
}

func (p *payload) empty() bool  { return p.bytes == nil && p.stream == nil }
func (p *payload) replay() bool { return p.stream == nil }

// attach puts the body into req and returns the counter of what is sent of a
// stream. Bytes stay in a form in which net/http sends them in one write with the
// headers; without replay it cannot send them twice.
func (p *payload) attach(req *http.Request, l *Lease, replay bool) *bodyReader {
	switch {
	case p.stream != nil:
		b := &bodyReader{r: p.stream, lease: l, unknown: p.size < 0}
		req.Body, req.ContentLength = b, p.size
		return b
	case len(p.bytes) > 0:
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(p.bytes)), int64(len(p.bytes))
		if replay {
			req.GetBody = func() (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(p.bytes)), nil
			}
		}
	}
	return nil
}

func newPayload(c *Call) (*payload, error) {
	set := 0
	for _, has := range []bool{c.Body != nil, c.Stream != nil, c.Form != nil, c.Multipart != nil} {
		if has {
			set++
		}
	}
	if set > 1 {
		return nil, errBodyTwice
	}
	p := &payload{}
	switch {
	case c.Body != nil:
		p.bytes, p.contentType = c.Body, "application/json"
	case c.Stream != nil:
		p.stream, p.size, p.contentType = c.Stream, max(c.StreamSize, -1), "application/octet-stream"
	case c.Form != nil:
		var b strings.Builder
		for _, f := range c.Form {
			appendPair(&b, f)
		}
		p.bytes, p.contentType = []byte(b.String()), "application/x-www-form-urlencoded"
	case c.Multipart != nil:
		if err := p.multipart(c.Multipart); err != nil {
			return nil, err
		}
	}
	if c.ContentType != "" && c.Multipart == nil {
		p.contentType = c.ContentType
	}
	if len(p.bytes) > MaxBody {
		return nil, errBodySize
	}
	return p, nil
}

// multipart lays the parts out: one byte slice if all are in memory, else a
// reader over the pieces, so that files pass through without being held.
func (p *payload) multipart(parts []Part) error {
	var head bytes.Buffer
	w := multipart.NewWriter(&head)
	var pieces []io.Reader
	var streamed, known int64
	cut := func() {
		pieces = append(pieces, bytes.NewReader(bytes.Clone(head.Bytes())))
		known += int64(head.Len())
		head.Reset()
	}
	for _, part := range parts {
		header, err := partHeader(part)
		if err != nil {
			return err
		}
		pw, err := w.CreatePart(header)
		if err != nil {
			return err
		}
		if part.Stream == nil {
			if head.Len()+len(part.Data) > MaxBody {
				return errBodySize
			}
			_, _ = pw.Write(part.Data)
			continue
		}
		cut()
		pieces = append(pieces, part.Stream)
		if part.Size < 0 || streamed < 0 {
			streamed = -1
		} else {
			streamed += part.Size
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	p.contentType = w.FormDataContentType()
	if pieces == nil {
		p.bytes = head.Bytes()
		return nil
	}
	cut()
	p.stream, p.size = io.MultiReader(pieces...), -1
	if streamed >= 0 {
		p.size = streamed + known
	}
	return nil
}

func partHeader(p Part) (textproto.MIMEHeader, error) {
	if p.Name == "" || !fieldValue(p.ContentType) {
		return nil, errPart
	}
	h := textproto.MIMEHeader{}
	contentType := p.ContentType
	if p.FileName != "" {
		h.Set("Content-Disposition", multipart.FileContentDisposition(p.Name, p.FileName))
		if contentType == "" {
			contentType = "application/octet-stream"
		}
	} else {
		file := multipart.FileContentDisposition(p.Name, "")
		h.Set("Content-Disposition", strings.TrimSuffix(file, `; filename=""`))
	}
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	return h, nil
}

// bodyReader counts what net/http reads of a stream, on whichever goroutine it
// does, and charges the lease for one whose length was not known before.
type bodyReader struct {
	r       io.Reader
	lease   *Lease
	unknown bool
	n       atomic.Int64
}

// Read fails with a fault when the lease's budget is spent.
func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n.Add(int64(n))
	if b.unknown && !b.lease.takeBytes(int64(n)) {
		return n, errBudget
	}
	return n, err
}

// Close leaves the stream to its owner.
func (*bodyReader) Close() error { return nil }
