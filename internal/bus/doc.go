// Package bus is the message bus between roles: the server that carries messages
// (NATS, core only) and the connection through which a role uses it.
//
// The bus trusts the vault and nobody else: the operator and account that the
// vault signs name the identities, and each identity's permissions are its row of
// the matrix in package wire. There is no anonymous connection, no password, and
// no plain text: the server makes a certificate at start, whose hash every role is
// given by the supervisor. What is secret in a message is sealed for its reader
// before it comes here, so a breached bus can drop and delay, but not read or forge.
//
// A [Conn] gathers frames for each subject and sends many in one message. It
// reconnects for ever. Losing the bus loses seconds, not work: what was not
// acknowledged is sent again by the layers above. A Conn is safe for concurrent
// use; handlers are called one at a time and must not block.
package bus
