package expr

import (
	"errors"
	"math/big"
	"strconv"
	"strings"
)

// dec is an exact decimal: coef × 10^-scale. It is immutable; scale may be negative only while
// a literal with an exponent is read.
type dec struct {
	coef  *big.Int
	scale int
}

var (
	errDigits    = limitErrorf("a number has more than %d digits", MaxNumberDigits)
	errNotNumber = errors.New("not a number")
)

func pow10(n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
}

// parseDec reads a JSON number (RFC 8259 section 6), a leading plus excepted, exactly.
func parseDec(s string) (dec, error) {
	if !isJSONNumber(s) {
		return dec{}, errNotNumber
	}
	mant, exp := s, 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		e, err := strconv.Atoi(s[i+1:])
		if err != nil || e > MaxNumberDigits || e < -MaxNumberDigits {
			return dec{}, errDigits
		}
		mant, exp = s[:i], e
	}
	scale := 0
	if i := strings.IndexByte(mant, '.'); i >= 0 {
		scale = len(mant) - i - 1
		mant = mant[:i] + mant[i+1:]
	}
	if len(mant) > MaxNumberDigits {
		return dec{}, errDigits
	}
	coef, ok := new(big.Int).SetString(mant, 10)
	if !ok {
		return dec{}, errNotNumber
	}
	d := dec{coef, scale - exp}
	if d.scale < 0 {
		d = dec{new(big.Int).Mul(coef, pow10(-d.scale)), 0}
	}
	return d, d.check()
}

// check reports errDigits for a number that is too long to keep.
func (d dec) check() error {
	// A decimal digit is 3.32 bits; the comparison is generous by less than one digit.
	if d.scale > MaxNumberDigits || d.coef.BitLen() > MaxNumberDigits*3322/1000+4 {
		return errDigits
	}
	return nil
}

// align returns the coefficients of a and b at their common, larger scale.
func align(a, b dec) (x, y *big.Int, scale int) {
	switch {
	case a.scale == b.scale:
		return a.coef, b.coef, a.scale
	case a.scale < b.scale:
		return new(big.Int).Mul(a.coef, pow10(b.scale-a.scale)), b.coef, b.scale
	default:
		return a.coef, new(big.Int).Mul(b.coef, pow10(a.scale-b.scale)), a.scale
	}
}

func (d dec) add(o dec) dec {
	x, y, s := align(d, o)
	return dec{new(big.Int).Add(x, y), s}
}

func (d dec) sub(o dec) dec {
	x, y, s := align(d, o)
	return dec{new(big.Int).Sub(x, y), s}
}

func (d dec) mul(o dec) dec {
	return dec{new(big.Int).Mul(d.coef, o.coef), d.scale + o.scale}
}

// rem is the remainder of the truncated division; it has the sign of d. o is not zero.
func (d dec) rem(o dec) dec {
	x, y, s := align(d, o)
	return dec{new(big.Int).Rem(x, y), s}
}

// quo divides exactly where the quotient is finite within MaxDivisionDigits significant digits,
// and else rounds it half to even there. o is not zero.
func (d dec) quo(o dec) dec {
	if d.coef.Sign() == 0 {
		return dec{new(big.Int), max(0, d.scale-o.scale)}
	}
	// Give the numerator enough digits for the quotient to have at least one more than kept.
	shift := max(0, MaxDivisionDigits+1+digits(o.coef)-digits(d.coef))
	num := new(big.Int).Mul(d.coef, pow10(shift))
	q, r := new(big.Int).QuoRem(num, o.coef, new(big.Int))
	scale := d.scale - o.scale + shift
	if drop := digits(q) - MaxDivisionDigits; drop > 0 && (r.Sign() != 0 || !divisible(q, drop)) {
		if r.Sign() != 0 { // a sticky digit keeps a remainder from looking like an exact half
			q.Mul(q, big.NewInt(10))
			q.Add(q, big.NewInt(int64(r.Sign()*o.coef.Sign())))
			scale++
			drop++
		}
		q = roundDigits(q, drop, roundHalfEven)
		scale -= drop
	}
	if scale < 0 {
		return dec{q.Mul(q, pow10(-scale)), 0}
	}
	// The exact scale of a division is the difference of the scales; zeros beyond it are noise.
	return dec{q, scale}.trim(max(0, d.scale-o.scale))
}

func divisible(q *big.Int, drop int) bool {
	return new(big.Int).Rem(q, pow10(drop)).Sign() == 0
}

// trim drops zeros at the end of the fraction down to the given scale.
func (d dec) trim(scale int) dec {
	ten := big.NewInt(10)
	q, r := new(big.Int), new(big.Int)
	for d.scale > scale {
		q.QuoRem(d.coef, ten, r)
		if r.Sign() != 0 {
			break
		}
		d = dec{new(big.Int).Set(q), d.scale - 1}
	}
	return d
}

type rounding int

const (
	roundHalfEven rounding = iota
	roundHalfUp            // half away from zero, as people round money
	roundDown              // towards zero
	roundFloor
	roundCeil
)

// round returns d with exactly the given scale; a negative scale rounds to tens, hundreds….
func (d dec) round(scale int, mode rounding) dec {
	switch {
	case scale >= d.scale:
		return dec{new(big.Int).Mul(d.coef, pow10(scale-d.scale)), scale}
	case scale >= 0:
		return dec{roundDigits(d.coef, d.scale-scale, mode), scale}
	default:
		q := roundDigits(d.coef, d.scale-scale, mode)
		return dec{q.Mul(q, pow10(-scale)), 0}
	}
}

// roundDigits drops the last n decimal digits of x.
func roundDigits(x *big.Int, n int, mode rounding) *big.Int {
	p := pow10(n)
	q, r := new(big.Int).QuoRem(x, p, new(big.Int))
	if r.Sign() == 0 {
		return q
	}
	up := false
	half := new(big.Int).Lsh(new(big.Int).Abs(r), 1).Cmp(p)
	switch mode {
	case roundHalfEven:
		up = half > 0 || half == 0 && q.Bit(0) == 1
	case roundHalfUp:
		up = half >= 0
	case roundFloor:
		up = x.Sign() < 0
	case roundCeil:
		up = x.Sign() > 0
	}
	if up {
		q.Add(q, big.NewInt(int64(x.Sign())))
	}
	return q
}

// digits is the number of decimal digits of x, or one more for some; never less.
func digits(x *big.Int) int {
	return len(x.Text(10)) - max(0, -x.Sign())
}

func (d dec) isInt() bool { return d.scale == 0 }

// String prints d with all its digits, as a JSON number.
func (d dec) String() string {
	s := d.coef.Text(10)
	if d.scale <= 0 {
		return s
	}
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	if len(s) <= d.scale {
		s = strings.Repeat("0", d.scale-len(s)+1) + s
	}
	return sign + s[:len(s)-d.scale] + "." + s[len(s)-d.scale:]
}

// float returns the nearest float64, which may be an infinity.
func (d dec) float() float64 {
	f, _ := strconv.ParseFloat(d.coef.Text(10)+"e"+strconv.Itoa(-d.scale), 64)
	return f
}

func cmpInt(a, b int) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
