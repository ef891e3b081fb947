package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/children"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits of compiling code steps.
const (
	compileTime  = 2 * time.Second  // one program
	compileStart = 10 * time.Second // the sandbox, until it speaks
	compileSlack = 3 * time.Second  // beyond compileTime until an answer is here
)

// program is one code step of a file.
type program struct{ path, source string }

// withCode adds the syntax errors of a valid file's code steps to its problems. Code is
// compiled in a sandbox, as it is when it runs: a file may come from anywhere. Where no
// sandbox starts, that is said once, and code is not checked.
func withCode(c *console, doc *flowfile.Document, problems flowfile.Problems) flowfile.Problems {
	if doc == nil {
		return problems
	}
	list := programs(doc.Integration)
	if len(list) == 0 {
		return problems
	}
	found, err := compileAll(c.ctx, doc, list)
	if err != nil {
		if !c.codeNoted {
			fmt.Fprintf(c.Err, "note: the syntax of code steps is not checked: %v\n", err)
		}
		c.codeNoted = true
		return problems
	}
	all := slices.Concat(problems, found)
	slices.SortStableFunc(all, func(a, b flowfile.Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return all
}

// programs lists the code steps of an integration in their order.
func programs(i *flow.Integration) []program {
	var list []program
	for n := range i.Flows {
		f := &i.Flows[n]
		for path, s := range flow.Walk("flows."+f.Name+".steps", f.Steps) {
			if s.Code != nil {
				list = append(list, program{path + ".code", s.Code.Source})
			}
		}
	}
	return list
}

// compileAll compiles programs in one sandbox. Its error means that there is none.
func compileAll(ctx context.Context, doc *flowfile.Document, list []program) (flowfile.Problems, error) {
	image, err := children.Sandbox()
	if err != nil {
		return nil, err
	}
	spawner, _, err := jail.NewSpawner(jail.SpawnerConfig{Sandbox: image, MaxChildren: 1})
	if err != nil {
		return nil, err
	}
	defer spawner.Close()
	p, err := spawner.Start(ctx, jail.KindSandbox)
	if err != nil {
		return nil, err
	}
	defer p.Conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = p.Kill() })
	defer stop()
	box, err := openCompiler(p.Conn)
	if err != nil {
		return nil, fmt.Errorf("open sandbox: %w", err)
	}
	var found flowfile.Problems
	for _, each := range list {
		result, err := box.compile(each.source)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil { // it took the sandbox with it: the others wait until it is mended
			return append(found, doc.CodeProblem(each.path, 0, 0, "the sandbox ended while it compiled this code")), nil
		}
		if result.ErrorKind != "" {
			found = append(found, doc.CodeProblem(each.path, int(result.Line), int(result.Column), result.Message))
		}
		if result.ErrorKind == "timeout" || result.ErrorKind == "memory" {
			return found, nil // the sandbox ends after these
		}
	}
	return found, nil
}

// compiler is the end of a sandbox's pipe that gives it programs.
type compiler struct {
	conn      *os.File
	frames    *wire.Reader
	channel   *seal.Channel
	execution id.Execution
	calls     uint64
}

func openCompiler(conn *os.File) (*compiler, error) {
	b := &compiler{conn: conn, frames: wire.NewReader(conn), execution: id.NewExecution(now())}
	if err := conn.SetDeadline(now().Add(compileStart)); err != nil {
		return nil, err
	}
	var hello wire.SandboxHello
	if err := b.read(&hello); err != nil {
		return nil, err
	}
	channel, encapsulation, err := seal.Connect(hello.Key, lease.PurposeSandbox)
	if err != nil {
		return nil, err
	}
	b.channel = channel
	_, err = conn.Write(wire.AppendFrame(nil, &wire.SandboxOpen{Execution: b.execution, Encapsulation: encapsulation}))
	return b, err
}

// compile gives the sandbox a program without input, which it compiles and does not run.
func (b *compiler) compile(source string) (*wire.CodeResult, error) {
	if err := b.conn.SetDeadline(now().Add(compileTime + compileSlack)); err != nil {
		return nil, err
	}
	b.calls++
	m := &wire.SandboxRun{Execution: b.execution, Call: b.calls}
	m.Sealed = b.channel.Seal(nil, m.Place(), wire.AppendBody(nil, &wire.CodeCall{Source: source, Timeout: compileTime}))
	if _, err := b.conn.Write(wire.AppendFrame(nil, m)); err != nil {
		return nil, err
	}
	var answer wire.SandboxResult
	if err := b.read(&answer); err != nil {
		return nil, err
	}
	if answer.Call != b.calls {
		return nil, errors.New("the sandbox answers another call")
	}
	plain, err := b.channel.Open(nil, answer.Place(), answer.Sealed)
	if err != nil {
		return nil, err
	}
	result := &wire.CodeResult{}
	return result, wire.ParseBody(plain, result)
}

func (b *compiler) read(m wire.Typed) error {
	frame, err := b.frames.Read()
	if err != nil {
		return err
	}
	return frame.Parse(m)
}
