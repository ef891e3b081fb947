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
