package openapi

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/jail"
)

// The child process that parses: between it and the [Reader] goes one request and one answer, each a length of four bytes,
// big-endian, and JSON. The document follows the request in the same way.

// ChildCommand is the argument with which a [Reader] starts this executable as its child.
const ChildCommand = "read-openapi"

// Strict judges a document by the letter of the specification. It may panic and run away: only a child calls it.
type Strict func(document []byte) ([]Violation, error)

// Child is the process that parses one document and ends.
type Child struct {
	// Strict is asked for violations; nil: nobody is.
	Strict Strict
	// Lockdown takes everything from the process before it reads a byte. It is [jail.Lockdown].
	Lockdown func(jail.Profile) (jail.Report, error)
}

// request is what a child is asked for.
type request struct {
	Options Options `json:"options"`
	Strict  bool    `json:"strict"` // judge instead of importing
}

// answer is what a child found.
type answer struct {
	Result     *Result     `json:"result,omitempty"`
	Violations []Violation `json:"violations,omitempty"`
	Error      string      `json:"error,omitempty"`
}

// Main serves one request in a process that a [Reader] started. args are the arguments behind [ChildCommand].
func (c Child) Main(args []string) error {
	limits, err := childLimits(args)
	if err != nil {
		return err
	}
	conn, err := jail.Conn()
	if err != nil {
		return fmt.Errorf("read a document: %w: this is started by bulkhead itself", err)
	}
	if _, err := c.Lockdown(jail.Sandbox(limits)); err != nil {
		return err
	}
	return errors.Join(c.serve(conn), conn.Close())
}

func childLimits(args []string) (jail.Limits, error) {
	if len(args) != 2 {
		return jail.Limits{}, errors.New("read a document: two limits are expected: this is started by bulkhead itself")
	}
	memory, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return jail.Limits{}, fmt.Errorf("read memory limit: %w", err)
	}
	seconds, err := strconv.Atoi(args[1])
	if err != nil {
		return jail.Limits{}, fmt.Errorf("read processor time limit: %w", err)
	}
	return jail.Limits{Memory: memory, CPU: time.Duration(seconds) * time.Second}, nil
}

func (c Child) serve(conn *os.File) error {
	in := bufio.NewReader(conn)
	head, err := readFrame(in, MaxSide*2)
	if err != nil {
		return err
	}
	var r request
	if err := json.Unmarshal(head, &r); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	document, err := readFrame(in, MaxDocument)
	if err != nil {
		return err
	}
	var a answer
	if r.Strict {
		a.Violations, err = c.judge(document)
	} else {
		a.Result, err = Import(document, r.Options)
	}
	if err != nil {
		a.Error = err.Error()
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // the manifest's bytes are its identity
	if err := enc.Encode(&a); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return writeFrame(conn, b.Bytes())
}

func (c Child) judge(document []byte) ([]Violation, error) {
	if c.Strict == nil {
		return nil, nil
	}
	found, err := c.Strict(document)
	if len(found) > MaxViolations {
		found = found[:MaxViolations]
	}
	return found, err
}

func readFrame(r io.Reader, limit uint32) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > limit {
		return nil, fmt.Errorf("read frame: it has %d bytes, at most %d are allowed", n, limit)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	return b, nil
}

func writeFrame(w io.Writer, b []byte) error {
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(b))) // #nosec G115 -- both sides bound what they write
	if _, err := w.Write(size[:]); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}
