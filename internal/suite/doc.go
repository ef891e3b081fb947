// Package suite holds the security suites of the whole system. They are tests: they
// start every role as the process it is in production, run flows through all of them
// with planted credentials and payloads, and look from the outside, as root, at what
// each process says, holds and may do.
//
// Purpose: to prove what no single package can: that subjects on the bus are as the
// matrix says, that nothing planted appears on the bus, in the server, the runner, the
// database, the logs; that live processes are locked down; that a killed process costs
// nothing. Every suite prints what it tried and found, and has a red twin: the same
// check against something without the defence must find it.
//
// Authority: none. The package has no code outside its tests. The test binary plays
// every program: started with "role NAME" it is that role, with "bulkhead …" the
// command line. The small executables of workers and sandboxes must have been built
// (make children); without them the suites that need them are skipped.
//
// Concurrency: each test has a system of its own, and the tests run in parallel.
// Failure: a test that cannot look (not root, no /proc) is skipped and says so.
package suite
