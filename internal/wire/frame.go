package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Version begins every frame. A release reads its own version and the one before.
const Version = 1

// headerSize is the length (4 bytes, of all that follows), version and type.
const headerSize = 6

// Frame is one message as it travels: a type and its encoded fields.
type Frame struct {
	Type Type
	Body []byte
}

// Parse reads the frame's fields into m, whose type must be the frame's.
func (f Frame) Parse(m Typed) error {
	if m.FrameType() != f.Type {
		return fmt.Errorf("%w: a %v frame where a %v was expected", ErrMalformed, f.Type, m.FrameType())
	}
	return ParseBody(f.Body, m)
}

// Typed is a message that is sent as a frame of its own.
type Typed interface {
	Message
	// FrameType is the type byte of the frame.
	FrameType() Type
}

// AppendFrame appends m as a frame. Many frames one after the other are a batch.
func AppendFrame(dst []byte, m Typed) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, Version, byte(m.FrameType()))
	dst = AppendBody(dst, m)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// AppendRaw appends a frame that was received, unchanged.
func AppendRaw(dst []byte, f Frame) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(f.Body)+2))
	dst = append(dst, Version, byte(f.Type))
	return append(dst, f.Body...)
}

// Next splits the first frame off a batch. An empty batch is io.EOF.
func Next(batch []byte) (f Frame, rest []byte, err error) {
	if len(batch) == 0 {
		return Frame{}, nil, io.EOF
	}
	if len(batch) < headerSize {
		return Frame{}, nil, fmt.Errorf("%w: cut header", ErrMalformed)
	}
	n := binary.BigEndian.Uint32(batch)
	if err := checkHeader(n, batch[4]); err != nil {
		return Frame{}, nil, err
	}
	if uint64(n)+4 > uint64(len(batch)) {
		return Frame{}, nil, fmt.Errorf("%w: cut frame", ErrMalformed)
	}
	return Frame{Type(batch[5]), batch[headerSize : 4+n : 4+n]}, batch[4+n:], nil
}

func checkHeader(n uint32, version byte) error {
	if n < 2 || n > MaxFrame-4 {
		return fmt.Errorf("%w: length %d", ErrMalformed, n)
	}
	if version != Version {
		return fmt.Errorf("%w: version %d, this release speaks %d", ErrMalformed, version, Version)
	}
	return nil
}

// Reader reads frames from a stream. It is for one goroutine.
type Reader struct{ r *bufio.Reader }

// NewReader makes a Reader.
func NewReader(r io.Reader) *Reader { return &Reader{bufio.NewReaderSize(r, 64<<10)} }

// Read returns the next frame, in memory of its own. The end of the stream
// between two frames is io.EOF, within one io.ErrUnexpectedEOF.
func (r *Reader) Read() (Frame, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r.r, h[:]); err != nil {
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(h[:])
	if err := checkHeader(n, h[4]); err != nil {
		return Frame{}, err
	}
	body := make([]byte, n-2)
	if _, err := io.ReadFull(r.r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, fmt.Errorf("read frame: %w", err)
	}
	return Frame{Type(h[5]), body}, nil
}

// Buffered reports whether another frame may be read without waiting.
func (r *Reader) Buffered() bool { return r.r.Buffered() >= headerSize }

// Writer writes frames to a stream: senders append to one buffer, a single
// flusher writes what has gathered in one call. It is safe for concurrent use.
type Writer struct {
	w     io.Writer
	fails bool // when too much is pending, instead of waiting

	mu      sync.Mutex
	wake    *sync.Cond
	pending []byte
	spare   []byte
	err     error
	frames  int // pending
	closed  bool
	done    chan struct{} // closed by the flusher when it ends
}

// gatherFrom is the size of a batch after which another large one is expected, and
// gatherFor how long it gathers.
const (
	gatherFrom = 8
	gatherFor  = 200 * time.Microsecond
)

// Gather lets frames gather before a flusher takes them, whose last batch had that many.
// Every batch is a system call that wakes the other side, which costs more than the frames
// do. So whoever is about to add a frame runs first; and under load more may come: when little
// is sent, nothing waits for the clock.
func Gather(last int) {
	if last >= gatherFrom {
		time.Sleep(gatherFor)
		return
	}
	runtime.Gosched()
}

// NewWriter makes a Writer and starts its flusher, which ends with Close or with
// the first failed write.
func NewWriter(w io.Writer) *Writer {
	x := &Writer{w: w, done: make(chan struct{})}
	x.wake = sync.NewCond(&x.mu)
	go x.flush()
	return x
}

// NewFailingWriter makes a Writer that fails with [ErrSlow] where a Writer would
// wait: for readers that are not trusted to read.
func NewFailingWriter(w io.Writer) *Writer {
	x := NewWriter(w)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fails = true
	return x
}

// ErrSlow means that the other side does not read what is sent to it.
var ErrSlow = errors.New("too many frames are waiting for a slow reader")

// maxPending bounds what waits for a slow reader, in bytes.
const maxPending = 64 << 20

// Write queues one frame. It returns the error of an earlier write, if any.
func (w *Writer) Write(m Typed) error {
	return w.queue(func(b []byte) []byte { return AppendFrame(b, m) })
}

// WriteRaw queues a received frame unchanged.
func (w *Writer) WriteRaw(f Frame) error {
	return w.queue(func(b []byte) []byte { return AppendRaw(b, f) })
}

func (w *Writer) queue(add func([]byte) []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.pending) > maxPending && w.err == nil && !w.closed {
		if w.fails {
			return ErrSlow
		}
		w.wake.Wait()
	}
	if w.err != nil {
		return w.err
	}
	if w.closed {
		return io.ErrClosedPipe
	}
	w.pending = add(w.pending)
	if w.frames++; w.frames == 1 {
		w.wake.Broadcast()
	}
	return nil
}

func (w *Writer) flush() {
	defer close(w.done)
	w.mu.Lock()
	defer w.mu.Unlock()
	last := 0
	for {
		for len(w.pending) == 0 && !w.closed {
			w.wake.Wait()
		}
		if len(w.pending) == 0 {
			return
		}
		if !w.closed {
			w.mu.Unlock()
			Gather(last)
			w.mu.Lock()
		}
		out := w.pending
		w.pending, w.spare = w.spare[:0], nil
		last, w.frames = w.frames, 0
		w.wake.Broadcast()
		w.mu.Unlock()
		_, err := w.w.Write(out)
		w.mu.Lock()
		if cap(out) <= 1<<20 {
			w.spare = out
		}
		if err != nil {
			w.err = fmt.Errorf("write frames: %w", err)
			w.wake.Broadcast()
			return
		}
	}
}

// Close flushes what is queued and ends the flusher. It does not close the stream.
func (w *Writer) Close() error {
	w.mu.Lock()
	w.closed = true
	w.wake.Broadcast()
	w.mu.Unlock()
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// ForRead reports whether a BlobRead or BlobChunk is about a call that a worker makes for a
// read, see [ReadCall].
func ForRead(f Frame) bool {
	if f.Type != TypeBlobRead && f.Type != TypeBlobChunk {
		return false
	}
	c := Coder{buf: f.Body, reading: true}
	var call uint64
	c.Uint(&call)
	return c.err == nil && call&ReadCall != 0
}

// Scope says which execution a worker's frame is about and under which fence it
// claims to act, from the fields that begin these messages. ok is false for frames
// that are about no execution.
func Scope(f Frame) (e id.Execution, fence uint64, ok bool) {
	c := Coder{buf: f.Body, reading: true}
	var skip [16]byte
	var call uint64
	switch f.Type {
	case TypeAppend, TypeReleased, TypeSandboxWant, TypeSandboxOpen, TypeSandboxRun, TypeSandboxClose,
		TypeSandboxResult, TypeCancel, TypeAppended, TypeWake:
		c.Fixed(e[:])
		c.Uint(&fence)
	case TypeReply:
		c.Fixed(skip[:])
		c.Fixed(e[:])
		c.Uint(&fence)
	case TypeView, TypeProgress:
		c.Fixed(skip[:])
		c.Fixed(e[:])
	case TypeState, TypeJournalGet:
		c.Uint(&call)
		c.Fixed(e[:])
		c.Uint(&fence)
	case TypeStateResult, TypeJournalPage:
		c.Uint(&call)
		c.Fixed(e[:])
	case TypeBlobWrite, TypeBlobRead, TypeBlobChunk:
		c.Uint(&call)
		c.Fixed(skip[:])
		c.Fixed(e[:])
	default:
		return e, 0, false
	}
	return e, fence, c.err == nil
}
