// Command hostile stands in the place of a worker or a sandbox in the tests of package jail: it locks itself down as they
// do and then tries what it is told to try.
package main

import (
	"fmt"
	"os"

	"github.com/bulkheadhq/bulkhead/internal/jail"
)

func main() {
	conn, err := jail.Conn()
	if err != nil {
		fatal(err)
	}
	profile, err := jail.ChildProfile(os.Args)
	if err != nil {
		fatal(err)
	}
	if _, err := jail.Lockdown(profile); err != nil {
		fatal(err)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		fatal(err)
	}
	buf := make([]byte, 100)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			fatal(err)
		}
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
