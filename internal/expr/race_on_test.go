//go:build race

package expr

// raceEnabled skips tests of one goroutine's limits: the race detector sees nothing in them and
// takes minutes for it.
const raceEnabled = true
