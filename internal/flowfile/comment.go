package flowfile

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/source"
)

// comment is one comment of a file, from its # to the end of its line.
type comment struct {
	offset int
	text   string
	alone  bool // nothing but blanks stands before it in its line
	blank  bool // an empty line stands before it
}

// findComments returns the comments of a document in their order: what begins with # outside of every scalar.
func findComments(root *source.Node, src *source.Text) []comment {
	var spans [][2]int
	scalarSpans(root, src, &spans)
	slices.SortFunc(spans, func(a, b [2]int) int { return cmp.Compare(a[0], b[0]) })
	var found []comment
	at := 0
	for _, s := range append(spans, [2]int{len(src.Text), len(src.Text)}) {
		found = commentsIn(src, at, s[0], found)
		at = max(at, s[1])
	}
	return found
}

// scalarSpans collects where scalars stand. The header of a block scalar is no part of it, since a comment may follow there.
func scalarSpans(n *source.Node, src *source.Text, spans *[][2]int) {
	if n.Kind == source.Scalar {
		start := n.Start
		if n.Form == source.LiteralForm || n.Form == source.FoldedForm {
			*spans = append(*spans, [2]int{start, start + 1})
			start = min(n.End, source.LineBreak(src.Text, start))
		}
		*spans = append(*spans, [2]int{start, n.End})
		return
	}
	for i := range n.Items {
		if n.Kind == source.Map {
			scalarSpans(n.Keys[i], src, spans)
		}
		scalarSpans(n.Items[i], src, spans)
	}
}

func commentsIn(src *source.Text, from, to int, found []comment) []comment {
	for from < to {
		i := bytes.IndexByte(src.Text[from:to], '#')
		if i < 0 {
			return found
		}
		at := from + i
		if at > 0 && bytes.IndexByte([]byte(" \t\n"), src.Text[at-1]) < 0 {
			from = at + 1
			continue
		}
		line, _ := src.Position(at)
		end := src.LineEnd(line)
		found = append(found, comment{
			offset: at,
			text:   strings.TrimRight(string(src.Text[at:end]), " \t"),
			alone:  strings.TrimSpace(string(src.Text[src.Offset(line, 1):at])) == "",
			blank:  src.Blank(line - 1),
		})
		from = end
	}
	return found
}

// notes are the comments and empty lines at one entry of a map or list.
type notes struct {
	head  []comment // lines before the entry
	tail  []comment // at the end of the entry's first line
	blank bool      // an empty line before the entry, below its head
}

// attachment says what stands at each entry. Entries are named by the key's node in maps and by the item's node in lists.
type attachment struct {
	header  []comment // before the first entry of the document
	entries map[*source.Node]*notes
	feet    map[*source.Node][]comment // after the last entry of a map or list
	within  map[*source.Node]bool      // collections with a comment inside
}

// anchor is an entry with its place.
type anchor struct {
	entry     *source.Node
	container *source.Node
	offset    int // of the key, or of the list item's dash
	column    int
}

func anchorsOf(n *source.Node, src *source.Text, out []anchor) []anchor {
	for i, item := range n.Items {
		entry, offset := item, item.Start
		if n.Kind == source.Map {
			entry, offset = n.Keys[i], n.Keys[i].Start
		} else if n.Form == source.BlockForm {
			offset = dash(src, item)
		}
		column := 1 << 30 // inside brackets the column says nothing
		if n.Form == source.BlockForm {
			_, column = src.Position(offset)
		}
		out = append(out, anchor{entry, n, offset, column})
		out = anchorsOf(item, src, out)
	}
	return out
}

// dash returns where the dash of a block list's item stands.
func dash(src *source.Text, item *source.Node) int {
	at := min(item.Start, len(src.Text)-1)
	if item.Kind == source.List && item.Form == source.BlockForm {
		at-- // the item begins with a dash of its own
	}
	for ; at >= 0; at-- {
		if src.Text[at] == '-' && (at+1 == len(src.Text) || bytes.IndexByte([]byte(" \t\r\n"), src.Text[at+1]) >= 0) {
			return at
		}
	}
	return item.Start
}

// attach gives every comment its place.
func attach(root *source.Node, src *source.Text, found []comment) *attachment {
	a := &attachment{entries: map[*source.Node]*notes{}, feet: map[*source.Node][]comment{}, within: map[*source.Node]bool{}}
	anchors := anchorsOf(root, src, nil)
	for _, n := range anchors {
		at := &notes{}
		if n.container.Form == source.BlockForm {
			line, _ := src.Position(n.offset)
			at.blank = src.Blank(line - 1)
		}
		a.entries[n.entry] = at
	}
	for _, c := range found {
		next, _ := slices.BinarySearchFunc(anchors, c.offset, func(n anchor, at int) int { return cmp.Compare(n.offset, at) })
		markInside(root, c.offset, a.within)
		switch {
		case next == 0:
			a.header = append(a.header, c)
		case !c.alone:
			last := next - 1
			for last > 0 && anchors[last].container.Form == source.FlowForm && anchors[last].container.End <= c.offset {
				last--
			}
			entry := anchors[last].entry
			a.entries[entry].tail = append(a.entries[entry].tail, c)
		default:
			a.place(c, anchors, next, src)
		}
	}
	return a
}

// place decides whether a comment on a line of its own belongs to the entry below it or ends the collection above it.
func (a *attachment) place(c comment, anchors []anchor, next int, src *source.Text) {
	_, column := src.Position(c.offset)
	if inner := innermost(anchors[:next], c.offset); inner != nil {
		if next < len(anchors) && anchors[next].offset < inner.End {
			a.entries[anchors[next].entry].head = append(a.entries[anchors[next].entry].head, c)
		} else {
			a.feet[inner] = append(a.feet[inner], c)
		}
		return
	}
	if next < len(anchors) && anchors[next].column >= column {
		a.entries[anchors[next].entry].head = append(a.entries[anchors[next].entry].head, c)
		return
	}
	for i := next - 1; i >= 0; i-- {
		if anchors[i].container.Form == source.BlockForm && anchors[i].column <= column {
			a.feet[anchors[i].container] = append(a.feet[anchors[i].container], c)
			return
		}
	}
	a.header = append(a.header, c)
}

// innermost returns the smallest single-line style collection that a place is inside of.
func innermost(anchors []anchor, offset int) *source.Node {
	for i := len(anchors) - 1; i >= 0; i-- {
		if n := anchors[i].container; n.Form == source.FlowForm && n.Start < offset && offset < n.End {
			return n
		}
	}
	return nil
}

func markInside(n *source.Node, offset int, within map[*source.Node]bool) {
	if n.Kind == source.Scalar || offset < n.Start || n.Form == source.FlowForm && offset >= n.End {
		return
	}
	if n.Form == source.FlowForm {
		within[n] = true
	}
	for _, item := range n.Items {
		markInside(item, offset, within)
	}
}
