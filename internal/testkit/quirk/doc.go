// Package quirk is a fake identity provider with one switch for each way in which providers
// differ from the specifications of OAuth 2.0, after the survey in doc/connections.md.
//
// Purpose: the suite of this package turns on one switch at a time, drives the real token engine
// and the real egress client through a whole life of a connection, and counts what is handled.
// Each switch has a twin that must fail: the recipe of a provider without quirks. Tests of other
// packages use the server for rotation with reuse detection, slow and broken answers, and attacks.
//
// Authority: none; it is for tests and is imported by nothing else.
//
// Concurrency: a Server is safe for concurrent use. Its switches are set before it is used.
//
// Failure: what a request lacks is answered as that provider would, and noted: see [Server.Noted].
package quirk
