// Package worker interprets the flows of one instance inside a jailed process.
//
// # Purpose
//
// [Serve] speaks frames of package wire on one inherited stream and does nothing else: no file, no network, no process. It
// says its public key, is bound once to one instance by a lease that only it can open, and then runs executions of that
// instance's flows: it evaluates, seals requests for egress, hands code to sandboxes, records results, and sleeps.
//
// # Authority
//
// The worker holds the leased payload and instance keys of one instance and no credential. It decides what a flow does next;
// the server decides, by fences, whether that counts. It runs the definition whose digest the lease names, with a config of
// the version that the lease names, and nothing else. Config values of type secret are removed before anything can see them.
// A renewed lease is taken only when it holds the instance's keys: whoever carries leases could make one, but not with those.
//
// # The journal
//
// An execution is a tree of steps, each with a path: its id, behind the index of every loop round around it (lines[3].sent)
// and, in a step with nested steps that is tried again, behind the number of the try (safe#2.sent). Actions, code, calls,
// waits and state write entries under their path; a step's first now() is an entry of kind clock; everything else is computed
// again on resume. A result is queued and goes out with whatever is next: an effect waits until everything queued before it
// is committed, and the end of the execution takes the last results along in its own append. One append per execution is in
// flight at a time, so parallel branches share commits. Entries are numbered here: an append whose answer does not come is sent
// again, and the server knows it by these numbers.
//
// On resume every entry that the flow comes by again is compared by the hash of its resolved input; a difference ends the
// execution with the fault journal-mismatch, which no catch can hold. A try that failed is an entry of kind attempt; it
// advances the epoch, and with it the idempotency key, only when it got a definite answer. A step with once writes an intent
// before its effect; an intent with neither result nor attempt is the fault interrupted.
//
// # The event
//
// The sealed event of an execution is one JSON object. Its fields body, headers, headers_all, query, method, time, id,
// source and type are what expressions see as trigger (id and time are filled in when missing). The field customer, if there,
// is what they see as customer, error what they see as error (a flow started by on_fault), and depth counts how many calls
// led to this execution.
//
// # Concurrency
//
// One goroutine per execution and one per branch of a fork or parallel loop, all counted. A branch that waits gives its count
// back; when none is left the execution is appended as waiting and leaves the worker. Frames are read by one goroutine, which
// never blocks on an execution.
//
// # Failure
//
// A fault of a flow is an output like any other: type, message, step, attempts, status. A panic while interpreting is a fault
// of type code of that execution; the worker goes on. A malformed or unexpected frame, a lease for another key or definition,
// or the end of the stream ends Serve, and with it the process; what it held is given out again by the server. An append that
// is answered as stale drops the execution without another word to the server than that it is released.
package worker
