package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// blobWindow is how many chunks may be on their way at a time, per blob.
	blobWindow = 4
	// blobTimeout bounds the wait for one chunk or acknowledgement.
	blobTimeout = 30 * time.Second
)

// errBlob means that the blob store did not take or give a chunk.
var errBlob = errors.New("blob store")

// blobLink reads and writes blobs through a server, sealed on this side.
type blobLink struct {
	bus Bus

	mu    sync.Mutex
	last  uint64
	calls map[uint64]chan wire.BlobChunk
}

func newBlobLink(b Bus) *blobLink { return &blobLink{bus: b, calls: map[uint64]chan wire.BlobChunk{}} }

// chunk takes an answer of the server.
func (l *blobLink) chunk(f wire.Frame) error {
	var m wire.BlobChunk
	if err := f.Parse(&m); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, ok := l.calls[m.Call]; ok {
		delete(l.calls, m.Call)
		c <- m // has room for the one answer
	}
	return nil
}

// ask sends a request and gives the channel of its one answer.
func (l *blobLink) ask(make func(call uint64) wire.Typed) (uint64, <-chan wire.BlobChunk) {
	c := newAnswer()
	l.mu.Lock()
	l.last++
	call := l.last
	l.calls[call] = c
	l.mu.Unlock()
	l.bus.Send(wire.RoleServer, id.Node{}, wire.TopicBlob, make(call))
	return call, c
}

func newAnswer() chan wire.BlobChunk { return make(chan wire.BlobChunk, 1) }

func (l *blobLink) wait(ctx context.Context, call uint64, c <-chan wire.BlobChunk) (wire.BlobChunk, error) {
	t := time.NewTimer(blobTimeout)
	defer t.Stop()
	select {
	case m := <-c:
		if m.Error != "" {
			return m, fmt.Errorf("%w: %s", errBlob, m.Error)
		}
		return m, nil
	case <-ctx.Done():
		return wire.BlobChunk{}, l.forget(call, ctx.Err())
	case <-t.C:
		return wire.BlobChunk{}, l.forget(call, fmt.Errorf("%w: no answer", errBlob))
	}
}

func (l *blobLink) forget(call uint64, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, call)
	return err
}

// blobWriter seals what is written to it into chunks. It is for one goroutine.
type blobWriter struct {
	ctx       context.Context
	link      *blobLink
	key       *seal.StreamKey
	execution id.Execution
	ref       wire.BlobRef
	done      bool

	buf   []byte
	index uint32
	calls []uint64
	acks  []<-chan wire.BlobChunk
}

// create begins a blob that is kept until the end of a day.
func (l *blobLink) create(ctx context.Context, e id.Execution, day uint32) (*blobWriter, error) {
	key, err := seal.RandomStreamKey()
	if err != nil {
		return nil, err
	}
	return &blobWriter{
		ctx: ctx, link: l, key: key, execution: e,
		ref: wire.BlobRef{Blob: id.NewBlob(time.Now()), Key: key.Bytes(), Day: day},
	}, nil
}

// Write implements io.Writer. It waits when the store is slow.
func (w *blobWriter) Write(b []byte) (int, error) {
	n := len(b)
	w.ref.Size += uint64(n)
	for len(b) > 0 {
		if len(w.buf) == seal.ChunkSize { // more comes, so this chunk is not the last
			if err := w.flush(false); err != nil {
				return 0, err
			}
		}
		take := min(len(b), seal.ChunkSize-len(w.buf))
		w.buf = append(w.buf, b[:take]...)
		b = b[take:]
	}
	return n, nil
}

func (w *blobWriter) flush(last bool) error {
	data := w.key.Seal(nil, lease.BlobPlace(w.ref.Blob), w.buf, w.index, last)
	call, ack := w.link.ask(func(call uint64) wire.Typed {
		return &wire.BlobWrite{
			Call: call, Blob: w.ref.Blob, Execution: w.execution, Day: w.ref.Day, Index: w.index, Last: last, Data: data,
		}
	})
	w.calls, w.acks = append(w.calls, call), append(w.acks, ack)
	w.buf = w.buf[:0]
	w.index++
	for len(w.acks) > blobWindow || last && len(w.acks) > 0 {
		if _, err := w.link.wait(w.ctx, w.calls[0], w.acks[0]); err != nil {
			return err
		}
		w.calls, w.acks = w.calls[1:], w.acks[1:]
	}
	return nil
}

// Close writes the last chunk: the blob exists when it returns nil.
func (w *blobWriter) Close() error {
	if err := w.flush(true); err != nil {
		return err
	}
	w.ref.Chunks, w.done = w.index, true
	return nil
}

// Abort gives the blob up; the server removes what came of it.
func (w *blobWriter) Abort() { w.buf = nil }

// blobReader opens the chunks of a blob in order. It is for one goroutine.
type blobReader struct {
	ctx       context.Context
	link      *blobLink
	ref       *wire.BlobRef
	execution id.Execution
	key       *seal.StreamKey
	index     uint32
	plain     []byte
}

// open gives the plain content of a blob. A bad reference is the error of Read.
func (l *blobLink) open(ctx context.Context, e id.Execution, ref *wire.BlobRef) io.Reader {
	return &blobReader{ctx: ctx, link: l, ref: ref, execution: e}
}

// Read implements io.Reader.
func (r *blobReader) Read(b []byte) (int, error) {
	for len(r.plain) == 0 {
		if r.index == r.ref.Chunks {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

func (r *blobReader) next() error {
	if r.key == nil {
		key, err := seal.NewStreamKey(r.ref.Key)
		if err != nil {
			return err
		}
		r.key = key
	}
	call, answer := r.link.ask(func(call uint64) wire.Typed {
		return &wire.BlobRead{Call: call, Blob: r.ref.Blob, Execution: r.execution, Index: r.index}
	})
	m, err := r.link.wait(r.ctx, call, answer)
	if err != nil {
		return err
	}
	last := r.index+1 == r.ref.Chunks
	if r.plain, err = r.key.Open(nil, lease.BlobPlace(r.ref.Blob), m.Data, r.index, last); err != nil {
		return fmt.Errorf("read chunk %d of file: %w", r.index, err)
	}
	r.index++
	return nil
}
