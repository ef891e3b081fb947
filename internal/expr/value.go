package expr

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unsafe"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

func bytesView(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// ParseJSON reads one JSON text: strictly RFC 8259, in UTF-8 without a byte order mark, no key
// twice in an object, at most MaxJSONBytes long and MaxJSONDepth deep. An escaped lone surrogate
// is read as U+FFFD. The error is a *SyntaxError.
//
// The value is a view of b: the caller must not change b afterwards.
func ParseJSON(b []byte) (Value, error) {
	if len(b) > MaxJSONBytes {
		return nil, &SyntaxError{Offset: MaxJSONBytes, Reason: fmt.Sprintf("longer than %d bytes", MaxJSONBytes)}
	}
	s := scanner{b: b, keys: make([]string, 0, 24)}
	if err := s.document(); err != nil {
		return nil, err
	}
	i := skipSpace(b, 0)
	end := skipSpaceBack(b)
	switch b[i] {
	case '{':
		return &object{raw: b[i:end:end], high: s.high}, nil
	case '[':
		return &list{raw: b[i:end:end], high: s.high}, nil
	}
	return scalarAt(b, i), nil
}

func skipSpaceBack(b []byte) int {
	i := len(b)
	for b[i-1] == ' ' || b[i-1] == '\n' || b[i-1] == '\t' || b[i-1] == '\r' {
		i--
	}
	return i
}

// Null returns the null value.
func Null() Value { return types.NullValue }

// Bool returns a boolean value.
func Bool(b bool) Value { return types.Bool(b) }

// String returns a string value.
func String(s string) Value { return types.String(s) }

// Int returns a whole number.
func Int(i int64) Value { return types.Int(i) }

// Time returns a time value; it prints as RFC 3339 in UTC.
func Time(t time.Time) Value { return types.Timestamp{Time: t.UTC()} }

// NewObject returns an object of the given fields in the given order. It takes over both
// slices, which must be of one length; the keys must differ.
func NewObject(keys []string, vals []Value) Value {
	if len(keys) != len(vals) {
		panic("expr: NewObject with unequal keys and values")
	}
	return newObject(keys, vals)
}

func newObject(keys []string, vals []Value) *object {
	x := &index{keys: keys, vals: vals}
	x.indexKeys()
	o := &object{}
	o.idx.Store(x)
	return o
}

// NewList returns a list of the given items. It takes over the slice.
func NewList(vals []Value) Value { return newList(vals) }

func newList(vals []Value) *list {
	l := &list{}
	l.idx.Store(&index{vals: vals})
	return l
}

// FromNative makes a value of what Go code commonly holds: nil, booleans, strings, integers,
// floats, json.Number, []byte (bytes), time.Time, time.Duration, Value, and slices and maps of
// these. Map keys are sorted. Anything else, and a float that JSON cannot write, panics: it is a
// mistake of the caller, not of its data.
func FromNative(v any) Value {
	switch x := v.(type) {
	case nil:
		return types.NullValue
	case Value:
		return x
	case bool:
		return types.Bool(x)
	case string:
		return types.String(x)
	case int:
		return types.Int(x)
	case int32:
		return types.Int(x)
	case int64:
		return types.Int(x)
	case uint64:
		return newLiteral(fmt.Sprint(x))
	case float64:
		if f := newFloat(x); !types.IsError(f) {
			return f
		}
	case json.Number:
		if isJSONNumber(string(x)) {
			return newLiteral(string(x))
		}
	case []byte:
		return types.Bytes(x)
	case time.Time:
		return Time(x)
	case time.Duration:
		return types.Duration{Duration: x}
	case []any:
		return fromSlice(x)
	case []string:
		return fromSlice(x)
	case []Value:
		return newList(x)
	case map[string]any:
		return fromMap(x)
	case map[string]string:
		return fromMap(x)
	case map[string]Value:
		return fromMap(x)
	}
	panic(fmt.Sprintf("expr: FromNative of %T", v))
}

func fromSlice[T any](s []T) Value {
	vals := make([]Value, len(s))
	for i, v := range s {
		vals[i] = FromNative(v)
	}
	return newList(vals)
}

func fromMap[T any](m map[string]T) Value {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	vals := make([]Value, len(keys))
	for i, k := range keys {
		vals[i] = FromNative(m[k])
	}
	return newObject(keys, vals)
}

// Lookup returns the field of an object; false when there is none or v is not an object.
func Lookup(v Value, key string) (Value, bool) {
	switch m := v.(type) {
	case *object:
		return m.find(key)
	case traits.Mapper:
		return m.Find(types.String(key))
	}
	return nil, false
}

// Index returns the item of a list, counted from 0; false when there is none or v is not a list.
func Index(v Value, i int) (Value, bool) {
	l, ok := v.(traits.Lister)
	if !ok || i < 0 || i >= listLen(l) {
		return nil, false
	}
	return item(l, i), true
}

// Len returns the number of items of a list or fields of an object, else -1.
func Len(v Value) int {
	switch x := v.(type) {
	case traits.Mapper:
		return mapLen(x)
	case traits.Lister:
		return listLen(x)
	}
	return -1
}

// Keys returns the keys of an object in their order (sorted where the object has none), nil for
// any other value. The caller must not change the slice.
func Keys(v Value) []string {
	m, ok := v.(traits.Mapper)
	if !ok {
		return nil
	}
	if o, ours := m.(*object); ours {
		return o.index().keys
	}
	keys := make([]string, 0, mapLen(m))
	for k := range fields(m) {
		keys = append(keys, keyText(k))
	}
	slices.Sort(keys)
	return keys
}

// ValueKind is what a value is.
type ValueKind int

// The kinds of values.
const (
	KindOther ValueKind = iota // nothing that JSON can write
	KindNull
	KindBool
	KindNumber
	KindString
	KindBytes
	KindTime
	KindDuration
	KindList
	KindObject
)

// String returns the kind as it is called in messages.
func (k ValueKind) String() string {
	return [...]string{"value", "null", "boolean", "number", "string", "bytes", "time", "duration", "list", "object"}[k]
}

// Kind returns the kind of v.
func Kind(v Value) ValueKind {
	switch v.(type) {
	case types.Null:
		return KindNull
	case types.Bool:
		return KindBool
	case types.Int, types.Double, types.Uint, *number:
		return KindNumber
	case types.String:
		return KindString
	case types.Bytes:
		return KindBytes
	case types.Timestamp:
		return KindTime
	case types.Duration:
		return KindDuration
	case traits.Mapper:
		return KindObject
	case traits.Lister:
		return KindList
	}
	return KindOther
}

// kindName is the kind with its article, for messages.
func kindName(v ref.Val) string {
	k := Kind(unwrap(v))
	switch k {
	case KindNull, KindBytes:
		return k.String()
	case KindObject:
		return "an object"
	}
	return "a " + k.String()
}

// Truth returns the boolean that v is; any other value, null too, is an error: a condition never
// guesses.
func Truth(v Value) (bool, error) {
	if b, ok := unwrap(v).(types.Bool); ok {
		return bool(b), nil
	}
	return false, evalErrorf("a condition must be true or false, this one is %s", kindName(v))
}

// IsInt returns the whole number that v is, in any spelling (3, 3.0, 3e0).
func IsInt(v Value) (int64, bool) {
	switch n := plain(unwrap(v)).(type) {
	case types.Int:
		return int64(n), true
	case types.Double:
		return floatInt(float64(n))
	}
	return 0, false
}

// Str returns the string that v is.
func Str(v Value) (string, bool) {
	s, ok := v.(types.String)
	return string(s), ok
}

// unwrap replaces an optional by its value, an absent one by null.
func unwrap(v ref.Val) ref.Val {
	for {
		o, ok := v.(*types.Optional)
		if !ok {
			break
		}
		if !o.HasValue() {
			return types.NullValue
		}
		v = o.GetValue()
	}
	if v == nil {
		return types.NullValue
	}
	return v
}

// keyText is a map key as JSON writes it.
func keyText(k ref.Val) string {
	if s, ok := k.(types.String); ok {
		return string(s)
	}
	s, _ := scalarText(k)
	return strings.Clone(s)
}
