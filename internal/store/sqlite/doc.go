// Package sqlite is one connection to an SQLite database for one goroutine, without
// database/sql between: the writer of a store makes tens of thousands of statements a second,
// of which binding, locking and converting were half.
//
// It speaks to the same library in the same process as the driver, modernc.org/sqlite, so
// both may have connections to one file. A [Conn] and its statements are for one goroutine at
// a time. Arguments are read where they are: nothing is copied, and they must not change until
// the call returns. Results are copied.
//
// Errors are [*Error] with SQLite's extended code. After an error a statement may be used
// again; whether the transaction still stands is the caller's to find out.
package sqlite
