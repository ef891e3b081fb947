//go:build linux && (amd64 || arm64)

// Command hostile stands in the place of a worker or a sandbox in the tests of package jail. It locks itself down exactly
// as they do and then tries what its parent names over the socket, as code would that has taken the process over.
//
// The protocol is lines. "list" answers the names of all tries; "try NAME ARGUMENT" answers "breach DETAIL" when the try
// succeeded and "denied ERROR" when it failed; an ended process is the third answer. It starts no goroutines but those of
// its bombs.
package main

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"github.com/bulkheadhq/bulkhead/internal/jail"
)

// Exit statuses that tell the test why this program gave up.
const (
	exitUsage    = 3
	exitLockdown = 4
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "whoami" {
		_, _ = fmt.Fprintf(os.NewFile(jail.ConnFD, "parent"), "uid %d\n", os.Geteuid())
		return
	}
	conn, err := jail.Conn()
	if err != nil {
		fatal(exitUsage, err)
	}
	if len(os.Args) > 1 && os.Args[1] == "role" {
		serve(conn, role(conn, os.Args[2:]))
		return
	}
	profile, err := jail.ChildProfile(os.Args)
	if err != nil {
		fatal(exitUsage, err)
	}
	if _, err := jail.Lockdown(profile); err != nil {
		fatal(exitLockdown, err)
	}
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		fatal(exitUsage, err)
	}
	serve(conn, allTries())
}

func serve(conn *os.File, tries map[string]try) {
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		words := strings.SplitN(lines.Text(), " ", 3)
		if words[0] == "list" {
			fmt.Fprintln(conn, strings.Join(slices.Sorted(maps.Keys(tries)), "\t"))
			continue
		}
		words = append(words, "", "")
		try := tries[words[1]]
		if try == nil {
			fatal(exitUsage, fmt.Errorf("no try %q", words[1]))
		}
		detail, err := try(words[2])
		if err != nil {
			fmt.Fprintf(conn, "denied %v\n", err)
			continue
		}
		fmt.Fprintf(conn, "breach %s\n", detail)
	}
}

func fatal(status int, err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(status)
}

// try attempts one thing. No error means that it worked, which is a breach.
type try func(argument string) (detail string, err error)

// raw calls the kernel and fails when the kernel does. Strings are passed as C strings; unsafe pointers, signed and unsigned
// numbers as they are.
func raw(number uintptr, args ...any) (uintptr, error) {
	var a [6]uintptr
	var texts [6]*byte
	for i, argument := range args {
		switch v := argument.(type) {
		case int:
			a[i] = uintptr(v)
		case uintptr:
			a[i] = v
		case unsafe.Pointer:
			a[i] = uintptr(v)
		case string:
			text, err := syscall.BytePtrFromString(v)
			if err != nil {
				return 0, err
			}
			texts[i] = text
			a[i] = uintptr(unsafe.Pointer(text))
		default:
			return 0, fmt.Errorf("argument of type %T", v)
		}
	}
	result, _, errno := syscall.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	runtime.KeepAlive(args)
	runtime.KeepAlive(texts)
	if errno != 0 {
		return 0, errno
	}
	return result, nil
}

// call is a try that consists of one system call.
func call(number uintptr, args ...any) try {
	return func(string) (string, error) {
		result, err := raw(number, args...)
		return fmt.Sprintf("returned %d", result), err
	}
}

func allTries() map[string]try {
	out := map[string]try{}
	for _, group := range []map[string]try{fileTries(), socketTries(), processTries(), kernelTries(), selfTries(), bombs()} {
		for name, t := range group {
			if out[name] != nil {
				fatal(exitUsage, fmt.Errorf("two tries named %q", name))
			}
			out[name] = t
		}
	}
	return out
}
