//go:build cgo

package suite

// linkedWithCgo: the lock-down of roles refuses such programs.
const linkedWithCgo = true
