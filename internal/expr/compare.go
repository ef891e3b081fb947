package expr

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// Equal reports whether two values are the same JSON: numbers by value whatever their spelling,
// lists item by item, objects without regard to order. Values of different kinds are unequal.
func Equal(a, b Value) bool {
	a, b = unwrap(a), unwrap(b)
	switch x := a.(type) {
	case types.String:
		y, ok := b.(types.String)
		return ok && x == y
	case types.Bool:
		y, ok := b.(types.Bool)
		return ok && x == y
	case types.Int:
		if y, ok := b.(types.Int); ok {
			return x == y
		}
	case types.Double:
		if y, ok := b.(types.Double); ok {
			return x == y
		}
	case types.Null:
		_, ok := b.(types.Null)
		return ok
	case traits.Mapper:
		y, ok := b.(traits.Mapper)
		return ok && equalObjects(x, y)
	case traits.Lister:
		y, ok := b.(traits.Lister)
		return ok && equalLists(x, y)
	}
	if isNumber(a) || isNumber(b) {
		c, ok := compareNumbers(a, b)
		return ok && c == 0
	}
	return a.Equal(b) == types.True
}

// equalWithin compares two values unless both are too large to be looked through.
func equalWithin(a, b, yes, no ref.Val) ref.Val {
	if fault := tooBig(a); fault != nil {
		if fault := tooBig(b); fault != nil {
			return fault
		}
	}
	if Equal(a, b) {
		return yes
	}
	return no
}

// tooBig is an error for a value of more than MaxValueItems: lists that hold one list twice,
// again and again, are small in memory and endless to walk.
func tooBig(v ref.Val) ref.Val {
	if deepWeight(v, MaxValueItems) > MaxValueItems {
		return limitVal("a value has more than %d items and fields", MaxValueItems)
	}
	return nil
}

func equalLists(a, b traits.Lister) bool {
	if x, y, ok := sameBytes(a, b); ok && string(x) == string(y) {
		return true
	}
	n := listLen(a)
	if n != listLen(b) {
		return false
	}
	for i := range n {
		if !Equal(item(a, i), item(b, i)) {
			return false
		}
	}
	return true
}

func equalObjects(a, b traits.Mapper) bool {
	if x, y, ok := sameBytes(a, b); ok && string(x) == string(y) {
		return true
	}
	if mapLen(a) != mapLen(b) {
		return false
	}
	for k, v := range fields(a) {
		w, found := b.Find(k)
		if !found || !Equal(v, w) {
			return false
		}
	}
	return true
}

// sameBytes returns the source bytes of two views.
func sameBytes(a, b ref.Val) (x, y []byte, ok bool) {
	p, okP := a.(rawJSON)
	q, okQ := b.(rawJSON)
	if !okP || !okQ {
		return nil, nil, false
	}
	x, y = p.rawJSON(), q.rawJSON()
	return x, y, x != nil && y != nil
}

func isNumber(v ref.Val) bool {
	switch v.(type) {
	case types.Int, types.Double, types.Uint, *number:
		return true
	}
	return false
}

// CompareNumbers orders two numbers by value: below 0, 0 or above 0. ok is false when either
// is no number.
func CompareNumbers(a, b Value) (c int, ok bool) { return compareNumbers(a, b) }

// compareNumbers orders two numbers by value; ok is false when either is none.
func compareNumbers(a, b ref.Val) (c int, ok bool) {
	switch x := a.(type) {
	case types.Int:
		switch y := b.(type) {
		case types.Int:
			return cmp.Compare(x, y), true
		case types.Double:
			if x > -1<<53 && x < 1<<53 {
				return cmp.Compare(float64(x), float64(y)), true
			}
		}
	case types.Double:
		if y, isFloat := b.(types.Double); isFloat {
			return cmp.Compare(x, y), true
		}
	}
	dx, ex, okX := canonical(a)
	dy, ey, okY := canonical(b)
	if !okX || !okY {
		return 0, false
	}
	return compareCanonical(dx, ex, dy, ey), true
}

// compareCanonical orders numbers given as sign, digits and exponent.
func compareCanonical(dx string, ex int, dy string, ey int) int {
	sx, sy := signOf(dx), signOf(dy)
	if sx != sy || sx == 0 {
		return cmpInt(sx, sy)
	}
	dx, dy = strings.TrimPrefix(dx, "-"), strings.TrimPrefix(dy, "-")
	// The power of ten of the leading digit decides, then the digits do.
	if c := cmpInt(len(dx)+ex, len(dy)+ey); c != 0 {
		return c * sx
	}
	return strings.Compare(dx, dy) * sx
}

func signOf(digits string) int {
	switch {
	case digits == "0":
		return 0
	case digits[0] == '-':
		return -1
	}
	return 1
}

// order is the result of comparing two values that have an order among each other: numbers,
// strings, booleans, bytes, times, durations.
func order(a, b ref.Val) (int, *Error) {
	if isNumber(a) && isNumber(b) {
		if c, ok := compareNumbers(a, b); ok {
			return c, nil
		}
	}
	switch x := a.(type) {
	case types.String:
		if y, ok := b.(types.String); ok {
			return strings.Compare(string(x), string(y)), nil
		}
	case types.Bool, types.Bytes, types.Timestamp, types.Duration:
		if a.Type() == b.Type() {
			if c, ok := a.(traits.Comparer).Compare(b).(types.Int); ok {
				return int(c), nil
			}
		}
	}
	return 0, evalErrorf("cannot order %s and %s", kindName(a), kindName(b))
}

// Hash returns 16 bytes of a SHA-256 over the value's canonical form. Equal values have equal
// hashes, whatever spelling, order or white space they came with. Of a value with more than
// maxHashItems, which AppendJSON refuses, only the first ones count.
func Hash(v Value) [16]byte {
	h := sha256.New()
	w := hasher{h: h, left: maxHashItems}
	w.value(unwrap(v), 0)
	w.flush()
	var out [16]byte
	copy(out[:], h.Sum(nil))
	return out
}

// hasher writes tagged, length-prefixed parts, so that no two different values write the same.
type hasher struct {
	h    hash.Hash
	buf  []byte
	left int // items until the rest does not count
}

// maxHashItems is more items than a text of MaxJSONBytes can hold.
const maxHashItems = MaxJSONBytes

func (w *hasher) flush() {
	w.h.Write(w.buf)
	w.buf = w.buf[:0]
}

func (w *hasher) part(tag byte, s string) {
	w.buf = append(w.buf, tag)
	w.buf = binary.AppendUvarint(w.buf, uint64(len(s)))
	w.buf = append(w.buf, s...)
	if len(w.buf) > 4096 {
		w.flush()
	}
}

func (w *hasher) count(tag byte, n int) {
	w.buf = append(w.buf, tag)
	w.buf = binary.AppendUvarint(w.buf, uint64(n))
}

func (w *hasher) value(v ref.Val, depth int) {
	if w.left--; depth > MaxJSONDepth || w.left < 0 {
		w.part('!', "")
		return
	}
	switch x := v.(type) {
	case types.Null:
		w.buf = append(w.buf, 'n')
	case types.Bool:
		if x {
			w.buf = append(w.buf, 't')
		} else {
			w.buf = append(w.buf, 'f')
		}
	case types.String:
		w.part('s', string(x))
	case types.Int, types.Uint, types.Double, *number:
		digits, exp, _ := canonical(v)
		w.part('d', digits)
		w.buf = binary.AppendVarint(w.buf, int64(exp))
	case types.Bytes:
		w.part('b', string(x))
	case traits.Mapper:
		w.object(x, depth)
	case traits.Lister:
		n := listLen(x)
		w.count('l', n)
		for i := 0; i < n && w.left > 0; i++ {
			w.value(unwrap(item(x, i)), depth+1)
		}
	default:
		text, _ := scalarText(v)
		w.part('s', text)
	}
}

func (w *hasher) object(m traits.Mapper, depth int) {
	type field struct {
		key string
		val ref.Val
	}
	all := make([]field, 0, mapLen(m))
	for k, v := range fields(m) {
		all = append(all, field{keyText(k), v})
	}
	slices.SortFunc(all, func(a, b field) int { return strings.Compare(a.key, b.key) })
	w.count('o', len(all))
	for _, f := range all {
		if w.left <= 0 {
			break
		}
		w.part('k', f.key)
		w.value(unwrap(f.val), depth+1)
	}
}

// floatInt reports whether f is a whole number that an int64 holds.
func floatInt(f float64) (int64, bool) {
	if f != math.Trunc(f) || f < -1<<63 || f >= 1<<63 {
		return 0, false
	}
	return int64(f), true
}
