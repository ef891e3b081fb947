package flowfile

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/flow"
)

// loadJSON reads a text that is valid JSON. YAML would read most of it too, but not surrogate pairs in escapes.
func (l *loader) loadJSON() *node {
	dec := json.NewDecoder(bytes.NewReader(l.src.text))
	dec.UseNumber()
	return l.jsonNode(dec, "", 0)
}

// jsonNode reads the next value, or returns nil where it is nested too deeply.
func (l *loader) jsonNode(dec *json.Decoder, path string, depth int) *node {
	n := &node{start: l.skip(int(dec.InputOffset()))}
	if depth > flow.MaxDocumentDepth {
		l.problem(n.start, 1, path, "", "maps and lists may be nested %d deep at most", flow.MaxDocumentDepth)
		return nil
	}
	if !l.count(n.start, path) {
		return nil
	}
	t, err := dec.Token()
	if err != nil {
		l.problem(n.start, 1, path, "", "this is not JSON: %s", err)
		return nil
	}
	switch t := t.(type) {
	case json.Delim:
		n.style = flowStyle
		n.kind = listNode
		if t == '{' {
			n.kind = mapNode
		}
		if !l.jsonItems(dec, n, path, depth) {
			return nil
		}
	case string:
		n.value, n.style = t, doubleStyle
	default:
		n.value = string(l.src.text[n.start:dec.InputOffset()])
	}
	n.end = int(dec.InputOffset())
	return n
}

func (l *loader) jsonItems(dec *json.Decoder, n *node, path string, depth int) bool {
	for dec.More() {
		at := fmt.Sprintf("%s[%d]", path, len(n.items))
		var key *node
		if n.kind == mapNode {
			if key = l.jsonNode(dec, path, depth); key == nil {
				return false
			}
			at = join(path, key.value)
		}
		item := l.jsonNode(dec, at, depth+1)
		if item == nil {
			return false
		}
		if key != nil {
			l.addKey(n, key, item, path)
			continue
		}
		n.items = append(n.items, item)
	}
	_, err := dec.Token()
	return err == nil
}

// skip returns the offset of the next token: the decoder reports the end of the one before.
func (l *loader) skip(at int) int {
	for at < len(l.src.text) && bytes.IndexByte([]byte(" \t\r\n,:"), l.src.text[at]) >= 0 {
		at++
	}
	return at
}
