// Package trigger turns what happens outside into events: it is the door of webhooks.
//
// # Authority
//
// The door is reached by anybody. It holds no secret: signatures are checked by the
// vault, which says yes or no. It evaluates references and templates of the request and
// nothing else, never an expression. What names no open address of a webhook gets one and
// the same answer, whatever the reason.
//
// A body is read by the type that its sender declares, once, and is never read again as
// something else. Headers that prove who somebody is are removed before a flow sees them.
//
// # Concurrency and failure
//
// A [Door] is safe for concurrent use. Bodies are read within a budget of bytes for the
// whole server: a request that does not fit waits, unread. The answer 202 is given when
// the event is durable, and not before. When anything that a check needs is missing or out
// of reach, the request is refused: the sender repeats it.
package trigger
