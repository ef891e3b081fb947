package openapi

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Violation is a rule of the specification that a document breaks. It is tolerated.
type Violation struct {
	At      string `json:"at"`      // where in the document: a JSON Pointer (RFC 6901), or the operation
	Message string `json:"message"` // what is wrong, and how it is read
}

// document is an OpenAPI 3 document as a tree; older ones have been converted.
type document struct {
	root    *node
	version string // as the document says

	violations []Violation
	broken     int // all violations
	seen       map[string]bool
	targets    map[string]*node
}

var errNoOpenAPI = errors.New(`the document has neither "openapi: 3.x" nor "swagger: 2.0": it is no API description that can be imported`)

// open reads a document of any version.
func open(b []byte) (*document, error) {
	root, err := parse(b)
	if err != nil {
		return nil, err
	}
	if !root.is(kindMap) {
		return nil, errNoOpenAPI
	}
	d := &document{root: root, seen: map[string]bool{}, targets: map[string]*node{}}
	switch v3, v2 := root.get("openapi").str(), root.get("swagger").str(); {
	case strings.HasPrefix(v3, "3."):
		d.version = v3
	case v2 == "2.0" || v2 == "2":
		d.version = "2.0"
		d.upgrade()
	case v3 != "" || v2 != "":
		return nil, fmt.Errorf("version %q of the specification cannot be read: 2.0, 3.0 and 3.1 can", v3+v2)
	default:
		return nil, errNoOpenAPI
	}
	return d, nil
}

// violate reports what is wrong at a place, once for each place and message.
func (d *document) violate(at, format string, args ...any) {
	v := Violation{At: at, Message: fmt.Sprintf(format, args...)}
	if d.seen[v.At+"\n"+v.Message] {
		return
	}
	d.broken++
	if len(d.violations) < MaxViolations {
		d.seen[v.At+"\n"+v.Message] = true
		d.violations = append(d.violations, v)
	}
}

// ref is the reference of a Reference Object, or empty. A text is required: a schema may have a property of that name.
func ref(n *node) string {
	if r := n.get("$ref"); r.is(kindString) {
		return r.text
	}
	return ""
}

// resolve follows references to what they stand for, and says which was the last. A reference that leads nowhere, out of the
// document or in a circle is nil.
func (d *document) resolve(n *node) (target *node, last string) {
	for range maxResolve {
		r := ref(n)
		if r == "" {
			return n, last
		}
		last = r
		if n = d.target(r); n == nil {
			return nil, last
		}
	}
	d.violate(last, "the reference leads in a circle")
	return nil, last
}

// deref is resolve without the reference.
func (d *document) deref(n *node) *node {
	t, _ := d.resolve(n)
	return t
}

// target is what one reference points to.
func (d *document) target(r string) *node {
	if n, ok := d.targets[r]; ok {
		return n
	}
	d.targets[r] = nil // a reference on the way to itself leads nowhere
	n := d.lookup(r)
	d.targets[r] = n
	return n
}

func (d *document) lookup(r string) *node {
	pointer, ok := strings.CutPrefix(r, "#")
	if !ok {
		if d.root.at("components", "schemas", r) != nil { // a bare name, as a mapping of a discriminator may be
			d.violate(r, "a reference begins with #/components/schemas/")
			return d.root.at("components", "schemas", r)
		}
		d.violate(r, "the reference leads out of the document, and is not followed")
		return nil
	}
	if plain, err := url.PathUnescape(pointer); err == nil {
		pointer = plain
	}
	n := d.root
	for _, part := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		if n != nil && n.kind == kindList {
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(n.items) {
				n = nil
			} else {
				n = n.items[i]
			}
			continue
		}
		next := n.get(part)
		if next == nil && ref(n) != "" && ref(n) != r {
			next = d.deref(n).get(part) // through a reference on the way
		}
		n = next
	}
	if n == nil {
		d.violate(r, "the reference leads nowhere")
	}
	return n
}

// pointer is a JSON Pointer (RFC 6901).
func pointer(keys ...string) string {
	var b strings.Builder
	b.WriteByte('#')
	for _, k := range keys {
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(k))
	}
	return b.String()
}
