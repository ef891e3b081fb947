package bus

import "sync"

// batchSize is where a batch is cut into messages.
const batchSize = 1 << 20

// outbox gathers frames for each subject; one flusher sends what has gathered, so
// that under load a message carries many frames and when idle nothing waits.
type outbox struct {
	send func(subject string, batch []byte)

	mu     sync.Mutex
	wake   *sync.Cond
	queued map[string][][]byte // batches of each subject, the last one open
	order  []string            // subjects in the order of their first frame
	bytes  int                 // queued or being sent
	room   *sync.Cond
	closed bool
	done   chan struct{} // closed by the flusher when it ends
}

func newOutbox(send func(string, []byte)) *outbox {
	o := &outbox{send: send, queued: map[string][][]byte{}, done: make(chan struct{})}
	o.wake, o.room = sync.NewCond(&o.mu), sync.NewCond(&o.mu)
	go o.flush()
	return o
}

func (o *outbox) add(subject string, frame func([]byte) []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.queued[subject]
	switch {
	case b == nil:
		o.order = append(o.order, subject)
		b = [][]byte{nil}
	case len(b[len(b)-1]) > batchSize:
		b = append(b, nil)
	}
	before := len(b[len(b)-1])
	b[len(b)-1] = frame(b[len(b)-1])
	o.bytes += len(b[len(b)-1]) - before
	o.queued[subject] = b
	o.wake.Signal()
}

func (o *outbox) flush() {
	defer close(o.done)
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for len(o.order) == 0 && !o.closed {
			o.wake.Wait()
		}
		if len(o.order) == 0 {
			return
		}
		queued, order := o.queued, o.order
		o.queued, o.order = map[string][][]byte{}, nil
		o.mu.Unlock()
		for _, s := range order {
			for _, batch := range queued[s] {
				o.send(s, batch)
				o.sent(len(batch))
			}
		}
		o.mu.Lock()
	}
}

// sent makes room for what has been given to the connection.
func (o *outbox) sent(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes -= n
	o.room.Broadcast()
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
