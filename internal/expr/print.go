package expr

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// AppendJSON appends v as JSON. A view is written as it came, white space included; everything
// else is compact, with keys in their order, or sorted where there is none. Times and durations
// are strings (RFC 3339 in UTC, ISO 8601). The error is an *Error: a value that JSON cannot
// write, as bytes are, or one nested deeper than MaxJSONDepth or longer than MaxJSONBytes; what
// was appended until then is no JSON. What was written without an error, ParseJSON reads.
func AppendJSON(dst []byte, v Value) ([]byte, error) {
	p := printer{limit: len(dst) + MaxJSONBytes}
	return p.value(dst, v, 0)
}

// printer writes values up to a length.
type printer struct{ limit int }

func (p printer) check(dst []byte) error {
	if len(dst) > p.limit {
		return errLength
	}
	return nil
}

// errBytes: any encoding chosen here would be the wrong one half of the time.
var errBytes = evalErrorf("bytes cannot be written as JSON or text; base64(x) or hex(x) makes a string of them")

var errLength = limitErrorf("a value is too long to be written as JSON")

var errDepth = limitErrorf("a value is nested deeper than %d", MaxJSONDepth)

func (p printer) value(dst []byte, v ref.Val, depth int) ([]byte, error) {
	v = unwrap(v)
	if err := p.check(dst); err != nil {
		return dst, err
	}
	if r, ok := v.(rawJSON); ok {
		if raw := r.rawJSON(); raw != nil {
			if depth+r.height() > MaxJSONDepth && depth+nesting(raw) > MaxJSONDepth {
				return dst, errDepth
			}
			if len(dst)+len(raw) > p.limit {
				return dst, errLength
			}
			return append(dst, raw...), nil
		}
	}
	switch x := v.(type) {
	case types.String:
		dst = appendString(dst, string(x))
		return dst, p.check(dst)
	case types.Timestamp, types.Duration:
		s, err := scalarText(v)
		return appendString(dst, s), err
	case traits.Mapper:
		if depth == MaxJSONDepth {
			return dst, errDepth
		}
		return p.object(dst, x, depth)
	case traits.Lister:
		if depth == MaxJSONDepth {
			return dst, errDepth
		}
		dst = append(dst, '[')
		for i := range listLen(x) {
			if i > 0 {
				dst = append(dst, ',')
			}
			var err error
			if dst, err = p.value(dst, item(x, i), depth+1); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), p.check(dst)
	}
	dst, err := appendScalar(dst, v)
	if err == nil {
		err = p.check(dst)
	}
	return dst, err
}

func (p printer) object(dst []byte, m traits.Mapper, depth int) ([]byte, error) {
	dst = append(dst, '{')
	sep := func(i int, key string) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, key), ':')
	}
	var err error
	if o, ok := m.(*object); ok {
		x := o.index()
		for i, k := range x.keys {
			sep(i, k)
			if dst, err = p.value(dst, x.at(i), depth+1); err != nil {
				return dst, err
			}
		}
		return append(dst, '}'), nil
	}
	type field struct {
		key string
		val ref.Val
	}
	all := make([]field, 0, mapLen(m))
	for k, v := range fields(m) {
		all = append(all, field{keyText(k), v})
	}
	slices.SortStableFunc(all, func(a, b field) int { return strings.Compare(a.key, b.key) })
	for i, f := range all {
		if i > 0 && f.key == all[i-1].key { // as in {1: …, "1": …}
			return dst, evalErrorf("an object cannot have one key twice")
		}
		sep(i, f.key)
		if dst, err = p.value(dst, f.val, depth+1); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func appendScalar(dst []byte, v ref.Val) ([]byte, error) {
	switch x := v.(type) {
	case types.Null:
		return append(dst, "null"...), nil
	case types.Bool:
		return strconv.AppendBool(dst, bool(x)), nil
	case types.Int:
		return strconv.AppendInt(dst, int64(x), 10), nil
	case types.Uint:
		return strconv.AppendUint(dst, uint64(x), 10), nil
	case *number:
		return append(dst, x.text...), nil
	case types.Bytes:
		return dst, errBytes
	case types.Double:
		if types.IsError(newFloat(float64(x))) {
			return dst, evalErrorf("a number is too large for JSON")
		}
		return appendFloat(dst, float64(x)), nil
	}
	return dst, evalErrorf("%s cannot be written as JSON", kindName(v))
}

// scalarText is a scalar as Text prints it.
func scalarText(v ref.Val) (string, error) {
	switch x := v.(type) {
	case types.String:
		return string(x), nil
	case types.Bytes:
		return "", errBytes
	case types.Timestamp:
		return x.UTC().Format(time.RFC3339Nano), nil
	case types.Duration:
		return isoDuration(x.Duration), nil
	case types.Null:
		return "", nil
	}
	b, err := appendScalar(nil, v)
	return string(b), err
}

// Text is how a value prints inside a template: a string as it is, null as nothing, any other
// value as JSON writes it (a time without quotes), up to MaxStringBytes.
func Text(v Value) (string, error) {
	v = unwrap(v)
	switch v.(type) {
	case traits.Mapper, traits.Lister:
		b, err := printer{limit: MaxStringBytes}.value(nil, v, 0)
		return string(b), err
	}
	return scalarText(v)
}

const hexDigits = "0123456789abcdef"

// appendString quotes s as RFC 8785 section 3.2.2.2 does: the shortest escapes, nothing escaped
// that need not be. Bytes that are not UTF-8 become U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[start:i]...), "\uFFFD"...)
				start = i + 1
			}
			i += n
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// isoDuration prints a duration by ISO 8601 in hours, minutes and seconds.
func isoDuration(d time.Duration) string {
	if d == 0 {
		return "PT0S"
	}
	var b []byte
	u := uint64(d)
	if d < 0 {
		b = append(b, '-')
		u = -u
	}
	b = append(b, "PT"...)
	const hour, minute, second = uint64(time.Hour), uint64(time.Minute), uint64(time.Second)
	if h := u / hour; h > 0 {
		b = append(strconv.AppendUint(b, h, 10), 'H')
	}
	if m := u % hour / minute; m > 0 {
		b = append(strconv.AppendUint(b, m, 10), 'M')
	}
	if s := u % minute; s > 0 {
		b = strconv.AppendUint(b, s/second, 10)
		if frac := s % second; frac > 0 {
			digits := strconv.FormatUint(second+frac, 10)[1:]
			b = append(append(b, '.'), strings.TrimRight(digits, "0")...)
		}
		b = append(b, 'S')
	}
	return string(b)
}
