package flowfile

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/bulkheadhq/bulkhead/internal/source"
)

// CodeProblem is an error in the program that is written at a path such as
// flows.order-paid.steps[0].code. line and column count from 1, in lines and characters
// of the program; a line of 0 means that the place is not known. The problem is marked
// where the file shows that character as it is, else at the program's beginning.
func (doc *Document) CodeProblem(path string, line, column int, message string) source.Problem {
	if line > 0 {
		message = fmt.Sprintf("%s (line %d, column %d of the code)", message, line, column)
		if n, ok := doc.d.At[path]; ok {
			if offset, ok := inScalar(doc.d.Src, n, line, column); ok {
				return doc.d.Src.Problem(source.SeverityError, offset, 1, path, "", message)
			}
		}
	}
	return doc.d.Placed(source.SeverityError, path, "", message)
}

// inScalar finds a character of a scalar's value in the file. It is sure of the place or
// finds none: escapes and folded lines show other text than the value.
func inScalar(s *source.Text, n *source.Node, line, column int) (offset int, ok bool) {
	lines := strings.Split(n.Value, "\n")
	if n.Kind != source.Scalar || line < 1 || line > len(lines) || column < 1 {
		return 0, false
	}
	want := lines[line-1]
	if column > utf8.RuneCountInString(want)+1 {
		return 0, false
	}
	first, start := s.Position(n.Start)
	if n.Form == source.LiteralForm {
		at := first + line
		shown := s.Line(at)
		indent, same := strings.CutSuffix(shown, want)
		if !same || strings.Trim(indent, " ") != "" {
			return 0, false
		}
		return s.Offset(at, len(indent)+column), true
	}
	if len(lines) > 1 {
		return 0, false
	}
	text := s.Text[n.Start:]
	if len(text) > 0 && (text[0] == '"' || text[0] == '\'') {
		text = text[1:]
		start++
	}
	if !bytes.HasPrefix(text, []byte(want)) {
		return 0, false
	}
	return s.Offset(first, start+column-1), true
}
