package source

import (
	"bytes"
	"sort"
	"strings"
	"unicode/utf8"
)

// Text is the text of a file with an index of its lines. It is not changed once made.
type Text struct {
	File  string
	Text  []byte
	start []int  // byte offset of each line
	wide  []bool // for each line: it has characters of more than one byte
}

// New indexes a text; file is its name in problems. The text must not change afterwards.
func New(file string, text []byte) *Text {
	s := &Text{File: file, Text: text, start: []int{0}, wide: []bool{false}}
	for i, c := range text {
		switch {
		case c == '\n':
			s.start, s.wide = append(s.start, i+1), append(s.wide, false)
		case c >= utf8.RuneSelf:
			s.wide[len(s.wide)-1] = true
		}
	}
	return s
}

// Position returns line and column of a byte offset, both from 1; columns count characters.
func (s *Text) Position(offset int) (line, column int) {
	offset = max(0, min(offset, len(s.Text)))
	line = sort.SearchInts(s.start, offset+1)
	if !s.wide[line-1] {
		return line, offset - s.start[line-1] + 1
	}
	return line, utf8.RuneCount(s.Text[s.start[line-1]:offset]) + 1
}

// Offset is the inverse of position. A column beyond the line's end is its end.
func (s *Text) Offset(line, column int) int {
	if line < 1 {
		return 0
	}
	if line > len(s.start) {
		return len(s.Text)
	}
	at, end := s.start[line-1], s.LineEnd(line)
	if !s.wide[line-1] {
		return min(at+max(column-1, 0), end)
	}
	for ; column > 1 && at < end; column-- {
		_, size := utf8.DecodeRune(s.Text[at:])
		at += size
	}
	return at
}

// LineEnd returns the offset of a line's end, its break excluded.
func (s *Text) LineEnd(line int) int {
	end := len(s.Text)
	if line < len(s.start) {
		end = s.start[line] - 1
	}
	if end > s.start[line-1] && s.Text[end-1] == '\r' {
		end--
	}
	return end
}

// Line returns the text of a line without its break.
func (s *Text) Line(line int) string {
	if line < 1 || line > len(s.start) {
		return ""
	}
	return string(s.Text[s.start[line-1]:s.LineEnd(line)])
}

// Blank says that a line has no text.
func (s *Text) Blank(line int) bool {
	return line >= 1 && line <= len(s.start) && strings.TrimSpace(s.Line(line)) == ""
}

// BadCharacter finds the first character that a file must not contain, or returns -1. Besides control characters these are
// the line breaks that only some versions of YAML know, and the marks that make an editor show text in another order than
// a machine reads it.
func BadCharacter(text []byte) (offset int, message string) {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size <= 1:
			return i, "the file is not UTF-8 here"
		case r == '\r' && (i+1 == len(text) || text[i+1] != '\n'):
			return i, "a carriage return without a line feed is not allowed"
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f, r >= 0x80 && r < 0xa0, r == 0x2028, r == 0x2029, r == 0xfeff && i > 0:
			return i, "this control character is not allowed: write it escaped in double quotes"
		case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x061c:
			return i, "this character changes the direction in which text is shown and is not allowed: write it escaped in double quotes"
		}
		i += size
	}
	return -1, ""
}

// WithoutMark removes a byte order mark.
func WithoutMark(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) }
