package suite

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// probe is a program that tries to read paths as whoever it was started as, and prints
// what became of each. With "wait" it waits for the end of its input instead.
func probe(args []string) int {
	if args[0] == "wait" {
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
	for _, path := range args {
		fmt.Printf("%s\t%v\n", path, tryRead(path))
	}
	return 0
}

// tryRead opens a file, a directory or a socket. The error is nil when something came.
func tryRead(path string) error {
	info, err := os.Stat(path)
	switch {
	case strings.Contains(path, "/fd/"): // what a descriptor is
		_, err = os.Readlink(path)
	case err != nil:
	case info.IsDir():
		_, err = os.ReadDir(path)
	case info.Mode()&os.ModeSocket != 0:
		var c net.Conn
		if c, err = net.Dial("unix", path); err == nil {
			_ = c.Close()
		}
	default:
		var f *os.File
		if f, err = os.Open(path); err == nil {
			_, err = f.Read(make([]byte, 1))
			if strings.HasSuffix(path, "/mem") || errors.Is(err, io.EOF) {
				err = nil // it is open; address 0 is not mapped, and empty is not refused
			}
			_ = f.Close()
		}
	}
	var number syscall.Errno
	if errors.As(err, &number) {
		return number
	}
	return err
}

// asUser reads paths as a user, in a process of its own, and returns those that it may
// read.
func asUser(t *testing.T, uid uint32, paths []string) (readable []string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "/proc/self/exe", append([]string{"probe"}, paths...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	c.Env = []string{"GOMAXPROCS=1"}
	out, err := c.Output()
	if err != nil {
		t.Fatalf("probe as %d: %v", uid, err)
	}
	n := 0
	for line := range strings.Lines(string(out)) {
		n++
		path, verdict, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if verdict == "<nil>" {
			readable = append(readable, path)
		}
	}
	if n != len(paths) {
		t.Fatalf("probe as %d: %d answers to %d paths", uid, n, len(paths))
	}
	return readable
}

// ordinary starts a process of a user without any defence and returns its process id.
func ordinary(t *testing.T, uid uint32, args ...string) int {
	t.Helper()
	c := exec.CommandContext(t.Context(), "/proc/self/exe", append([]string{"probe", "wait"}, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = c.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("start an ordinary process: %q, %v", line, err)
	}
	return c.Process.Pid
}
