package flowfile

import (
	"bytes"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/bulkheadhq/bulkhead/internal/source"
)

// maxFlowLine is how long a line with a map or list on it may be; longer ones are written over several lines.
const maxFlowLine = 140

// emitter writes a document again.
type emitter struct {
	src   *source.Text
	order map[string][]string
	notes *attachment
	out   bytes.Buffer
}

func (e *emitter) document(root *source.Node) []byte {
	for i, c := range e.notes.header {
		e.comment(c, 0, i == 0)
	}
	if len(e.notes.header) > 0 && len(root.Items) > 0 {
		first := e.notes.entries[firstEntry(root)]
		if first.blank {
			e.emptyLine()
		}
	}
	switch {
	case root.Kind == source.Scalar || len(root.Items) == 0:
		e.out.WriteString(e.inline(root, "") + "\n")
	case root.Kind == source.Map:
		e.mapping(root, 0, "", true)
	default:
		e.list(root, 0, "")
	}
	return e.out.Bytes()
}

func firstEntry(n *source.Node) *source.Node {
	if n.Kind == source.Map {
		return n.Keys[0]
	}
	return n.Items[0]
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

func (e *emitter) feet(n *source.Node, indent int) {
	for _, c := range e.notes.feet[n] {
		e.comment(c, indent, false)
	}
}

// keys returns the indexes of a map's entries in the order in which they are written.
func (e *emitter) keys(n *source.Node, path string) []int {
	indexes := make([]int, len(n.Keys))
	for i := range indexes {
		indexes[i] = i
	}
	order, known := e.order[path]
	if !known {
		return indexes
	}
	rank := func(i int) int {
		if at := slices.Index(order, n.Keys[i].Value); at >= 0 {
			return at
		}
		return len(order)
	}
	slices.SortStableFunc(indexes, func(a, b int) int { return rank(a) - rank(b) })
	return indexes
}

// mapping writes a block map. Where lead is false, the first key continues a line that was begun.
func (e *emitter) mapping(n *source.Node, indent int, path string, lead bool) {
	for pos, i := range e.keys(n, path) {
		key, at := n.Keys[i], e.notes.entries[n.Keys[i]]
		if pos > 0 || lead {
			e.head(at, indent, pos == 0)
			e.out.WriteString(strings.Repeat(" ", indent))
		}
		text := quote(key, false) + ":"
		e.out.WriteString(text)
		e.value(n.Items[i], indent, indent+utf8.RuneCountInString(text), source.Join(path, key.Value), at.tailText())
	}
	e.feet(n, indent)
}

// value writes what follows a key, with the rest of its line.
func (e *emitter) value(n *source.Node, indent, column int, path, tail string) {
	switch {
	case n.Kind == source.Scalar && (n.Form == source.LiteralForm || n.Form == source.FoldedForm):
		e.block(n, indent, " ", tail)
	case e.fits(n, column+1, path):
		e.out.WriteString(" " + e.inline(n, path) + tail + "\n")
	case n.Kind == source.Map:
		e.out.WriteString(tail + "\n")
		e.mapping(n, indent+2, path, true)
	default:
		e.out.WriteString(tail + "\n")
		e.list(n, indent+2, path)
	}
}

// fits says whether a node stays on its line: scalars, empty collections, and short ones that were on a line before.
func (e *emitter) fits(n *source.Node, column int, path string) bool {
	if n.Kind == source.Scalar {
		return true
	}
	if e.notes.within[n] || len(e.notes.feet[n]) > 0 {
		return false
	}
	if len(n.Items) == 0 {
		return true
	}
	return n.Form == source.FlowForm && column+utf8.RuneCountInString(e.inline(n, path)) <= maxFlowLine
}

func (e *emitter) list(n *source.Node, indent int, path string) {
	for i, item := range n.Items {
		at := e.notes.entries[item]
		itemPath := path + "[" + itoa(i) + "]"
		nested := item.Kind == source.Map && len(item.Items) > 0 && !e.fits(item, indent+2, itemPath)
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
		case item.Kind == source.Scalar && (item.Form == source.LiteralForm || item.Form == source.FoldedForm):
			e.block(item, indent, " ", at.tailText())
		case item.Kind == source.Scalar || e.fits(item, indent+2, itemPath):
			e.out.WriteString(" " + e.inline(item, itemPath) + at.tailText() + "\n")
		default:
			e.out.WriteString(at.tailText() + "\n")
			e.list(item, indent+2, itemPath)
		}
	}
	e.feet(n, indent)
}

// above joins the notes of a list item with those of the key that follows its dash.
func (e *emitter) above(item *source.Node, path string, at *notes) *notes {
	first := e.notes.entries[item.Keys[e.keys(item, path)[0]]]
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
func (e *emitter) inline(n *source.Node, path string) string {
	if n.Kind == source.Scalar {
		return quote(n, path != "" && strings.HasSuffix(path, flowMark))
	}
	path = strings.TrimSuffix(path, flowMark)
	var parts []string
	open, closing := "[", "]"
	if n.Kind == source.Map {
		open, closing = "{", "}"
		for _, i := range e.keys(n, path) {
			parts = append(parts, quote(n.Keys[i], true)+": "+e.inline(n.Items[i], source.Join(path, n.Keys[i].Value)+flowMark))
		}
	} else {
		for i, item := range n.Items {
			parts = append(parts, e.inline(item, path+"["+itoa(i)+"]"+flowMark))
		}
	}
	return open + strings.Join(parts, ", ") + closing
}

// flowMark marks paths inside brackets, where fewer texts can stand without quotes. It cannot be part of a path.
const flowMark = "\x00"

// block writes a literal or folded scalar with its lines as they are, at a new indentation.
func (e *emitter) block(n *source.Node, indent int, space, tail string) {
	starts, ends := source.BlockLines(e.src.Text, n)
	header := "|"
	if n.Form == source.FoldedForm {
		header = ">"
	}
	if strings.HasPrefix(strings.TrimLeft(n.Value, "\n"), " ") {
		header += "2"
	}
	switch trimmed := strings.TrimRight(n.Value, "\n"); {
	case trimmed == n.Value:
		header += "-"
	case n.Value != trimmed+"\n" || trimmed == "":
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
		if line := string(e.src.Text[starts[i]:max(starts[i], ends[i])]); line != "" {
			e.out.WriteString(strings.Repeat(" ", indent+2) + line)
		}
		e.out.WriteByte('\n')
	}
}

// quote writes a scalar with the quotes that it needs. inside says that it stands inside brackets.
func quote(n *source.Node, inside bool) string {
	switch source.Resolve(n) {
	case source.NullScalar:
		return "null"
	case source.BoolScalar:
		return strings.ToLower(n.Value)
	case source.NumberScalar, source.UnclearScalar:
		return n.Value
	}
	quoted := n.Form != source.PlainForm
	switch {
	case plainSafe(n.Value, inside) && (!quoted || simple(n.Value)):
		return n.Value
	case strings.ContainsAny(n.Value, "\"\\") && !needsEscape(n.Value):
		return "'" + strings.ReplaceAll(n.Value, "'", "''") + "'"
	}
	return doubleQuoted(n.Value)
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
	if s == "" || strings.TrimSpace(s) != s || strings.Contains(s, "${{") || needsEscape(s) || source.Resolve(&source.Node{Value: s}) != source.TextScalar {
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
	at, _ := source.BadCharacter([]byte(s))
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
