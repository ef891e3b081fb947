package connector

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// maxIndex is the greatest index of a list in a path.
const maxIndex = 1000

// segment is one step of a path: a field, or an item of a list.
type segment struct {
	key   string
	index int
	list  bool
}

// splitPath takes a path such as a.b[0].c apart. A dot that belongs to a name is written as \.
func splitPath(path string) ([]segment, error) {
	var list []segment
	var b strings.Builder
	end := func() {
		list = append(list, segment{key: b.String()})
		b.Reset()
	}
	open := false // a name is being read
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '\\' && i+1 < len(path):
			i++
			b.WriteByte(path[i])
			open = true
		case c == '.':
			if !open && (len(list) == 0 || !list[len(list)-1].list) {
				return nil, fmt.Errorf("path %q has an empty name", path)
			}
			if open {
				end()
			}
			open = false
		case c == '[':
			if open {
				end()
			}
			open = false
			digits, _, ok := strings.Cut(path[i+1:], "]")
			n, err := strconv.Atoi(digits)
			if !ok || err != nil || n < 0 || n > maxIndex {
				return nil, fmt.Errorf("path %q has no index between 0 and %d in its brackets", path, maxIndex)
			}
			list = append(list, segment{index: n, list: true})
			i += len(digits) + 1
		default:
			b.WriteByte(c)
			open = true
		}
	}
	if open {
		end()
	} else if len(list) == 0 || !list[len(list)-1].list {
		return nil, fmt.Errorf("path %q has an empty name", path)
	}
	return list, nil
}

// Segment is one step of a path: a field, or an item of a list.
type Segment struct {
	Key   string
	Index int
	List  bool
}

// Segments takes a path such as a.b[0].c apart. It is what [At] follows, but that a name with dots is several segments
// unless they are written with a backslash.
func Segments(path string) ([]Segment, error) {
	if path == "" {
		return nil, nil
	}
	list, err := splitPath(path)
	if err != nil {
		return nil, err
	}
	out := make([]Segment, len(list))
	for i, s := range list {
		out[i] = Segment{Key: s.key, Index: s.index, List: s.list}
	}
	return out, nil
}

// CheckPath says what is wrong with a path into JSON; the empty one is the value itself.
func CheckPath(path string) error {
	if path == "" {
		return nil
	}
	_, err := splitPath(path)
	return err
}

// At returns what is at a path of a value, such as a.b, items[0].id or, since a name may hold dots, @odata.nextLink;
// false when there is nothing. The empty path is the value itself.
func At(v expr.Value, path string) (expr.Value, bool) {
	if v == nil {
		return nil, false
	}
	if path == "" {
		return v, true
	}
	segments, err := splitPath(path)
	if err != nil {
		return nil, false
	}
	return at(v, segments)
}

func at(v expr.Value, path []segment) (expr.Value, bool) {
	if len(path) == 0 {
		return v, true
	}
	if path[0].list {
		item, ok := expr.Index(v, path[0].index)
		if !ok {
			return nil, false
		}
		return at(item, path[1:])
	}
	if expr.Kind(v) == expr.KindList {
		i, err := strconv.Atoi(path[0].key)
		if item, ok := expr.Index(v, i); err == nil && ok {
			return at(item, path[1:])
		}
		return nil, false
	}
	key := path[0].key
	for n := 1; ; n++ { // a name that holds a dot is several segments
		if item, ok := expr.Lookup(v, key); ok {
			if found, ok := at(item, path[n:]); ok {
				return found, true
			}
		}
		if n == len(path) || path[n].list {
			return nil, false
		}
		key += "." + path[n].key
	}
}

// text is what is at a path, as text; empty for nothing, null, a list and an object.
func text(v expr.Value, path string) string {
	got, ok := At(v, path)
	if !ok {
		return ""
	}
	return scalar(got)
}

// scalar is a value as text; empty for null, a list and an object.
func scalar(v expr.Value) string {
	switch expr.Kind(v) {
	case expr.KindString, expr.KindNumber, expr.KindBool, expr.KindTime:
		s, err := expr.Text(v)
		if err == nil {
			return s
		}
	}
	return ""
}

// truthy says whether a value says yes: it is not null, false, zero, nor empty.
func truthy(v expr.Value) bool {
	switch expr.Kind(v) {
	case expr.KindNull:
		return false
	case expr.KindBool:
		ok, err := expr.Truth(v)
		return err == nil && ok
	case expr.KindString:
		s, _ := expr.Str(v)
		return s != ""
	case expr.KindNumber:
		n, ok := expr.IsInt(v)
		return !ok || n != 0
	case expr.KindList, expr.KindObject:
		return expr.Len(v) > 0
	}
	return true
}

// tree is a JSON value that is put together by paths. The zero tree is empty.
type tree struct {
	leaf  expr.Value // set: a whole value
	keys  []string
	named map[string]*tree
	items []*tree
}

// put sets the value at a path; false when a part of the path has a value already.
func (t *tree) put(path []segment, v expr.Value) bool {
	if len(path) == 0 {
		if t.leaf != nil || t.named != nil || t.items != nil {
			return false
		}
		t.leaf = v
		return true
	}
	if t.leaf != nil {
		return false
	}
	if s := path[0]; s.list {
		if t.named != nil {
			return false
		}
		for len(t.items) <= s.index {
			t.items = append(t.items, &tree{})
		}
		return t.items[s.index].put(path[1:], v)
	}
	if t.items != nil {
		return false
	}
	if t.named == nil {
		t.named = map[string]*tree{}
	}
	child := t.named[path[0].key]
	if child == nil {
		child = &tree{}
		t.named[path[0].key] = child
		t.keys = append(t.keys, path[0].key)
	}
	return child.put(path[1:], v)
}

// spread makes an object's fields the branches of an empty tree, so that others can be put beside them.
func (t *tree) spread(v expr.Value) {
	t.named = map[string]*tree{}
	for _, k := range expr.Keys(v) {
		item, _ := expr.Lookup(v, k)
		t.keys = append(t.keys, k)
		t.named[k] = &tree{leaf: item}
	}
}

// value is the tree as one value; an empty one is null.
func (t *tree) value() expr.Value {
	switch {
	case t.leaf != nil:
		return t.leaf
	case t.named != nil:
		vals := make([]expr.Value, len(t.keys))
		for i, k := range t.keys {
			vals[i] = t.named[k].value()
		}
		return expr.NewObject(t.keys, vals)
	case t.items != nil:
		vals := make([]expr.Value, len(t.items))
		for i, item := range t.items {
			vals[i] = item.value()
		}
		return expr.NewList(vals)
	}
	return expr.Null()
}
