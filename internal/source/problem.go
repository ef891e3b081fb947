package source

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
)

// Severity says whether a problem makes a file invalid.
type Severity string

// Severities.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning" // the file is valid, and a reviewer should look
)

// Problem is one thing that is wrong with a file, or that a reviewer should see.
type Problem struct {
	Severity   Severity `json:"severity"`
	File       string   `json:"file"`
	Line       int      `json:"line"`   // from 1
	Column     int      `json:"column"` // from 1, in characters
	Length     int      `json:"length"` // characters to underline, at least 1
	Path       string   `json:"path"`   // such as flows.order-paid.steps[0].with.path; empty for the whole file
	Message    string   `json:"message"`
	Suggestion string   `json:"suggestion,omitempty"`
	Source     string   `json:"source,omitempty"` // text of the line; empty where it is too long to show
}

// Problems are all problems of a file, sorted by position. As an error it prints the first line of each.
type Problems []Problem

// Error prints one line per problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].head()
	}
	return strings.Join(lines, "\n")
}

// Invalid says whether one of the problems is an error.
func (p Problems) Invalid() bool {
	return slices.ContainsFunc(p, func(q Problem) bool { return q.Severity == SeverityError })
}

// Render writes every problem as [Problem.Render] does, with an empty line between two.
func (p Problems) Render(w io.Writer, style Style) error {
	for i := range p {
		if i > 0 {
			if _, err := io.WriteString(w, "\n"); err != nil {
				return err
			}
		}
		if err := p[i].Render(w, style); err != nil {
			return err
		}
	}
	return nil
}

// Style says how problems are printed.
type Style uint8

// Styles.
const (
	Plain  Style = iota // text only
	Colour              // with ANSI colours, for a terminal
)

func (p *Problem) head() string {
	where := fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)
	if p.Severity == SeverityWarning {
		where += "warning: "
	}
	if p.Path != "" {
		where += p.Path + ": "
	}
	return printable(where + p.Message)
}

// maxSourceLine is how many bytes a line may have for a problem to carry it.
const maxSourceLine = 4 << 10

// maxShown is how many characters of a source line are printed.
const maxShown = 140

// Render writes the problem with its line, a caret under the place, and the suggestion. Control characters of the file
// never reach w.
func (p *Problem) Render(w io.Writer, style Style) error {
	red, blue, off := "", "", ""
	if style == Colour {
		red, blue, off = "\x1b[1;31m", "\x1b[34m", "\x1b[0m"
		if p.Severity == SeverityWarning {
			red = "\x1b[1;33m"
		}
	}
	line, column, length := window([]rune(printable(p.Source)), p.Column-1, p.Length)
	gutter := fmt.Sprintf("%5d", p.Line)
	blank := strings.Repeat(" ", len(gutter))
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s%s\n", red, p.head(), off)
	if p.Source != "" {
		fmt.Fprintf(&b, "%s%s |%s %s\n", blue, gutter, off, string(line))
		fmt.Fprintf(&b, "%s%s |%s %s%s%s%s\n", blue, blank, off, strings.Repeat(" ", column), red, strings.Repeat("^", length), off)
	}
	if p.Suggestion != "" {
		fmt.Fprintf(&b, "%s%s =%s %s\n", blue, blank, off, printable(p.Suggestion))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// window cuts a long line around the place that is marked.
func window(line []rune, column, length int) (shown []rune, at, marked int) {
	column = max(0, min(column, len(line)))
	length = max(1, min(length, len(line)-column))
	if len(line) <= maxShown {
		return line, column, length
	}
	from := max(0, min(column-maxShown/3, len(line)-maxShown))
	to := min(len(line), from+maxShown)
	cut := slices.Clone(line[from:to])
	if from > 0 {
		cut[0] = '…'
	}
	if to < len(line) {
		cut[len(cut)-1] = '…'
	}
	return cut, column - from, max(1, min(length, to-column))
}

// printable replaces what a terminal would act on; tabs become one space so that carets stay in their column.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == 0x2028, r == 0x2029:
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// Sort orders problems by their place and drops repeated ones.
func Sort(p Problems) Problems {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(p)
}
