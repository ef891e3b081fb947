package source

import (
	"bytes"
	"errors"
	"regexp"
	"strconv"
	"strings"

	goccy "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"
)

// syntax reports an error of the YAML parser. That one knows the line at best, and often only where the map around the
// mistake begins; a second parser is asked for the place and the words. What counts as an error is the first one's
// decision alone.
func (l *loader) syntax(err error) {
	offset, length, message := l.syntaxLine(err)
	if at, words, ok := diagnose(l.src.Text); ok {
		line, _ := l.src.Position(at)
		offset, length, message = at, max(1, min(1, l.src.LineEnd(line)-at)), words
	}
	line, _ := l.src.Position(offset)
	text := l.src.Line(line)
	indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
	suggestion := ""
	switch {
	case strings.Contains(indent, "\t"):
		offset, length = l.src.start[line-1]+strings.IndexByte(text, '\t'), 1
		suggestion = "indent with spaces"
	case strings.Contains(message, "mapping value"):
		suggestion = `a text that contains ": " must be in quotes, and the keys of one map must be indented alike`
	case strings.Contains(message, "character") && strings.Contains(message, "start"):
		suggestion = "put the text in quotes"
	default:
		suggestion = "check the indentation, the brackets and the quotes of this line and of the one before"
	}
	l.problem(offset, length, "", suggestion, "this is not YAML: %s", message)
}

// syntaxLine takes line and words from the error's text.
func (l *loader) syntaxLine(err error) (offset, length int, message string) {
	message, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if m := regexp.MustCompile(`(?s)^line (\d+): (.*)$`).FindStringSubmatch(message); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = max(1, min(n, len(l.src.start)))
		}
		message = m[2]
	}
	text := l.src.Line(line)
	offset = l.src.start[line-1] + len(text) - len(strings.TrimLeft(text, " \t"))
	return offset, l.src.LineEnd(line) - offset, message
}

// maxDiagnosed bounds the bytes that the second parser sees, maxDiagnosedDepth their nesting: it is recursive, and its paths grow
// with the depth.
const (
	maxDiagnosed      = 128 << 10
	maxDiagnosedDepth = 100
)

// shallow says that a text cannot be nested deeply, whatever of it is quoted.
func shallow(text []byte) bool {
	depth := 0
	for line := range bytes.Lines(text) {
		if bytes.Count(line, []byte("- "))+bytes.Count(line, []byte("? ")) > maxDiagnosedDepth {
			return false
		}
		for _, c := range line {
			switch c {
			case '[', '{':
				if depth++; depth > maxDiagnosedDepth {
					return false
				}
			case ']', '}':
				depth = max(0, depth-1)
			}
		}
	}
	return true
}

// diagnose asks the second parser where a text stops being YAML.
func diagnose(text []byte) (offset int, message string, ok bool) {
	if len(text) > maxDiagnosed || !shallow(text) {
		return 0, "", false
	}
	// It only words a message: a fault of its own must not take the place of the message.
	defer func() {
		if recover() != nil {
			offset, message, ok = 0, "", false
		}
	}()
	_, err := parser.ParseBytes(text, 0)
	var syntax *goccy.SyntaxError
	if !errors.As(err, &syntax) || syntax.Token == nil || syntax.Token.Position == nil {
		return 0, "", false
	}
	p := syntax.Token.Position
	return New("", text).Offset(p.Line, p.Column), syntax.Message, true
}
