package source

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// loadJSON reads a text that is valid JSON. YAML would read most of it too, but not surrogate pairs in escapes.
func (l *loader) loadJSON() *Node {
	dec := json.NewDecoder(bytes.NewReader(l.src.Text))
	dec.UseNumber()
	return l.jsonNode(dec, "", 0)
}

// jsonNode reads the next value, or returns nil where it is nested too deeply.
func (l *loader) jsonNode(dec *json.Decoder, path string, depth int) *Node {
	n := &Node{Start: l.skip(int(dec.InputOffset()))}
	if depth > l.limits.Depth {
		l.problem(n.Start, 1, path, "", "maps and lists may be nested %d deep at most", l.limits.Depth)
		return nil
	}
	if !l.count(n.Start, path) {
		return nil
	}
	t, err := dec.Token()
	if err != nil {
		l.problem(n.Start, 1, path, "", "this is not JSON: %s", err)
		return nil
	}
	switch t := t.(type) {
	case json.Delim:
		n.Form = FlowForm
		n.Kind = List
		if t == '{' {
			n.Kind = Map
		}
		if !l.jsonItems(dec, n, path, depth) {
			return nil
		}
	case string:
		n.Value, n.Form = t, DoubleForm
	default:
		n.Value = string(l.src.Text[n.Start:dec.InputOffset()])
	}
	n.End = int(dec.InputOffset())
	return n
}

func (l *loader) jsonItems(dec *json.Decoder, n *Node, path string, depth int) bool {
	for dec.More() {
		at := fmt.Sprintf("%s[%d]", path, len(n.Items))
		var key *Node
		if n.Kind == Map {
			if key = l.jsonNode(dec, path, depth); key == nil {
				return false
			}
			at = Join(path, key.Value)
		}
		item := l.jsonNode(dec, at, depth+1)
		if item == nil {
			return false
		}
		if key != nil {
			l.addKey(n, key, item, path)
			continue
		}
		n.Items = append(n.Items, item)
	}
	_, err := dec.Token()
	return err == nil
}

// skip returns the offset of the next token: the decoder reports the end of the one before.
func (l *loader) skip(at int) int {
	for at < len(l.src.Text) && bytes.IndexByte([]byte(" \t\r\n,:"), l.src.Text[at]) >= 0 {
		at++
	}
	return at
}
