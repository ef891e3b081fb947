package bus

import (
	"sync"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// batchSize is where a batch is cut into messages.
	batchSize = 1 << 20
	// maxHeld is how many bytes are kept while there is no connection. What is over it is
	// dropped: it would be late, and what was open is begun again.
	maxHeld = 64 << 20
)

// place is where frames go.
type place struct {
	role  wire.Role
	node  id.Node
	topic wire.Topic
}

// maxPlaces bounds how many subjects an outbox remembers.
const maxPlaces = 1024

// outbox gathers frames for each place; one flusher sends what has gathered, so that under
// load a message carries many frames and when idle nothing waits.
type outbox struct {
	from id.Node
	send func(subject string, batch []byte) // does not keep the batch

	mu     sync.Mutex
	wake   *sync.Cond
	queues map[place]*queue
	order  []*queue // that have frames, in the order of their first
	frames int      // queued
	bytes  int      // queued or being sent
	room   *sync.Cond
	held   bool // there is no connection
	closed bool
	done   chan struct{} // closed by the flusher when it ends
}

// queue is what is to be sent to one place.
type queue struct {
	subject string
	batches [][]byte // the last one open
	spare   []byte   // for the next one
}

// maxSpare bounds what is kept for the next batch, in bytes.
const maxSpare = 64 << 10

func newOutbox(from id.Node, send func(string, []byte)) *outbox {
	o := &outbox{from: from, send: send, queues: map[place]*queue{}, done: make(chan struct{})}
	o.wake, o.room = sync.NewCond(&o.mu), sync.NewCond(&o.mu)
	go o.flush()
	return o
}

func (o *outbox) add(to place, frame func([]byte) []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held && o.bytes >= maxHeld {
		return
	}
	q := o.queue(to)
	last := len(q.batches) - 1
	switch {
	case last < 0:
		if o.order = append(o.order, q); len(o.order) == 1 {
			o.wake.Signal() // the flusher waits only while nothing is in order
		}
		q.batches = append(q.batches, q.spare[:0])
		q.spare, last = nil, 0
	case len(q.batches[last]) > batchSize:
		q.batches = append(q.batches, nil)
		last++
	}
	before := len(q.batches[last])
	q.batches[last] = frame(q.batches[last])
	o.bytes += len(q.batches[last]) - before
	o.frames++
}

// queue finds or makes the queue of a place. The caller holds mu.
func (o *outbox) queue(to place) *queue {
	q := o.queues[to]
	if q == nil {
		if len(o.queues) >= maxPlaces {
			for p, old := range o.queues {
				if len(old.batches) == 0 {
					delete(o.queues, p)
				}
			}
		}
		q = &queue{subject: wire.Subject(to.role, to.node, to.topic, o.from)}
		o.queues[to] = q
	}
	return q
}

func (o *outbox) flush() {
	defer close(o.done)
	o.mu.Lock()
	defer o.mu.Unlock()
	last := 0
	for {
		for (len(o.order) == 0 || o.held) && !o.closed {
			o.wake.Wait()
		}
		if len(o.order) == 0 {
			return
		}
		if !o.closed {
			o.mu.Unlock()
			wire.Gather(last)
			o.mu.Lock()
		}
		last, o.frames = o.frames, 0
		o.sendAll()
	}
}

// sendAll sends what is queued. The caller holds mu, which is released meanwhile.
func (o *outbox) sendAll() {
	order := o.order
	o.order = nil
	for _, q := range order {
		batches := q.batches
		q.batches = nil
		o.mu.Unlock()
		n := 0
		for _, b := range batches {
			o.send(q.subject, b)
			n += len(b)
		}
		o.mu.Lock()
		if b := batches[0]; cap(b) <= maxSpare {
			q.spare = b // what is sent was copied
		}
		o.bytes -= n
		o.room.Broadcast()
	}
}

// hold keeps what is queued, or lets it go.
func (o *outbox) hold(held bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = held
	o.wake.Signal()
}

// awaitRoom waits until less than limit bytes are queued, or the outbox is closed.
func (o *outbox) awaitRoom(limit int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.bytes >= limit && !o.closed {
		o.room.Wait()
	}
}

func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.wake.Signal()
	o.room.Broadcast()
	o.mu.Unlock()
	<-o.done
}
