// Package sandbox runs the JavaScript of code steps: JSON in, JSON out, and nothing else.
//
// It is what lives inside the jailed one-shot sandbox process (design, section 3). The jail is the wall; the engine is
// not. What this package adds is exactness and good manners: every run has a deadline, a memory budget and typed
// errors with positions in the author's source, so that an ordinary mistake is an error message and not a killed process.
//
// # What a code step sees
//
// One ES module, whose default export is a function of the input. Date is frozen at the recorded time of the execution
// (in UTC), Math.random follows the recorded seed, console is captured. There is no require, process, fetch, timer or
// file, no import, no WebAssembly, and no code from strings: eval and the Function constructors throw an EvalError.
// Promises and async functions work, by draining the microtask queue; a promise that can never settle is an error.
// Numbers are those of JavaScript: an integer of the input beyond 2^53 is rounded, and a note in the log says so.
//
// # Authority
//
// None. The package does no input or output, reads no clock but its own deadlines, and keeps no state between two runs:
// each has an interpreter of its own. An [Engine] only holds compiled helpers and may be shared.
//
// # Concurrency
//
// The caller's goroutine is the watchdog, the engine runs on a second one. The engine can be interrupted between two
// instructions of JavaScript, not inside a built-in. A built-in that does not come back within [Grace] after the
// deadline is abandoned: the error says so by [Error.Abandoned], its goroutine keeps running, and the process must end.
// [Serve] does that. The memory budget is measured over the whole process, so a process runs one piece of code at a time.
//
// # Failure behaviour
//
// Every failure is an [*Error] with a [Kind]. A panic of the engine is [KindInternal]. What only the wall can stop (a Go
// stack overflow, an allocation that the kernel refuses) ends the process, which the runner reports.
package sandbox
