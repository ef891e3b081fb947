// Package store keeps the platform's rows in SQL.
//
// # Authority
//
// This package owns the schema, every statement and the transactions; no other
// package but the keystore touches SQL. One set of statements serves SQLite and
// PostgreSQL: $n arguments, TEXT, BIGINT, BYTEA and BOOLEAN. The schema is one
// numbered list of migrations with a dumped copy, which creates an empty database
// in one go; a test keeps the two equal. Every column is declared in class.go as
// plain, with the reason, or as sealed: the database holds no plaintext of a customer
// (threat model: a stolen database).
//
// # Handles
//
// Code that acts for one customer gets a [Customer] (reads) or a [CustomerTx]
// (writes), whose every statement carries the customer's id: it cannot name another
// customer's row, and what belongs to another is [ErrNotFound]. Work across customers
// takes a [System] or a [SystemTx], which the scheduler holds.
//
// # Writing
//
// A write is a closure over a [Tx]. One goroutine runs all closures that are waiting in
// one transaction (group commit) and commits once. A closure may therefore run twice
// and must have no side effects but its results, which it sets anew each time. A
// closure that returns an error has written nothing: one that had already written is
// taken out and the others run again. Results are valid, and done functions run, only
// after the commit. Reads outside of a write see committed rows.
//
// # Concurrency and failure
//
// All methods of [Store] are safe for concurrent use; a Tx and its handles are for the
// closure's goroutine. A failed commit fails every closure of the transaction, and the
// database is as before. After [Store.Close] everything is [ErrClosed].
//
// On PostgreSQL a statement of which only the success matters is sent with a later one;
// when it fails, its own closure is taken out, wherever that shows. Deadlocks,
// serialization failures and lost connections run the group again. A server that cannot
// be reached for 10 s fails the writes that wait for it, and the next ones try again.
// When the connection is lost during a commit, the server is asked what became of it;
// only when it cannot be asked for 10 s may a write that failed have happened.
package store
