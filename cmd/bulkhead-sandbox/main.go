// Command bulkhead-sandbox runs the code steps of one execution inside a jail and exits. Bulkhead's runner starts it;
// it is of no use by itself. It links the JavaScript engine, frames and sealing, and nothing that could reach further.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/sandbox"
)

// longestRun bounds a regular expression that outlives every deadline.
const longestRun = 10 * time.Minute

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "bulkhead-sandbox:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	// JavaScript's local time is the process's: the same on every host.
	time.Local = time.UTC
	sandbox.BoundRegexps(longestRun)
	profile, err := jail.ChildProfile(args)
	if err != nil {
		return err
	}
	conn, err := jail.Conn()
	if err != nil {
		return err
	}
	if _, err := jail.Lockdown(profile); err != nil {
		return err
	}
	// The jail has set the process's budget as the soft limit of the heap; a negative value only asks for it.
	return sandbox.Serve(conn, sandbox.Options{Memory: debug.SetMemoryLimit(-1)})
}
