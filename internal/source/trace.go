package source

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// Trace reads a scalar again from the source and returns, for each byte of its decoded value and for its end, the byte
// offset in the source, and where the scalar ends there. ok is false where the reading does not give the value that the YAML
// parser gave; then offsets is nil and end is a guess.
func Trace(text []byte, n *Node) (offsets []int, end int, ok bool) {
	t := &tracer{text: text, at: n.Start, want: n.Value}
	switch n.Form {
	case SingleForm, DoubleForm:
		ok = t.quoted()
	case LiteralForm, FoldedForm:
		ok = t.block(n.Form == FoldedForm)
	default:
		ok = t.plain()
	}
	if !ok || string(t.got) != n.Value {
		return nil, max(t.at, n.Start), false
	}
	return append(t.offsets, t.last), t.at, true
}

type tracer struct {
	text    []byte
	at      int // next byte to read
	want    string
	got     []byte
	offsets []int
	last    int // offset of the end of the value
}

func (t *tracer) emit(s string, offset int) {
	for i := range len(s) {
		t.got = append(t.got, s[i])
		t.offsets = append(t.offsets, offset+min(i, len(s)-1))
	}
}

func (t *tracer) copyByte() {
	t.got, t.offsets = append(t.got, t.text[t.at]), append(t.offsets, t.at)
	t.at++
	t.last = t.at
}

// fold reads a line break inside a flow scalar with the blanks around it: one break is a space, more are one line feed
// less. It reports false where no break follows.
func (t *tracer) fold() bool {
	at, breaks := t.at, 0
	for at < len(t.text) {
		switch t.text[at] {
		case ' ', '\t', '\r':
		case '\n':
			breaks++
		default:
			goto done
		}
		at++
	}
done:
	if breaks == 0 {
		return false
	}
	if breaks == 1 {
		t.emit(" ", t.at)
	}
	for range breaks - 1 {
		t.emit("\n", t.at)
	}
	t.at = at
	return true
}

// blankBreak says that only blanks stand before the next line break.
func (t *tracer) blankBreak() bool {
	rest := bytes.TrimLeft(t.text[t.at:], " \t\r")
	return len(rest) > 0 && rest[0] == '\n'
}

func (t *tracer) plain() bool {
	t.last = t.at
	for len(t.got) < len(t.want) {
		if t.at >= len(t.text) {
			return false
		}
		switch c := t.text[t.at]; {
		case (c == ' ' || c == '\t' || c == '\r' || c == '\n') && t.blankBreak():
			if !t.fold() {
				return false
			}
		case c != t.want[len(t.got)]:
			return false
		default:
			t.copyByte()
		}
	}
	return true
}

func (t *tracer) quoted() bool {
	if t.at >= len(t.text) {
		return false
	}
	quote := t.text[t.at]
	t.at++
	for t.at < len(t.text) {
		switch c := t.text[t.at]; {
		case c == '\'' && quote == '\'' && t.at+1 < len(t.text) && t.text[t.at+1] == '\'':
			t.emit("'", t.at)
			t.at += 2
		case c == quote:
			t.last = t.at
			t.at++
			return true
		case c == '\\' && quote == '"':
			if !t.escape() {
				return false
			}
		case (c == ' ' || c == '\t' || c == '\r' || c == '\n') && t.blankBreak():
			if !t.fold() {
				return false
			}
		default:
			t.copyByte()
		}
	}
	return false
}

// escape reads an escape of a double-quoted scalar (YAML 1.2.2, 5.7, and the surrogate pairs of JSON).
func (t *tracer) escape() bool {
	start := t.at
	if t.at+1 >= len(t.text) {
		return false
	}
	c := t.text[t.at+1]
	t.at += 2
	if c == '\n' || c == '\r' {
		for t.at < len(t.text) && bytes.IndexByte([]byte(" \t\r\n"), t.text[t.at]) >= 0 {
			t.at++
		}
		return true
	}
	if i := bytes.IndexByte([]byte(`0abtnvfre "/\N_LP`), c); i >= 0 {
		t.emit([]string{"\x00", "\a", "\b", "\t", "\n", "\v", "\f", "\r", "\x1b", " ", `"`, "/", `\`, "\u0085", "\u00a0", "\u2028", "\u2029"}[i], start)
		return true
	}
	if c == '\t' {
		t.emit("\t", start)
		return true
	}
	r, ok := t.hex(map[byte]int{'x': 2, 'u': 4, 'U': 8}[c])
	if !ok {
		return false
	}
	if r >= 0xd800 && r < 0xdc00 && bytes.HasPrefix(t.text[t.at:], []byte(`\u`)) {
		t.at += 2
		low, ok := t.hex(4)
		if !ok {
			return false
		}
		r = (r-0xd800)<<10 + low - 0xdc00 + 0x10000
	}
	t.emit(string(rune(r)), start)
	return true
}

func (t *tracer) hex(digits int) (uint32, bool) {
	if digits == 0 || t.at+digits > len(t.text) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(t.text[t.at:t.at+digits]), 16, 32)
	t.at += digits
	return uint32(n), err == nil && n <= utf8.MaxRune
}

// block reads a literal or folded scalar: a header, then lines of at least the indentation of the first.
func (t *tracer) block(folded bool) bool {
	for t.at < len(t.text) && t.text[t.at] != '\n' {
		t.at++
	}
	t.at++
	indent := t.blockIndent()
	start := t.at
	lines, ends := t.blockLines(indent)
	t.last = t.at
	if indent < 0 || len(lines) == 0 {
		t.last = min(start, len(t.text))
		return t.want == ""
	}
	for i, from := range lines {
		for at := from; at < ends[i]; at++ {
			t.got, t.offsets = append(t.got, t.text[at]), append(t.offsets, at)
		}
		t.last = ends[i]
		if !t.blockBreak(folded, ends[i], i == len(lines)-1 || onlyBlank(lines[i+1:], ends[i+1:])) {
			return true
		}
	}
	return true
}

func onlyBlank(lines, ends []int) bool {
	for i := range lines {
		if lines[i] < ends[i] {
			return false
		}
	}
	return true
}

// blockBreak adds what a line break of the source is in the value. It reports false at the value's end.
func (t *tracer) blockBreak(folded bool, offset int, tail bool) bool {
	if len(t.got) >= len(t.want) {
		return false
	}
	c := t.want[len(t.got)]
	switch {
	case c == '\n':
		t.emit("\n", offset)
	case folded && c == ' ' && !tail:
		t.emit(" ", offset)
	}
	return true
}

// blockIndent returns how many blanks the lines of a block scalar lose, or -1 where it is empty.
func (t *tracer) blockIndent() int {
	for at := t.at; at < len(t.text); {
		end := LineBreak(t.text, at)
		line := bytes.TrimLeft(t.text[at:end], " ")
		if len(bytes.TrimRight(line, "\r")) > 0 {
			spaces := end - at - len(line)
			value := []byte(t.want)
			value = bytes.TrimLeft(value, "\n")
			return spaces - (len(value) - len(bytes.TrimLeft(value, " ")))
		}
		at = end + 1
	}
	return -1
}

// BlockLines returns where the content of each line of a literal or folded scalar starts and ends.
func BlockLines(text []byte, n *Node) (starts, ends []int) {
	t := &tracer{text: text, at: min(len(text), LineBreak(text, n.Start)+1), want: n.Value}
	return t.blockLines(t.blockIndent())
}

// blockLines returns start and end of the content of each line and moves behind the last one.
func (t *tracer) blockLines(indent int) (starts, ends []int) {
	if indent <= 0 {
		return nil, nil
	}
	for at := t.at; at < len(t.text); {
		end := LineBreak(t.text, at)
		content := end
		if content > at && t.text[content-1] == '\r' {
			content--
		}
		spaces := 0
		for at+spaces < content && t.text[at+spaces] == ' ' && spaces < indent {
			spaces++
		}
		blank := at+spaces == content
		if spaces < indent && !blank {
			break
		}
		starts, ends = append(starts, at+spaces), append(ends, content)
		at = end + 1
		if !blank {
			t.at = content
		}
	}
	return starts, ends
}

// LineBreak is the offset of the next line feed, or of the end of the text.
func LineBreak(text []byte, at int) int {
	if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
		return at + i
	}
	return len(text)
}
