package expr

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

func sig(args ...*cel.Type) []*cel.Type { return args }

// functions are the functions of the language beside cel-go's libraries.
func (b *base) functions() []function {
	dyn, list := cel.DynType, cel.ListType(cel.DynType)
	return []function{
		{name: fnPlain, args: [][]*cel.Type{sig(cel.TypeParamType("A"))}, result: cel.TypeParamType("A"), unary: plain},
		{name: fnOrElse, args: [][]*cel.Type{sig(dyn, dyn)}, result: dyn, binary: orElse},
		{name: "sum", args: [][]*cel.Type{sig(list)}, result: dyn, unary: sum},
		{name: "decimal", args: [][]*cel.Type{sig(dyn)}, result: dyn, unary: toDecimal},
		{name: "round", args: [][]*cel.Type{sig(dyn), sig(dyn, dyn)}, result: dyn, many: round},
		{name: "string", args: [][]*cel.Type{sig(dyn)}, result: cel.StringType, unary: toString},
	}
}

func orElse(v, d ref.Val) ref.Val {
	if v = unwrap(v); v == types.NullValue {
		return d
	}
	return v
}

func contains(v, in ref.Val) ref.Val {
	switch x := in.(type) {
	case traits.Mapper:
		_, ok := x.Find(v)
		return types.Bool(ok)
	case traits.Lister:
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
	l, ok := v.(traits.Lister)
	if !ok {
		return errorVal("sum takes a list of numbers, not %s", kindName(v))
	}
	var total ref.Val = types.Int(0)
	for i := range listLen(l) {
		if total = arithmetic(operators.Add, total, item(l, i)); types.IsError(total) {
			return total
		}
	}
	return total
}

func toDecimal(v ref.Val) ref.Val {
	if s, ok := v.(types.String); ok {
		d, err := parseDec(string(s))
		if err == errNotNumber {
			return errorVal("decimal() takes a number like \"19.90\"; this string is none")
		}
		if err != nil {
			return types.WrapErr(err)
		}
		return newDecimal(d)
	}
	o, ok, err := toOperand(v)
	if err != nil && o.text == "" {
		if n, isNum := v.(*number); isNum {
			return toDecimal(types.String(n.text))
		}
		return types.WrapErr(err)
	}
	if !ok {
		return errorVal("decimal() takes a number or a string, not %s", kindName(v))
	}
	d, err := o.dec()
	if err != nil {
		return types.WrapErr(err)
	}
	return newDecimal(d)
}

// round rounds half away from zero to so many digits after the point.
func round(args ...ref.Val) ref.Val {
	places := int64(0)
	if len(args) == 2 {
		var ok bool
		if places, ok = IsInt(args[1]); !ok || places > MaxNumberDigits || places < -MaxNumberDigits {
			return errorVal("round() takes a whole number of digits")
		}
	}
	return roundTo(args[0], int(places), roundHalfUp)
}

// roundTo rounds a number and gives it back in its own kind: a fraction rounded to whole is an
// int, a decimal stays one.
func roundTo(v ref.Val, places int, mode rounding) ref.Val {
	o, ok, err := toOperand(v)
	switch {
	case err != nil:
		return types.WrapErr(err)
	case !ok:
		return errorVal("cannot round %s", kindName(v))
	case o.kind == numInt && places >= 0:
		return types.Int(o.i)
	}
	d, err := o.dec()
	if err != nil {
		return types.WrapErr(err)
	}
	if o.kind != numDecimal && places >= d.scale {
		return plain(v)
	}
	d = d.round(places, mode)
	switch {
	case o.kind == numDecimal:
		return newDecimal(d)
	case d.isInt():
		return newBig(d.coef)
	}
	return newFloat(d.float())
}

func toString(v ref.Val) ref.Val {
	s, err := Text(v)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.String(s)
}

// boundedStrings replaces functions of cel-go that can make much out of little.
func boundedStrings() []cel.EnvOption { return nil }
