package oauth

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
)

const (
	maxDepth    = 32
	maxElements = 10_000
)

// answer is a parsed answer.
type answer struct {
	tree   any // object, array, text, number, bool or nil; the whole body for text
	header http.Header
	sent   time.Time // the request
	// token gives the tokens that claims are read of.
	token func(name string) []byte
}

// parse reads a body in a format.
func parse(format credential.AnswerFormat, r *Response) (any, error) {
	if len(r.Body) > MaxAnswer {
		return nil, protocol("the answer is too large")
	}
	switch format {
	case credential.AnswerNone:
		return nil, nil //nolint:nilnil // nothing is what there is to read
	case credential.AnswerText:
		return strings.TrimSpace(string(r.Body)), nil
	case credential.AnswerForm:
		values, err := url.ParseQuery(string(r.Body))
		if err != nil {
			return nil, protocol("the answer is not a form")
		}
		tree := map[string]any{}
		for name, all := range values {
			if len(all) > 1 {
				return nil, protocol("a member of the answer comes twice")
			}
			tree[name] = all[0]
		}
		return tree, nil
	case credential.AnswerXML:
		return parseXML(r.Body)
	default:
		if len(bytes.TrimSpace(r.Body)) == 0 {
			return map[string]any{}, nil
		}
		return parseJSON(r.Body)
	}
}

// parseJSON keeps numbers as they are written, and refuses what is too deep or has a member twice.
func parseJSON(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	tree, err := jsonValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, protocol("there is more behind the JSON of the answer")
	}
	return tree, nil
}

func jsonValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, protocol("the answer is nested too deeply")
	}
	token, err := d.Token()
	if err != nil {
		return nil, protocol("the answer is not JSON")
	}
	switch token {
	case json.Delim('{'):
		return jsonMembers(d, depth)
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := jsonValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		if _, err := d.Token(); err != nil {
			return nil, protocol("the answer is not JSON")
		}
		return list, nil
	}
	return token, nil
}

func jsonMembers(d *json.Decoder, depth int) (any, error) {
	m := map[string]any{}
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, protocol("the answer is not JSON")
		}
		if _, twice := m[name]; twice {
			return nil, protocol("a member of the answer comes twice")
		}
		if m[name], err = jsonValue(d, depth+1); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, protocol("the answer is not JSON")
	}
	return m, nil
}

// parseXML makes objects of elements, by their local names: texts of leaves, lists of those that repeat. The decoder of
// encoding/xml expands no entities but the five of the language.
func parseXML(text []byte) (any, error) {
	d := xml.NewDecoder(bytes.NewReader(text))
	left := maxElements
	for {
		token, err := d.Token()
		if err != nil {
			return nil, protocol("the answer is not XML")
		}
		if start, ok := token.(xml.StartElement); ok {
			v, err := xmlElement(d, 0, &left)
			if err != nil {
				return nil, err
			}
			return map[string]any{start.Name.Local: v}, nil
		}
	}
}

func xmlElement(d *xml.Decoder, depth int, left *int) (any, error) {
	if *left--; depth > maxDepth || *left < 0 {
		return nil, protocol("the answer has too many elements")
	}
	members := map[string]any{}
	var text strings.Builder
	for {
		token, err := d.Token()
		if err != nil {
			return nil, protocol("the answer is not XML")
		}
		switch t := token.(type) {
		case xml.CharData:
			text.Write(t)
		case xml.StartElement:
			v, err := xmlElement(d, depth+1, left)
			if err != nil {
				return nil, err
			}
			switch before := members[t.Name.Local].(type) {
			case nil:
				members[t.Name.Local] = v
			case []any:
				members[t.Name.Local] = append(before, v)
			default:
				members[t.Name.Local] = []any{before, v}
			}
		case xml.EndElement:
			if len(members) > 0 {
				return members, nil
			}
			return strings.TrimSpace(text.String()), nil
		}
	}
}

// lookup follows a path of names and indexes. ok is false where there is no text, number or bool.
func lookup(tree any, path string) (string, bool) {
	if path != "." {
		for name := range strings.SplitSeq(path, ".") {
			switch t := tree.(type) {
			case map[string]any:
				tree = t[name]
			case []any:
				i, err := strconv.Atoi(name)
				if err != nil || i < 0 || i >= len(t) {
					return "", false
				}
				tree = t[i]
			default:
				return "", false
			}
		}
	}
	return scalar(tree)
}

func scalar(v any) (string, bool) {
	switch t := v.(type) {
	case string:
		return t, true
	case json.Number:
		return t.String(), true
	case float64:
		return strconv.FormatFloat(t, 'f', -1, 64), true
	case bool:
		return strconv.FormatBool(t), true
	case []any: // scopes are lists at times
		var all []string
		for _, one := range t {
			s, ok := one.(string)
			if !ok {
				return "", false
			}
			all = append(all, s)
		}
		return strings.Join(all, " "), len(all) > 0
	}
	return "", false
}

// at reads what a path of a recipe names.
func (a *answer) at(path string) (string, bool) {
	if name, ok := strings.CutPrefix(path, "header:"); ok {
		v := a.header.Get(name)
		return v, v != ""
	}
	if name, ok := strings.CutPrefix(path, "cookie:"); ok {
		for _, c := range (&http.Response{Header: a.header}).Cookies() {
			if c.Name == name {
				return c.Value, c.Value != ""
			}
		}
		return "", false
	}
	if rest, ok := strings.CutPrefix(path, "claim:"); ok {
		dot := strings.LastIndexByte(rest, '.')
		if dot < 0 {
			return "", false
		}
		claims, ok := claimsOf(a.token(rest[:dot]))
		if !ok {
			return "", false
		}
		return scalar(claims[rest[dot+1:]])
	}
	return lookup(a.tree, path)
}

// holds reports whether a condition holds.
func (a *answer) holds(c *credential.Condition) bool {
	v, _ := a.at(c.Path)
	for _, is := range c.Is {
		if v == is {
			return true
		}
	}
	if len(c.Not) == 0 {
		return false
	}
	for _, not := range c.Not {
		if v == not {
			return false
		}
	}
	return true
}
