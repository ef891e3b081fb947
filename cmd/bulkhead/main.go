// Command bulkhead is the integration platform: every role, and the command line.
package main

import (
	"context"
	"os"

	"github.com/bulkheadhq/bulkhead/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:]))
}
