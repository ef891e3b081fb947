package egress

import (
	"io"

	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// streamChunk is how much is gathered before it is searched.
const streamChunk = 64 << 10

// scrubWriter scrubs a stream. It holds back as many bytes as a secret can
// take, so that one that is cut by chunk boundaries is found.
type scrubWriter struct {
	s       *Scrubber
	to      io.Writer
	buf     []byte
	done    int64 // bytes handed on or replaced
	covered int   // leading bytes of buf that a redaction already replaced
	hits    int
}

// hold is the most bytes a secret can take in text, less one.
func (w *scrubWriter) hold() int { return w.s.m.longest*longestEscape + 1 }

// Write takes p in; what is safe goes on.
func (w *scrubWriter) Write(p []byte) (int, error) {
	if w.s == nil {
		return w.to.Write(p)
	}
	w.buf = append(w.buf, p...)
	if len(w.buf) < w.hold()+streamChunk {
		return len(p), nil
	}
	return len(p), w.flush(len(w.buf) - w.hold())
}

// Finish hands on what was held back. It does not close the writer below.
func (w *scrubWriter) Finish() error {
	if w.s == nil {
		return nil
	}
	return w.flush(len(w.buf))
}

// flush hands on buf[:safe]. Every secret that begins there ends in buf.
func (w *scrubWriter) flush(safe int) error {
	var found []span
	if w.done < scrubDeep {
		found = w.s.spans(w.buf)
	} else {
		found = merge(w.s.m.find(w.buf, nil))
	}
	at := min(w.covered, len(w.buf))
	for _, f := range found {
		if f.start >= safe {
			break
		}
		if f.end <= at {
			continue
		}
		if f.start >= at {
			if err := w.put(w.buf[at:f.start], []byte(secret.Redacted)); err != nil {
				return err
			}
			w.hits++
		}
		at = f.end
	}
	if at < safe {
		if err := w.put(w.buf[at:safe]); err != nil {
			return err
		}
		at = safe
	}
	w.done += int64(safe)
	w.covered = at - safe
	w.buf = append(w.buf[:0], w.buf[safe:]...)
	return nil
}

func (w *scrubWriter) put(parts ...[]byte) error {
	for _, p := range parts {
		if len(p) == 0 {
			continue
		}
		if _, err := w.to.Write(p); err != nil {
			return err
		}
	}
	return nil
}
