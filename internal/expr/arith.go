package expr

import (
	"math"
	"math/big"
	"math/bits"

	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// add is the operator +: numbers, strings, bytes, lists, and time with duration.
func add(a, b ref.Val) ref.Val {
	switch x := a.(type) {
	case types.Int:
		if y, ok := b.(types.Int); ok {
			return addInt(int64(x), int64(y))
		}
	case types.String:
		if y, ok := b.(types.String); ok {
			if len(x)+len(y) > MaxStringBytes {
				return tooLong()
			}
			return x + y
		}
	case types.Bytes:
		if y, ok := b.(types.Bytes); ok {
			if len(x)+len(y) > MaxStringBytes {
				return tooLong()
			}
			return x.Add(y)
		}
	case traits.Lister:
		if y, ok := b.(traits.Lister); ok {
			return addLists(x, y)
		}
	case types.Timestamp, types.Duration:
		if r := addTime(a, b); r != nil {
			return r
		}
	}
	return arithmetic(operators.Add, a, b)
}

func addInt(x, y int64) ref.Val {
	if s := x + y; (s > x) == (y > 0) {
		return types.Int(s)
	}
	return newBig(new(big.Int).Add(big.NewInt(x), big.NewInt(y)))
}

func addTime(a, b ref.Val) ref.Val {
	_, aTime := a.(types.Timestamp)
	_, bTime := b.(types.Timestamp)
	_, bDur := b.(types.Duration)
	if bDur || bTime && !aTime {
		return a.(traits.Adder).Add(b)
	}
	return nil
}

// addLists joins two lists. The list that a macro is building is extended in place; any other
// pair makes a new flat list, so that no chain of views is ever left behind.
func addLists(x, y traits.Lister) ref.Val {
	n, m := listLen(x), listLen(y)
	if n+m > MaxListItems {
		return limitVal("a list would have more than %d items", MaxListItems)
	}
	if _, building := x.(traits.MutableLister); building {
		return x.Add(y)
	}
	switch {
	case n == 0:
		return y
	case m == 0:
		return x
	}
	vals := make([]ref.Val, 0, n+m)
	vals = appendItems(vals, x)
	return newList(appendItems(vals, y))
}

func tooLong() ref.Val {
	return limitVal("a string would be longer than %d bytes", MaxStringBytes)
}

// subtract is the operator -.
func subtract(a, b ref.Val) ref.Val {
	switch a.(type) {
	case types.Timestamp:
		switch b.(type) {
		case types.Timestamp, types.Duration:
			return a.(traits.Subtractor).Subtract(b)
		}
	case types.Duration:
		if _, ok := b.(types.Duration); ok {
			return a.(traits.Subtractor).Subtract(b)
		}
	}
	return arithmetic(operators.Subtract, a, b)
}

func multiply(a, b ref.Val) ref.Val  { return arithmetic(operators.Multiply, a, b) }
func divide(a, b ref.Val) ref.Val    { return arithmetic(operators.Divide, a, b) }
func remainder(a, b ref.Val) ref.Val { return arithmetic(operators.Modulo, a, b) }

// negate is the prefix operator -.
func negate(v ref.Val) ref.Val {
	o, ok, err := toOperand(v)
	switch {
	case err != nil:
		return types.WrapErr(err)
	case !ok:
		if d, isDur := v.(types.Duration); isDur {
			return d.Negate()
		}
		return errorVal("cannot negate %s", kindName(v))
	case o.kind == numInt && o.i != math.MinInt64:
		return types.Int(-o.i)
	case o.kind == numFloat:
		return types.Double(-o.f)
	}
	d, _ := o.dec()
	d = dec{new(big.Int).Neg(d.coef), d.scale}
	if o.kind == numDecimal {
		return newDecimal(d)
	}
	return newBig(d.coef)
}

// arithmetic computes in the wider kind of its operands: int < big integer < fraction < decimal.
func arithmetic(op string, a, b ref.Val) ref.Val {
	x, okX, err := toOperand(a)
	if err != nil {
		return types.WrapErr(err)
	}
	y, okY, err := toOperand(b)
	if err != nil {
		return types.WrapErr(err)
	}
	if !okX || !okY {
		return mismatch(op, a, b)
	}
	if (op == operators.Divide || op == operators.Modulo) && y.isZero() {
		return errorVal("division by zero")
	}
	switch kind := max(x.kind, y.kind); kind {
	case numInt:
		return intOp(op, x.i, y.i)
	case numFloat:
		return floatOp(op, x.float(), y.float())
	default:
		p, err := x.dec()
		if err != nil {
			return types.WrapErr(err)
		}
		q, err := y.dec()
		if err != nil {
			return types.WrapErr(err)
		}
		if kind == numBig {
			return bigOp(op, p, q)
		}
		return decOp(op, p, q)
	}
}

func intOp(op string, x, y int64) ref.Val {
	switch op {
	case operators.Add:
		return addInt(x, y)
	case operators.Subtract:
		if d := x - y; (d < x) == (y > 0) {
			return types.Int(d)
		}
		return newBig(new(big.Int).Sub(big.NewInt(x), big.NewInt(y)))
	case operators.Multiply:
		hi, lo := bits.Mul64(uint64(max(x, -x)), uint64(max(y, -y)))
		if hi == 0 && lo <= math.MaxInt64 && x != math.MinInt64 && y != math.MinInt64 {
			return types.Int(x * y)
		}
		return newBig(new(big.Int).Mul(big.NewInt(x), big.NewInt(y)))
	case operators.Modulo:
		if y == -1 {
			return types.Int(0)
		}
		return types.Int(x % y)
	}
	// Division: an int where it comes out even, else the nearest fraction.
	if y == -1 {
		return negate(types.Int(x))
	}
	if x%y == 0 {
		return types.Int(x / y)
	}
	const exact = 1 << 53
	if x > -exact && x < exact && y > -exact && y < exact {
		return types.Double(float64(x) / float64(y))
	}
	f, _ := new(big.Rat).SetFrac64(x, y).Float64()
	return newFloat(f)
}

func floatOp(op string, x, y float64) ref.Val {
	switch op {
	case operators.Add:
		return newFloat(x + y)
	case operators.Subtract:
		return newFloat(x - y)
	case operators.Multiply:
		return newFloat(x * y)
	case operators.Divide:
		return newFloat(x / y)
	}
	return newFloat(math.Mod(x, y))
}

func bigOp(op string, x, y dec) ref.Val {
	switch op {
	case operators.Add:
		return newBig(new(big.Int).Add(x.coef, y.coef))
	case operators.Subtract:
		return newBig(new(big.Int).Sub(x.coef, y.coef))
	case operators.Multiply:
		return newBig(new(big.Int).Mul(x.coef, y.coef))
	case operators.Modulo:
		return newBig(new(big.Int).Rem(x.coef, y.coef))
	}
	if q, r := new(big.Int).QuoRem(x.coef, y.coef, new(big.Int)); r.Sign() == 0 {
		return newBig(q)
	}
	f, _ := new(big.Rat).SetFrac(x.coef, y.coef).Float64()
	return newFloat(f)
}

func decOp(op string, x, y dec) ref.Val {
	switch op {
	case operators.Add:
		return newDecimal(x.add(y))
	case operators.Subtract:
		return newDecimal(x.sub(y))
	case operators.Multiply:
		return newDecimal(x.mul(y))
	case operators.Divide:
		return newDecimal(x.quo(y))
	}
	return newDecimal(x.rem(y))
}

// mismatch says why an operator does not take its operands.
func mismatch(op string, a, b ref.Val) ref.Val {
	x, y := kindName(a), kindName(b)
	hint := ""
	if x == "null" || y == "null" {
		hint = "; orElse(x, 0) stands in for a null"
	} else if op == operators.Add && (x == "a string" || y == "a string") {
		hint = "; string(x) makes a string of a number"
	}
	return errorVal("%s%s", arithmeticWords(op, x, y), hint)
}
