package connector

import (
	"net/url"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// The types of bodies.
const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded"
	typeText = "text/plain; charset=utf-8"
)

// body gathers the inputs of a request's body.
type body struct {
	b     *builder
	tree  tree
	whole expr.Value
	form  []Fixed
	parts []Part
	given bool
}

// kind is how the body is written.
func (y *body) kind() Body {
	if y.b.a.Body == "" {
		return BodyJSON
	}
	return y.b.a.Body
}

func (y *body) add(p part) error {
	y.given = true
	if p.Whole {
		y.whole = p.value
		return y.sendable(p)
	}
	switch y.kind() {
	case BodyJSON:
		if err := y.sendable(p); err != nil {
			return err
		}
		path, err := splitPath(p.Key())
		if err != nil {
			return y.b.faultf(p.Name, "%s", err)
		}
		if !y.tree.put(path, p.value) {
			return y.b.faultf(p.Name, "another input has the same place in the body")
		}
		return nil
	case BodyForm:
		if err := y.sendable(p); err != nil {
			return err
		}
		return y.b.pairs(&y.form, p)
	case BodyMultipart:
		return y.part(p)
	case BodyText, BodyFile: // one input, whatever it says of being whole
		y.whole = p.value
		return nil
	}
	return y.b.faultf(p.Name, "the action has no body")
}

// sendable refuses a file where only JSON and texts can stand.
func (y *body) sendable(p part) error {
	if y.kind() != BodyFile && y.b.isFile(p.value) {
		return y.b.faultf(p.Name, "a file cannot stand here")
	}
	return nil
}

// part adds a part: a file is a file part, a list of files several, an object or list JSON, everything else a field.
func (y *body) part(p part) error {
	one := Part{Name: p.Key()}
	if y.b.isFile(p.value) {
		one.File = p.value
		y.parts = append(y.parts, one)
		return nil
	}
	switch expr.Kind(p.value) {
	case expr.KindList:
		if first, ok := expr.Index(p.value, 0); ok && y.b.isFile(first) {
			for i := range expr.Len(p.value) {
				item, _ := expr.Index(p.value, i)
				if !y.b.isFile(item) {
					return y.b.faultf(p.Name, "item %d is no file, but the first is", i)
				}
				y.parts = append(y.parts, Part{Name: p.Key(), File: item})
			}
			return nil
		}
		fallthrough
	case expr.KindObject:
		var err error
		one.ContentType = typeJSON
		if one.Data, err = expr.AppendJSON(nil, p.value); err != nil {
			return y.b.faultf(p.Name, "the value cannot be written as JSON")
		}
	default:
		s, err := expr.Text(p.value)
		if err != nil {
			return y.b.faultf(p.Name, "the value cannot be written as text")
		}
		one.Data = []byte(s)
	}
	y.parts = append(y.parts, one)
	return nil
}

// end writes the body.
func (y *body) end() error {
	r := y.b.r
	y.contentType()
	if y.kind() == BodyNone || !y.given && len(y.b.a.Fields) == 0 && !y.declared() {
		r.ContentType = ""
		return nil
	}
	switch y.kind() {
	case BodyForm:
		return y.endForm()
	case BodyMultipart:
		for _, f := range y.b.a.Fields {
			v, err := y.b.value("", f.Value)
			if err != nil {
				return err
			}
			if err := y.part(part{&Input{Name: f.At}, v}); err != nil {
				return err
			}
		}
		r.Parts, r.ContentType = y.parts, ""
		if r.Parts == nil {
			r.Parts = []Part{}
		}
		return nil
	case BodyText:
		return y.endText()
	case BodyFile:
		if y.whole == nil {
			return nil
		}
		r.HasBody, r.File = true, y.whole
		return nil
	}
	return y.endJSON()
}

// declared says whether a method that has a body has one even when no input of it was given.
func (y *body) declared() bool {
	switch y.b.a.Method {
	case "POST", "PUT", "PATCH":
	default:
		return false
	}
	for i := range y.b.a.Inputs {
		if in := &y.b.a.Inputs[i]; in.In == InBody && !in.Whole && y.kind() != BodyFile && y.kind() != BodyText {
			return true
		}
	}
	return false
}

// contentType takes the type that a fixed header says.
func (y *body) contentType() {
	r := y.b.r
	kept := r.Headers[:0]
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, "Content-Type") {
			r.ContentType = h.Value
			continue
		}
		kept = append(kept, h)
	}
	r.Headers = kept
}

func (y *body) endJSON() error {
	r := y.b.r
	v := y.whole
	if v == nil || expr.Kind(v) == expr.KindObject {
		if v != nil {
			rest := y.tree
			y.tree = tree{}
			y.tree.spread(v)
			for _, k := range rest.keys {
				y.tree.set(k, rest.named[k])
			}
		}
		for _, f := range y.b.a.Fields {
			path, err := splitPath(f.At)
			if err != nil {
				return y.b.faultf("", "%s", err)
			}
			value, err := y.b.value("", f.Value)
			if err != nil {
				return err
			}
			if len(path) == 1 && !path[0].list { // what is fixed stands, whatever the whole body says
				y.tree.set(path[0].key, &tree{leaf: value})
			} else if !y.tree.put(path, value) {
				return y.b.faultf("", "an input has the place of the fixed field %s", f.At)
			}
		}
		if y.tree.named == nil && y.tree.items == nil {
			y.tree.named = map[string]*tree{}
		}
		v = y.tree.value()
	}
	var err error
	if r.Body, err = expr.AppendJSON(nil, v); err != nil {
		return y.b.faultf("", "the body cannot be written as JSON: %s", err)
	}
	r.HasBody, r.Content, r.ContentType = true, v, orText(r.ContentType, typeJSON)
	return nil
}

// set makes a branch of an object, instead of one of the same name.
func (t *tree) set(key string, child *tree) {
	if t.named == nil {
		t.named = map[string]*tree{}
	}
	if _, ok := t.named[key]; !ok {
		t.keys = append(t.keys, key)
	}
	t.named[key] = child
}

func (y *body) endForm() error {
	r := y.b.r
	if y.whole != nil {
		if expr.Kind(y.whole) != expr.KindObject {
			return y.b.faultf("", "a form is an object of names and values")
		}
		for _, k := range expr.Keys(y.whole) {
			item, _ := expr.Lookup(y.whole, k)
			if expr.Kind(item) == expr.KindNull {
				continue
			}
			if err := y.b.pairs(&y.form, part{&Input{Name: k, Style: StyleBrackets}, item}); err != nil {
				return err
			}
		}
	}
	var own []Fixed
	for _, f := range y.b.a.Fields {
		v, err := y.b.value("", f.Value)
		if err != nil {
			return err
		}
		if err := y.b.pairs(&own, part{&Input{Name: f.At}, v}); err != nil {
			return err
		}
	}
	y.form = fixed(y.form, own, nil, sameName)
	r.Body, r.HasBody, r.ContentType = encodeForm(y.form), true, orText(r.ContentType, typeForm)
	return nil
}

func (y *body) endText() error {
	if y.whole == nil {
		return nil
	}
	s, err := expr.Text(y.whole)
	if err != nil {
		return y.b.faultf("", "the body cannot be written as text")
	}
	y.b.r.Body, y.b.r.HasBody, y.b.r.Content = []byte(s), true, expr.String(s)
	y.b.r.ContentType = orText(y.b.r.ContentType, typeText)
	return nil
}

// encodeForm writes pairs as a form, in their order.
func encodeForm(list []Fixed) (b []byte) {
	for _, p := range list {
		b = AppendField(b, p.Name, p.Value)
	}
	return b
}

// AppendField appends one field to a form (application/x-www-form-urlencoded), behind a & when dst is not empty.
func AppendField(dst []byte, name, value string) []byte {
	if len(dst) > 0 {
		dst = append(dst, '&')
	}
	dst = append(dst, url.QueryEscape(name)...)
	dst = append(dst, '=')
	return append(dst, url.QueryEscape(value)...)
}
