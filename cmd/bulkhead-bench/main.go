// Command bulkhead-bench measures the platform from end to end. It is not part of a release.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/bulkheadhq/bulkhead/internal/bench"
	"github.com/bulkheadhq/bulkhead/internal/role"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "role" {
		os.Exit(role.Main(context.Background(), os.Args[2], os.Stderr, slog.LevelInfo))
	}
	os.Exit(bench.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
