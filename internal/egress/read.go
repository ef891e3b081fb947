package egress

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"strings"
)

const (
	// ratioGrace is how much decompressed data is taken before its ratio is judged.
	ratioGrace = 1 << 20
	// maxRatio is the most bytes that one compressed byte may become.
	maxRatio = 100
	// firstRead is the size of the first buffer for a body of unknown length.
	firstRead = 2 << 10
	// headerScratch is the size of the buffer in which headers are scrubbed.
	headerScratch = 256
)

var (
	errTooLarge   = &Fault{Type: Limit, Message: "the answer is larger than allowed"}
	errRatio      = &Fault{Type: Limit, Message: "the answer decompresses to too much"}
	errBudget     = &Fault{Type: Limit, Message: "the lease's budget is spent"}
	errEncoding   = &Fault{Type: Upstream, Message: "the answer is compressed in a way that was not asked for"}
	errCompressed = &Fault{Type: Upstream, Message: "the answer's compression is broken"}
)

// wireReader counts the bytes of a body as they came.
type wireReader struct {
	r io.Reader
	n int64
}

func (w *wireReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.n += int64(n)
	return n, err
}

// plainReader is the decompressed body within limits of size, ratio and budget.
// It fails with a *Fault when one is passed.
type plainReader struct {
	r          io.Reader
	wire       *wireReader
	lease      *Lease
	left       int64
	n          int64
	compressed bool
}

func (p *plainReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	p.left -= int64(n)
	switch {
	case p.left < 0:
		return 0, errTooLarge
	case p.compressed && p.n > ratioGrace && p.n > maxRatio*p.wire.n:
		return 0, errRatio
	case !p.lease.takeBytes(int64(n)):
		return 0, errBudget
	case err == nil || errors.Is(err, io.EOF):
		return n, err
	case p.compressed && broken(err):
		return n, errCompressed
	}
	return n, err
}

// broken reports errors of the compressed form, as opposed to those of the connection.
func broken(err error) bool {
	if _, ok := errors.AsType[flate.CorruptInputError](err); ok {
		return true
	}
	return errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) ||
		errors.Is(err, zlib.ErrChecksum) || errors.Is(err, zlib.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)
}

// open returns the decompressed body of resp. Only gzip is asked for; deflate,
// in both forms that servers send (RFC 9110 section 8.4.1.2), is understood too.
func open(resp *http.Response, wire *wireReader, l *Lease, limit int64) (*plainReader, error) {
	p := &plainReader{r: wire, wire: wire, lease: l, left: limit}
	coding := strings.ToLower(strings.TrimSpace(strings.Join(resp.Header.Values("Content-Encoding"), ",")))
	if coding == "" || coding == "identity" || resp.ContentLength == 0 {
		return p, nil
	}
	buffered := bufio.NewReader(wire)
	if _, err := buffered.Peek(1); errors.Is(err, io.EOF) {
		return p, nil
	}
	p.compressed = true
	switch coding {
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, readError(err)
		}
		p.r = z
	case "deflate":
		if magic, _ := buffered.Peek(2); zlibHeader(magic) {
			z, err := zlib.NewReader(buffered)
			if err != nil {
				return nil, readError(err)
			}
			p.r = z
		} else {
			p.r = flate.NewReader(buffered)
		}
	default:
		return nil, errEncoding
	}
	return p, nil
}

func readError(err error) error {
	if broken(err) || errors.Is(err, io.EOF) {
		return errCompressed
	}
	return err
}

// zlibHeader is RFC 1950 section 2.2.
func zlibHeader(b []byte) bool {
	return len(b) == 2 && b[0]&0x0f == 8 && (uint(b[0])<<8|uint(b[1]))%31 == 0
}

// gather reads at most limit bytes of a body that says it has length bytes (-1:
// unknown); whole is false when there is more.
func gather(r io.Reader, length, limit int64) (body []byte, whole bool, err error) {
	size := int64(firstRead)
	if length >= 0 {
		size = min(length, limit)
	}
	// One byte more, so that the end of a body of known length is seen without growing.
	body = make([]byte, 0, size+1)
	for {
		if int64(len(body)) >= limit {
			var probe [1]byte
			n, err := io.ReadFull(r, probe[:])
			if n == 0 && errors.Is(err, io.EOF) {
				return body, true, nil
			}
			if n == 0 {
				return body, false, err
			}
			return append(body, probe[0]), false, nil
		}
		if len(body) == cap(body) {
			grown := make([]byte, len(body), 2*cap(body)+firstRead)
			copy(grown, body)
			body = grown
		}
		room := min(int64(cap(body)), limit) - int64(len(body))
		n, err := r.Read(body[len(body) : int64(len(body))+room])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, true, nil
		}
		if err != nil {
			return body, false, err
		}
	}
}

// receive reads, decompresses and scrubs the body of resp into a.
func (x *exchange) receive(resp *http.Response, a *Answer) error {
	c := x.call
	limit := c.limit()
	if resp.ContentLength > limit {
		return errTooLarge
	}
	plain, err := open(resp, &x.wire, c.Lease, limit)
	if err != nil {
		return err
	}
	length := min(resp.ContentLength, Inline)
	if plain.compressed {
		length = -1
	}
	mode := c.Response
	if !c.expected(a.Status) {
		mode = ModeAuto // what went wrong is read, and is no file that anybody asked for
	}
	a.Format = format(mode, resp.Header.Get("Content-Type"))
	var r io.Reader = plain
	if a.Format != ModeFile {
		var changed bool
		if r, changed = inUTF8(plain, resp.Header.Get("Content-Type")); changed {
			length = -1
		}
	}
	inline := limit
	if c.Sink != nil {
		inline = min(limit, Inline)
	}
	body, whole, err := gather(r, length, min(inline, scrubDeep))
	if err != nil {
		return err
	}
	if a.Format != ModeFile {
		body = withoutMark(body)
	}
	switch {
	case whole && (c.Sink == nil || mode != ModeFile):
		a.keep(body, c.Lease.scrub)
		return nil
	case c.Sink == nil:
		return x.buffer(a, body, r)
	default:
		return x.stream(a, body, r)
	}
}

// limit is the largest body that the call takes.
func (c *Call) limit() int64 {
	switch {
	case c.MaxBytes > 0:
		return min(c.MaxBytes, MaxAnswer)
	case c.Sink != nil:
		return MaxAnswer
	}
	return DefaultMaxBytes
}

// keep scrubs a body that fits in memory and keeps it.
func (a *Answer) keep(body []byte, s *Scrubber) {
	body, hits := s.Bytes(body)
	a.Body, a.Size = body, int64(len(body))
	a.ScrubHits += hits
}

// buffer scrubs a large body chunk by chunk into memory.
func (x *exchange) buffer(a *Answer, head []byte, rest io.Reader) error {
	var out bytes.Buffer
	if err := x.scrubInto(&out, a, head, rest); err != nil {
		return err
	}
	a.Body = out.Bytes()
	return nil
}

// stream scrubs a body chunk by chunk into the call's sink.
func (x *exchange) stream(a *Answer, head []byte, rest io.Reader) (err error) {
	w, err := x.call.Sink(a)
	if err != nil {
		return &Fault{Type: Upstream, Message: "the answer could not be stored", cause: err}
	}
	a.Streamed = true
	if err := x.scrubInto(w, a, head, rest); err != nil {
		if aborter, ok := w.(Aborter); ok {
			aborter.Abort()
		}
		return err
	}
	if err := w.Close(); err != nil {
		return &Fault{Type: Upstream, Message: "the answer could not be stored", cause: err}
	}
	return nil
}

func (x *exchange) scrubInto(w io.Writer, a *Answer, head []byte, rest io.Reader) error {
	out := &countWriter{w: w}
	s := &scrubWriter{s: x.call.Lease.scrub, to: out}
	_, err := s.Write(head)
	if err == nil {
		_, err = io.Copy(s, rest)
	}
	if err == nil {
		err = s.Finish()
	}
	a.Size, a.ScrubHits = out.n, a.ScrubHits+s.hits
	if out.err != nil {
		return &Fault{Type: Upstream, Message: "the answer could not be stored", cause: out.err}
	}
	return err
}

// countWriter counts and remembers whether it was the writer that failed.
type countWriter struct {
	w   io.Writer
	n   int64
	err error
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	if err != nil {
		c.err = err
	}
	return n, err
}

// format decides what a body is.
func format(wanted Mode, contentType string) Mode {
	if wanted != "" && wanted != ModeAuto {
		return wanted
	}
	media, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	media = strings.TrimSpace(media)
	switch {
	case media == "application/json" || strings.HasSuffix(media, "+json") || media == "text/json":
		return ModeJSON
	case media == "" || strings.HasPrefix(media, "text/") || strings.HasSuffix(media, "+xml") ||
		media == "application/xml" || media == "application/x-www-form-urlencoded" ||
		media == "application/javascript" || media == "application/x-ndjson" || media == "application/yaml":
		return ModeText
	}
	return ModeFile
}
