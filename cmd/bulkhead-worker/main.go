// Command bulkhead-worker interprets the flows of one instance inside a jail. Bulkhead's runner starts it; it is of no use by
// itself. It links expressions, frames and sealing, and nothing that could reach further.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/worker"
)

// smallMachine is the number of processors up to which one is enough for a worker, and costs less.
const smallMachine = 4

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "bulkhead-worker:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	time.Local = time.UTC // the same on every host
	profile, err := jail.ChildProfile(args)
	if err != nil {
		return err
	}
	conn, err := jail.Conn()
	if err != nil {
		return err
	}
	if runtime.NumCPU() <= smallMachine {
		runtime.GOMAXPROCS(1)
	}
	if _, err := jail.Lockdown(profile); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	return worker.Serve(context.Background(), conn, worker.Options{Log: log, Memory: debug.SetMemoryLimit(-1)})
}
