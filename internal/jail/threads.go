package jail

import (
	"runtime"
	"sync"
)

// spareThreads is how many threads a jailed child has beyond those it started with. A child with one processor needs one
// more whenever a goroutine blocks inside a system call; its socket is served by the poller, so it has few.
const spareThreads = 3

// reserveThreads makes the Go runtime create count threads and keep them idle, so that a filter can deny making more. The
// runtime never ends idle threads.
func reserveThreads(count int) {
	var ready, done sync.WaitGroup
	release := make(chan struct{}) // closed here when all threads exist
	ready.Add(count)
	done.Add(count)
	for range count {
		go func() {
			defer done.Done()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ready.Done()
			<-release
		}()
	}
	ready.Wait()
	close(release)
	done.Wait()
}
