package openapi

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// sideDecoder reads a side file into the types above: their JSON names are its keys. Lists of named things may be written as
// maps by name, as in connector files.
type sideDecoder struct{ *source.Decoder }

var (
	rawType    = reflect.TypeFor[json.RawMessage]()
	fixedType  = reflect.TypeFor[connector.Fixed]()
	fieldType  = reflect.TypeFor[connector.FixedValue]()
	passedType = reflect.TypeFor[connector.Passed]()
	inputType  = reflect.TypeFor[connector.Input]()

	secondsType = reflect.TypeFor[connector.Seconds]()
)

func (d *sideDecoder) into(n *source.Node, path string, to any) {
	d.value(n, path, reflect.ValueOf(to).Elem())
}

// value reads a node into a value; what does not fit is a problem at its place.
func (d *sideDecoder) value(n *source.Node, path string, v reflect.Value) {
	d.At[path] = n
	if v.Type() == rawType {
		var b bytes.Buffer
		d.raw(n, path, &b)
		v.SetBytes(b.Bytes())
		return
	}
	if n.Kind == source.Scalar && source.Resolve(n) == source.NullScalar {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		d.value(n, path, p.Elem())
		v.Set(p)
	case reflect.Struct:
		d.object(n, path, v)
	case reflect.Map:
		d.entries(n, path, v)
	case reflect.Slice:
		d.list(n, path, v)
	default:
		d.scalar(n, path, v)
	}
}

// fields are the keys of a type, with those of embedded ones.
func fields(t reflect.Type) (keys []string, index map[string][]int) {
	index = map[string][]int{}
	for _, f := range reflect.VisibleFields(t) {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || key == "" || key == "-" {
			continue
		}
		keys, index[key] = append(keys, key), f.Index
	}
	return keys, index
}

func (d *sideDecoder) object(n *source.Node, path string, v reflect.Value) {
	keys, index := fields(v.Type())
	if n.Kind != source.Map {
		d.Problem(n, path, "", "expected a map with the keys %s, found %s", source.OneOf(keys), source.Describe(n))
		return
	}
	for i, k := range n.Keys {
		at := source.Join(path, k.Value)
		d.KeyAt[at] = k
		if f, ok := index[k.Value]; ok {
			d.value(n.Items[i], at, v.FieldByIndex(f))
		} else {
			d.Problem(k, at, source.DidYouMean(k.Value, keys), "unknown key %q", source.Cut(k.Value, 80))
		}
	}
}

func (d *sideDecoder) entries(n *source.Node, path string, v reflect.Value) {
	if n.Kind != source.Map {
		d.Problem(n, path, "", "expected a map, found %s", source.Describe(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i, k := range n.Keys {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(n.Items[i], source.Join(path, k.Value), item)
		v.SetMapIndex(reflect.ValueOf(k.Value), item)
	}
}

func (d *sideDecoder) list(n *source.Node, path string, v reflect.Value) {
	elem := v.Type().Elem()
	if n.Kind == source.Map && (elem == fixedType || elem == fieldType || elem == passedType || elem == inputType) {
		for i, k := range n.Keys {
			item := reflect.New(elem).Elem()
			d.named(n.Items[i], source.Join(path, k.Value), k.Value, item)
			v.Set(reflect.Append(v, item))
		}
		return
	}
	if n.Kind != source.List {
		d.Problem(n, path, "", "expected a list, found %s", source.Describe(n))
		return
	}
	for i, one := range n.Items {
		item := reflect.New(elem).Elem()
		d.value(one, source.Join(path, "")+"["+itoa(i)+"]", item)
		v.Set(reflect.Append(v, item))
	}
}

// named reads an entry of a map that is a list of named things.
func (d *sideDecoder) named(n *source.Node, path, name string, v reflect.Value) {
	switch v.Type() {
	case fixedType:
		v.FieldByName("Name").SetString(name)
		d.value(n, path, v.FieldByName("Value"))
	case fieldType:
		v.FieldByName("At").SetString(name)
		d.value(n, path, v.FieldByName("Value"))
	case passedType:
		if n.Kind == source.Map && len(n.Keys) == 1 && (n.Keys[0].Value == "from" || n.Keys[0].Value == "value") {
			d.value(n, path, v)
		} else {
			d.value(n, path, v.FieldByName("Value"))
		}
		v.FieldByName("Name").SetString(name)
	default:
		d.value(n, path, v)
		v.FieldByName("Name").SetString(name)
	}
}

func (d *sideDecoder) scalar(n *source.Node, path string, v reflect.Value) {
	if n.Kind != source.Scalar {
		d.Problem(n, path, "", "expected %s, found %s", expected(v.Kind()), source.Describe(n))
		return
	}
	kind := source.Resolve(n)
	if kind == source.UnclearScalar {
		d.Unclear(n, path)
		return
	}
	text := n.Value
	if v.Type() == secondsType && kind == source.TextScalar {
		duration, err := flow.ParseDuration(text)
		if err != nil {
			d.Problem(n, path, "", "expected a duration such as PT30S or PT5M, found %s", source.Describe(n))
		}
		v.SetInt(int64(duration.Std().Seconds()))
		return
	}
	if v.Kind() == reflect.String {
		v.SetString(text)
		return
	}
	if kind == source.TextScalar || json.Unmarshal([]byte(strings.ToLower(text)), v.Addr().Interface()) != nil {
		d.Problem(n, path, "", "expected %s, found %s", expected(v.Kind()), source.Describe(n))
	}
}

func expected(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

// raw writes any value as JSON.
func (d *sideDecoder) raw(n *source.Node, path string, b *bytes.Buffer) {
	switch n.Kind {
	case source.Map:
		b.WriteByte('{')
		for i, k := range n.Keys {
			if i > 0 {
				b.WriteByte(',')
			}
			writeText(b, k.Value)
			b.WriteByte(':')
			d.raw(n.Items[i], source.Join(path, k.Value), b)
		}
		b.WriteByte('}')
	case source.List:
		b.WriteByte('[')
		for i, v := range n.Items {
			if i > 0 {
				b.WriteByte(',')
			}
			d.raw(v, path, b)
		}
		b.WriteByte(']')
	default:
		switch source.Resolve(n) {
		case source.NullScalar:
			b.WriteString("null")
		case source.BoolScalar:
			b.WriteString(strings.ToLower(n.Value))
		case source.NumberScalar:
			b.WriteString(n.Value)
		case source.UnclearScalar:
			d.Unclear(n, path)
			b.WriteString("null")
		default:
			writeText(b, n.Value)
		}
	}
}
