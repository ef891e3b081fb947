// Package engine is the scheduler and the journal of a server: it accepts events,
// gives executions to runners, commits what workers append, and wakes executions
// that wait.
//
// # Authority
//
// SQL (package store) is the truth; everything in memory is a view of it that
// [New] rebuilds. Every change of an execution is one transaction, and nothing is
// said to anybody (an answer, an acknowledgement, a dispatch) before the transaction
// that it rests on is durable. The engine holds no key that opens anything stored:
// it seals events to the public half of a customer's payload key, and computes blind
// indexes under a key that opens nothing.
//
// # States of an execution
//
//	accept ─► pending ─► running ─► completed | faulted | cancelled
//	             ▲          │
//	             │          ├─► waiting (the worker appended a finish with that status)
//	             └──────────┴──── a wake; a lapsed lease; a released execution
//
// An execution is given out with a fence. Each time it is given out again the fence
// counts up, and an append, a state change or a release that carries another fence
// than the row's changes nothing: the answer says stale, and the worker drops it.
// Cancelling and expiring count the fence up as well.
//
// A runner keeps its leases by naming what it holds in its heartbeats (wire.Want). A
// lease that it does not name for a quarter of Options.LeaseTTL, or that nobody renewed
// for all of it, is over: the execution is pending again, at once when its runner is known
// to have ended ([Engine.RunnerGone]). One whose worker ended (wire.Released with such a
// fault) [MaxInterruptions] times ([MaxKills] where it was killed from outside) without an append in between faults: with type limit
// when memory or processor time was the reason the last time, else interrupted. No other
// interruption counts: a runner, a server, an egress node or the bus that was lost is not
// the execution's doing.
//
// # What the worker needs to know
//
//   - The event of an execution opens at lease.EventPlace(customer, EventID, Day) with
//     the payload key of Day. The event of a child is sealed by the parent's worker:
//     its EventID is the child's execution id (the same 16 bytes) and its Day is the
//     parent's, so that a worker needs no key that it does not hold. A child expires no
//     later than the payload key of that day. What opens is the event's JSON, or for a
//     large event a reference to the blob that holds it: see wire.ParseEventRef.
//
//   - Journal entries come back in order of Seq. Wakes are not part of the journal:
//     they come in UnitExecution.Wakes, all of them, in order of arrival, each time the
//     execution is given out, and one by one as wire.Wake while it runs. A worker
//     counts those that it has seen; a finish with status waiting names that number,
//     and the execution is pending again at once when there are more.
//
//   - A wake is an Entry of kind EntryWake: Path is the step that waited, Seq the
//     number of the wake (from 1), and Epoch the wire.WakeReason, which says what Hash
//     and Body hold and at which place Body opens. For a callback that is
//     lease.EntryPlace(customer, execution, wake). For a child it is
//     lease.OutputPlace(customer, child, status), where child is Entry.Child() and status
//     is reason.Status(): the bytes are those of the child's finish, sealed by its
//     worker.
//
//   - Waits are registered with the append that names them, and stay until they are
//     answered or time out. A wait is identified by execution and path. Registering the
//     same wait again changes nothing, whether it was answered or not; registering another
//     one (with another time or key) at the same path takes its place. A child with Await wakes
//     its parent whether or not a WaitChild was registered; a WaitChild adds a time limit.
//
//   - A child in the append of a finish with status faulted is the flow that on_fault
//     names. For a fault that the engine makes itself it starts that flow in the same
//     transaction, with an event of the same shape.
//
//   - Labels: Value is sealed with a seal.Sealer to the ServerKey of the lease, purpose
//     lease.PurposeServer, at lease.LabelPlace. The engine stores its blind index and
//     forgets it.
//
//   - A fault that the engine makes itself (expiry, interruption, limit) has an output
//     like that of a worker: JSON {"type", "message", "attempts"} sealed to the payload
//     key at lease.OutputPlace with status faulted.
//
//   - An Append is answered by Appended for the same fence once it is durable, with
//     Stale when it was refused. There is no other refusal: an append that names an
//     unknown flow for a child, or is over a limit, faults the execution with type limit.
//
//   - Frames can be lost, answers too. A worker repeats an append that stays without an
//     answer, word for word and before it sends another one; where it was committed the engine
//     answers it again, with the number of its last entry, and writes nothing. A worker whose
//     append or state change has no answer in the end gives the execution up (wire.Released with fault "unanswered"), and it is
//     given out again with what was committed. Giving up for reasons that are not the
//     execution's (lease, lost, shutdown, unavailable, unanswered, idle, evicted) does not count
//     towards MaxInterruptions.
//
//   - A BoundInstance with Renew is answered by a Dispatch without executions, whose
//     permission covers everything of that instance that the runner holds.
//
// # What is given out when
//
// A weighted fair queue says who is next ([MaxUnit], Options.CustomerCap, the cap of an
// instance). Three things keep an execution out of it or back in it:
//
//   - Bounds. What was accepted and has not begun is counted by customer and in all, in events
//     and in bytes (Options.Pending); over a bound Accept returns [ErrBusy]. What executions
//     call, and what on_fault starts, is not counted: refusing it would fault what runs. What
//     runs is bounded in bytes for each runner (Options.RunnerBytes).
//   - Gates. A flow with concurrency has a gate for each value of its key. An execution comes
//     into the queue only with a place in its gate; the others stand before it in order of
//     acceptance. With order fifo a gate has one place, which is kept until the execution ends,
//     also while it waits; a faulted one gives it up, and one that is retried by hand takes its
//     turn again. A place is not a row: it is rebuilt from who has begun.
//   - Refreshes. What is due is ordered from egress nodes in a queue of its own, in which customers
//     and connectors take turns and none has all the slots. What egress nodes say of connections is noted
//     by another loop.
//   - Shards. See the next section.
//
// # Several servers over one database
//
// A customer belongs to one of [store.Shards] shards for ever. A row for each says which server
// schedules it, until when, and counts its holders. A server claims what nobody has, renews its
// claims every third of Options.ShardLife, and takes over those that lapsed, that were given up
// ([Engine.Leave]), or whose server is known to have ended ([Engine.ServersGone],
// [Engine.KeepServers]). Taking a shard over reads its open executions in the transaction of
// the claim; what runs gets the life of a lease to be named by its runner. A server that finds
// that a shard is another's forgets everything of it. Two that believe to have the same shard
// for a moment do no harm: each lease counts the fence of its execution up from the one that
// was read, so one of two is refused, and reads the row again.
//
// Every server accepts events, answers callbacks, cancels, retries and replays. What it
// changes of an execution whose shard is not its own it commits with a notice, a row that the
// holder reads within a second: it makes its memory agree with the execution's row in one
// transaction, which also drops the notice. A server that loses a shard between a write and its
// commit leaves the notice afterwards; the new holder reads a shard once more when the life of a
// claim has passed. Changes of instances are read every second. A wake that another server
// committed reaches an execution that runs when all its branches wait. Who watches an execution
// from a server that does not schedule it sees its end, and no progress, page or reply.
//
// Schedules and removals are done by who has their shard; retention by who has the first one.
// Bounds of pending events are those of the server that schedules.
//
// # Concurrency and failure
//
// All methods are safe for concurrent use. Handle does not wait for the disk: it
// queues a write and returns, and pushes back only when too many writes are queued.
// Frames go out through [Link] in the order of the commits that they rest on. A lost
// frame costs a lease its time and no more. A failed write is answered to nobody: the
// sender's retry, or the lapse of the lease, repeats it.
package engine
