package jail

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Names of the metrics that count against a budget: what was reachable at the end of the last garbage collection, and
// goroutine stacks.
const (
	metricLive   = "/gc/heap/live:bytes"
	metricStacks = "/memory/classes/heap/stacks:bytes"
)

// maxStack bounds one goroutine's stack, so that endless recursion ends as a fatal error and not as a gigabyte.
const maxStack = 32 << 20

// startWatchdog sets the soft limit of the Go heap and starts the goroutine that ends the process with [ExitMemory] when
// what is reachable passes budget. It looks after every garbage collection, and the soft limit makes those frequent near
// the budget, so an idle process pays nothing. What outruns it meets [longestMapping] and RLIMIT_DATA.
func startWatchdog(soft, budget int64) {
	debug.SetMemoryLimit(soft)
	debug.SetMaxStack(maxStack)
	collected := make(chan struct{}, 1) // never closed: it serves until the process ends
	watchNextCollection(collected)
	go func() {
		samples := []metrics.Sample{{Name: metricLive}, {Name: metricStacks}}
		for range collected {
			metrics.Read(samples)
			if samples[0].Value.Uint64()+samples[1].Value.Uint64() > uint64(budget) {
				os.Exit(ExitMemory)
			}
		}
	}()
}

// sentinel is large enough not to share an allocation with other objects.
type sentinel struct {
	collected chan struct{}
	_         [4]uint64
}

func watchNextCollection(collected chan struct{}) {
	runtime.SetFinalizer(&sentinel{collected: collected}, func(s *sentinel) {
		select {
		case s.collected <- struct{}{}:
		default:
		}
		watchNextCollection(s.collected)
	})
}
