package expr

import (
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

func listFunctions() []function {
	dyn, list, num := cel.DynType, cel.ListType(cel.DynType), cel.IntType
	a := cel.TypeParamType("A")
	listA := cel.ListType(a)
	object := cel.MapType(cel.StringType, cel.DynType)
	return []function{
		{name: "sum", args: [][]*cel.Type{sig(list)}, result: dyn, unary: sum},
		{name: "first", args: [][]*cel.Type{sig(listA)}, result: a, unary: first, shared: true},
		{name: "last", args: [][]*cel.Type{sig(listA)}, result: a, unary: last, shared: true},
		{name: "unique", args: [][]*cel.Type{sig(listA)}, result: listA, unary: unique},
		{name: "distinct", members: [][]*cel.Type{sig(listA)}, result: listA, unary: unique},
		{name: fnUnique, args: [][]*cel.Type{sig(listA, list)}, result: listA, binary: uniqueBy},
		{name: fnGroupBy, args: [][]*cel.Type{sig(listA, list)}, result: cel.MapType(cel.StringType, listA), binary: groupBy},
		{name: fnKeyBy, args: [][]*cel.Type{sig(listA, list)}, result: cel.MapType(cel.StringType, a), binary: keyBy},
		{name: fnSortBy, args: [][]*cel.Type{sig(listA, list)}, result: listA, binary: sortBy},
		{name: "sort", members: [][]*cel.Type{sig(listA)}, result: listA, unary: func(v ref.Val) ref.Val { return sortBy(v, v) }},
		{name: "flatten", args: [][]*cel.Type{sig(list), sig(list, num)}, members: [][]*cel.Type{sig(list), sig(list, num)}, result: list, many: flatten},
		{name: "chunk", args: [][]*cel.Type{sig(listA, num)}, result: cel.ListType(listA), binary: chunk},
		{name: "slice", members: [][]*cel.Type{sig(listA, num, num)}, result: listA, many: slice},
		{name: "reverse", members: [][]*cel.Type{sig(listA)}, result: listA, unary: reverse, shared: true},
		{name: "lists.range", args: [][]*cel.Type{sig(num)}, result: cel.ListType(num), unary: rangeList},
		{name: "lookup", args: [][]*cel.Type{sig(dyn, dyn), sig(dyn, dyn, dyn)}, result: dyn, many: lookup},
		{name: "mapFields", args: [][]*cel.Type{sig(object, dyn)}, result: object, binary: mapFields},
	}
}

func wantList(name string, v ref.Val) (traits.Lister, ref.Val) {
	if l, ok := v.(traits.Lister); ok {
		return l, nil
	}
	return nil, errorVal("%s takes a list, not %s", name, kindName(v))
}

func contains(v, in ref.Val) ref.Val {
	switch x := in.(type) {
	case traits.Mapper:
		_, ok := x.Find(v)
		return types.Bool(ok)
	case traits.Lister:
		if fault := tooBig(v); fault != nil {
			return fault
		}
		for i := range listLen(x) {
			if Equal(item(x, i), v) {
				return types.True
			}
		}
		return types.False
	}
	return errorVal("in takes a list or an object, not %s", kindName(in))
}

func sum(v ref.Val) ref.Val {
	l, fault := wantList("sum()", v)
	if fault != nil {
		return fault
	}
	var total ref.Val = types.Int(0)
	for i := range listLen(l) {
		if total = arithmetic(operators.Add, total, item(l, i)); types.IsError(total) {
			return total
		}
	}
	return total
}

// first is the first item, null of an empty list.
func first(v ref.Val) ref.Val {
	if l, ok := v.(traits.Lister); ok && listLen(l) > 0 {
		return item(l, 0)
	}
	return types.NullValue
}

// last is the last item, null of an empty list.
func last(v ref.Val) ref.Val {
	if l, ok := v.(traits.Lister); ok && listLen(l) > 0 {
		return item(l, listLen(l)-1)
	}
	return types.NullValue
}

func unique(v ref.Val) ref.Val { return uniqueBy(v, v) }

// uniqueBy keeps the first item of every key.
func uniqueBy(v, keys ref.Val) ref.Val {
	l, fault := wantList("unique()", v)
	if fault != nil {
		return fault
	}
	if fault := tooBig(keys); fault != nil {
		return fault
	}
	k := keys.(traits.Lister)
	seen := make(map[[16]byte]struct{}, listLen(l))
	var out []ref.Val
	for i := range listLen(l) {
		h := Hash(item(k, i))
		if _, dup := seen[h]; !dup {
			seen[h] = struct{}{}
			out = append(out, item(l, i))
		}
	}
	return newList(out)
}

// keyOf is the field name that a key makes: a string as it is, a number or boolean as it
// prints, null as "null".
func keyOf(name string, k ref.Val) (string, ref.Val) {
	k = unwrap(k)
	switch Kind(k) {
	case KindNull:
		return "null", nil
	case KindString, KindNumber, KindBool, KindTime:
		s, err := scalarText(k)
		if err != nil {
			return "", types.WrapErr(err)
		}
		return s, nil
	}
	return "", errorVal("%s takes a string, number, boolean or null as key, not %s", name, kindName(k))
}

// groupBy makes an object of lists, in order of first appearance.
func groupBy(v, keys ref.Val) ref.Val {
	l, fault := wantList("groupBy()", v)
	if fault != nil {
		return fault
	}
	k := keys.(traits.Lister)
	at := map[string]int{}
	var names []string
	var groups [][]ref.Val
	for i := range listLen(l) {
		name, fault := keyOf("groupBy()", item(k, i))
		if fault != nil {
			return fault
		}
		g, ok := at[name]
		if !ok {
			g = len(groups)
			at[name] = g
			names = append(names, name)
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], item(l, i))
	}
	vals := make([]ref.Val, len(groups))
	for i, g := range groups {
		vals[i] = newList(g)
	}
	return newObject(names, vals)
}

// keyBy makes an object of items; of several with one key the last counts.
func keyBy(v, keys ref.Val) ref.Val {
	l, fault := wantList("keyBy()", v)
	if fault != nil {
		return fault
	}
	k := keys.(traits.Lister)
	at := map[string]int{}
	var names []string
	var vals []ref.Val
	for i := range listLen(l) {
		name, fault := keyOf("keyBy()", item(k, i))
		if fault != nil {
			return fault
		}
		if j, ok := at[name]; ok {
			vals[j] = item(l, i)
			continue
		}
		at[name] = len(vals)
		names = append(names, name)
		vals = append(vals, item(l, i))
	}
	return newObject(names, vals)
}

// sortBy orders a list by keys, which must be of one kind; null comes last. It is stable.
func sortBy(v, keys ref.Val) ref.Val {
	l, fault := wantList("sort", v)
	if fault != nil {
		return fault
	}
	type pair struct{ key, val ref.Val }
	k := keys.(traits.Lister)
	pairs := make([]pair, listLen(l))
	for i := range pairs {
		pairs[i] = pair{unwrap(item(k, i)), item(l, i)}
	}
	var failed *Error
	slices.SortStableFunc(pairs, func(a, b pair) int {
		aNull, bNull := a.key == types.NullValue, b.key == types.NullValue
		switch {
		case aNull || bNull:
			return boolInt(aNull) - boolInt(bNull)
		}
		c, err := order(a.key, b.key)
		if err != nil {
			failed = err
		}
		return c
	})
	if failed != nil {
		return types.WrapErr(failed)
	}
	out := make([]ref.Val, len(pairs))
	for i, p := range pairs {
		out[i] = p.val
	}
	return newList(out)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// flatten takes the lists out of a list, one level deep or as deep as told.
func flatten(args ...ref.Val) ref.Val {
	l, fault := wantList("flatten", args[0])
	if fault != nil {
		return fault
	}
	depth := int64(1)
	if len(args) == 2 {
		var ok bool
		if depth, ok = IsInt(args[1]); !ok || depth < 0 || depth > MaxJSONDepth {
			return errorVal("flatten takes a depth between 0 and %d", MaxJSONDepth)
		}
	}
	out, ok := appendFlat(nil, l, int(depth))
	if !ok {
		return limitVal("a list would have more than %d items", MaxListItems)
	}
	return newList(out)
}

func appendFlat(dst []ref.Val, l traits.Lister, depth int) ([]ref.Val, bool) {
	ok := true
	for i := range listLen(l) {
		v := item(l, i)
		if inner, isList := v.(traits.Lister); isList && depth > 0 {
			if dst, ok = appendFlat(dst, inner, depth-1); !ok {
				return dst, false
			}
			continue
		}
		if len(dst) >= MaxListItems {
			return dst, false
		}
		dst = append(dst, v)
	}
	return dst, true
}

// chunk cuts a list into lists of n items; the last may be shorter.
func chunk(v, size ref.Val) ref.Val {
	l, fault := wantList("chunk()", v)
	if fault != nil {
		return fault
	}
	n, ok := IsInt(size)
	if !ok || n < 1 {
		return errorVal("chunk() takes a size of at least 1")
	}
	all := appendItems(make([]ref.Val, 0, listLen(l)), l)
	var out []ref.Val
	for c := range slices.Chunk(all, int(min(n, int64(len(all)+1)))) {
		out = append(out, newList(c))
	}
	return newList(out)
}

// slice is the items from start up to, and without, end.
func slice(args ...ref.Val) ref.Val {
	l, fault := wantList("slice()", args[0])
	if fault != nil {
		return fault
	}
	from, ok1 := IsInt(args[1])
	to, ok2 := IsInt(args[2])
	if n := int64(listLen(l)); !ok1 || !ok2 || from < 0 || to > n || from > to {
		return errorVal("slice() takes two positions in the list, which has %d items", n)
	}
	out := make([]ref.Val, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, item(l, int(i)))
	}
	return newList(out)
}

func reverse(v ref.Val) ref.Val {
	l, fault := wantList("reverse()", v)
	if fault != nil {
		return fault
	}
	out := appendItems(make([]ref.Val, 0, listLen(l)), l)
	slices.Reverse(out)
	return newList(out)
}

// rangeList is [0, 1, … n-1].
func rangeList(v ref.Val) ref.Val {
	n, ok := IsInt(v)
	switch {
	case !ok || n < 0:
		return errorVal("lists.range() takes a whole number of at least 0")
	case n > MaxListItems:
		return limitVal("a list would have more than %d items", MaxListItems)
	}
	out := make([]ref.Val, n)
	for i := range out {
		out[i] = types.Int(i)
	}
	return newList(out)
}

// lookup reads a table. Of an object: lookup(table, key) and lookup(table, key, default). Of a
// list: lookup(list, "field", value), the first item whose field equals value. What is not
// there is null.
func lookup(args ...ref.Val) ref.Val {
	switch t := args[0].(type) {
	case traits.Mapper:
		key, fault := keyOf("lookup()", args[1])
		if fault != nil {
			return fault
		}
		if v, ok := t.Find(types.String(key)); ok && unwrap(v) != types.NullValue {
			return v
		}
		if len(args) == 3 {
			return args[2]
		}
		return types.NullValue
	case traits.Lister:
		field, ok := args[1].(types.String)
		if !ok || len(args) != 3 {
			return errorVal("lookup() in a list takes a field and a value: lookup(list, \"sku\", x)")
		}
		if fault := tooBig(args[2]); fault != nil {
			return fault
		}
		for i := range listLen(t) {
			it := item(t, i)
			if v, has := Lookup(it, string(field)); has && Equal(v, args[2]) {
				return it
			}
		}
		return types.NullValue
	}
	return errorVal("lookup() takes an object or a list, not %s", kindName(args[0]))
}

// mapFields renames the fields of an object by a mapping: an object of {from: to}, or a list of
// {from, to}, as a config value of type mapping is. Fields that the mapping does not name are
// left out, and so are those it names that the object does not have.
func mapFields(v, mapping ref.Val) ref.Val {
	m, ok := v.(traits.Mapper)
	if !ok {
		return errorVal("mapFields() takes an object, not %s", kindName(v))
	}
	out := fieldSet{at: map[string]int{}}
	switch t := mapping.(type) {
	case traits.Mapper:
		for _, from := range Keys(t) {
			to, _ := Lookup(t, from)
			if fault := out.rename(m, String(from), to); fault != nil {
				return fault
			}
		}
	case traits.Lister:
		for i := range listLen(t) {
			pair := item(t, i)
			from, okFrom := Lookup(pair, "from")
			to, okTo := Lookup(pair, "to")
			if !okFrom || !okTo {
				return errorVal("mapFields() takes a list of {from, to}")
			}
			if fault := out.rename(m, from, to); fault != nil {
				return fault
			}
		}
	default:
		return errorVal("mapFields() takes an object or a list of {from, to}, not %s", kindName(mapping))
	}
	return newObject(out.keys, out.vals)
}

// fieldSet collects fields in order; a later field of the same name wins.
type fieldSet struct {
	keys []string
	vals []ref.Val
	at   map[string]int
}

func (s *fieldSet) rename(m traits.Mapper, from, to ref.Val) ref.Val {
	from, to = unwrap(from), unwrap(to)
	if to == types.NullValue || to == types.String("") {
		return nil
	}
	name, ok := to.(types.String)
	src, okFrom := from.(types.String)
	if !ok || !okFrom {
		return errorVal("mapFields() maps names to names")
	}
	v, found := m.Find(src)
	if !found {
		return nil
	}
	if i, dup := s.at[string(name)]; dup {
		s.vals[i] = v
		return nil
	}
	s.at[string(name)] = len(s.keys)
	s.keys = append(s.keys, string(name))
	s.vals = append(s.vals, v)
	return nil
}
