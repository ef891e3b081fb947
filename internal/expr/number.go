package expr

import (
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// numberType is the CEL type of numbers that are neither int64 nor float64.
var numberType = types.NewOpaqueType("number")

// number is a JSON number that keeps its digits: a literal as it came, an integer beyond int64,
// or a decimal. It is immutable.
type number struct {
	text string // as it prints
	d    *dec   // nil for a literal that nothing has computed with
	// exact is set for decimals: arithmetic with an exact number is exact. A literal with a
	// fraction computes as the float64 nearest to it, as in every JSON library.
	exact bool
}

var (
	_ ref.Val                    = (*number)(nil)
	_ numberLike                 = (*number)(nil)
	_ types.AggregateSizeVisitor = (*number)(nil)
)

type numberLike interface{ jsonNumber() string }

func (n *number) jsonNumber() string { return n.text }

// AggregateSize implements types.AggregateSizeVisitor.
func (n *number) AggregateSize(types.AggregateSizer) uint32 { return 1 }

// ConvertToNative implements ref.Val.
func (n *number) ConvertToNative(t reflect.Type) (any, error) {
	if t.Kind() == reflect.String {
		return n.text, nil
	}
	return nil, evalErrorf("a number cannot become a %v", t)
}

// ConvertToType implements ref.Val.
func (n *number) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.StringType:
		return types.String(n.text)
	case types.TypeType:
		return numberType
	}
	return types.NewErr("a number cannot become a %s", t.TypeName())
}

// Equal implements ref.Val.
func (n *number) Equal(other ref.Val) ref.Val { return types.Bool(Equal(n, other)) }

// Type implements ref.Val.
func (n *number) Type() ref.Type { return numberType }

// Value implements ref.Val.
func (n *number) Value() any { return n.text }

// newDecimal wraps an exact result.
func newDecimal(d dec) ref.Val {
	if err := d.check(); err != nil {
		return types.WrapErr(err)
	}
	return &number{text: d.String(), d: &d, exact: true}
}

// newBig wraps an integer, as an int where it fits.
func newBig(x *big.Int) ref.Val {
	if x.IsInt64() {
		return types.Int(x.Int64())
	}
	d := dec{x, 0}
	if err := d.check(); err != nil {
		return types.WrapErr(err)
	}
	return &number{text: d.String(), d: &d}
}

// newFloat wraps a float64 that JSON can write.
func newFloat(f float64) ref.Val {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return errorVal("the result is too large for a number with a fraction; decimal() keeps all digits")
	}
	return types.Double(f)
}

// newLiteral wraps a valid JSON number: an int where an int64 prints the same.
func newLiteral(s string) ref.Val {
	if len(s) < 20 && isIntText(s) {
		if i, err := strconv.ParseInt(s, 10, 64); err == nil && (i != 0 || s[0] != '-') {
			return types.Int(i)
		}
	}
	return &number{text: s}
}

func isIntText(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// isJSONNumber reports whether s is a number by RFC 8259 section 6.
func isJSONNumber(s string) bool {
	end, ok := scanNumber([]byte(s), 0)
	return ok && end == len(s)
}

type numKind int

const (
	numInt numKind = iota
	numBig
	numFloat
	numDecimal
)

// operand is a number made ready for arithmetic.
type operand struct {
	kind numKind
	i    int64
	f    float64
	d    *dec
	text string // of a literal with a fraction: its exact digits
}

// toOperand reads a number; ok is false for any other value.
func toOperand(v ref.Val) (o operand, ok bool, err error) {
	switch n := v.(type) {
	case types.Int:
		return operand{kind: numInt, i: int64(n)}, true, nil
	case types.Double:
		return operand{kind: numFloat, f: float64(n)}, true, nil
	case types.Uint:
		if n <= math.MaxInt64 {
			return operand{kind: numInt, i: int64(n)}, true, nil
		}
		return operand{kind: numBig, d: &dec{new(big.Int).SetUint64(uint64(n)), 0}}, true, nil
	case *number:
		o, err = n.operand()
		return o, true, err
	}
	return operand{}, false, nil
}

func (n *number) operand() (operand, error) {
	switch {
	case n.exact:
		return operand{kind: numDecimal, d: n.d}, nil
	case n.d != nil:
		return operand{kind: numBig, d: n.d}, nil
	case isIntText(n.text):
		d, err := parseDec(n.text)
		if err != nil {
			return operand{}, err
		}
		if d.coef.IsInt64() {
			return operand{kind: numInt, i: d.coef.Int64()}, nil
		}
		return operand{kind: numBig, d: &d}, nil
	}
	f, err := strconv.ParseFloat(n.text, 64)
	if err != nil {
		return operand{}, evalErrorf("a number is too large to compute with; decimal() keeps all digits")
	}
	return operand{kind: numFloat, f: f, text: n.text}, nil
}

// dec returns the exact value; that of a float64 is the shortest decimal that reads back as it.
func (o operand) dec() (dec, error) {
	switch {
	case o.d != nil:
		return *o.d, nil
	case o.kind == numInt:
		return dec{big.NewInt(o.i), 0}, nil
	case o.text != "":
		return parseDec(o.text)
	case math.IsInf(o.f, 0) || math.IsNaN(o.f):
		return dec{}, errNotNumber
	}
	return parseDec(strconv.FormatFloat(o.f, 'g', -1, 64))
}

func (o operand) float() float64 {
	switch o.kind {
	case numInt:
		return float64(o.i)
	case numFloat:
		return o.f
	}
	return o.d.float()
}

func (o operand) isZero() bool {
	switch o.kind {
	case numInt:
		return o.i == 0
	case numFloat:
		return o.f == 0
	}
	return o.d.coef.Sign() == 0
}

// plain returns a number as the int or double that CEL's own libraries understand; a number
// that is neither stays as it is.
func plain(v ref.Val) ref.Val {
	n, ok := v.(*number)
	if !ok {
		return v
	}
	o, err := n.operand()
	if err != nil {
		return v
	}
	switch {
	case o.kind == numInt:
		return types.Int(o.i)
	case o.kind == numBig:
		return v
	}
	if o.d != nil && o.d.coef.IsInt64() && o.d.isInt() {
		return types.Int(o.d.coef.Int64())
	}
	return types.Double(o.float())
}

// plainWhole is plain for arguments that count: a whole number in any spelling is an int.
func plainWhole(v ref.Val) ref.Val {
	if i, ok := IsInt(v); ok {
		return types.Int(i)
	}
	return plain(v)
}

// appendFloat prints a finite float64 as JavaScript does (ECMA-262 Number::toString), which is
// also what RFC 8785 prescribes.
func appendFloat(dst []byte, f float64) []byte {
	if f == 0 {
		return append(dst, '0')
	}
	if abs := math.Abs(f); abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	n := len(dst)
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	// Go pads an exponent to two digits; JavaScript does not.
	if l := len(dst); l-n >= 4 && dst[l-4] == 'e' && dst[l-2] == '0' {
		dst[l-2] = dst[l-1]
		dst = dst[:l-1]
	}
	return dst
}

// canonical returns the digits and exponent that all spellings of one number share:
// [-]digits without zeros at either end, and the power of ten.
func canonical(v ref.Val) (digits string, exp int, ok bool) {
	var s string
	switch n := v.(type) {
	case types.Int:
		s = strconv.FormatInt(int64(n), 10)
	case types.Uint:
		s = strconv.FormatUint(uint64(n), 10)
	case types.Double:
		if math.IsInf(float64(n), 0) || math.IsNaN(float64(n)) {
			return "", 0, false
		}
		s = strconv.FormatFloat(float64(n), 'e', -1, 64)
	case *number:
		s = n.text
	default:
		return "", 0, false
	}
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		exp = clampExp(s[i+1:])
		s = s[:i]
	}
	if i := strings.IndexByte(s, '.'); i >= 0 {
		exp -= len(s) - i - 1
		s = s[:i] + s[i+1:]
	}
	s = strings.TrimLeft(s, "0")
	t := strings.TrimRight(s, "0")
	if t == "" {
		return "0", 0, true
	}
	return sign + t, exp + len(s) - len(t), true
}

// clampExp reads an exponent; one beyond an int32 counts as the largest, as such numbers only
// ever print.
func clampExp(s string) int {
	e, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		if s[0] == '-' {
			return math.MinInt32
		}
		return math.MaxInt32
	}
	return int(e)
}
