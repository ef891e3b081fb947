package worker

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// blobReader streams the plain bytes of a blob, a chunk at a time.
type blobReader struct {
	ctx  context.Context //nolint:containedctx // io.Reader has no other way to be cancelled
	x    *execution
	ref  *wire.BlobRef
	key  *seal.StreamKey
	next uint32
	rest []byte
}

func (x *execution) blob(ctx context.Context, ref *wire.BlobRef) (*blobReader, error) {
	key, err := seal.NewStreamKey(ref.Key)
	if err != nil {
		return nil, faultf(typeUpstream, "the stored data has no key")
	}
	return &blobReader{ctx: ctx, x: x, ref: ref, key: key}, nil
}

// Read implements io.Reader.
func (b *blobReader) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		if b.next >= b.ref.Chunks {
			return 0, io.EOF
		}
		if err := b.fetch(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// fetch asks for the next chunk and opens it. The last one says so, so that a blob cannot be cut.
func (b *blobReader) fetch() error {
	s := b.x.s
	n := b.x.number()
	ch := s.chunks.begin(n)
	defer s.chunks.end(n)
	m := &wire.BlobRead{Call: n, Blob: b.ref.Blob, Execution: b.x.unit.Execution, Index: b.next}
	if err := s.out.Write(m); err != nil {
		return err
	}
	got, err := receive(b.ctx, ch, hostWait)
	switch {
	case errors.Is(err, errLate):
		return faultf(typeTimeout, "the stored data did not come in time")
	case err != nil:
		return err
	case got.Error != "":
		return faultf(typeUpstream, "the stored data cannot be read")
	}
	last := b.next == b.ref.Chunks-1
	if b.rest, err = b.key.Open(nil, lease.BlobPlace(b.ref.Blob), got.Data, b.next, last); err != nil {
		return faultf(typeUpstream, "the stored data does not open")
	}
	b.next++
	return nil
}

// number numbers the next call. Those of a read are marked: their answers come by another road.
func (x *execution) number() uint64 {
	n := x.s.number.Add(1)
	if x.reading {
		n |= wire.ReadCall
	}
	return n
}

// loadBlob reads a whole blob into memory.
func (x *execution) loadBlob(ctx context.Context, ref *wire.BlobRef) ([]byte, error) {
	if ref.Size > MaxLoad {
		return nil, faultf(typeLimit, "the data has %d bytes, more than %d; take it as a file", ref.Size, MaxLoad)
	}
	r, err := x.blob(ctx, ref)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, ref.Size)
	for r.next < ref.Chunks {
		if err := r.fetch(); err != nil {
			return nil, err
		}
		if out = append(out, r.rest...); len(out) > MaxLoad {
			return nil, faultf(typeLimit, "the data has more than %d bytes; take it as a file", MaxLoad)
		}
	}
	return out, nil
}

// loadBody reads the body of an answer that came by blob.
func (x *execution) loadBody(ctx context.Context, ref *wire.BlobRef, text bool) (expr.Value, error) {
	b, err := x.loadBlob(ctx, ref)
	if err != nil {
		return nil, err
	}
	if text {
		return expr.String(string(b)), nil
	}
	v, err := expr.ParseJSON(b)
	if err != nil {
		return nil, faultf(typeUpstream, "the answer is not JSON: %s", err.Error())
	}
	return v, nil
}

// writeBlob stores data under a key of its own and returns once all of it is stored.
func (x *execution) writeBlob(ctx context.Context, data []byte) (*wire.BlobRef, error) {
	key, err := seal.RandomStreamKey()
	if err != nil {
		return nil, err
	}
	ref := &wire.BlobRef{Blob: id.NewBlob(time.Now()), Key: key.Bytes(), Size: uint64(len(data)), Day: x.unit.Day}
	for last := false; !last; ref.Chunks++ {
		n := min(seal.ChunkSize, len(data))
		last = n == len(data)
		m := &wire.BlobWrite{
			Call: x.s.number.Add(1), Blob: ref.Blob, Execution: x.unit.Execution, Day: ref.Day, Index: ref.Chunks, Last: last,
			Data: key.Seal(nil, lease.BlobPlace(ref.Blob), data[:n], ref.Chunks, last),
		}
		data = data[n:]
		if err := x.store(ctx, m); err != nil {
			return nil, err
		}
	}
	return ref, nil
}

// store writes one chunk. The last one is waited for: with it the blob exists.
func (x *execution) store(ctx context.Context, m *wire.BlobWrite) error {
	if !m.Last {
		return x.s.out.Write(m)
	}
	ch := x.s.chunks.begin(m.Call)
	defer x.s.chunks.end(m.Call)
	if err := x.s.out.Write(m); err != nil {
		return err
	}
	got, err := receive(ctx, ch, hostWait)
	switch {
	case errors.Is(err, errLate):
		return faultf(typeTimeout, "the data was not stored in time")
	case err != nil:
		return err
	case got.Error != "":
		return faultf(typeLimit, "the data could not be stored: %s", got.Error)
	}
	return nil
}
