package expr

import (
	"iter"
	"math"
	"reflect"
	"sync/atomic"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// Value is a JSON-shaped CEL value: null, bool, int, double, number, string, list, object, and
// the times, durations and bytes that functions make. Values are immutable.
type Value = ref.Val

// rawJSON is a value that still has the text it came as.
type rawJSON interface {
	rawJSON() []byte // nil when it was built
	height() int     // an upper bound of how deep the text is nested
}

// index is what a container knows about its children. It is made once and never changed.
type index struct {
	raw   []byte
	high  uint16           // of a view: the height of its children
	keys  []string         // of an object, in source order
	byKey map[string]int32 // of an object with many keys
	vals  []Value          // of a container that was built
	offs  []uint32         // of a view: where each value starts
	kids  []int32          // of a view with containers: position in objs or lists
	objs  []object
	lists []list
}

func (x *index) len() int {
	if x.offs == nil {
		return len(x.vals)
	}
	return len(x.offs)
}

func (x *index) at(i int) Value {
	if x.offs == nil {
		return x.vals[i]
	}
	off := int(x.offs[i])
	switch x.raw[off] {
	case '{':
		return &x.objs[x.kids[i]]
	case '[':
		return &x.lists[x.kids[i]]
	}
	return scalarAt(x.raw, off)
}

func (x *index) find(key string) (int, bool) {
	if x.byKey != nil {
		i, ok := x.byKey[key]
		return int(i), ok
	}
	for i, k := range x.keys {
		if k == key {
			return i, true
		}
	}
	return 0, false
}

func (x *index) indexKeys() {
	if len(x.keys) < manyKeys {
		return
	}
	x.byKey = make(map[string]int32, len(x.keys))
	for i, k := range x.keys {
		x.byKey[k] = int32(i)
	}
}

func scalarAt(b []byte, i int) Value {
	switch b[i] {
	case '"':
		return types.String(stringAt(b, i, skipString(b, i)))
	case 't':
		return types.True
	case 'f':
		return types.False
	case 'n':
		return types.NullValue
	}
	end, _ := scanNumber(b, i)
	return newLiteral(bytesView(b[i:end]))
}

// child notes the value at off and returns the offset behind it.
func (x *index) child(off int) int {
	end := skipValue(x.raw, off)
	switch x.raw[off] {
	case '{', '[':
		if x.kids == nil {
			x.kids = make([]int32, len(x.offs), max(8, cap(x.offs)))
		}
		if x.raw[off] == '{' {
			x.kids = append(x.kids, int32(len(x.objs)))
			x.objs = append(x.objs, object{raw: x.raw[off:end:end], high: x.high})
		} else {
			x.kids = append(x.kids, int32(len(x.lists)))
			x.lists = append(x.lists, list{raw: x.raw[off:end:end], high: x.high})
		}
	default:
		if x.kids != nil {
			x.kids = append(x.kids, 0)
		}
	}
	x.offs = append(x.offs, uint32(off))
	return end
}

func indexObject(raw []byte, high uint16) *index {
	x := &index{raw: raw, high: high, offs: make([]uint32, 0, 8), keys: make([]string, 0, 8)}
	i := skipSpace(raw, 1)
	for raw[i] != '}' {
		end := skipString(raw, i)
		x.keys = append(x.keys, stringAt(raw, i, end))
		i = skipSpace(raw, end)          // the colon
		i = x.child(skipSpace(raw, i+1)) // the value
		if i = skipSpace(raw, i); raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
	x.indexKeys()
	return x
}

func indexList(raw []byte, high uint16) *index {
	x := &index{raw: raw, high: high, offs: make([]uint32, 0, min(4+len(raw)/32, 1024))}
	i := skipSpace(raw, 1)
	for raw[i] != ']' {
		i = skipSpace(raw, x.child(i))
		if raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
	return x
}

// object is a JSON object: a view of its text, or built from keys and values.
type object struct {
	raw  []byte // nil when built
	high uint16 // of a view: an upper bound of its nesting, 1 for a flat one
	idx  atomic.Pointer[index]
}

var (
	_ traits.Mapper   = (*object)(nil)
	_ traits.Foldable = (*object)(nil)
)

func (o *object) index() *index {
	x := o.idx.Load()
	if x == nil { // two goroutines may both do the work; the children must be of one of them
		o.idx.CompareAndSwap(nil, indexObject(o.raw, o.high-1))
		x = o.idx.Load()
	}
	return x
}

func (o *object) rawJSON() []byte { return o.raw }
func (o *object) height() int     { return int(o.high) }

func (o *object) find(key string) (Value, bool) {
	x := o.index()
	i, ok := x.find(key)
	if !ok {
		return nil, false
	}
	return x.at(i), true
}

// Contains implements traits.Container.
func (o *object) Contains(key ref.Val) ref.Val {
	_, ok := o.Find(key)
	return types.Bool(ok)
}

// Find implements traits.Mapper.
func (o *object) Find(key ref.Val) (ref.Val, bool) {
	if s, ok := key.(types.String); ok {
		return o.find(string(s))
	}
	return nil, false
}

// Get implements traits.Indexer.
func (o *object) Get(key ref.Val) ref.Val {
	if v, ok := o.Find(key); ok {
		return v
	}
	return missingKey(key)
}

// Size implements traits.Sizer.
func (o *object) Size() ref.Val { return types.Int(o.index().len()) }

// Iterator implements traits.Iterable; it gives the keys in source order.
func (o *object) Iterator() traits.Iterator { return &keyIterator{keys: o.index().keys} }

// Fold implements traits.Foldable.
func (o *object) Fold(f traits.Folder) {
	x := o.index()
	for i, k := range x.keys {
		if !f.FoldEntry(types.String(k), x.at(i)) {
			return
		}
	}
}

// ConvertToNative implements ref.Val; only CEL values leave this package.
func (o *object) ConvertToNative(t reflect.Type) (any, error) {
	return nil, evalErrorf("an object cannot become a %v", t)
}

// ConvertToType implements ref.Val.
func (o *object) ConvertToType(t ref.Type) ref.Val { return convertContainer(o, t) }

// Equal implements ref.Val.
func (o *object) Equal(other ref.Val) ref.Val { return types.Bool(Equal(o, other)) }

// Type implements ref.Val.
func (o *object) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (o *object) Value() any { return o }

// AggregateSize implements types.AggregateSizeVisitor without looking inside.
func (o *object) AggregateSize(types.AggregateSizer) uint32 { return uint32(weight(o)) }

// list is a JSON list: a view of its text, or built from items.
type list struct {
	raw  []byte
	high uint16
	idx  atomic.Pointer[index]
}

var _ traits.Lister = (*list)(nil)

func (l *list) index() *index {
	x := l.idx.Load()
	if x == nil {
		l.idx.CompareAndSwap(nil, indexList(l.raw, l.high-1))
		x = l.idx.Load()
	}
	return x
}

func (l *list) rawJSON() []byte { return l.raw }
func (l *list) height() int     { return int(l.high) }

// Add implements traits.Adder.
func (l *list) Add(other ref.Val) ref.Val {
	if o, ok := other.(traits.Lister); ok {
		return addLists(l, o)
	}
	return mismatch("_+_", l, other)
}

// Contains implements traits.Container.
func (l *list) Contains(v ref.Val) ref.Val {
	x := l.index()
	for i := range x.len() {
		if Equal(x.at(i), v) {
			return types.True
		}
	}
	return types.False
}

// Get implements traits.Indexer.
func (l *list) Get(at ref.Val) ref.Val {
	i, err := types.GetOrError(plain(at))
	if err != nil {
		return errorVal("a list is indexed by a whole number, not by %s", kindName(at))
	}
	x := l.index()
	if i < 0 || int(i) >= x.len() {
		return errorVal("the list has no item %d", i)
	}
	return x.at(int(i))
}

// Size implements traits.Sizer.
func (l *list) Size() ref.Val { return types.Int(l.index().len()) }

// Iterator implements traits.Iterable.
func (l *list) Iterator() traits.Iterator { return &itemIterator{x: l.index()} }

// ConvertToNative implements ref.Val; only CEL values leave this package.
func (l *list) ConvertToNative(t reflect.Type) (any, error) {
	return nil, evalErrorf("a list cannot become a %v", t)
}

// ConvertToType implements ref.Val.
func (l *list) ConvertToType(t ref.Type) ref.Val { return convertContainer(l, t) }

// Equal implements ref.Val.
func (l *list) Equal(other ref.Val) ref.Val { return types.Bool(Equal(l, other)) }

// Type implements ref.Val.
func (l *list) Type() ref.Type { return types.ListType }

// Value implements ref.Val.
func (l *list) Value() any { return l }

// AggregateSize implements types.AggregateSizeVisitor without looking inside.
func (l *list) AggregateSize(types.AggregateSizer) uint32 { return uint32(weight(l)) }

func convertContainer(v ref.Val, t ref.Type) ref.Val {
	switch t {
	case v.Type():
		return v
	case types.TypeType:
		return v.Type().(*types.Type)
	}
	return errorVal("%s cannot become a %s", kindName(v), t.TypeName())
}

func missingKey(key ref.Val) ref.Val {
	return errorVal("there is no field %s", keyText(key))
}

// iterator is the part of traits.Iterator that nothing asks for.
type iterator struct{}

func (iterator) ConvertToNative(reflect.Type) (any, error) { return nil, errNotNumber }
func (iterator) ConvertToType(ref.Type) ref.Val            { return types.NoSuchOverloadErr() }
func (iterator) Equal(ref.Val) ref.Val                     { return types.False }
func (iterator) Type() ref.Type                            { return types.IteratorType }
func (iterator) Value() any                                { return nil }

type keyIterator struct {
	iterator
	keys []string
}

func (it *keyIterator) HasNext() ref.Val { return types.Bool(len(it.keys) > 0) }

func (it *keyIterator) Next() ref.Val {
	k := it.keys[0]
	it.keys = it.keys[1:]
	return types.String(k)
}

type itemIterator struct {
	iterator
	x *index
	i int
}

func (it *itemIterator) HasNext() ref.Val { return types.Bool(it.i < it.x.len()) }

func (it *itemIterator) Next() ref.Val {
	it.i++
	return it.x.at(it.i - 1)
}

// listLen, item, mapLen and fields read any list and map, ours and CEL's own.

func listLen(l traits.Lister) int {
	if o, ok := l.(*list); ok {
		return o.index().len()
	}
	return int(l.Size().(types.Int))
}

func item(l traits.Lister, i int) ref.Val {
	if o, ok := l.(*list); ok {
		return o.index().at(i)
	}
	return l.Get(types.Int(i))
}

func appendItems(dst []ref.Val, l traits.Lister) []ref.Val {
	for i := range listLen(l) {
		dst = append(dst, item(l, i))
	}
	return dst
}

func mapLen(m traits.Mapper) int {
	if o, ok := m.(*object); ok {
		return o.index().len()
	}
	return int(m.Size().(types.Int))
}

// fields yields the entries of a map in its own order; CEL's own maps have none.
func fields(m traits.Mapper) iter.Seq2[ref.Val, ref.Val] {
	return func(yield func(ref.Val, ref.Val) bool) {
		if o, ok := m.(*object); ok {
			x := o.index()
			for i, k := range x.keys {
				if !yield(types.String(k), x.at(i)) {
					return
				}
			}
			return
		}
		for it := m.Iterator(); it.HasNext() == types.True; {
			k := it.Next()
			v, _ := m.Find(k)
			if !yield(k, v) {
				return
			}
		}
	}
}

// weight is about how many values a value holds, without walking it: a view counts by its bytes.
func weight(v ref.Val) uint64 {
	switch x := v.(type) {
	case types.String:
		return uint64(len(x)) / readPerCost
	case types.Bytes:
		return uint64(len(x)) / readPerCost
	case rawJSON:
		if raw := x.rawJSON(); raw != nil {
			return uint64(len(raw)) / readPerCost
		}
	}
	switch x := v.(type) {
	case traits.Lister:
		return uint64(listLen(x))
	case traits.Mapper:
		return uint64(mapLen(x))
	case *number:
		return uint64(len(x.text)) / readPerCost
	}
	return 0
}

// deepWeight counts every value inside built containers, up to a limit.
func deepWeight(v ref.Val, limit uint64) uint64 {
	if r, ok := v.(rawJSON); ok && r.rawJSON() != nil {
		return weight(v)
	}
	n := weight(v)
	switch x := v.(type) {
	case traits.Lister:
		for i := range listLen(x) {
			if n > limit {
				return math.MaxUint32
			}
			n += deepWeight(item(x, i), limit-n)
		}
	case traits.Mapper:
		for _, w := range fields(x) {
			if n > limit {
				return math.MaxUint32
			}
			n += deepWeight(w, limit-n)
		}
	}
	return n
}
