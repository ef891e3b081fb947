// Package wire is what processes say to each other: frames, the messages in
// them, and the subjects that carry them on the bus together with the matrix of
// who may use which.
//
// A frame is a length, a version, a type and binary fields (no self-describing
// format, no reflection). Many frames in a row are a batch, and every link sends
// batches: a message on the bus, or one write to an inherited socket. Frames from
// outside a process are bounded by [MaxFrame] and [MaxList] before anything is
// allocated for them; a malformed one is [ErrMalformed] and ends the link.
//
// What is secret in a message is sealed by package seal for its reader; the
// comments say for whom. Everything else may be read by whoever carries it.
//
// Authority: this package owns the layout of frames, the names of subjects and
// the permission matrix. Values are plain data; [Writer] is safe for concurrent
// use, [Reader] is not.
package wire
