package openapi

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// kind is the kind of a value in a document.
type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindList
	kindMap
)

func (k kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a text", "a list", "an object"}[k]
}

// node is a value of a document. The nil node stands for a missing value: every method works on it.
type node struct {
	kind  kind
	text  string // of a text; the literal of a number or boolean
	keys  []string
	items []*node
	index map[string]int // of objects with many keys
	line  int            // in a YAML document; 0: unknown
}

// manyKeys is when looking keys up one by one becomes slow.
const manyKeys = 12

func textNode(s string) *node { return &node{kind: kindString, text: s} }

func boolNode(b bool) *node { return &node{kind: kindBool, text: strconv.FormatBool(b)} }

func mapNode() *node { return &node{kind: kindMap} }

func listNode(items ...*node) *node { return &node{kind: kindList, items: items} }

// get is the value of a key of an object; nil where there is none.
func (n *node) get(key string) *node {
	if n == nil || n.kind != kindMap {
		return nil
	}
	if i, ok := n.find(key); ok {
		return n.items[i]
	}
	return nil
}

func (n *node) find(key string) (int, bool) {
	if len(n.keys) <= manyKeys {
		for i, k := range n.keys {
			if k == key {
				return i, true
			}
		}
		return 0, false
	}
	if n.index == nil {
		n.index = make(map[string]int, len(n.keys))
		for i, k := range n.keys {
			n.index[k] = i
		}
	}
	i, ok := n.index[key]
	return i, ok
}

// at follows keys.
func (n *node) at(keys ...string) *node {
	for _, k := range keys {
		n = n.get(k)
	}
	return n
}

// set puts a value into an object, at the end unless the key is there.
func (n *node) set(key string, v *node) {
	if i, ok := n.find(key); ok {
		n.items[i] = v
		return
	}
	n.keys = append(n.keys, key)
	n.items = append(n.items, v)
	if n.index != nil {
		n.index[key] = len(n.keys) - 1
	}
}

// drop removes a key.
func (n *node) drop(key string) {
	i, ok := n.find(key)
	if !ok {
		return
	}
	n.keys = append(n.keys[:i:i], n.keys[i+1:]...)
	n.items = append(n.items[:i:i], n.items[i+1:]...)
	n.index = nil
}

// is reports the kind; a missing value is of none.
func (n *node) is(k kind) bool { return n != nil && n.kind == k }

// str is the text of a text, and the literal of a number or boolean: documents leave quotes out.
func (n *node) str() string {
	if n == nil || n.kind == kindList || n.kind == kindMap || n.kind == kindNull {
		return ""
	}
	return n.text
}

// yes is a boolean, also one that is written as a text.
func (n *node) yes() bool {
	return n != nil && (n.kind == kindBool || n.kind == kindString) && strings.EqualFold(n.text, "true")
}

// list is the items of a list.
func (n *node) list() []*node {
	if n == nil || n.kind != kindList {
		return nil
	}
	return n.items
}

// each calls f for the members of an object in their order.
func (n *node) each(f func(key string, v *node)) {
	if n == nil || n.kind != kindMap {
		return
	}
	for i, k := range n.keys {
		f(k, n.items[i])
	}
}

// size is how many members or items there are.
func (n *node) size() int {
	if n == nil {
		return 0
	}
	return len(n.items)
}

// shallow copies an object without its members' values.
func (n *node) shallow() *node {
	return &node{kind: n.kind, text: n.text, keys: append([]string(nil), n.keys...), items: append([]*node(nil), n.items...), line: n.line}
}

// json is the value as compact JSON.
func (n *node) json() json.RawMessage {
	var b bytes.Buffer
	n.write(&b)
	return b.Bytes()
}

func (n *node) write(b *bytes.Buffer) {
	switch {
	case n == nil || n.kind == kindNull:
		b.WriteString("null")
	case n.kind == kindBool || n.kind == kindNumber:
		b.WriteString(n.text)
	case n.kind == kindString:
		writeText(b, n.text)
	case n.kind == kindList:
		b.WriteByte('[')
		for i, v := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			v.write(b)
		}
		b.WriteByte(']')
	default:
		b.WriteByte('{')
		for i, k := range n.keys {
			if i > 0 {
				b.WriteByte(',')
			}
			writeText(b, k)
			b.WriteByte(':')
			n.items[i].write(b)
		}
		b.WriteByte('}')
	}
}

func writeText(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a text can always be encoded, into memory
	b.Truncate(b.Len() - 1)
}

// equal compares two values; objects regardless of the order of their keys.
func (n *node) equal(o *node) bool {
	if n == nil || o == nil {
		return n == o
	}
	if n.kind != o.kind || n.text != o.text || len(n.items) != len(o.items) {
		return false
	}
	for i, v := range n.items {
		w := o.items[i]
		if n.kind == kindMap {
			w = o.get(n.keys[i])
		}
		if !v.equal(w) {
			return false
		}
	}
	return true
}
