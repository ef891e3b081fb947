// Package dial is the only place from which this program opens connections to
// the outside.
//
// Purpose: a [Dialer] resolves a name, tries its addresses in order and
// connects over TCP. Every address is judged where it is really used, in the
// control hook of the socket, so a name that answers differently the second
// time, a redirect or a literal in an odd notation all meet the same check.
//
// Authority: it decides which addresses and ports may be reached at all
// (the [Policy] of the operator). It knows nothing of customers, credentials
// or HTTP; which host a credential may be sent to is decided in egress.
//
// Default deny: the zero Policy reaches public unicast addresses only. Ranges
// of the IANA special-purpose registries (RFC 6890), and the address by which
// one cloud exposes its host agent, are refused unless Policy.Allow names them.
// There is no proxy, no Unix socket, no UDP and no search domain.
//
// Concurrency: a Dialer is immutable and safe for concurrent use.
//
// Failure: a refusal is a [*Denied]; everything else is the error of the
// resolver or the socket, wrapped.
package dial
