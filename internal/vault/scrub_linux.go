package vault

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// envStartField is the place of env_start among the fields of /proc/self/stat that
// come after the command's name, which is the second field (proc_pid_stat(5)).
const envStartField = 50 - 3

// scrubEnvironment overwrites the value of a variable where the kernel put it when
// the process began: /proc/<pid>/environ shows that memory for the life of the process.
func scrubEnvironment(name string) error {
	environ, err := os.ReadFile("/proc/self/environ")
	if err != nil {
		return err
	}
	at := 0
	for _, v := range bytes.SplitAfter(environ, []byte{0}) {
		if rest, ok := bytes.CutPrefix(v, []byte(name+"=")); ok {
			if err := overwrite(at+len(v)-len(rest), len(bytes.TrimRight(rest, "\x00"))); err != nil {
				return err
			}
		}
		at += len(v)
	}
	return nil
}

// overwrite writes zeros n bytes from an offset in the environment.
func overwrite(offset, n int) error {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return err
	}
	field := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(field) <= envStartField {
		return errors.New("/proc/self/stat has too few fields")
	}
	start, err := strconv.ParseInt(field[envStartField], 10, 64)
	if err != nil {
		return fmt.Errorf("read /proc/self/stat: %w", err)
	}
	mem, err := os.OpenFile("/proc/self/mem", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = mem.WriteAt(make([]byte, n), start+int64(offset))
	return errors.Join(err, mem.Close())
}
