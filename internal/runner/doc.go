// Package runner starts, feeds and kills workers and sandboxes.
//
// It takes units of work from servers, finds or starts the worker of each unit's
// instance, gets the worker's lease from the vault, and from then on is a switch:
// frames go from worker to server, egress or sandbox and back, sealed, unread. It
// holds no key that opens anything, and sees of an execution its id, its step
// names and sizes.
//
// What it checks: a worker speaks only for executions that it holds, under their
// fence and under its own lease; a sandbox only for its one execution. A worker or
// sandbox that breaks the protocol is killed. A worker is bound to one instance for
// life; a sandbox serves one execution and ends with it. A few of each wait unbound
// in their jails, because starting one takes milliseconds.
//
// When a worker dies, its executions are given back to the server with the reason,
// its sandboxes die with it and egress forgets its lease. When the runner loses the
// bus, workers go on until they need an acknowledgement. All state is guarded by
// one mutex; nothing blocks while holding it.
package runner
