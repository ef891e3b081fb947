// Package sign signs requests: with a shared secret as a recipe says, as AWS does (Signature
// Version 4), and as OAuth 1.0 says (RFC 5849).
//
// Purpose: one place for the arithmetic, used by the calls of integrations and by the token
// engine. Nothing is sent here.
//
// Authority: none. The keys come as arguments, live as long as the call, and are in no error.
//
// Everything is a pure function of its arguments and safe for concurrent use.
//
// Failure: an error says which part of a signing recipe cannot be used.
package sign
