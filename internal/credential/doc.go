// Package credential describes how one authenticates at a provider, as data: what a
// person enters, how tokens are obtained, read, kept alive and given up, and where
// credentials stand in requests.
//
// Purpose: a [Method] is one auth method of a connector. Its [Recipe] says what the token
// engine (package oauth) must know of a provider; the numbers in the comments of its
// fields are those of the survey in doc/connections.md. A [Spec] is a method with the
// definitions and values of the host variables, as a sealed credential record carries it.
//
// Authority: this package decides which host a template may name. A [Var] is an enum, a
// pattern without dots, or a host below declared suffixes; the same rule holds for what a
// provider's answer decides ([Keep]). Everything that cannot be proved to stay inside is
// refused by Check.
//
// Nothing here holds a secret, opens a connection or keeps state; values are safe for
// concurrent reading.
//
// Failure: [Method.Check] gives all problems at once, as [Problems], each with its place.
package credential
