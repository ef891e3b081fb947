package role

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
)

// heapOf is up to where the garbage of a role may pile up, in bytes: a small heap is
// collected seldom, because that is fast, and a large one in time. All roles together stay
// below half a gigabyte while bodies of many megabytes pass through them.
func heapOf(name string) int64 {
	switch name {
	case "server":
		return 144 << 20
	case "egress":
		return 80 << 20
	}
	return 56 << 20
}

// metricLive is what was reachable at the end of the last garbage collection.
const metricLive = "/gc/heap/live:bytes"

// followHeap raises the limit of this process's heap with what it really holds: a limit
// close to that would make it collect without end. It looks after each collection.
func followHeap() {
	base, err := strconv.ParseInt(os.Getenv("GOMEMLIMIT"), 10, 64)
	if err != nil {
		return // started in another way, with limits of its own
	}
	limit := base
	onCollection(func() {
		sample := []metrics.Sample{{Name: metricLive}}
		metrics.Read(sample)
		live := int64(min(sample[0].Value.Uint64(), 1<<40))
		if want := max(base, 2*live); want != limit {
			limit = want
			debug.SetMemoryLimit(limit)
		}
	})
}

// collected is large enough not to share an allocation with other objects.
type collected struct {
	do func()
	_  [4]uint64
}

// onCollection calls do after each garbage collection, one call at a time.
func onCollection(do func()) {
	runtime.SetFinalizer(&collected{do: do}, func(c *collected) {
		c.do()
		onCollection(c.do)
	})
}
