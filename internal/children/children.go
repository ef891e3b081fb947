// Package children holds the two small executables that run customers' flows and
// code, embedded in the one binary that is shipped.
//
// They are built before this package is (make build) from cmd/bulkhead-worker and
// cmd/bulkhead-sandbox, and are not in version control. A binary built without them
// compiles, and says so when it would need them.
package children

import (
	"embed"
	"errors"
)

//go:embed all:bin
var files embed.FS

// ErrMissing means that this binary was built without the small executables.
var ErrMissing = errors.New("this binary was built without its worker and sandbox: build it with make build")

// Worker is the executable that interprets flows, or [ErrMissing].
func Worker() ([]byte, error) { return read("bulkhead-worker") }

// Sandbox is the executable that runs code steps, or [ErrMissing].
func Sandbox() ([]byte, error) { return read("bulkhead-sandbox") }

func read(name string) ([]byte, error) {
	b, err := files.ReadFile("bin/" + name)
	if err != nil {
		return nil, ErrMissing
	}
	return b, nil
}
