// Package runner starts, feeds and kills workers and sandboxes.
//
// It takes units of work from servers, finds or starts the worker of each unit's
// instance, gets the worker's lease from the vault, and from then on is a switch:
// frames go from worker to server, egress or sandbox and back, sealed, unread. It
// holds no key that opens anything, and sees of an execution its id, its step
// names and sizes.
//
// # What it checks
//
// A worker speaks only for executions that it was given, under their fence, and calls
// only under its own leases; frames about what it does not hold any more are dropped,
// and too many of them end it. A sandbox answers only for its one execution, as often
// as it was asked. A child that breaks the protocol, that does not read, or that does
// not let go of a cancelled execution is killed; one that writes too fast waits, alone.
// Servers and egress nodes are heard only about what is theirs.
//
// # Workers
//
// A worker is bound to one definition of one instance, for life: fresh, binding, bound,
// dead. A unit for a worker that waits for its lease waits with it, and so does every
// frame about its executions; an execution that is cancelled meanwhile leaves at once.
// A newer version of the config gets a new worker, the old one finishes what it has. An
// execution that is given out again, under a higher fence, leaves where it was, with its
// sandbox. Leases are renewed from half of their life on; while the vault does not
// answer, a worker goes on under the one it has, and only what that does not cover is
// given back. A sandbox serves one execution and ends with it; executions wait their
// turn for one.
//
// A few workers and sandboxes wait unbound in their jails, because starting one takes
// milliseconds. All are bounded by a budget of memory, of which a worker without work takes
// little; when it is used up, the one that did nothing for longest leaves for another instance.
// Where none can, because all room is taken by busy workers, the unit waits here in line for the
// next room, and nothing more is offered meanwhile; see room.go. After fifteen seconds it is given
// back, because another runner may have room.
//
// # Failure
//
// When a worker dies, its executions are given back to their servers with the reason,
// its sandboxes die with it and egress forgets its leases. The reasons are those of
// package jail for a worker that ended by itself (memory, cpu, violation, crash,
// clean); killed for one that neither it nor the runner ended; protocol, slow, cancel and bind for one that was killed for what it did; and
// lease, unavailable, evicted, idle and shutdown, which are not the execution's doing.
// When the runner loses the bus, workers go on until they need an acknowledgement.
//
// Each server hears every second what is held for it; what it does not find there it
// gives out again.
//
// # Concurrency
//
// All state is guarded by one mutex; nothing blocks while holding it. Each child has a
// goroutine that reads from it, each worker one more while it waits for a lease.
package runner
