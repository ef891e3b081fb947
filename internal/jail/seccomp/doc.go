// Package seccomp turns a list of allowed system calls into a classic BPF filter and installs it on every thread of the
// process.
//
// A filter is default deny: the first rule whose number and argument checks match decides; without a match the filter's
// default action is taken. Programs of another architecture (32-bit entry points, x32) are killed before any rule is looked
// at, since their call numbers mean other things.
//
// The package has no state and starts no goroutines. Building a program is a pure function; installing one is irreversible
// and fails without changing anything when the kernel refuses.
//
// It is written here rather than taken from a library because the jailed executables start in about three milliseconds and
// a library's name tables for all architectures would be part of that, and because a filter is small enough to be read.
package seccomp
