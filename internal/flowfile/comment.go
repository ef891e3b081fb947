package flowfile

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// comment is one comment of a file, from its # to the end of its line.
type comment struct {
	offset int
	text   string
	alone  bool // nothing but blanks stands before it in its line
	blank  bool // an empty line stands before it
}

// findComments returns the comments of a document in their order: what begins with # outside of every scalar.
func findComments(root *node, src *source) []comment {
	var spans [][2]int
	scalarSpans(root, src, &spans)
	slices.SortFunc(spans, func(a, b [2]int) int { return cmp.Compare(a[0], b[0]) })
	var found []comment
	at := 0
	for _, s := range append(spans, [2]int{len(src.text), len(src.text)}) {
		found = commentsIn(src, at, s[0], found)
		at = max(at, s[1])
	}
	return found
}

// scalarSpans collects where scalars stand. The header of a block scalar is no part of it, since a comment may follow there.
func scalarSpans(n *node, src *source, spans *[][2]int) {
	if n.kind == scalarNode {
		start := n.start
		if n.style == literalStyle || n.style == foldedStyle {
			*spans = append(*spans, [2]int{start, start + 1})
			start = min(n.end, lineBreak(src.text, start))
		}
		*spans = append(*spans, [2]int{start, n.end})
		return
	}
	for i := range n.items {
		if n.kind == mapNode {
			scalarSpans(n.keys[i], src, spans)
		}
		scalarSpans(n.items[i], src, spans)
	}
}

func commentsIn(src *source, from, to int, found []comment) []comment {
	for from < to {
		i := bytes.IndexByte(src.text[from:to], '#')
		if i < 0 {
			return found
		}
		at := from + i
		if at > 0 && bytes.IndexByte([]byte(" \t\n"), src.text[at-1]) < 0 {
			from = at + 1
			continue
		}
		line, _ := src.position(at)
		end := src.lineEnd(line)
		found = append(found, comment{
			offset: at,
			text:   strings.TrimRight(string(src.text[at:end]), " \t"),
			alone:  strings.TrimSpace(string(src.text[src.start[line-1]:at])) == "",
			blank:  src.blank(line - 1),
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
	entries map[*node]*notes
	feet    map[*node][]comment // after the last entry of a map or list
	within  map[*node]bool      // collections with a comment inside
}

// anchor is an entry with its place.
type anchor struct {
	entry     *node
	container *node
	offset    int // of the key, or of the list item's dash
	column    int
}

func anchorsOf(n *node, src *source, out []anchor) []anchor {
	for i, item := range n.items {
		entry, offset := item, item.start
		if n.kind == mapNode {
			entry, offset = n.keys[i], n.keys[i].start
		} else if n.style == blockStyle {
			offset = dash(src, item)
		}
		column := 1 << 30 // inside brackets the column says nothing
		if n.style == blockStyle {
			_, column = src.position(offset)
		}
		out = append(out, anchor{entry, n, offset, column})
		out = anchorsOf(item, src, out)
	}
	return out
}

// dash returns where the dash of a block list's item stands.
func dash(src *source, item *node) int {
	at := min(item.start, len(src.text)-1)
	if item.kind == listNode && item.style == blockStyle {
		at-- // the item begins with a dash of its own
	}
	for ; at >= 0; at-- {
		if src.text[at] == '-' && (at+1 == len(src.text) || bytes.IndexByte([]byte(" \t\r\n"), src.text[at+1]) >= 0) {
			return at
		}
	}
	return item.start
}

// attach gives every comment its place.
func attach(root *node, src *source, found []comment) *attachment {
	a := &attachment{entries: map[*node]*notes{}, feet: map[*node][]comment{}, within: map[*node]bool{}}
	anchors := anchorsOf(root, src, nil)
	for _, n := range anchors {
		at := &notes{}
		if n.container.style == blockStyle {
			line, _ := src.position(n.offset)
			at.blank = src.blank(line - 1)
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
			for last > 0 && anchors[last].container.style == flowStyle && anchors[last].container.end <= c.offset {
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
func (a *attachment) place(c comment, anchors []anchor, next int, src *source) {
	_, column := src.position(c.offset)
	if inner := innermost(anchors[:next], c.offset); inner != nil {
		if next < len(anchors) && anchors[next].offset < inner.end {
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
		if anchors[i].container.style == blockStyle && anchors[i].column <= column {
			a.feet[anchors[i].container] = append(a.feet[anchors[i].container], c)
			return
		}
	}
	a.header = append(a.header, c)
}

// innermost returns the smallest single-line style collection that a place is inside of.
func innermost(anchors []anchor, offset int) *node {
	for i := len(anchors) - 1; i >= 0; i-- {
		if n := anchors[i].container; n.style == flowStyle && n.start < offset && offset < n.end {
			return n
		}
	}
	return nil
}

func markInside(n *node, offset int, within map[*node]bool) {
	if n.kind == scalarNode || offset < n.start || n.style == flowStyle && offset >= n.end {
		return
	}
	if n.style == flowStyle {
		within[n] = true
	}
	for _, item := range n.items {
		markInside(item, offset, within)
	}
}
