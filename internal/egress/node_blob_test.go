package egress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// noise is content that does not compress and repeats nowhere.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// opened is the content of a blob as its holder reads it.
func (d *desk) opened(ref *wire.BlobRef) []byte {
	d.t.Helper()
	key, err := seal.NewStreamKey(ref.Key)
	if err != nil {
		d.t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	chunks := d.chunks[ref.Blob]
	var out []byte
	for i, c := range chunks {
		if out, err = key.Open(out, lease.BlobPlace(ref.Blob), c, uint32(i), i+1 == len(chunks)); err != nil {
			d.t.Fatal(err)
		}
	}
	return out
}

func TestLargeAnswersBecomeBlobs(t *testing.T) {
	t.Parallel()
	content := noise(3<<20 + 17)
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		_, _ = w.Write(content)
	})
	d := localDesk(t)
	w := d.lend(nil, slotAt(t, "s", s.URL))
	r := w.ask(&wire.Request{Slot: "s", Day: 77})
	if r.ErrorType != "" || r.Blob == nil || len(r.Body) > 0 || r.Blob.Size != uint64(len(content)) || r.Blob.Day != 77 || r.Blob.ContentType != "image/png" {
		t.Fatalf("response %+v", r)
	}
	if !bytes.Equal(d.opened(r.Blob), content) || int(r.Blob.Chunks) != len(d.chunks[r.Blob.Blob]) {
		t.Error("the blob is not the answer")
	}
	for i, to := range d.asked {
		if want := i > 0; (to == d.server) != want {
			t.Errorf("chunk %d went to %v: a blob has one writer", i, to)
		}
	}
	for _, c := range d.chunks[r.Blob.Blob] {
		if bytes.Contains(c, content[:64]) {
			t.Error("a chunk is in clear")
		}
	}
	// And back: a request streams it.
	var got []byte
	in := serve(t, func(_ http.ResponseWriter, q *http.Request) { got, _ = io.ReadAll(q.Body) })
	w = d.lend(nil, slotAt(t, "s", in.URL))
	if r := w.ask(&wire.Request{Slot: "s", Method: "PUT", HasBody: true, BodyBlob: r.Blob}); r.ErrorType != "" || !bytes.Equal(got, content) {
		t.Errorf("response %+v, %d bytes arrived", r, len(got))
	}
	if r := w.ask(&wire.Request{Slot: "s", Method: "POST", Parts: []wire.FormPart{
		{Name: "file", FileName: "x.png", Blob: r.Blob}, {Name: "note", Data: []byte("n")},
	}}); r.ErrorType != "" || !bytes.Contains(got, content) {
		t.Errorf("multipart: %+v, %d bytes arrived", r, len(got))
	}
	if r := w.ask(&wire.Request{Slot: "s", Accept: wire.ResponseFile}); r.Blob == nil || r.Blob.Size != 0 || len(d.opened(r.Blob)) != 0 {
		t.Errorf("an empty file: %+v", r)
	}
}

// TestBlobsThatCannotBeStored fails the call when the store does, and forgets what it asked.
func TestBlobsThatCannotBeStored(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(noise(4 << 20)) })
	for _, at := range []uint32{0, 1, 5, 63} {
		d := localDesk(t)
		d.blobs = func(m wire.Typed) *wire.BlobChunk {
			w := m.(*wire.BlobWrite)
			answer := &wire.BlobChunk{Call: w.Call, Blob: w.Blob, Index: w.Index}
			if w.Index == at || w.Last {
				answer.Error = "too-large"
			}
			return answer
		}
		w := d.lend(nil, slotAt(t, "s", s.URL))
		if r := w.ask(&wire.Request{Slot: "s"}); r.ErrorType != "upstream" || r.Blob != nil {
			t.Errorf("refused at %d: %+v", at, r)
		}
		d.Node.blobs.mu.Lock()
		if n := len(d.Node.blobs.calls); n != 0 {
			t.Errorf("refused at %d: %d answers are waited for", at, n)
		}
		d.Node.blobs.mu.Unlock()
	}
}

func TestBlobsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	var bodies int
	s := serve(t, func(_ http.ResponseWriter, q *http.Request) {
		if _, err := io.ReadAll(q.Body); err == nil {
			bodies++
		}
	})
	d := localDesk(t)
	content := noise(200_000)
	key, _ := seal.RandomStreamKey()
	ref := &wire.BlobRef{Blob: id.NewBlob(time.Now()), Key: key.Bytes(), Size: uint64(len(content))}
	for part := range slices.Chunk(content, seal.ChunkSize) {
		ref.Chunks++
		last := int(ref.Chunks)*seal.ChunkSize >= len(content)
		d.chunks[ref.Blob] = append(d.chunks[ref.Blob], key.Seal(nil, lease.BlobPlace(ref.Blob), part, ref.Chunks-1, last))
	}
	w := d.lend(nil, slotAt(t, "s", s.URL))
	cases := map[string]func(*wire.BlobRef){
		"unknown":     func(r *wire.BlobRef) { r.Blob = id.NewBlob(time.Now()) },
		"other key":   func(r *wire.BlobRef) { r.Key = slices.Repeat([]byte{1}, 32) },
		"short key":   func(r *wire.BlobRef) { r.Key = []byte{1} },
		"more chunks": func(r *wire.BlobRef) { r.Chunks++ },
		"less chunks": func(r *wire.BlobRef) { r.Chunks-- },
		"larger":      func(r *wire.BlobRef) { r.Size += 10 },
	}
	for name, change := range cases {
		bad := *ref
		change(&bad)
		if r := w.ask(&wire.Request{Slot: "s", Method: "PUT", BodyBlob: &bad}); r.ErrorType == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if bodies != 0 {
		t.Errorf("%d bodies arrived whole", bodies)
	}
	if r := w.ask(&wire.Request{Slot: "s", Method: "PUT", BodyBlob: ref}); r.ErrorType != "" {
		t.Errorf("the blob itself: %+v", r)
	}
}

// chunks is a bus on which a test answers blob frames by hand.
type chunks chan wire.Typed

func (c chunks) Send(_ wire.Role, _ id.Node, _ wire.Topic, m wire.Typed) { c <- m }

func say(t *testing.T, l *blobLink, m *wire.BlobChunk) {
	t.Helper()
	if err := l.chunk(id.Node{1}, frameOf(m)); err != nil {
		t.Error(err)
	}
}

func TestBlobAnswersOutOfOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus := make(chunks, 100)
		l := newBlobLink(bus)
		w, err := l.create(t.Context(), id.NewExecution(time.Now()), 1)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := w.Write(noise(6 * seal.ChunkSize))
			done <- errors.Join(err, w.Close())
		}()
		synctest.Wait()
		first := (<-bus).(*wire.BlobWrite)
		if len(bus) != 0 {
			t.Error("more chunks before it is known who takes them")
		}
		say(t, l, &wire.BlobChunk{Call: first.Call, Blob: id.NewBlob(time.Now())}) // of another blob
		say(t, l, &wire.BlobChunk{Call: 999, Blob: first.Blob})                    // never asked
		synctest.Wait()
		if len(bus) != 0 {
			t.Error("an answer for something else counted")
		}
		say(t, l, &wire.BlobChunk{Call: first.Call, Blob: first.Blob})
		synctest.Wait()
		var out []*wire.BlobWrite
		for len(bus) > 0 {
			out = append(out, (<-bus).(*wire.BlobWrite))
		}
		if len(out) != blobWindow+1 {
			t.Errorf("%d chunks are on their way", len(out))
		}
		for _, m := range slices.Backward(out) {
			say(t, l, &wire.BlobChunk{Call: m.Call, Blob: m.Blob})
			say(t, l, &wire.BlobChunk{Call: m.Call, Blob: m.Blob, Error: "order"}) // twice
		}
		synctest.Wait()
		for len(bus) > 0 {
			m := (<-bus).(*wire.BlobWrite)
			say(t, l, &wire.BlobChunk{Call: m.Call, Blob: m.Blob})
		}
		if err := <-done; err != nil || w.ref.Chunks != 6 || len(l.calls) != 0 {
			t.Errorf("%v, %d chunks, %d calls left", err, w.ref.Chunks, len(l.calls))
		}
	})
}

func TestBlobTimeouts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus := make(chunks, 100)
		l := newBlobLink(bus)
		e := id.NewExecution(time.Now())
		w, err := l.create(t.Context(), e, 1)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = w.Write(noise(3 * seal.ChunkSize))
		if !errors.Is(err, errBlob) || time.Since(start) != blobTimeout || len(l.calls) != 0 {
			t.Errorf("write: %v after %v, %d calls left", err, time.Since(start), len(l.calls))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		key, _ := seal.RandomStreamKey()
		r := l.open(ctx, e, &wire.BlobRef{Blob: id.NewBlob(time.Now()), Key: key.Bytes(), Chunks: 1})
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) || len(l.calls) != 0 {
			t.Errorf("read: %v, %d calls left", err, len(l.calls))
		}
		if n, err := l.open(ctx, e, &wire.BlobRef{}).Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("an empty blob: %d, %v", n, err)
		}
	})
}

// FuzzNode gives a node frames of every type, and calls whose sealed content is noise:
// nothing panics, and its worker goes on.
func FuzzNode(f *testing.F) {
	for kind := range 60 {
		f.Add(byte(kind), []byte{})
		f.Add(byte(kind), make([]byte, 60))
	}
	f.Add(byte(0), wire.AppendBody(nil, &wire.Request{Slot: "s", Path: "/", Body: []byte("x"), HasBody: true, Expect: []string{"4xx"}}))
	refuse := &holdingDialer{let: make(chan struct{})}
	close(refuse.let)
	d := newDesk(f, refuse)
	w := d.lend(func(l *lease.Egress) { l.Expires = time.Now().Add(2 * lease.MaxLife) }, slotAt(f, "s", "http://127.0.0.1:9"))
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		for _, topic := range []wire.Topic{wire.TopicCall, wire.TopicBlob, wire.TopicWork} {
			d.Handle(d.runner, topic, wire.Frame{Type: wire.Type(kind), Body: body}, nil)
		}
		w.last++
		m := &wire.Call{Lease: w.Lease, Worker: 7, Call: w.last}
		m.Sealed = w.channel.Seal(nil, m.Place(), body)
		w.say(frameOf(m))
		if !time.Now().Before(w.Expires) {
			return
		}
		w.last++
		call := w.last
		w.say(w.frameAs(call, &wire.Request{Slot: "s"}))
		for {
			<-d.came
			d.mu.Lock()
			i := slices.IndexFunc(d.answers, func(a *wire.Answer) bool { return a.Call == call && a.Lease == w.Lease })
			if i < 0 {
				d.mu.Unlock()
				continue
			}
			if d.answers[i].Error != "" {
				t.Errorf("answer %+v", d.answers[i])
			}
			d.answers, d.flows = nil, nil
			d.mu.Unlock()
			return
		}
	})
}

// frameAs seals a request under a number.
func (w *worker) frameAs(call uint64, r *wire.Request) wire.Frame {
	m := &wire.Call{Lease: w.Lease, Worker: 7, Call: call}
	m.Sealed = w.channel.Seal(nil, m.Place(), wire.AppendBody(nil, r))
	return frameOf(m)
}

// TestAPanicIsOfOneCall answers a call that panics and goes on with the others.
func TestAPanicIsOfOneCall(t *testing.T) {
	t.Parallel()
	d := localDesk(t)
	var log strings.Builder
	d.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	r := d.try(&task{request: wire.Request{Slot: "s"}}) // it has no lease
	if r.ErrorType != "upstream" || r.Definite || !strings.Contains(log.String(), "call panicked") {
		t.Errorf("response %+v, log %q", r, log.String())
	}
}
