// Package connect is how customers are connected: it turns what people enter, or what a
// provider grants them, into connections, and ends connections again.
//
// Purpose: a [Service] saves credentials by an auth method of a connector's manifest
// ([Service.Save]), keeps connection templates with the OAuth clients of the organization,
// makes connect links, and serves the hosted page at /connect/ by which somebody without an
// account here connects a customer. It tests, deletes and revokes connections, watches how
// they do, and makes notices of what the organization should know.
//
// # Authority
//
// What is entered is sealed to the vault at once and never read back. Where a credential
// may be used is computed here from the manifest's hosts and the values of its variables,
// and stands in the sealed record: changing it needs the secret again. Tokens are obtained
// by egress on an order that the vault checks too; this package carries states, codes and
// answers, and holds no key that opens them.
//
// The hosted page is reached by anybody. The secret in its address says whose it is and
// what may be done: connect one customer to one connector, once, until it expires. It is
// stored as its SHA-256. A browser is known by a cookie: a form is taken from the browser
// that was shown it, and a provider's answer from the browser that was sent there, so that
// nobody connects an account in another's name (RFC 9700 section 4.7). Pages have no script
// and repeat nothing that a request says.
//
// # States of a link
//
//	open → claimed → used      a claim is taken back when nothing came of it; behind a crash that is decided two minutes after it
//	open → expired | revoked
//
// # Concurrency and failure
//
// A Service is safe for concurrent use, and any number of servers may have one: of two that
// use one link, one wins, in SQL. The row of a connection is committed before its first
// tokens are obtained; when that is interrupted, reconciliation with the keystore shows the
// connection as one that must be connected again, until the claim of its link is taken back
// and the connection with it.
package connect
