// Package testkit starts what tests need that is not part of the platform.
//
// It is used by tests only, owns the processes and directories that it makes, and removes
// them. A [Postgres] is safe for concurrent use. What cannot be started fails the test that
// asked for it; what is not installed skips it, with the reason.
package testkit
