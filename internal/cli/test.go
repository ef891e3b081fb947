package cli

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
)

type testCommand struct {
	Files   []string `arg:"" name:"file" help:"Integration files; the cases are in NAME.test.yaml beside each."`
	Only    string   `name:"run" placeholder:"REGEXP" help:"Only the cases whose name matches."`
	JSON    bool     `name:"json" help:"Print the results as JSON."`
	Verbose bool     `short:"v" help:"Show what the roles log."`
}

// suite is one integration with the cases to run.
type suite struct {
	file, cases string // names of the files
	integration *flow.Integration
	tests       []*flowfile.TestCase
	others      int // cases that --run leaves out
}

// caseResult is how one case ended.
type caseResult struct {
	File     string        `json:"file"`
	Line     int           `json:"line"` // of the case in the file of cases
	Name     string        `json:"name"`
	Flow     string        `json:"flow"`
	Passed   bool          `json:"passed"`
	Duration time.Duration `json:"-"`
	Millis   float64       `json:"duration_ms"`
	Problems []problem     `json:"problems,omitempty"`
	Logs     []string      `json:"logs,omitempty"` // of code steps
}

// Help implements kong.HelpProvider.
func (*testCommand) Help() string {
	return "Every case runs through the real engine, worker, sandbox and egress; only the other side of each connection is played " +
		"from the file. Exit status: 0 every case passed, 1 one did not, 2 a file is invalid."
}

// Run implements the command. Everything is read and checked before anything starts.
func (t *testCommand) Run(c *console) error {
	pattern, err := regexp.Compile(t.Only)
	if err != nil {
		return usage("--run: %w", err)
	}
	var suites []*suite
	invalid := false
	cases := 0
	for _, file := range t.Files {
		if strings.HasSuffix(file, ".test"+filepath.Ext(file)) && len(t.Files) > 1 {
			continue // of a pattern such as *.yaml: it is read with its integration
		}
		s, err := readSuite(c, file, pattern)
		switch f := (*fail)(nil); {
		case errors.As(err, &f) && f.err == nil: // its problems are shown; show those of the others too
			invalid = true
		case err != nil:
			return err
		default:
			suites = append(suites, s)
			cases += len(s.tests)
		}
	}
	switch {
	case invalid:
		return said(exitUsage)
	case cases == 0:
		return usage("no case matches --run %s", t.Only)
	}
	return t.runSuites(c, suites)
}

// readSuite reads an integration and the cases beside it.
func readSuite(c *console, file string, pattern *regexp.Regexp) (*suite, error) {
	doc, err := load(c, file)
	if err != nil {
		return nil, err
	}
	s := &suite{file: file, cases: casesOf(file), integration: doc.Integration}
	text, err := readFile(s.cases, flow.MaxFileBytes)
	if errors.Is(err, os.ErrNotExist) {
		return nil, usage("%s has no cases: write them in %s (see bulkhead test --help)", file, s.cases)
	}
	if err != nil {
		return nil, err
	}
	tests, problems := flowfile.DecodeTests(s.cases, text, s.integration)
	if len(problems) > 0 {
		if err := problems.Render(c.Err, style(c.Err)); err != nil {
			return nil, err
		}
	}
	if tests == nil {
		return nil, said(exitUsage)
	}
	for i := range tests.Cases {
		if !pattern.MatchString(tests.Cases[i].Name) {
			s.others++
			continue
		}
		if err := runnable(s.integration, tests.Cases[i].Flow); err != nil {
			return nil, err
		}
		s.tests = append(s.tests, &tests.Cases[i])
	}
	return s, nil
}

// casesOf is the name of the file of cases beside an integration.
func casesOf(file string) string {
	ext := filepath.Ext(file)
	return strings.TrimSuffix(file, ext) + ".test" + ext
}

func (t *testCommand) runSuites(c *console, suites []*suite) error {
	session, err := startSession(c.ctx, sessionConfig{AllowNet: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Verbose: t.Verbose})
	if err != nil {
		return err
	}
	defer session.close()
	began := now()
	var all []caseResult
	report := &testReport{out: c.Out, paint: paint(terminal(c.Out))}
	for _, s := range suites {
		if !t.JSON {
			report.file(s)
		}
		rehearsal := newRehearsal(session, s.integration)
		for _, test := range s.tests {
			r, err := rehearsal.run(c.ctx, test)
			if err != nil {
				return err
			}
			r.File = s.cases
			if !t.JSON {
				report.result(r)
			}
			all = append(all, *r)
		}
	}
	failed := 0
	for i := range all {
		if !all[i].Passed {
			failed++
		}
	}
	if t.JSON {
		if err := writeJSON(c.Out, map[string]any{"cases": all, "passed": len(all) - failed, "failed": failed}); err != nil {
			return err
		}
	} else {
		report.summary(len(all), failed, suites, now().Sub(began))
	}
	if failed > 0 {
		return said(exitFailed)
	}
	return nil
}

// testReport prints results for people.
type testReport struct {
	out   io.Writer
	paint paint
	files int
	width int // of the names of the file's cases
}

const (
	maxNameWidth = 60
	// maxLine is the longest line on which both sides of a difference are put.
	maxLine = 100
)

func (r *testReport) file(s *suite) {
	if r.files++; r.files > 1 {
		fmt.Fprintln(r.out)
	}
	fmt.Fprintln(r.out, r.paint.in(bold, s.file))
	r.width = 0
	for _, t := range s.tests {
		r.width = min(max(r.width, len([]rune(t.Name))), maxNameWidth)
	}
}

func (r *testReport) result(c *caseResult) {
	mark := r.paint.in(green, "✓")
	if !c.Passed {
		mark = r.paint.in(red, "✗")
	}
	fmt.Fprintf(r.out, "  %s %-*s  %s\n", mark, r.width, oneLine(c.Name), r.paint.in(grey, fmt.Sprintf("%8s", round(c.Duration))))
	if c.Passed {
		return
	}
	fmt.Fprintf(r.out, "      %s\n", r.paint.in(grey, fmt.Sprintf("%s:%d", c.File, c.Line)))
	for i := range c.Problems {
		p := &c.Problems[i]
		fmt.Fprintf(r.out, "      %s\n", oneLine(p.What))
		for _, d := range p.Differences {
			r.difference(&d)
		}
		if p.Hint != "" {
			fmt.Fprintf(r.out, "        %s %s\n", r.paint.in(yellow, "hint:"), oneLine(p.Hint))
		}
	}
	r.logs(c)
}

func (r *testReport) logs(c *caseResult) {
	for _, l := range c.Logs {
		fmt.Fprintf(r.out, "      %s %s\n", r.paint.in(grey, "log"), l)
	}
}

func (r *testReport) difference(d *difference) {
	want, got := d.Expected, d.Got
	if want == "" {
		want = "nothing"
	}
	if got == "" {
		got = "nothing"
	}
	name := d.Path
	if name == "" {
		name = "value"
	}
	if len(name)+len(want)+len(got) < maxLine-len("expected , got ") {
		fmt.Fprintf(r.out, "        %s: expected %s, got %s\n", name, r.paint.in(green, want), r.paint.in(red, got))
		return
	}
	fmt.Fprintf(r.out, "        %s\n          expected %s\n          got      %s\n", name, r.paint.in(green, want), r.paint.in(red, got))
}

func (r *testReport) summary(cases, failed int, suites []*suite, d time.Duration) {
	left := 0
	for _, s := range suites {
		left += s.others
	}
	line := r.paint.in(green, count(cases, "case")+" passed")
	if failed > 0 {
		line = fmt.Sprintf("%s, %s", count(cases, "case"), r.paint.in(red, fmt.Sprintf("%d failed", failed)))
	}
	if left > 0 {
		line += fmt.Sprintf(", %d not run", left)
	}
	fmt.Fprintf(r.out, "\n%s %s\n", line, r.paint.in(grey, "in "+round(d)))
}
