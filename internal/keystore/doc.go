// Package keystore is the vault's own store: wrapped keys, sealed credential
// records, the version ledger and the vault's log, in a SQLite file of its own.
//
// It holds no key and opens nothing. The vault seals every value before it
// arrives; the store sees ciphertext, ids, versions, days and times. There is no
// export and no list: a row is found by its id, and what leaves is ciphertext.
//
// Authority: the vault owns every row. One process at a time may have the
// directory open, which a lock on a file in it enforces, so that the ledger in
// memory is the truth while it runs.
//
// Integrity. Three things are tied together by one MAC, the head, which the vault
// makes with a key that the store does not have and which is renewed in every
// transaction: the newest leaf of the log, whose hash covers all before it, and the
// digest of the version ledger. [Store.Unlock] checks the head before anything can
// be read or written. A row put back to an older version disagrees with the
// ledger; a ledger put back disagrees with the head; a head put back disagrees with
// the log. Only the whole directory put back to one exact earlier state looks
// right from inside, and only across a restart: while the store is open it trusts its memory.
// To notice that too, compare [Store.Head] with a copy kept elsewhere.
//
// Concurrency: all methods are safe for concurrent use. One goroutine writes; the
// closures given to [Store.Write] by concurrent callers share a transaction and one
// fsync (group commit), each in a savepoint of its own. Reads go past it.
//
// Failure: an error of a closure undoes that closure only; an error of the commit
// is every caller's. What cannot be right is [ErrDamaged], and nothing is repaired
// by guessing. After a deletion the write-ahead log is truncated, so that destroyed
// ciphertext is in no file of the store.
package keystore
