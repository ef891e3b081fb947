package flowfile

import (
	"bytes"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxFlowLine is how long a line with a map or list on it may be; longer ones are written over several lines.
const maxFlowLine = 140

// emitter writes a document again.
type emitter struct {
	src   *source
	order map[string][]string
	notes *attachment
	out   bytes.Buffer
}

func (e *emitter) document(root *node) []byte {
	for i, c := range e.notes.header {
		e.comment(c, 0, i == 0)
	}
	if len(e.notes.header) > 0 && len(root.items) > 0 {
		first := e.notes.entries[firstEntry(root)]
		if first.blank {
			e.emptyLine()
		}
	}
	switch {
	case root.kind == scalarNode || len(root.items) == 0:
		e.out.WriteString(e.inline(root, "") + "\n")
	case root.kind == mapNode:
		e.mapping(root, 0, "", true)
	default:
		e.list(root, 0, "")
	}
	return e.out.Bytes()
}

func firstEntry(n *node) *node {
	if n.kind == mapNode {
		return n.keys[0]
	}
	return n.items[0]
}

func (e *emitter) comment(c comment, indent int, first bool) {
	if c.blank && !first {
		e.emptyLine()
	}
	e.out.WriteString(strings.Repeat(" ", indent) + c.text + "\n")
}

// head writes what stands before an entry.
func (e *emitter) head(n *notes, indent int, first bool) {
	for i, c := range n.head {
		e.comment(c, indent, first && i == 0)
	}
	for _, c := range n.tail[min(1, len(n.tail)):] {
		e.comment(comment{text: c.text}, indent, true)
	}
	if n.blank && (!first || len(n.head) > 0) {
		e.emptyLine()
	}
}

// emptyLine writes an empty line unless there is one: a block scalar may end with empty lines that are part of it, and one more
// would become part of it too.
func (e *emitter) emptyLine() {
	if !bytes.HasSuffix(e.out.Bytes(), []byte("\n\n")) {
		e.out.WriteByte('\n')
	}
}

func (n *notes) tailText() string {
	if len(n.tail) == 0 {
		return ""
	}
	return " " + n.tail[0].text
}

func (e *emitter) feet(n *node, indent int) {
	for _, c := range e.notes.feet[n] {
		e.comment(c, indent, false)
	}
}

// keys returns the indexes of a map's entries in the order in which they are written.
func (e *emitter) keys(n *node, path string) []int {
	indexes := make([]int, len(n.keys))
	for i := range indexes {
		indexes[i] = i
	}
	order, known := e.order[path]
	if !known {
		return indexes
	}
	rank := func(i int) int {
		if at := slices.Index(order, n.keys[i].value); at >= 0 {
			return at
		}
		return len(order)
	}
	slices.SortStableFunc(indexes, func(a, b int) int { return rank(a) - rank(b) })
	return indexes
}

// mapping writes a block map. Where lead is false, the first key continues a line that was begun.
func (e *emitter) mapping(n *node, indent int, path string, lead bool) {
	for pos, i := range e.keys(n, path) {
		key, at := n.keys[i], e.notes.entries[n.keys[i]]
		if pos > 0 || lead {
			e.head(at, indent, pos == 0)
			e.out.WriteString(strings.Repeat(" ", indent))
		}
		text := quote(key, false) + ":"
		e.out.WriteString(text)
		e.value(n.items[i], indent, indent+utf8.RuneCountInString(text), join(path, key.value), at.tailText())
	}
	e.feet(n, indent)
}

// value writes what follows a key, with the rest of its line.
func (e *emitter) value(n *node, indent, column int, path, tail string) {
	switch {
	case n.kind == scalarNode && (n.style == literalStyle || n.style == foldedStyle):
		e.block(n, indent, " ", tail)
	case e.fits(n, column+1, path):
		e.out.WriteString(" " + e.inline(n, path) + tail + "\n")
	case n.kind == mapNode:
		e.out.WriteString(tail + "\n")
		e.mapping(n, indent+2, path, true)
	default:
		e.out.WriteString(tail + "\n")
		e.list(n, indent+2, path)
	}
}

// fits says whether a node stays on its line: scalars, empty collections, and short ones that were on a line before.
func (e *emitter) fits(n *node, column int, path string) bool {
	if n.kind == scalarNode {
		return true
	}
	if e.notes.within[n] || len(e.notes.feet[n]) > 0 {
		return false
	}
	if len(n.items) == 0 {
		return true
	}
	return n.style == flowStyle && column+utf8.RuneCountInString(e.inline(n, path)) <= maxFlowLine
}

func (e *emitter) list(n *node, indent int, path string) {
	for i, item := range n.items {
		at := e.notes.entries[item]
		itemPath := path + "[" + itoa(i) + "]"
		nested := item.kind == mapNode && len(item.items) > 0 && !e.fits(item, indent+2, itemPath)
		if nested {
			// What stands at the dash and at the first key is written above the dash.
			e.head(e.above(item, itemPath, at), indent, i == 0)
		} else {
			e.head(at, indent, i == 0)
		}
		e.out.WriteString(strings.Repeat(" ", indent) + "-")
		switch {
		case nested:
			e.out.WriteByte(' ')
			e.mapping(item, indent+2, itemPath, false)
		case item.kind == scalarNode && (item.style == literalStyle || item.style == foldedStyle):
			e.block(item, indent, " ", at.tailText())
		case item.kind == scalarNode || e.fits(item, indent+2, itemPath):
			e.out.WriteString(" " + e.inline(item, itemPath) + at.tailText() + "\n")
		default:
			e.out.WriteString(at.tailText() + "\n")
			e.list(item, indent+2, itemPath)
		}
	}
	e.feet(n, indent)
}

// above joins the notes of a list item with those of the key that follows its dash.
func (e *emitter) above(item *node, path string, at *notes) *notes {
	first := e.notes.entries[item.keys[e.keys(item, path)[0]]]
	joined := &notes{blank: at.blank, head: slices.Clone(at.head)}
	for _, c := range at.tail {
		joined.head = append(joined.head, comment{text: c.text})
	}
	joined.head = append(joined.head, first.head...)
	for _, c := range first.tail[min(1, len(first.tail)):] {
		joined.head = append(joined.head, comment{text: c.text})
	}
	if len(at.head) == 0 && len(joined.head) > 0 && at.blank {
		joined.head[0].blank, joined.blank = true, false
	}
	return joined
}

// inline writes a node on one line.
func (e *emitter) inline(n *node, path string) string {
	if n.kind == scalarNode {
		return quote(n, path != "" && strings.HasSuffix(path, flowMark))
	}
	path = strings.TrimSuffix(path, flowMark)
	var parts []string
	open, closing := "[", "]"
	if n.kind == mapNode {
		open, closing = "{", "}"
		for _, i := range e.keys(n, path) {
			parts = append(parts, quote(n.keys[i], true)+": "+e.inline(n.items[i], join(path, n.keys[i].value)+flowMark))
		}
	} else {
		for i, item := range n.items {
			parts = append(parts, e.inline(item, path+"["+itoa(i)+"]"+flowMark))
		}
	}
	return open + strings.Join(parts, ", ") + closing
}

// flowMark marks paths inside brackets, where fewer texts can stand without quotes. It cannot be part of a path.
const flowMark = "\x00"

// block writes a literal or folded scalar with its lines as they are, at a new indentation.
func (e *emitter) block(n *node, indent int, space, tail string) {
	t := &tracer{text: e.src.text, at: n.start, want: n.value}
	t.at = min(len(t.text), lineBreak(t.text, t.at)+1)
	spaces := t.blockIndent()
	starts, ends := t.blockLines(spaces)
	header := "|"
	if n.style == foldedStyle {
		header = ">"
	}
	if strings.HasPrefix(strings.TrimLeft(n.value, "\n"), " ") {
		header += "2"
	}
	switch trimmed := strings.TrimRight(n.value, "\n"); {
	case trimmed == n.value:
		header += "-"
	case n.value != trimmed+"\n" || trimmed == "":
		header += "+"
	}
	e.out.WriteString(space + header + tail + "\n")
	last := len(starts)
	if !strings.HasSuffix(header, "+") {
		for last > 0 && starts[last-1] >= ends[last-1] {
			last--
		}
	}
	for i := range last {
		if line := string(e.src.text[starts[i]:max(starts[i], ends[i])]); line != "" {
			e.out.WriteString(strings.Repeat(" ", indent+2) + line)
		}
		e.out.WriteByte('\n')
	}
}

// quote writes a scalar with the quotes that it needs. inside says that it stands inside brackets.
func quote(n *node, inside bool) string {
	switch resolve(n) {
	case nullScalar:
		return "null"
	case boolScalar:
		return strings.ToLower(n.value)
	case numberScalar, unclearScalar:
		return n.value
	}
	quoted := n.style != plainStyle
	switch {
	case plainSafe(n.value, inside) && (!quoted || simple(n.value)):
		return n.value
	case strings.ContainsAny(n.value, "\"\\") && !needsEscape(n.value):
		return "'" + strings.ReplaceAll(n.value, "'", "''") + "'"
	}
	return doubleQuoted(n.value)
}

// simple says that nobody would look twice at a text without quotes: words and paths, and nothing that a reader or another
// version of YAML might take for a number, a date or a truth.
func simple(s string) bool {
	switch s {
	case "y", "Y", "n", "N":
		return false
	}
	if s[0] != '/' && !unicode.IsLetter([]rune(s)[0]) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(" _-./,'()", r)
	})
}

func plainSafe(s string, inside bool) bool {
	if s == "" || strings.TrimSpace(s) != s || strings.Contains(s, "${{") || needsEscape(s) || resolve(&node{value: s}) != textScalar {
		return false
	}
	if strings.ContainsAny(s[:1], "!&*|>%@`\"'#,[]{}=<") || strings.Contains(s, ": ") || strings.Contains(s, " #") || strings.HasSuffix(s, ":") {
		return false
	}
	if strings.ContainsAny(s[:1], "-?:") && (len(s) == 1 || strings.ContainsAny(s[1:2], " -.?:")) {
		return false
	}
	return !(inside && strings.ContainsAny(s, ",[]{}:"))
}

// needsEscape says that a text can only stand in double quotes.
func needsEscape(s string) bool {
	at, _ := badCharacter([]byte(s))
	return at >= 0 || strings.ContainsAny(s, "\n\t\r\ufeff\u00a0") || !utf8.ValidString(s)
}

func doubleQuoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < 0x100 && (r < ' ' || r >= 0x7f && r <= 0xa0):
			b.WriteString(`\x` + hexDigits(r, 2))
		case r > 0xff && r != 0xfffd && needsEscape(string(r)):
			b.WriteString(`\u` + hexDigits(r, 4))
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func hexDigits(r rune, n int) string {
	const digits = "0123456789abcdef"
	out := make([]byte, n)
	for i := n - 1; i >= 0; i-- {
		out[i] = digits[r&15]
		r >>= 4
	}
	return string(out)
}
