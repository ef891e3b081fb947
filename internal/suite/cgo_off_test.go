//go:build !cgo

package suite

const linkedWithCgo = false
