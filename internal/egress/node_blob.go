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
	calls map[uint64]asked
}

// asked is a request that waits for its one answer.
type asked struct {
	blob   id.Blob
	answer chan reply // has room for it
}

// reply is an answer of a server.
type reply struct {
	wire.BlobChunk
	from id.Node
}

func newBlobLink(b Bus) *blobLink { return &blobLink{bus: b, calls: map[uint64]asked{}} }

// chunk takes an answer of a server. One that nobody waits for is dropped.
func (l *blobLink) chunk(from id.Node, f wire.Frame) error {
	var m wire.BlobChunk
	if err := f.Parse(&m); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if a, ok := l.calls[m.Call]; ok && a.blob == m.Blob {
		delete(l.calls, m.Call)
		a.answer <- reply{m, from}
	}
	return nil
}

// waiter waits for one answer.
type waiter struct {
	call   uint64
	answer <-chan reply
}

// ask sends a request to a server, or to any.
func (l *blobLink) ask(to id.Node, b id.Blob, message func(call uint64) wire.Typed) waiter {
	c := make(chan reply, 1)
	l.mu.Lock()
	l.last++
	call := l.last
	l.calls[call] = asked{b, c}
	l.mu.Unlock()
	l.bus.Send(wire.RoleServer, to, wire.TopicBlob, message(call))
	return waiter{call, c}
}

func (l *blobLink) wait(ctx context.Context, w waiter) (reply, error) {
	t := time.NewTimer(blobTimeout)
	defer t.Stop()
	select {
	case m := <-w.answer:
		if m.Error != "" {
			return m, fmt.Errorf("%w: %s", errBlob, m.Error)
		}
		return m, nil
	case <-ctx.Done():
		l.forget(w)
		return reply{}, ctx.Err()
	case <-t.C:
		l.forget(w)
		return reply{}, fmt.Errorf("%w: no answer", errBlob)
	}
}

// forget gives up answers.
func (l *blobLink) forget(ws ...waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range ws {
		delete(l.calls, w.call)
	}
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
	acks  []waiter
	to    id.Node // the server that took the first chunk: a blob has one writer
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
	w.acks = append(w.acks, w.link.ask(w.to, w.ref.Blob, func(call uint64) wire.Typed {
		return &wire.BlobWrite{
			Call: call, Blob: w.ref.Blob, Execution: w.execution, Day: w.ref.Day, Index: w.index, Last: last, Data: data,
		}
	}))
	w.buf = w.buf[:0]
	w.index++
	for len(w.acks) > blobWindow || len(w.acks) > 0 && (last || w.to.IsZero()) {
		m, err := w.link.wait(w.ctx, w.acks[0])
		if err != nil {
			w.Abort()
			return err
		}
		w.acks, w.to = w.acks[1:], m.from
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
func (w *blobWriter) Abort() {
	w.link.forget(w.acks...)
	w.buf, w.acks = nil, nil
}

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
	m, err := r.link.wait(r.ctx, r.link.ask(id.Node{}, r.ref.Blob, func(call uint64) wire.Typed {
		return &wire.BlobRead{Call: call, Blob: r.ref.Blob, Execution: r.execution, Index: r.index}
	}))
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
