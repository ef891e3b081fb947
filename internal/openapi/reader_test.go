package openapi_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/openapi"
)

// Memory of the children of these tests. The twin's says that the child shall not lock itself down: there is no other way to
// tell it, and a real child has none at all.
const (
	childMemory = 256 << 20
	twinMemory  = childMemory + 1
)

// This test's own executable is the child that a Reader starts. Its judge stands for a parser that was taken over.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == openapi.ChildCommand {
		c := openapi.Child{Strict: hostile, Lockdown: jail.Lockdown}
		if os.Args[2] == strconv.Itoa(twinMemory) {
			c.Lockdown = func(jail.Profile) (jail.Report, error) { return jail.Report{}, nil }
		}
		if err := c.Main(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hostile does what a document says in its title, and tells how it went.
func hostile(document []byte) ([]openapi.Violation, error) {
	_, rest, _ := strings.Cut(string(document), "title: '")
	rest, _, _ = strings.Cut(rest, "'")
	word, about, _ := strings.Cut(rest, " ")
	var err error
	switch word {
	case "file":
		_, err = os.ReadFile(about)
	case "write":
		err = os.WriteFile(about, []byte("x"), 0o600)
	case "dial":
		var c net.Conn
		if c, err = net.Dial("tcp", about); err == nil {
			err = c.Close()
		}
	case "process":
		var p *os.Process
		if p, err = os.StartProcess(about, []string{about}, &os.ProcAttr{}); err == nil {
			_, err = p.Wait()
		}
	case "memory":
		var held [][]byte
		for range 40 {
			b := make([]byte, 32<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			held = append(held, b)
		}
		err = nil
		if len(held) != 40 {
			err = errors.New("less")
		}
	case "spin":
		for n := uint(1); n != 0; n |= 1 { // this is the attack
		}
	case "panic":
		panic("attack")
	default:
		return nil, nil
	}
	if err != nil {
		return []openapi.Violation{{At: word, Message: "refused"}}, nil
	}
	return []openapi.Violation{{At: word, Message: "reached"}}, nil
}

func attack(title string) []byte {
	return []byte("openapi: 3.0.0\ninfo: {title: '" + title + "', version: '1', description: 'a < b & c > d'}\nservers: [{url: 'https://a.example'}]\npaths: {/a: {get: {operationId: a, responses: {}}}}\n")
}

// TestJail shows that a parser that was taken over reaches nothing, and, as the red twin, that the same one does reach it all
// when its process is not locked down.
func TestJail(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	dir := t.TempDir()
	for _, a := range []struct{ name, title string }{
		{"file", "file /etc/passwd"},
		{"write", "write " + dir + "/written"},
		{"network", "dial " + listener.Addr().String()},
		{"process", "process /bin/true"},
		{"memory", "memory"},
	} {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			if got := reached(t, a.title, childMemory); got {
				t.Errorf("a parser that was taken over reached: %s", a.title)
			}
			if !reached(t, a.title, twinMemory) {
				t.Errorf("red twin: without the jail, %s was not reached either: the test shows nothing", a.title)
			}
		})
	}
	t.Log("tried 5 ways out of the parser's jail: 0 reached; red twin: 5 reached")
}

func reached(t *testing.T, title string, memory int64) bool {
	t.Helper()
	r := openapi.Reader{Memory: memory}
	result, err := r.Import(t.Context(), attack(title), openapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range result.Violations {
		if v.Message == "reached" {
			return true
		}
	}
	return false
}

// TestLostChild shows that a parser that crashes or never ends costs an import its judge, or itself, and nothing else.
func TestLostChild(t *testing.T) {
	t.Parallel()
	for _, title := range []string{"spin", "panic"} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := openapi.Reader{Memory: childMemory, CPU: time.Second, Wait: 20 * time.Second}
			result, err := r.Import(t.Context(), attack(title), openapi.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(result.Notes) != 1 || !strings.Contains(result.Notes[0], "did not finish") {
				t.Errorf("notes: %q", result.Notes)
			}
		})
	}
	r := openapi.Reader{Memory: childMemory, Wait: time.Nanosecond}
	if _, err := r.Import(t.Context(), attack("slow"), openapi.Options{}); !errors.Is(err, openapi.ErrLost) && err == nil {
		t.Errorf("a child that does not answer: %v", err)
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	r := openapi.Reader{Memory: childMemory}
	result, err := r.Import(t.Context(), attack("Plain"), openapi.Options{Vendor: []string{"b.example"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Actions) != 1 || len(result.Hosts) != 1 || result.Hosts[0].Vendor != openapi.VendorNo {
		t.Errorf("got %+v", result)
	}
	if _, err := r.Import(t.Context(), []byte("[1"), openapi.Options{}); err == nil {
		t.Error("no document was imported")
	}
	if _, err := r.Import(t.Context(), make([]byte, openapi.MaxDocument+1), openapi.Options{}); err == nil {
		t.Error("a document that is too large was imported")
	}
}
