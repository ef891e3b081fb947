package openapi

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// YAML writes a manifest as a connector file: lists of named things become maps by name, everything else is as in its JSON.
func YAML(m *connector.Manifest) ([]byte, error) {
	raw, err := m.Encode()
	if err != nil {
		return nil, err
	}
	n, err := parseJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("write connector file: %w", err)
	}
	byName(n, "actions", "name", action)
	byName(n, "triggers", "name", trigger)
	if d := n.get("defaults"); d != nil {
		byName(d, "headers", "name", nil)
		byName(d, "query", "name", nil)
	}
	var b bytes.Buffer
	writeYAML(&b, n, 0)
	return b.Bytes(), nil
}

// seconds writes durations as files have them (ISO 8601).
func seconds(n *node, keys ...string) {
	for _, k := range keys {
		if v := n.get(k); v.is(kindNumber) {
			n.set(k, textNode("PT"+v.text+"S"))
		}
	}
}

func action(n *node) {
	seconds(n, "timeout")
	byName(n, "input", "name", input)
	byName(n, "headers", "name", nil)
	byName(n, "query", "name", nil)
	byName(n, "fields", "at", nil)
}

func trigger(n *node) {
	byName(n, "input", "name", input)
	byName(n.get("poll"), "with", "name", nil)
	seconds(n.get("poll"), "every")
	seconds(n.get("webhook"), "renew_every")
	seconds(n.get("verify"), "tolerance")
	for _, k := range []string{"subscribe", "unsubscribe", "renew", "find"} {
		byName(n.at("webhook", k), "with", "at", nil)
	}
}

func input(n *node) {
	byName(n.get("choices"), "with", "name", nil)
	byName(n.get("schema_from"), "with", "name", nil)
}

// byName turns a list of objects below a key into a map by one of their members. An object of one other member, value, is
// that value.
func byName(n *node, key, name string, each func(*node)) {
	list := n.get(key)
	if !list.is(kindList) {
		return
	}
	out := mapNode()
	for _, v := range list.items {
		k := v.get(name).str()
		v.drop(name)
		if each != nil {
			each(v)
		}
		if value := v.get("value"); value != nil && v.size() == 1 && !(name == "name" && key == "with" && value.is(kindMap)) {
			v = value
		}
		out.set(k, v)
	}
	n.set(key, out)
}

// plainText are texts that every version of YAML reads as the same text without quotes.
var plainText = regexp.MustCompile(`^[A-Za-z_/$][A-Za-z0-9_/.$ ()-]*[A-Za-z0-9_/)$]$|^[A-Za-z_/]$`)

// words of YAML that are no texts, and what looks like one
func quoted(s string) bool {
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		return true
	}
	return !plainText.MatchString(s) || strings.Contains(s, " #") || strings.HasPrefix(s, "- ")
}

func yamlText(b *bytes.Buffer, s string) {
	if quoted(s) {
		writeText(b, s) // JSON's texts are YAML's
		return
	}
	b.WriteString(s)
}

const (
	indent   = "  "
	flowWide = 100 // how long a value on one line may be
)

// writeYAML writes a value behind a key, or the document.
func writeYAML(b *bytes.Buffer, n *node, depth int) {
	pad := strings.Repeat(indent, depth)
	for i, k := range n.keys {
		b.WriteString(pad)
		yamlText(b, k)
		b.WriteByte(':')
		v := n.items[i]
		switch {
		case v.kind == kindMap && len(v.items) > 0 && !short(v):
			b.WriteByte('\n')
			writeYAML(b, v, depth+1)
			continue
		case v.kind == kindList && !short(v):
			b.WriteByte('\n')
			for _, item := range v.items {
				b.WriteString(pad + indent + "- ")
				writeItem(b, item, depth+2)
			}
			continue
		}
		b.WriteByte(' ')
		writeFlow(b, v)
		b.WriteByte('\n')
	}
}

// writeItem writes an item of a list behind its hyphen.
func writeItem(b *bytes.Buffer, n *node, depth int) {
	if n.kind == kindMap && len(n.items) > 0 && !short(n) {
		var inner bytes.Buffer
		writeYAML(&inner, n, depth)
		b.WriteString(strings.TrimLeft(inner.String(), " "))
		return
	}
	writeFlow(b, n)
	b.WriteByte('\n')
}

// short tells whether a value fits on one line.
func short(n *node) bool { return room(n, flowWide) >= 0 }

// room is what of so many bytes a value on one line leaves; it looks no further than that.
func room(n *node, left int) int {
	switch n.kind {
	case kindMap, kindList:
		for i, v := range n.items {
			if left < 0 {
				return left
			}
			if n.kind == kindMap {
				left -= len(n.keys[i]) + len(": ")
			}
			left = room(v, left-len(", "))
		}
		return left
	}
	return left - len(n.text)
}

// writeFlow writes a value on one line.
func writeFlow(b *bytes.Buffer, n *node) {
	switch n.kind {
	case kindMap:
		b.WriteByte('{')
		for i, k := range n.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			yamlText(b, k)
			b.WriteString(": ")
			writeFlow(b, n.items[i])
		}
		b.WriteByte('}')
	case kindList:
		b.WriteByte('[')
		for i, v := range n.items {
			if i > 0 {
				b.WriteString(", ")
			}
			writeFlow(b, v)
		}
		b.WriteByte(']')
	case kindString:
		yamlText(b, n.text)
	default:
		n.write(b)
	}
}

// SideTemplate is a side file that says nothing new: it names every action as it is named now, so that names stay whatever
// happens to the document, and is a place to write down the rest.
func SideTemplate(r *Result) ([]byte, error) {
	m, err := r.Connector()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(`# What the API description does not say. Give it on every import: bulkhead connectors import FILE --sidecar THIS
# Operations are keyed by operationId, those without one by "METHOD /path". All keys: doc/connectors.md.
`)
	for _, pair := range [][2]string{{"connector", m.Name}, {"version", m.Version}, {"source", m.Provenance.Source}} {
		if pair[1] == "" {
			continue
		}
		b.WriteString(pair[0] + ": ")
		yamlText(&b, pair[1])
		b.WriteByte('\n')
	}
	b.WriteString(`# vendor: [example.com]            # the vendor's domains: other hosts are flagged
# test: {action: NAME}             # proves that a connection works
# defaults: {paginate: {type: cursor, name: after, from: paging.next, items: results}, idempotency: {header: Idempotency-Key}}
# triggers: {orderPaid: {type: poll, poll: {action: NAME, key: id}}}
operations:
`)
	for _, a := range r.Actions {
		action := m.Action(a.Action)
		if action.Title != "" {
			b.WriteString("  # " + line(action.Title, maxSchemaText) + "\n")
		}
		b.WriteString(indent)
		yamlText(&b, a.Operation)
		b.WriteString(": {name: " + a.Action + "}\n")
	}
	for _, s := range r.Skipped {
		b.WriteString("  # left out, because " + line(s.Reason, maxSchemaText) + "\n  # ")
		var key bytes.Buffer
		writeText(&key, s.Operation)
		b.WriteString(line(key.String(), maxDescription) + ":\n")
	}
	return b.Bytes(), nil
}
