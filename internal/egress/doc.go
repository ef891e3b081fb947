// Package egress makes the outbound HTTP requests of integrations. It is the
// only package that puts a credential into a request.
//
// Purpose: [Client.Do] takes a [Call] made under a [Lease], checks it against
// the lease's [Binding], injects the [Credential], dials through package dial,
// follows redirects, reads the answer within limits, and removes the injected
// secret from it. One [Flow] record is given out before each request and one after.
//
// Authority: where a request may go is decided by the binding, which comes from
// the credential's record in the keystore and never from the call; which
// addresses may be reached is decided by package dial. A call supplies method,
// path, query, headers and body only. What was checked is what is dialled: the
// URL is assembled from the checked parts and not parsed again.
//
// Concurrency: Client and Lease are safe for concurrent use; a Call is used by
// one goroutine. Connections are kept per credential record, so that nothing of
// one customer's connection (TLS, HTTP/2 header tables) is shared with another's.
// Client starts no goroutine of its own; those that call Do belong to the Node.
//
// Failure: every error of Do is a [*Fault] with one of the error types of the
// integration format and an [Outcome] that says whether the request may have
// had its effect. Messages never contain what the other side sent.
package egress
