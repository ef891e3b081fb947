//go:build !linux || (!amd64 && !arm64)

package seccomp

import "errors"

// ErrUnsupported is returned where the operating system has no seccomp or its call table is not known here.
var ErrUnsupported = errors.New("seccomp needs Linux on amd64 or arm64")

// Available tells that filters cannot be enforced here.
func Available() error { return ErrUnsupported }

// Install tells that filters cannot be enforced here.
func (f Filter) Install() error { return ErrUnsupported }
