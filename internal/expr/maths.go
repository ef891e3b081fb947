package expr

import (
	"math"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// mathFunctions are those of CEL's math extension, over all kinds of numbers.
func mathFunctions() []function {
	dyn, num, list := cel.DynType, cel.IntType, cel.ListType(cel.DynType)
	rounder := func(name string, mode rounding) function {
		return function{name: name, args: [][]*cel.Type{sig(dyn)}, result: dyn, unary: func(v ref.Val) ref.Val { return roundTo(v, 0, mode) }}
	}
	bits := func(name string, f func(a, b int64) int64) function {
		return function{name: name, args: [][]*cel.Type{sig(num, num)}, result: num, binary: func(a, b ref.Val) ref.Val { return bitwise(a, b, f) }}
	}
	test := func(name string, result bool) function {
		// No number of this language is infinite or NaN: what would be is an error.
		return function{name: name, args: [][]*cel.Type{sig(dyn)}, result: cel.BoolType, unary: func(v ref.Val) ref.Val {
			if !isNumber(v) {
				return errorVal("%s() takes a number, not %s", name, kindName(v))
			}
			return types.Bool(result)
		}}
	}
	return []function{
		{name: "decimal", args: [][]*cel.Type{sig(dyn)}, result: dyn, unary: toDecimal},
		{name: "round", args: [][]*cel.Type{sig(dyn), sig(dyn, num)}, result: dyn, many: round},
		{name: "int", args: [][]*cel.Type{sig(dyn)}, result: num, unary: toInt},
		{name: "double", args: [][]*cel.Type{sig(dyn)}, result: cel.DoubleType, unary: toDouble},
		{name: "math.abs", args: [][]*cel.Type{sig(dyn)}, result: dyn, unary: abs},
		{name: "math.sign", args: [][]*cel.Type{sig(dyn)}, result: num, unary: sign},
		{name: "math.sqrt", args: [][]*cel.Type{sig(dyn)}, result: dyn, unary: sqrt},
		rounder("math.ceil", roundCeil), rounder("math.floor", roundFloor),
		rounder("math.trunc", roundDown), rounder("math.round", roundHalfUp),
		{name: fnMax, args: [][]*cel.Type{sig(list)}, result: dyn, unary: func(v ref.Val) ref.Val { return extreme("math.greatest()", v, +1) }},
		{name: fnMin, args: [][]*cel.Type{sig(list)}, result: dyn, unary: func(v ref.Val) ref.Val { return extreme("math.least()", v, -1) }},
		test("math.isNaN", false), test("math.isInf", false), test("math.isFinite", true),
		bits("math.bitAnd", func(a, b int64) int64 { return a & b }),
		bits("math.bitOr", func(a, b int64) int64 { return a | b }),
		bits("math.bitXor", func(a, b int64) int64 { return a ^ b }),
		bits("math.bitShiftLeft", func(a, b int64) int64 { return int64(uint64(a) << min(uint64(b), 64)) }),
		bits("math.bitShiftRight", func(a, b int64) int64 { return int64(uint64(a) >> min(uint64(b), 64)) }),
		{name: "math.bitNot", args: [][]*cel.Type{sig(num)}, result: num, unary: func(v ref.Val) ref.Val {
			return bitwise(v, types.Int(-1), func(a, b int64) int64 { return a ^ b })
		}},
	}
}

// toDecimal makes a number exact: decimal("19.90"). Of a fraction it takes the digits it is
// written with.
func toDecimal(v ref.Val) ref.Val {
	text := ""
	switch x := v.(type) {
	case types.String:
		text = strings.TrimSpace(string(x))
	case *number:
		text = x.text
	default:
		o, ok, _ := toOperand(v)
		if !ok {
			return errorVal("decimal() takes a number or a string, not %s", kindName(v))
		}
		d, err := o.dec()
		if err != nil {
			return types.WrapErr(err)
		}
		return newDecimal(d)
	}
	d, err := parseDec(text)
	switch {
	case err == errNotNumber:
		return errorVal("decimal() takes a number like \"19.90\"; this string is none")
	case err != nil:
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

// roundTo rounds a number and gives it back in its own kind: a fraction that comes out whole is
// an int, a decimal stays one.
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

// toInt makes a whole number: of a number by dropping its fraction, of a string that is one.
func toInt(v ref.Val) ref.Val {
	switch x := v.(type) {
	case types.String:
		s := strings.TrimSpace(string(x))
		if !isJSONNumber(s) || !isIntText(s) {
			return errorVal("int() takes a whole number like \"42\"; this string is none")
		}
		if len(s) > MaxNumberDigits {
			return types.WrapErr(errDigits)
		}
		return newLiteral(strings.Clone(s))
	case types.Bool:
		return types.Int(boolInt(bool(x)))
	case types.Timestamp:
		return types.Int(x.Unix())
	}
	o, ok, err := toOperand(v)
	if err != nil {
		return types.WrapErr(err)
	}
	if !ok {
		return errorVal("int() takes a number, string, boolean or time, not %s", kindName(v))
	}
	d, err := o.dec()
	if err != nil {
		return types.WrapErr(err)
	}
	return newBig(d.round(0, roundDown).coef)
}

// toDouble makes a number of a string, and a fraction of a decimal.
func toDouble(v ref.Val) ref.Val {
	if s, ok := v.(types.String); ok {
		text := strings.TrimSpace(string(s))
		f, err := strconv.ParseFloat(text, 64)
		if !isJSONNumber(text) || err != nil {
			return errorVal("double() takes a number like \"19.90\"; this string is none")
		}
		return newFloat(f)
	}
	o, ok, err := toOperand(v)
	if err != nil {
		return types.WrapErr(err)
	}
	if !ok {
		return errorVal("double() takes a number or a string, not %s", kindName(v))
	}
	return newFloat(o.float())
}

func abs(v ref.Val) ref.Val {
	if s := sign(v); s == types.Int(-1) {
		return negate(v)
	} else if types.IsError(s) {
		return s
	}
	return v
}

func sign(v ref.Val) ref.Val {
	if !isNumber(v) {
		return errorVal("expected a number, not %s", kindName(v))
	}
	digits, _, ok := canonical(v)
	if !ok {
		return errorVal("expected a number")
	}
	return types.Int(signOf(digits))
}

func sqrt(v ref.Val) ref.Val {
	o, ok, err := toOperand(v)
	switch {
	case err != nil:
		return types.WrapErr(err)
	case !ok:
		return errorVal("math.sqrt() takes a number, not %s", kindName(v))
	case o.float() < 0:
		return errorVal("math.sqrt() of a negative number")
	}
	f := math.Sqrt(o.float())
	if i, whole := floatInt(f); whole && i <= 1<<53 {
		return types.Int(i)
	}
	return newFloat(f)
}

// extreme is the greatest or least number of a list.
func extreme(name string, v ref.Val, want int) ref.Val {
	l, fault := wantList(name, v)
	if fault != nil {
		return fault
	}
	if listLen(l) == 0 {
		return errorVal("%s of an empty list", name)
	}
	best := item(l, 0)
	for i := range listLen(l) {
		x := item(l, i)
		if !isNumber(x) {
			return errorVal("%s takes numbers, not %s", name, kindName(x))
		}
		if c, _ := compareNumbers(x, best); c == want {
			best = x
		}
	}
	return best
}

func bitwise(a, b ref.Val, f func(a, b int64) int64) ref.Val {
	x, ok1 := IsInt(a)
	y, ok2 := IsInt(b)
	if !ok1 || !ok2 {
		return errorVal("bit functions take whole numbers")
	}
	return types.Int(f(x, y))
}
