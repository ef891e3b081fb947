package bus

import (
	"testing"
	"testing/synctest"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// TestAwaitRoom holds a sender back while the connection does not take what is
// queued, and lets it go when it does, or when the outbox is closed.
func TestAwaitRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		take := make(chan struct{})
		o := newOutbox(id.Node{1}, func(string, []byte) { <-take })
		frame := func(b []byte) []byte { return append(b, make([]byte, 100)...) }
		o.add(place{topic: "a"}, frame)
		o.add(place{topic: "b"}, frame)
		waits := func(limit int) chan struct{} {
			done := make(chan struct{})
			go func() { defer close(done); o.awaitRoom(limit) }()
			synctest.Wait()
			return done
		}
		is := func(done chan struct{}, want bool) {
			t.Helper()
			synctest.Wait()
			select {
			case <-done:
				if !want {
					t.Error("there is room too early")
				}
			default:
				if want {
					t.Error("there is no room")
				}
			}
		}
		is(waits(1000), true)
		first, second := waits(150), waits(50)
		is(first, false)
		take <- struct{}{}
		is(first, true)
		is(second, false)
		take <- struct{}{}
		is(second, true)
		o.add(place{topic: "c"}, frame)
		third := waits(50)
		is(third, false)
		close(take)
		o.close()
		is(third, true)
	})
}

// TestAddWhileOthersAreSent adds a frame for a place whose turn comes later in the same round:
// it goes out with that, and the flusher still wakes for the next frame.
func TestAddWhileOthersAreSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, take := make(chan struct{}), make(chan struct{})
		sent := 0
		o := newOutbox(id.Node{1}, func(_ string, batch []byte) {
			began <- struct{}{}
			<-take
			sent += len(batch)
		})
		frame := func(b []byte) []byte { return append(b, 1) }
		first, second := place{topic: "a"}, place{topic: "b"}
		o.add(first, frame)
		o.add(second, frame)
		<-began // that of the first place is being sent
		o.add(second, frame)
		go func() {
			take <- struct{}{}
			<-began
			take <- struct{}{}
		}()
		synctest.Wait()
		o.add(first, frame)
		synctest.Wait()
		select {
		case <-began:
			take <- struct{}{}
		default:
			t.Error("the flusher sleeps, and a frame waits")
		}
		synctest.Wait()
		if sent != 4 && !t.Failed() {
			t.Errorf("%d frames were sent, want 4", sent)
		}
		go func() { // what is left goes out at the end
			for range began {
				take <- struct{}{}
			}
		}()
		o.close()
		close(began)
	})
}
