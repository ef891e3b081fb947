// Package bulkhead holds no code: it is where the tests live that keep the
// structure of the whole project, see arch_test.go. The program is cmd/bulkhead,
// and doc/architecture.md says how it is made.
package bulkhead
