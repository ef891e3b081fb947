package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/connectorfile"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
)

// maxInput is the largest trigger body that is read, in bytes.
const maxInput = engine.MaxBody

// readFile reads a file that a user named. Larger ones than the limit are refused.
func readFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name) // #nosec G304 -- the user names the file on the command line
	if err != nil {
		return nil, usage("%w", err)
	}
	defer f.Close()
	return readAll(f, name, limit)
}

func readAll(r io.Reader, name string, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, usage("read %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, usage("%s is larger than %d bytes: let the flow fetch large data itself, as a file", name, limit)
	}
	return b, nil
}

// load reads and checks an integration file with the connectors of this machine, and shows its problems on err.
func load(c *console, file string) (*flowfile.Document, error) {
	connectors, err := connectorsBeside(file)
	if err != nil {
		return nil, err
	}
	return loadWith(c, file, connectors)
}

// loadFor is load with the connectors of a platform.
func loadFor(ctx context.Context, c *console, file string, x *client.Client) (*flowfile.Document, error) {
	connectors, err := connectorsBeside(file)
	if err != nil {
		return nil, err
	}
	return loadWith(c, file, connectors.of(ctx, x))
}

func loadWith(c *console, file string, connectors flowfile.Connectors) (*flowfile.Document, error) {
	text, err := readFile(file, flow.MaxFileBytes)
	if err != nil {
		return nil, err
	}
	doc, problems := flowfile.DecodeWith(file, text, connectors)
	problems = withCode(c, doc, problems)
	if len(problems) > 0 {
		if err := problems.Render(c.Err, style(c.Err)); err != nil {
			return nil, err
		}
	}
	if problems.Invalid() {
		return nil, said(exitUsage)
	}
	return doc, nil
}

type validateCommand struct {
	Files []string `arg:"" name:"file" help:"Integration files, test cases and platform files."`
	JSON  bool     `name:"json" help:"Print problems as JSON on standard output."`
}

// platform says what is wrong with a platform file, or what it holds.
func (v *validateCommand) platform(c *console, file string, p *flowfile.Platform, problems flowfile.Problems) error {
	switch {
	case v.JSON:
		return nil
	case p == nil:
		return problems.Render(c.Err, style(c.Err))
	}
	fmt.Fprintf(c.Out, "%s: valid, %s\n", file, count(len(p.Customers), "customer"))
	return nil
}

// Run implements the command.
func (v *validateCommand) Run(c *console) error {
	all := flowfile.Problems{}
	for _, file := range v.Files {
		text, err := readFile(file, flow.MaxFileBytes)
		if err != nil {
			return err
		}
		if strings.HasSuffix(file, ".test"+filepath.Ext(file)) {
			problems, n := checkCases(file, text)
			all = append(all, problems...)
			if err := v.cases(c, file, problems, n); err != nil {
				return err
			}
			continue
		}
		if flowfile.IsPlatform(text) {
			p, problems := flowfile.DecodePlatform(file, text)
			all = append(all, problems...)
			if err := v.platform(c, file, p, problems); err != nil {
				return err
			}
			continue
		}
		connectors, err := connectorsBeside(file)
		if err != nil {
			return err
		}
		doc, problems := flowfile.DecodeWith(file, text, connectors)
		problems = withCode(c, doc, problems)
		all = append(all, problems...)
		if v.JSON {
			continue
		}
		if err := problems.Render(c.Err, style(c.Err)); err != nil {
			return err
		}
		if !problems.Invalid() {
			fmt.Fprintf(c.Out, "%s: valid, %s\n", file, count(len(doc.Integration.Flows), "flow"))
			for _, n := range doc.Needs() {
				fmt.Fprintf(c.Out, "  connections.%s: %s\n", n.Slot, n)
			}
			for _, n := range doc.Integration.NotYet() {
				fmt.Fprintf(c.Out, "  %s: %s\n", n.Path, n.What)
			}
		}
	}
	if v.JSON {
		if err := writeJSON(c.Out, map[string]any{"valid": !all.Invalid(), "problems": all}); err != nil {
			return err
		}
	}
	if all.Invalid() {
		return said(exitUsage)
	}
	return nil
}

// checkCases checks a file of test cases, against its integration where that is beside it and valid.
func checkCases(file string, text []byte) (flowfile.Problems, int) {
	var i *flow.Integration
	extension := filepath.Ext(file)
	beside := strings.TrimSuffix(file, ".test"+extension) + extension
	if b, err := readFile(beside, flow.MaxFileBytes); err == nil {
		if connectors, err := connectorsBeside(beside); err == nil {
			if doc, problems := flowfile.DecodeWith(beside, b, connectors); !problems.Invalid() {
				i = doc.Integration
			}
		}
	}
	tests, problems := flowfile.DecodeTests(file, text, i)
	if tests == nil {
		return problems, 0
	}
	return problems, len(tests.Cases)
}

// cases shows what checkCases found.
func (v *validateCommand) cases(c *console, file string, problems flowfile.Problems, n int) error {
	if v.JSON {
		return nil
	}
	if err := problems.Render(c.Err, style(c.Err)); err != nil {
		return err
	}
	if !problems.Invalid() {
		fmt.Fprintf(c.Out, "%s: valid, %s\n", file, count(n, "case"))
	}
	return nil
}

// count says how many there are of something, whose plural ends in s.
func count[N int | int64 | uint32 | uint64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

type fmtCommand struct {
	Files []string `arg:"" name:"file" help:"Integration files; - is standard input."`
	Write bool     `short:"w" help:"Write the result to the file instead of standard output."`
	Check bool     `help:"Only list files that are not formatted; exit status 1 if there are any."`
}

// Run implements the command.
func (f *fmtCommand) Run(c *console) error {
	unformatted, invalid := false, false
	for _, file := range f.Files {
		var text []byte
		var err error
		if file == "-" {
			text, err = readAll(c.In, "standard input", flow.MaxFileBytes)
		} else {
			text, err = readFile(file, flow.MaxFileBytes)
		}
		if err != nil {
			return err
		}
		formatted, err := flowfile.Format(text)
		if problems, ok := errors.AsType[flowfile.Problems](err); ok {
			for i := range problems {
				problems[i].File = file
			}
			if err := problems.Render(c.Err, style(c.Err)); err != nil {
				return err
			}
			invalid = true
			continue
		}
		if err != nil {
			return usage("%s: %w", file, err)
		}
		switch same := bytes.Equal(text, formatted); {
		case f.Check:
			if !same {
				unformatted = true
				fmt.Fprintln(c.Out, file)
			}
		case f.Write && file != "-":
			if !same {
				if err := replace(file, formatted); err != nil {
					return err
				}
			}
		default:
			if _, err := c.Out.Write(formatted); err != nil {
				return fmt.Errorf("print: %w", err)
			}
		}
	}
	if invalid {
		return said(exitUsage)
	}
	if unformatted {
		return said(exitFailed)
	}
	return nil
}

// replace writes a file so that a crash leaves the old or the new one.
func replace(file string, text []byte) error {
	info, err := os.Stat(file)
	if err != nil {
		return usage("%v", err)
	}
	next := file + ".new"
	if err := os.WriteFile(next, text, info.Mode().Perm()); err != nil {
		return fmt.Errorf("write %s: %w", next, err)
	}
	if err := os.Rename(next, file); err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", file, err), os.Remove(next))
	}
	return nil
}

// writeNew writes a file and makes its directory. A file that exists stays, unless force is true.
func writeNew(name string, text []byte, force bool) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil { // #nosec G301 -- what commands make for people to read holds no secret
		return fmt.Errorf("make directory: %w", err)
	}
	how := os.O_EXCL
	if force {
		how = os.O_TRUNC
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|how, 0o644) // #nosec G302 G304 -- holds no secret, and is what the caller named
	if errors.Is(err, fs.ErrExist) {
		return usage("%s exists: nothing was written; --force overwrites it", name)
	}
	if err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

type schemaCommand struct {
	Of string `arg:"" optional:"" enum:"integration,platform,connector,connector-test" default:"integration" help:"integration, platform, connector or connector-test: of which file."`
}

// Run implements the command.
func (m *schemaCommand) Run(c *console) error {
	text := flowfile.Schema()
	switch m.Of {
	case "platform":
		text = flowfile.PlatformSchema()
	case "connector":
		text = connectorfile.Schema()
	case "connector-test":
		text = connectorfile.TestSchema()
	}
	if _, err := c.Out.Write(text); err != nil {
		return fmt.Errorf("print schema: %w", err)
	}
	return nil
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}
